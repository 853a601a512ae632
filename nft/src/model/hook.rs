//! The places on a packet's way where the kernel calls chains.

use std::fmt;

/// The hooks that call base chains: `enum nf_inet_hooks` of `linux/netfilter.h`.
///
/// ```
/// use hostport_nft::object::Hook;
///
/// assert_eq!((Hook::Postrouting.to_string().as_str(), Hook::Postrouting as u32), ("postrouting", 4));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// For what comes from a link.
    Prerouting = 0,
    /// For what is for this host.
    Input = 1,
    /// For what is forwarded.
    Forward = 2,
    /// For what this host sends.
    Output = 3,
    /// For what leaves.
    Postrouting = 4,
}

/// The hook as nft writes it.
impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        })
    }
}
