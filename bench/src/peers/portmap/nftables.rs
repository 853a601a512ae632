//! The rules of portmap's nftables backend: a rule a port in one chain, and rules for the masquerading.

use std::fmt::Write;

use super::Published;

/// The whole table with these ports, as nft reads it. IPv4 alone.
pub fn ruleset(ports: &[Published]) -> String {
    let (mut hostports, mut masquerading) = (String::new(), String::new());
    for owned in ports.chunk_by(|one, other| one.owner == other.owner) {
        let (owner, pod) = (&owned[0].owner, owned[0].pod[0]);
        for port in owned {
            let (host, inside) = (port.host_port, port.container_port);
            writeln!(hostports, "tcp dport {host} dnat to {pod}:{inside} comment \"{owner}\"")
                .unwrap();
        }
        for from in [pod.to_string(), "127.0.0.1".to_owned()] {
            writeln!(masquerading, "ip saddr {from} ip daddr {pod} masquerade comment \"{owner}\"")
                .unwrap();
        }
    }
    format!(
        "table ip cni_hostport {{
            comment \"CNI portmap plugin\"
            chain hostports {{
                {hostports}
            }}
            chain hostip_hostports {{
            }}
            chain hostports_all {{
                jump hostip_hostports
                jump hostports
            }}
            chain prerouting {{
                type nat hook prerouting priority dstnat; policy accept;
                fib daddr type local jump hostports_all
            }}
            chain output {{
                type nat hook output priority -100; policy accept;
                fib daddr type local jump hostports_all
            }}
            chain masquerading {{
                type nat hook postrouting priority srcnat; policy accept;
                {masquerading}
            }}
        }}
        "
    )
}
