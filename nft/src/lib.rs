//! Kubernetes host ports on nftables.
mod mapping;
pub use mapping::{
    Endpoint, Family, FamilyMismatch, HostPort, InvalidOwner, InvalidPort, InvalidProtocol, Mapping,
    OwnerId, Port, Protocol,
};
