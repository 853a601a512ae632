//! What a command works on.

use std::path::PathBuf;
use std::time::SystemTime;

use hostport_nft::kernel::Socket;
use hostport_nft::{HostPorts, OwnerId, Settings, TableName};

use crate::journal::{DiskFolder, Journal, JournalError, Proc};
use crate::reconcile::Node;

/// The tables in the kernel, and the journal.
#[derive(Debug, Clone)]
pub struct Context {
    pub table: TableName,
    pub state_dir: PathBuf,
}

/// This machine.
impl Node for Context {
    type Kernel = Socket;
    type Folder = DiskFolder;
    type Liveness = Proc;

    fn host_ports(&self, settings: Settings) -> Result<HostPorts, hostport_nft::Error> {
        HostPorts::open(settings)
    }

    fn folder(&self) -> Result<DiskFolder, JournalError> {
        DiskFolder::open_or_create(&self.state_dir)
    }

    fn existing_folder(&self) -> Result<Option<DiskFolder>, JournalError> {
        DiskFolder::open_existing(&self.state_dir)
    }

    fn has_entry(&self, owner: &OwnerId) -> bool {
        Journal::has(&self.state_dir, owner)
    }

    fn liveness(&self) -> &Proc {
        &Proc
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}
