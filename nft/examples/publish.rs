//! Publishes a host port, lists what is published, and with `--withdraw` takes it back.
//!
//! Try it in a network namespace of its own:
//! `ip netns add demo; ip netns exec demo cargo run --example publish`.

use std::collections::BTreeSet;

use hostport_nft::{
    Claim, Endpoint, HostPort, HostPorts, Mapping, Port, Protocol, Publication, Settings,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let host = HostPort {
        host_ip: "0.0.0.0".parse()?,
        port: "9000".parse::<Port>()?,
        protocol: Protocol::Tcp,
    };
    let endpoint = Endpoint { ip: "10.85.0.11".parse()?, port: "8080".parse()? };
    let owner = "5e0f".parse()?;

    let mut host_ports = HostPorts::open(Settings::default())?;
    if std::env::args().any(|argument| argument == "--withdraw") {
        for gone in host_ports.withdraw(&owner, &BTreeSet::from([host]), &BTreeSet::new())? {
            println!("withdrawn: {}", gone.mapping);
        }
    } else {
        let mapping = Mapping::new(host, endpoint)?;
        let claims = vec![Claim { owner, mapping }];
        let publication = Publication { claims, ..Publication::default() };
        // Another owner keeps what it has.
        host_ports.publish(&publication, |_taken| false)?;
    }
    for published in host_ports.list()? {
        println!("published: {}", published.mapping);
    }
    Ok(())
}
