//! Waiting for what the kernel finishes only after the command returned.

use std::fs;
use std::thread;
use std::time::Duration;

use super::Netns;

const LOOKS: usize = 500;
const PAUSE: Duration = Duration::from_millis(5);

/// RTF_LOCAL in linux/ipv6_route.h.
const RTF_LOCAL: u32 = 0x8000_0000;
/// IFA_F_TENTATIVE in linux/if_addr.h.
const IFA_F_TENTATIVE: u32 = 0x40;

impl Netns {
    /// Waits until these links carry packets and every IPv6 address of the namespace can be used. The kernel sets
    /// up the queue of a link, the state of a bridge port and the local route of an address in the background, even
    /// without duplicate address detection. Until then it drops packets, and a lost address resolution costs a
    /// second.
    pub fn wait_until_ready(&self, links: &[&str]) {
        for _ in 0..LOOKS {
            if self.links_are_up(links) && self.run(ipv6_addresses_are_usable) {
                return;
            }
            thread::sleep(PAUSE);
        }
        panic!("{}: links {links:?} or an IPv6 address do not come up", self.name());
    }

    fn links_are_up(&self, names: &[&str]) -> bool {
        let links = self.links();
        names.iter().all(|name| {
            links.iter().any(|link| {
                let port = &link["linkinfo"]["info_slave_data"]["state"];
                link["ifname"] == **name
                    && link["operstate"] == "UP"
                    && (port.is_null() || port == "forwarding")
            })
        })
    }
}

/// Whether each IPv6 address of the calling thread's namespace is valid and has its local route.
fn ipv6_addresses_are_usable() -> bool {
    let addresses = fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
    let routes = fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap();
    let hex = |word: &str| u32::from_str_radix(word, 16).unwrap();
    // Address, index, prefix length, scope, flags, link.
    let mut addresses = addresses.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Destination, length, source, length, next hop, metric, references, use, flags, link.
    let routes: Vec<Vec<_>> =
        routes.lines().map(|line| line.split_whitespace().collect()).collect();
    addresses.all(|address| {
        hex(address[4]) & IFA_F_TENTATIVE == 0
            && routes.iter().any(|route| {
                route[0] == address[0] && route[1] == "80" && hex(route[8]) & RTF_LOCAL != 0
            })
    })
}
