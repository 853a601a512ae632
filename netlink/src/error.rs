//! The one thing that can be wrong with bytes.

use thiserror::Error;

/// Bytes that are not what the kernel's protocol says.
///
/// ```
/// assert_eq!(hostport_netlink::Malformed.to_string(), "the kernel's reply is malformed");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the kernel's reply is malformed")]
pub struct Malformed;
