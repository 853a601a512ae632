//! Processes of the host that listen on a published port: clients outside do not reach them.

use hostport_nft::{Family, HostPort, Mapping, Protocol, TableOwner};

use crate::diagnose::{Finding, Inventory, Kind, Scope};
use crate::network::listener::{Listener, listeners};
use crate::network::process;
use crate::network::rtnetlink::Error;

pub fn find(inventory: &Inventory, scope: &Scope) -> Vec<Finding> {
    shadowed(inventory, scope.mappings.iter().map(Mapping::host)).unwrap_or_else(|error| {
        vec![Finding::new(
            Kind::Unfinished,
            format!("cannot list the sockets that listen: {error}"),
            ["programs that listen on a published port are not reported".to_owned()],
            "modprobe -a tcp_diag udp_diag",
        )]
    })
}

/// The processes that get nothing because of some host ports.
pub fn shadowed(
    inventory: &Inventory,
    hosts: impl Iterator<Item = HostPort> + Clone,
) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    let hosts = hosts.filter(|host| inventory.state(host.family()) == TableOwner::Ours);
    for listener in listeners()? {
        let Some(host) = hosts.clone().find(|host| shadows(*host, &listener, inventory)) else {
            continue;
        };
        let port = listener.port;
        // One on exactly that address would keep it, had it been there at the publication.
        let keeps = !listener.ip.is_unspecified() && host.host_ip.is_unspecified();
        let option = if listener.protocol == Protocol::Tcp { 't' } else { 'u' };
        findings.push(Finding::new(Kind::PortShadowed,
            format!("{}, which is published for a container", listens(&listener)),
            [format!("connections to host port {host} go to the container, and not to the process")],
            match keeps {
                true => inventory.call("restore"),
                false => format!(
                    "stop the process, or publish another port; see it with: ss -ln{option}p 'sport = :{port}'"
                ),
            },
        ));
    }
    Ok(findings)
}

/// The process that gets what comes to a host port if no rule takes it: the one on that address before the one on
/// every address.
pub fn answering(host: HostPort) -> Option<String> {
    let mut there: Vec<Listener> = listeners().ok()?.into_iter().collect();
    there.retain(|listener| {
        let port = (listener.protocol, listener.port) == (host.protocol, host.port.get());
        port && (listener.ip == host.host_ip || listener.is_wide(host.family()))
    });
    there.iter().max_by_key(|listener| listener.ip == host.host_ip).map(listens)
}

/// Which process listens where.
fn listens(Listener { ip, port, protocol, inode, .. }: &Listener) -> String {
    let at = if ip.is_ipv6() { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") };
    format!("{} listens on {at}/{protocol}", process::of_socket(*inode))
}

/// Whether a host port takes what a listener would get.
fn shadows(host: HostPort, listener: &Listener, inventory: &Inventory) -> bool {
    if (host.protocol, host.port.get()) != (listener.protocol, listener.port) {
        return false;
    }
    let same = host.host_ip == listener.ip;
    let keeps = |port| {
        let own = HostPort { host_ip: listener.ip, port, ..host };
        inventory
            .audits
            .get(&host.family())
            .is_some_and(|audit| audit.conditions.kept.contains(&own))
    };
    let within = host.host_ip.is_unspecified()
        && host.family() == Family::of(listener.ip)
        && !inventory.settings.is_excluded(listener.ip)
        && inventory.settings.covers(listener.ip)
        && !keeps(host.port);
    listener.is_wide(host.family()) || same || within
}
