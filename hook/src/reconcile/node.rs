//! What the operations touch.

use std::time::SystemTime;

use hostport_nft::kernel::Kernel;
use hostport_nft::{HostPorts, OwnerId, Settings};

use crate::journal::{Folder, JournalError, Liveness};

/// A machine: its kernel, its journal, its processes, its time.
pub trait Node {
    /// Its kernel.
    type Kernel: Kernel;
    /// The journal's folder.
    type Folder: Folder;
    /// Its processes and network namespaces.
    type Liveness: Liveness;

    /// Opens the ruleset.
    fn host_ports(
        &self,
        settings: Settings,
    ) -> Result<HostPorts<Self::Kernel>, hostport_nft::Error>;

    /// Opens the journal's folder, and makes it if it is missing.
    fn folder(&self) -> Result<Self::Folder, JournalError>;

    /// Opens the journal's folder; none if it is missing.
    fn existing_folder(&self) -> Result<Option<Self::Folder>, JournalError>;

    /// Whether the journal has an entry of an owner, without opening the folder.
    fn has_entry(&self, owner: &OwnerId) -> bool;

    /// Its processes and network namespaces.
    fn liveness(&self) -> &Self::Liveness;

    /// The time of day.
    fn now(&self) -> SystemTime;
}
