//! Closing a netfilter netlink socket without waiting for the kernel.
//!
//! When such a socket is closed after something was deleted, the kernel first frees what was deleted
//! (`nft_rcv_nl_event` in `net/netfilter/nf_tables_api.c`). That takes an RCU grace period, about ten
//! milliseconds, for which a container's runtime would wait. But the kernel also closes descriptors that no
//! process can reach any more: a UNIX socket that lies, with another descriptor, in its own queue is
//! closed by the kernel's collector (`net/unix/garbage.c`, unix(7)), in a thread of its own since Linux 6.9.
//! Before that the collector runs in the call that closes, which then takes its ten milliseconds.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};

/// Leaves a descriptor to the kernel's collector. If that fails, closing only takes longer.
pub(crate) fn leave(descriptor: impl AsFd) {
    let pair = socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    let Ok((sender, queue)) = pair else { return };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    let descriptors = [queue.as_fd(), descriptor.as_fd()];
    message.push(SendAncillaryMessage::ScmRights(&descriptors));
    // A byte, since an empty message carries no descriptor.
    let _ = sendmsg(&sender, &[IoSlice::new(&[0])], &mut message, SendFlags::empty());
    drop(descriptor);
    drop(queue);
    // Closing the last one calls the collector.
    drop(sender);
}
