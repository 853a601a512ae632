//! Rules of those that are no [`Peer`](crate::peers::Peer): the limit, and docker.

use std::fmt::Write;
use std::net::Ipv4Addr;

use crate::peers::Published;

/// One rule for all ports: what translation costs without finding out where to.
pub fn fixed(pod: Ipv4Addr, port: u16) -> String {
    format!(
        "table ip fixed {{
            chain prerouting {{
                type nat hook prerouting priority dstnat; policy accept;
                tcp dport 5000-64999 dnat to {pod}:{port}
            }}
        }}"
    )
}

/// The nat table as docker's bridge driver writes it with iptables (moby 28,
/// `daemon/libnetwork/drivers/bridge/internal/iptabler`): a rule a port in the chain DOCKER. Its filter table,
/// with another rule a port, is left out, which spares docker's time.
pub fn docker(ports: &[Published]) -> String {
    let mut rules = String::from(
        "*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 10.85.0.0/24 ! -o br0 -j MASQUERADE
",
    );
    for port in ports {
        let (host, pod, inside) = (port.host_port, port.pod[0], port.container_port);
        let rule = format!("-A DOCKER ! -i br0 -p tcp -m tcp --dport {host}");
        writeln!(rules, "{rule} -j DNAT --to-destination {pod}:{inside}").unwrap();
    }
    rules + "COMMIT\n"
}
