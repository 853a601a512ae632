//! Our messages in an `nftnl::Batch`, for programs that already speak through libnftnl.
//!
//! ```no_run
//! use hostport_nft::{Family, Settings, Table};
//!
//! let mut batch = nftnl::Batch::new();
//! for message in Table::new(Family::Ip, &Settings::default()).messages() {
//!     batch.add(&message, nftnl::MsgType::Add);
//! }
//! let batch = batch.finalize();
//! // Send it with mnl, as nftnl's own examples do.
//! # let _ = batch;
//! ```

use std::ffi::c_void;

use nftnl::{MsgType, NlMsg};

use crate::message::Message;

// SAFETY: the trait asks that no message is larger than the largest that netlink can carry
// (`nftnl::nft_nlmsg_maxsize`, 64 KiB and a page). Ours hold one table, chain, set, rule or element
// each, made of names of at most 64 bytes, a comment of at most 128 and a fixed number of
// expressions; the largest stays under 1 KiB, which `the_largest_message_is_small` checks.
#[allow(unsafe_code)]
unsafe impl NlMsg for Message {
    unsafe fn write(&self, buf: *mut c_void, seq: u32, msg_type: MsgType) {
        let bytes = match msg_type {
            MsgType::Add => self.encode(seq),
            MsgType::Del => self.deleting().encode(seq),
        };
        // SAFETY: the caller gives room for the largest netlink message, and see above.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), buf.cast::<u8>(), bytes.len()) }
    }
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use crate::{Family, Settings, Table};

    #[test]
    fn the_largest_message_is_small() {
        let settings = Settings {
            table: "t".repeat(64).parse().unwrap(),
            exclude: vec!["10.96.0.0/12".parse::<IpNet>().unwrap()],
            localhost: true,
        };
        for family in Family::ALL {
            for message in Table::new(family, &settings).messages() {
                assert!(message.encode(1).len() < 1024);
                assert!(message.deleting().encode(1).len() < 1024);
            }
        }
    }
}
