//! Errors, with texts that say what to do.

use std::io;

pub use hostport_netlink::Malformed;
use rustix::io::Errno;
use thiserror::Error;

use crate::model::{Endpoint, Family, HostPort, OwnerId, TableName};

/// Why an operation on the ruleset failed. The ruleset is then unchanged, except after [`Error::Unanswered`].
///
/// ```no_run
/// use hostport_nft::{Error, HostPorts, Settings};
///
/// match HostPorts::open(Settings::default()).and_then(|mut host_ports| host_ports.list()) {
///     Ok(published) => println!("{} host ports", published.len()),
///     Err(Error::NotPermitted) => eprintln!("run as root"),
///     // Each says what failed and what to do.
///     Err(error) => eprintln!("{error}"),
/// }
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no netfilter netlink on this kernel, or no more file descriptors.
    #[error("cannot open a netfilter netlink socket: {0}{hint}", hint = opening_hint(.0))]
    Open(#[source] io::Error),
    /// Sending to the kernel or receiving from it failed.
    #[error("cannot talk to the kernel over netlink: {0}")]
    Transport(#[source] io::Error),
    /// The kernel received a transaction, but its answer was lost, and reading the ruleset did not show the
    /// outcome: it was made as a whole, or not at all.
    #[error("the kernel may have made the change, but its answer was lost: {0}")]
    Unanswered(#[source] Box<Error>),
    /// The caller may not change the ruleset (EPERM).
    #[error(
        "not permitted to use nftables: run as root, with CAP_NET_ADMIN in this network namespace"
    )]
    NotPermitted,
    /// The kernel has no nf_tables (EOPNOTSUPP, or EINVAL for any request to it).
    #[error("this kernel has no nf_tables: load the module nf_tables, or build CONFIG_NF_TABLES")]
    NoNfTables,
    /// The kernel refused a part of the ruleset.
    #[error("the kernel refused {what}: {error}{}", hint(*error))]
    Refused {
        /// The part, in words.
        what: String,
        /// The kernel's error.
        error: Errno,
    },
    /// The kernel has no module that the ruleset needs.
    #[error("{0}")]
    Unsupported(Box<Unsupported>),
    /// There is a table of our name that is not ours.
    #[error(
        "the table {family} {table} exists and was not made by hostport: remove it \
         (nft delete table {family} {table}), or choose another name with --table"
    )]
    ForeignTable {
        /// The family of the table.
        family: Family,
        /// Its name.
        table: TableName,
    },
    /// A table of our name belongs to another running program (NFT_TABLE_F_OWNER), and the kernel lets
    /// only that program change it (EPERM).
    #[error(
        "the table {family} {table} belongs to another running program, and only that program may change it: \
         end it (nft list table {family} {table} names it), or choose another name with --table"
    )]
    OwnedTable {
        /// The family of the table.
        family: Family,
        /// Its name.
        table: TableName,
    },
    /// A host port has another owner.
    #[error(transparent)]
    Taken(#[from] Taken),
    /// Two claims ask for the same host port.
    #[error("host port {host} is asked for twice: ask for it once")]
    Twice {
        /// The host port.
        host: HostPort,
    },
    /// Other programs changed the ruleset during each attempt.
    #[error(
        "other programs kept changing the nftables ruleset during {attempts} attempts: try again"
    )]
    Contention {
        /// The attempts made.
        attempts: u32,
    },
    /// A reply did not follow the kernel's protocol.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// A host port that another owner has.
