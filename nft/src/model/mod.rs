//! Values: ports, owners, mappings, settings. Nothing here knows netlink or does I/O.

mod claim;
mod endpoint;
mod family;
mod flow;
mod hook;
mod host_port;
mod mapping;
mod number;
mod owner;
mod port;
mod published;
mod settings;

pub use claim::{Claim, Link};
pub use endpoint::Endpoint;
pub use family::{Family, NfFamily};
pub use flow::Flow;
pub use hook::Hook;
pub use host_port::HostPort;
pub use mapping::{FamilyMismatch, Mapping};
pub use number::{Generation, Handle, IfIndex};
pub use owner::{InvalidOwner, OwnerId};
pub use port::{InvalidPort, InvalidProtocol, Port, Protocol};
pub use published::{Counter, Published};
pub use settings::{InvalidTableName, Settings, TableName};
