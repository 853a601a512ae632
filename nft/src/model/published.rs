//! A mapping as the kernel holds it, and what the kernel counts for it.

use super::mapping::Mapping;
use super::owner::OwnerId;

/// A mapping that is published: an element of the map `ports`.
///
/// ```no_run
/// use hostport_nft::{HostPorts, Settings};
/// let mut host_ports = HostPorts::open(Settings::default())?;
/// for published in host_ports.list()? {
///     let owner = published.owner.map_or("no owner".to_owned(), |owner| owner.to_string());
///     println!("{} ({owner}): {} connections", published.mapping, published.counter.packets);
/// }
/// # Ok::<(), hostport_nft::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The host port and its endpoint.
    pub mapping: Mapping,
    /// The owner in the element's comment; none if another program added the element.
    pub owner: Option<OwnerId>,
    /// The connections that came for the host port, and the bytes of their first packets.
    pub counter: Counter,
}

/// The values of a counter.
///
/// ```
/// use hostport_nft::Counter;
///
/// assert_eq!(Counter::default(), Counter { packets: 0, bytes: 0 });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counter {
    /// Packets seen; in a NAT rule that is the first packet of each connection.
    pub packets: u64,
    /// Bytes in these packets.
    pub bytes: u64,
}
