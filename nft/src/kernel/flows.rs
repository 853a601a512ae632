//! Tracked connections towards host ports.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::retry::complete;
use super::{Flow, Kernel};
use crate::error::Error;
use crate::model::{Family, HostPort, Port, Protocol};

/// The tracked flows towards the ports of some host ports, whatever their address. TCP has none that matter.
pub(crate) fn towards<'a>(
    kernel: &mut impl Kernel,
    hosts: impl Iterator<Item = &'a HostPort>,
    patience: Duration,
) -> Result<Vec<Flow>, Error> {
    let mut ports: BTreeMap<(Family, Protocol), BTreeSet<Port>> = BTreeMap::new();
    for host in hosts.filter(|host| host.protocol != Protocol::Tcp) {
        ports.entry((host.family(), host.protocol)).or_default().insert(host.port);
    }
    let mut flows = Vec::new();
    for ((family, protocol), ports) in ports {
        // One walk of the kernel's table, however many the ports.
        let only = ports.first().filter(|_| ports.len() == 1).copied();
        let some = complete(kernel, patience, |kernel| kernel.flows(family, protocol, only))?;
        flows.extend(some.into_iter().flatten().filter(|flow| ports.contains(&flow.host.port)));
    }
    Ok(flows)
}