///
/// ```no_run
/// # use hostport_nft::{Error, Claim, Endpoint, Family, HostPort, HostPorts, Mapping, Protocol, Publication, Settings};
/// # let host_ip = Family::Ip.wildcard();
/// # let host = HostPort { host_ip, port: "9000".parse()?, protocol: Protocol::Tcp };
/// # let endpoint = Endpoint { ip: "10.85.0.11".parse()?, port: "8080".parse()? };
/// # let claim = Claim { owner: "5e0f".parse()?, mapping: Mapping::new(host, endpoint)? };
/// # let publication = Publication { claims: vec![claim], ..Publication::default() };
/// let mut host_ports = HostPorts::open(Settings::default())?;
/// if let Err(Error::Taken(taken)) = host_ports.publish(&publication, |_| false) {
///     println!("{} leads to {} already", taken.host, taken.endpoint);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "host port {host} is taken by {} (endpoint {endpoint}): stop that one, or choose another host port",
    owner.as_ref().map_or("an element without an owner", OwnerId::as_str)
)]
pub struct Taken {
    /// The host port that was asked for.
    pub host: HostPort,
    /// Its present owner; none if the element has no owner's comment.
    pub owner: Option<OwnerId>,
    /// The endpoint that it leads to.
    pub endpoint: Endpoint,
}

/// A part of the ruleset that the kernel does not support.
///
/// ```no_run
/// # use hostport_nft::{HostPorts, Settings};
/// let mut host_ports = HostPorts::open(Settings::default())?;
/// for unsupported in host_ports.check()? {
///     println!("{unsupported}"); // the kernel lacks nft_masq, for a rule of the chain postrouting: ...
/// }
/// # Ok::<(), hostport_nft::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "the kernel lacks {}, for {part} (family {family}): load it with modprobe {}, or use a kernel that has it",
    modules.join(" or "),
    modules.join(" ")
)]
pub struct Unsupported {
    /// The family of the table.
    pub family: Family,
    /// The part, in words: `the chain prerouting`.
    pub part: String,
    /// The kernel's error.
    pub error: Errno,
    /// The modules that may be missing; empty for an error of another kind.
    pub modules: Vec<&'static str>,
}

/// Why a netlink socket cannot be opened, where that is known.
fn opening_hint(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT) => {
            ": this kernel has no netfilter netlink: load the module nfnetlink"
        }
        Some(Errno::MFILE) => ": raise this process's limit of open files (ulimit -n)",
        _ => "",
    }
}

/// What the kernel's error most likely means for the ruleset.
fn hint(error: Errno) -> &'static str {
    match error {
        Errno::NOENT => {
            "; a module is missing: nft_nat, nft_masq, nft_fib_ipv4, nft_fib_ipv6, nft_ct or nf_nat"
        }
        Errno::OPNOTSUPP => "; this kernel lacks a feature: Linux 5.10 or later is needed",
        Errno::NOMEM | Errno::NOBUFS => "; the kernel is short of memory",
        // The answers for a set of another type or size, or a constant one.
        Errno::INVAL | Errno::NFILE | Errno::BUSY => {
            "; if the table was changed by hand, hostport restore re-creates it"
        }
        _ => "",
    }
}

impl Error {
    /// The error for a request that has no answer. `what` completes the sentence "the kernel refused".
    pub(crate) fn of(what: &str, error: hostport_netlink::Error) -> Self {
        use hostport_netlink::Error as Netlink;
        match error {
            Netlink::Open(error) => Error::Open(error),
            Netlink::Io(error) => Error::Transport(error),
            Netlink::Refused(error) => refusal(what, error),
            Netlink::Malformed(malformed) => Error::Malformed(malformed),
        }
    }
}

/// The error for a part that the kernel refused.
pub(crate) fn refusal(what: &str, error: Errno) -> Error {
    match error {
        Errno::PERM => Error::NotPermitted,
        _ => Error::Refused { what: what.to_owned(), error },
    }
}

/// The kernel answers EINVAL to any request for a subsystem that it does not have
/// (nfnetlink_rcv_msg). This is for requests that have nothing else that it could find invalid.
pub(crate) fn no_nf_tables(error: Error) -> Error {
    match error {
        Error::Refused { error: Errno::INVAL, .. } => Error::NoNfTables,
        other => other,
    }
}
