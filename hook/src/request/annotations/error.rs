//! Why an annotation is refused.

use std::net::IpAddr;

use hostport_nft::{HostPort, InvalidPort, InvalidProtocol};
use thiserror::Error;

use crate::output::escape::{excerpt, quote};

/// The longest annotation that is read, in bytes. Kubernetes keeps all annotations of an object
/// together under 256 KiB (TotalAnnotationSizeLimitB in its apimachinery).
pub const MAX_TEXT: usize = 256 * 1024;

/// The most ports of one container: room for the wide ranges of media servers (10000-20000), and
/// still one transaction of a few megabytes with both families.
pub const MAX_PORTS: usize = 16_384;

/// An annotation that cannot be meant as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("annotation {}", self.place())]
pub struct AnnotationError {
    /// The annotation's name.
    pub key: &'static str,
    /// The offending item, shortened: a text in double quotes, or JSON in single ones.
    pub item: String,
    /// What is wrong with it, and what to do.
    pub problem: Problem,
}

impl AnnotationError {
    /// The error without the word that says where the key stands.
    pub fn place(&self) -> String {
        format!("{}: {}: {}", self.key, self.item, self.problem)
    }

    pub fn text(key: &'static str, item: &str, problem: Problem) -> Self {
        AnnotationError { key, item: quote(item), problem }
    }

    pub fn json(key: &'static str, item: &str, problem: Problem) -> Self {
        AnnotationError { key, item: format!("'{}'", excerpt(item, 80)), problem }
    }
}

/// What is wrong with an item of an annotation, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs)] // The messages say it.
pub enum Problem {
    #[error("{0} bytes of text: use at most {MAX_TEXT}")]
    TooLong(usize),
    #[error("more than {MAX_PORTS} ports in one container: publish fewer, or use host networking")]
    TooManyPorts,
    #[error("nothing between two commas: remove one")]
    EmptyItem,
    #[error("not a port mapping: use [[hostIP:]hostPort:]containerPort[/protocol]")]
    Grammar,
    #[error("not a port mapping: write an IPv6 address in brackets, as in [2001:db8::1]:80:8080")]
    Brackets,
    #[error(transparent)]
    Port(#[from] InvalidPort),
    #[error(transparent)]
    Protocol(#[from] InvalidProtocol),
    #[error("the range {0} runs backwards: write the lower port first")]
    ReversedRange(String),
    #[error("{host} host ports for {container} container ports: use ranges of the same length")]
    UnequalRanges { host: usize, container: usize },
    #[error("{0} is not an IP address: use one of the node's addresses, or leave it out")]
    HostIp(String),
    #[error(
        "::1 cannot be published, since Linux does not route IPv6 traffic from localhost: \
         use 127.0.0.1, or another address of the node"
    )]
    Localhost6,
    #[error(
        "{0} is a multicast address, which no node answers from: \
         use an address of the node, or leave it out"
    )]
    Multicast(IpAddr),
    #[error(
        "255.255.255.255 is the broadcast address, which no node has: \
         use an address of the node, or leave it out"
    )]
    Broadcast,
    #[error("host port {0} is asked for twice: remove one, or change its port")]
    Duplicate(HostPort),
    #[error(
        "not a JSON list of port mappings ({0}): use [{{\"hostPort\":80,\"containerPort\":8080}}]"
    )]
    Json(String),
    #[error("{field} is {value}: use {expected}")]
    Field { field: &'static str, value: String, expected: &'static str },
    #[error("{0} is missing: add it")]
    MissingField(&'static str),
    #[error("not the address of a pod: use one unicast address of each IP family")]
    EndpointIp,
    #[error("not a source: use addresses or prefixes, as in 192.0.2.0/24,2001:db8::/32")]
    Source,
}
