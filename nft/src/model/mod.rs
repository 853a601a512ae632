//! Values: ports, owners, mappings, settings. Nothing here knows netlink or does I/O.

mod boot;
mod claim;
mod endpoint;
mod family;
mod flow;
mod gather;
mod hook;
mod host_port;
mod link_name;
mod mapping;
mod number;
mod owner;
mod port;
mod published;
mod settings;

pub use boot::Boot;
pub use claim::{Claim, Conditions, Link};
pub use endpoint::Endpoint;
pub use family::{Family, NfFamily};
pub use flow::Flow;
pub use gather::Gather;
pub use hook::Hook;
pub use host_port::HostPort;
pub use link_name::LinkName;
pub use mapping::{FamilyMismatch, Mapping};
pub use number::{Generation, Handle};
pub use owner::{InvalidOwner, OwnerId};
pub use port::{InvalidPort, InvalidProtocol, Port, Protocol};
pub use published::{Counter, Published};
pub use settings::{InvalidTableName, Settings, TableName};
