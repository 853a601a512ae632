//! What the kernel counts for a mapping.

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
