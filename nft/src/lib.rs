//! Kubernetes host ports on nftables: one atomic ruleset, built and applied over netlink.
mod batch;
mod conntrack;
mod element;
mod error;
mod expression;
mod host_ports;
mod mapping;
mod message;
#[cfg(feature = "nftnl")]
mod nlmsg;
mod publish;
mod reply;
mod set;
mod settings;
mod skeleton;
mod socket;
mod statement;
mod withdraw;

pub use error::{Error, Taken};
pub use host_ports::HostPorts;
pub use mapping::{
    Endpoint, Family, FamilyMismatch, HostPort, InvalidOwner, InvalidPort, InvalidProtocol,
    Mapping, OwnerId, Port, Protocol,
};
pub use message::Message;
pub use publish::{Claim, Link, Publication};
pub use reply::Malformed;
pub use set::{Counter, Published};
pub use settings::{InvalidTableName, Settings, TableName};
pub use skeleton::Table;
