//! A tracked connection towards a host port.

use super::endpoint::Endpoint;
use super::host_port::HostPort;

/// A tracked connection: the destination of its first packet, before and after translation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// The destination before translation.
    pub host: HostPort,
    /// The destination after it.
    pub answers: Endpoint,
    /// The other side has answered (IPS_SEEN_REPLY in `linux/netfilter/nf_conntrack_common.h`).
    pub replied: bool,
    /// What names the entry to the kernel.
    pub name: Vec<u8>,
}
