//! Closing a netfilter netlink socket without waiting for the kernel.
//!
//! When such a socket is closed after something was deleted, the kernel frees what was deleted first
//! (`nft_rcv_nl_event` in `net/netfilter/nf_tables_api.c`), which takes an RCU grace period: about ten
//! milliseconds, in which nothing else happens and a container's runtime waits. But the kernel also closes
//! what nobody can reach any more: a UNIX socket that lies, with another descriptor, in its own queue is
//! closed by the kernel's collector (`net/unix/garbage.c`, unix(7)), in a thread of its own since Linux 6.9.
//! Before that the collector runs in the call that closes, and it takes as long as ever.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};

/// Leaves a descriptor to the kernel's collector. What goes wrong only means that closing takes its time.
pub(crate) fn leave(descriptor: impl AsFd) {
    let pair = socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    let Ok((sender, queue)) = pair else { return };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    let descriptors = [queue.as_fd(), descriptor.as_fd()];
    message.push(SendAncillaryMessage::ScmRights(&descriptors));
    // A byte, since a message without any carries no descriptor.
    let _ = sendmsg(&sender, &[IoSlice::new(&[0])], &mut message, SendFlags::empty());
    drop(descriptor);
    drop(queue);
    // The last one to go calls the collector.
    drop(sender);
}
