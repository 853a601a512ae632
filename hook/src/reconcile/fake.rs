//! A node that a test made up: kernel, journal and processes in memory.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hostport_nft::kernel::fake::Fake;
use hostport_nft::{HostPorts, OwnerId, Settings};

use super::Node;
use crate::journal::fake::{FakeFolder, FakeLiveness};
use crate::journal::{Folder, JournalError};
use crate::network::Reach;

/// What one process sees of the node. Others see the same kernel, folder and processes: see
/// [`Fake::actor`], [`FakeFolder::of_process`] and [`FakeLiveness::with_hook`].
#[derive(Clone, Default)]
pub struct FakeNode {
    pub kernel: Fake,
    pub folder: FakeFolder,
    pub liveness: FakeLiveness,
    /// Milliseconds since 1970; each look at it is one later.
    pub clock: Arc<AtomicU64>,
}

impl FakeNode {
    /// The same node, seen by another process.
    pub fn process(&self, number: u32) -> Self {
        FakeNode {
            kernel: self.kernel.actor(number),
            folder: self.folder.of_process(number, None),
            ..self.clone()
        }
    }
}

impl Node for FakeNode {
    type Kernel = Fake;
    type Folder = FakeFolder;
    type Liveness = FakeLiveness;

    fn host_ports(&self, settings: Settings) -> Result<HostPorts<Fake>, hostport_nft::Error> {
        Ok(HostPorts::with(self.kernel.clone(), settings))
    }

    fn folder(&self) -> Result<FakeFolder, JournalError> {
        Ok(self.folder.clone())
    }

    fn existing_folder(&self) -> Result<Option<FakeFolder>, JournalError> {
        Ok(Some(self.folder.clone()))
    }

    fn has_entry(&self, owner: &OwnerId) -> bool {
        self.folder.stamp(&format!("{owner}.json")).is_some()
    }

    fn liveness(&self) -> &FakeLiveness {
        &self.liveness
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.clock.fetch_add(1, Ordering::Relaxed))
    }
}

/// A network on which host ports reach their endpoints, and every address is the node's own.
pub struct Everywhere;

impl Reach for Everywhere {
    fn open_localhost(&mut self) {}

    fn open_hairpin(&mut self) {}

    fn is_local(&mut self, _ip: IpAddr) -> bool {
        true
    }
}
