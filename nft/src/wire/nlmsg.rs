//! Our messages in an `nftnl::Batch`, for programs that already use libnftnl.
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

use crate::wire::message::Message;

// SAFETY: the trait asks that no message is larger than the largest that netlink can carry
// (`nftnl::nft_nlmsg_maxsize`, 65,535 bytes and a page). Ours hold one table, chain, set or rule,
// made of names of at most 64 bytes, a comment of at most 128 and a fixed number of expressions; or a
// list of elements, which is an attribute and so at most 65,535 bytes long. Both are checked by
// `the_largest_message_fits`.
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

    use crate::ruleset::table::Elements;
    use crate::{Family, Settings, Table};

    #[test]
    fn the_largest_message_fits() {
        let most = nftnl::nft_nlmsg_maxsize() as usize;
        let exclude = (0..4000u32).map(|n| {
            let address = 0x2001_0db8_0000_0000_0000_0000_0000_0000 | u128::from(n) << 32;
            IpNet::new(std::net::Ipv6Addr::from(address).into(), 100).unwrap()
        });
        let settings = Settings {
            table: "t".repeat(64).parse().unwrap(),
            exclude: exclude.collect(),
            ..Settings::default()
        };
        for family in Family::ALL {
            for message in Table::new(family, &settings).messages() {
                assert!(message.encode(1).len() <= most);
                assert!(message.deleting().encode(1).len() <= most);
            }
        }
        let ports = (1..=u16::MAX).step_by(50).map(|port| {
            let port = crate::Port::new(port).unwrap();
            let host_ip = Family::Ip6.wildcard();
            let host = crate::HostPort { host_ip, port, protocol: crate::Protocol::Sctp };
            let endpoint = crate::Endpoint { ip: host_ip, port };
            crate::Published {
                mapping: crate::Mapping::new(host, endpoint).unwrap(),
                owner: "x".repeat(crate::OwnerId::MAX_LEN).parse().ok(),
                counter: crate::Counter { packets: u64::MAX, bytes: u64::MAX },
            }
        });
        let elements = Elements { ports: ports.collect(), ..Elements::default() };
        for message in Table::with(Family::Ip6, &settings, None, elements).messages() {
            assert!(message.encode(1).len() <= most);
        }
    }
}
