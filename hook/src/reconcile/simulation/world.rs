//! A machine that exists in a schedule alone: its kernel, its journal, its containers, and what each of them was told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hostport_nft::kernel::SetName;
use hostport_nft::kernel::fake::{self, Fake, Fault, Hand};
use hostport_nft::{
    Claim, Conditions, Endpoint, Family, HostPort, HostPorts, Mapping, OwnerId, Port, Protocol,
    Published, Settings, TableName,
};
use rustix::io::Errno;

use super::actors::Op;
use super::mutations::{Late, MutantFolder, Mutation};
use super::stage::{Actor, Stage};
use crate::journal::fake::{Call, FakeFolder, FakeLiveness, Hook, Moment, Step};
use crate::journal::{Entry, Folder, JournalError};
use crate::network::present::Present;
use crate::reconcile::Node;
use crate::request::annotations::PortRequest;
use crate::request::{Names, Request};

/// A container, or the sandbox of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Container {
    pub name: &'static str,
    /// Its address ends in this. All of a pod have the same.
    pub address: u8,
    pub ports: &'static [u16],
    /// Whether it takes ports over from the living.
    pub replaces: bool,
    /// The sandbox of its pod, with the ports that belong to that.
    pub sandbox: Option<(&'static str, &'static [u16])>,
}

impl Container {
    pub fn owner(&self) -> OwnerId {
        self.name.parse().unwrap()
    }

    /// Where it is, if it has moved or not.
    pub fn endpoint(&self, has_moved: bool) -> IpAddr {
        IpAddr::from([10, 0, u8::from(has_moved), self.address])
    }

    /// Everything that it asks for, with the owners, at its first address.
    pub fn claims(&self) -> Vec<Claim> {
        self.claims_at(self.endpoint(false))
    }

    /// The same at an address.
    pub fn claims_at(&self, ip: IpAddr) -> Vec<Claim> {
        let claim = |owner: &str, port: u16| {
            let endpoint = Endpoint { ip, port: Port::new(port + 8000).unwrap() };
            let mapping = Mapping::new(host(port), endpoint).unwrap();
            Claim { owner: owner.parse().unwrap(), mapping }
        };
        let own = self.ports.iter().map(|port| claim(self.name, *port));
        let (sandbox, ports) = self.sandbox.unwrap_or_default();
        own.chain(ports.iter().map(|port| claim(sandbox, *port))).collect()
    }

    /// Whether what it asks for may be this owner's.
    pub fn speaks_for(&self, owner: &OwnerId) -> bool {
        let sandbox = self.sandbox.map(|(sandbox, _)| sandbox);
        owner.as_str() == self.name || Some(owner.as_str()) == sandbox
    }

    /// Whether another asks for something that it asks for, or is it.
    pub fn shares_with(&self, other: &Container) -> bool {
        let others = other.claims();
        self.claims().iter().any(|claim| others.iter().any(|one| one.mapping == claim.mapping))
    }

    pub fn request(&self, pid: i32, ip: Option<IpAddr>) -> Request {
        let claims = ip.map(|ip| self.claims_at(ip)).unwrap_or_default();
        let waits = |claim: Claim| {
            let (host, endpoint) = (claim.mapping.host(), claim.mapping.endpoint());
            let request = PortRequest {
                host_ip: Some(host.host_ip),
                host_port: host.port,
                container_port: endpoint.port,
                protocol: host.protocol,
            };
            (claim.owner, request)
        };
        let asked = self.claims().into_iter();
        Request {
            container: self.owner(),
            conditions: Conditions::default(),
            allow_from: Vec::new(),
            claims,
            waiting: asked.filter(|_| ip.is_none()).map(waits).collect(),
            followed: BTreeSet::from([Family::Ip]),
            masquerade: false,
            replace: self.replaces,
            settings: Settings::default(),
            hairpin_mode: true,
            pid: Some(pid),
            namespace: (PathBuf::from("/run/netns/pod"), (1, self.address.into())),
            names: Names::default(),
            bundle: PathBuf::from("/b"),
            attachment: None,
        }
    }
}

pub fn host(port: u16) -> HostPort {
    let host_ip = Family::Ip.wildcard();
    HostPort { host_ip, port: Port::new(port).unwrap(), protocol: Protocol::Tcp }
}

/// What goes wrong with an actor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Its process dies before its n-th step with an effect.
    pub dies: Option<usize>,
    /// Its n-th call of the kernel goes wrong.
    pub kernel: Option<(usize, Fault)>,
    /// The answer to its first transaction is lost.
    pub unanswered: bool,
    /// Its n-th write of an entry finds the disk full.
    pub disk: Option<usize>,
}

/// How a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Life {
    /// The number of its process; another each time that it is started.
    pub pid: i32,
    pub is_dead: bool,
    /// It was told that its ports are published.
    pub is_published: bool,
    /// Its ports are being withdrawn, or were.
    pub is_withdrawn: bool,
    /// Its hook failed, since the kernel did not say whether its ports are published.
    pub is_unanswered: bool,
}

/// One execution's machine.
pub struct World {
    pub stage: Arc<Stage>,
    pub kernel: Fake,
    pub disk: FakeFolder,
    pub living: FakeLiveness,
    pub mutation: Option<Mutation>,
    milliseconds: AtomicU64,
    state: Mutex<State>,
}

/// What the invariants rest on.
#[derive(Default)]
pub struct State {
    pub lives: BTreeMap<&'static str, Life>,
    pub containers: BTreeMap<&'static str, Container>,
    /// The containers that have another address than at first.
    pub moved: BTreeSet<&'static str>,
    /// Those that had no address at first, and whether they have one now.
    pub late: BTreeMap<&'static str, bool>,
    /// What each actor does now.
    pub doing: BTreeMap<Option<Actor>, Op>,
    /// What was published after the latest step.
    pub published: BTreeMap<HostPort, Published>,
    /// The ports that others took from an owner as they may, since it last got them.
    pub lost: BTreeMap<OwnerId, BTreeSet<HostPort>>,
    /// Those that others took from an owner that was alive and not told "published": it must not be told so then.
    pub lost_early: BTreeMap<OwnerId, BTreeSet<HostPort>>,
    /// What is in the entries with these texts.
    pub entries: BTreeMap<Vec<u8>, BTreeSet<Mapping>>,
    /// The owners whose entries somebody removed.
    pub forgotten: BTreeSet<OwnerId>,
    /// Somebody removed ports with another program.
    pub was_flushed: bool,
    /// A restore has begun.
    pub was_restored: bool,
}

impl World {
    pub fn new(stage: &Arc<Stage>, mutation: Option<Mutation>) -> Arc<Self> {
        Arc::new(World {
            stage: stage.clone(),
            kernel: Fake::new(),
            disk: FakeFolder::new(),
            living: FakeLiveness::default(),
            mutation,
            milliseconds: AtomicU64::new(0),
            state: Mutex::default(),
        })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn hand(&self) -> Hand {
        self.kernel.hand()
    }

    /// The address of a container, if it has one.
    pub fn address(&self, container: &Container) -> Option<IpAddr> {
        let state = self.state();
        let has_one = state.late.get(container.name).is_none_or(|has_one| *has_one);
        has_one.then(|| container.endpoint(state.moved.contains(container.name)))
    }

    /// What the container of an entry has on the network.
    pub fn present(&self, entry: &Entry) -> Option<Present> {
        let container = self.state().containers.get(entry.owner.as_str()).copied()?;
        let ip = self.address(&container);
        Some(Present { all: ip.into_iter().collect(), endpoints: ip.into_iter().collect() })
    }

    /// What is published now.
    pub fn published(&self) -> BTreeMap<HostPort, Published> {
        let published = self.hand().published(&TableName::default());
        published.into_iter().map(|there| (there.mapping.host(), there)).collect()
    }

    /// Ends a container: its process, and the network namespace unless that is its pod's.
    pub fn end(&self, container: &Container) {
        let mut state = self.state();
        let life = state.lives.entry(container.name).or_default();
        life.is_dead = true;
        self.living.end_process(life.pid);
        if container.sandbox.is_none() {
            self.living.end_namespace(container.address.into());
        }
    }

    /// Starts a container, for the first time or once more.
    pub fn start(&self, container: &Container) {
        let mut state = self.state();
        state.containers.insert(container.name, *container);
        // Its former life's poststop, if it runs only now, may take its ports.
        let goes = |op: &Op| matches!(op, Op::Withdraw(of) if of == container);
        let is_withdrawn = state.doing.values().any(goes);
        let life = state.lives.entry(container.name).or_default();
        let pid = life.pid.max(i32::from(container.address) * 100 + name_number(container)) + 1;
        *life = Life { pid, is_withdrawn, ..Life::default() };
    }

    fn die(&self, actor: Actor) {
        self.disk.kill(number(Some(actor)));
    }

    fn journal_step(&self, actor: Actor, step: Step<'_>) {
        let Step { moment, call, name } = step;
        match moment {
            Moment::Before => {
                let has_effect = matches!(
                    call,
                    Call::Create | Call::Write | Call::Rename | Call::Remove | Call::OpenLock
                );
                self.stage.before(actor, has_effect, || self.die(actor));
            }
            Moment::After => {
                self.stage.after(actor, call == Call::Close, || format!("{call:?} {name}"));
                if matches!(call, Call::Rename | Call::Remove) && name.ends_with(".json") {
                    self.check_journal();
                }
            }
            Moment::Waiting => self.stage.wait(),
        }
    }

    fn kernel_step(&self, actor: Actor, step: fake::Step<'_>, catch_up: &dyn Fn()) {
        let commits = matches!(step.call, fake::Call::Commit(_));
        match step.moment {
            fake::Moment::Before => {
                let has_effect = commits || matches!(step.call, fake::Call::Forget(_));
                self.stage.before(actor, has_effect, || self.die(actor));
            }
            fake::Moment::After if commits => {
                let (changes, wrong) = self.check_commit(actor);
                self.stage.after(actor, false, || format!("commits: {changes}"));
                if let Some(wrong) = wrong {
                    self.wrong(&wrong);
                }
                catch_up();
                self.check_journal();
            }
            fake::Moment::After => self.stage.after(actor, false, || line(step.call)),
        }
    }
}

/// So that no two containers of a pod have one process.
fn name_number(container: &Container) -> i32 {
    container.name.bytes().last().map_or(0, |byte| i32::from(byte % 8) * 10)
}

fn line(call: fake::Call<'_>) -> String {
    match call {
        fake::Call::Element(_, SetName::Ports, key) => {
            format!(
                "reads port {}",
                key.get(4..6).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]))
            )
        }
        fake::Call::Element(_, set, _) => format!("reads an element of {set}"),
        fake::Call::Elements(_, set) => format!("lists {set}"),
        other => format!("{other:?}"),
    }
}

/// A process of the program on that machine.
pub struct Process {
    pub world: Arc<World>,
    /// None before the schedule begins and after it ends: nobody else is there.
    pub actor: Option<Actor>,
    pub trouble: Trouble,
    living: FakeLiveness,
    kernel: Fake,
    folder: FakeFolder,
    late: Late,
}

/// The process number of an actor.
fn number(actor: Option<Actor>) -> u32 {
    actor.map_or(99, |actor| actor as u32 + 1)
}

impl Process {
    pub fn new(world: &Arc<World>, actor: Option<Actor>, trouble: Trouble) -> Self {
        let (number, late) = (number(actor), Late::default());
        let (mut living, mut kernel) = (world.living.clone(), world.kernel.actor(number));
        let mut hook: Option<Hook> = None;
        if let Some(actor) = actor {
            let here = world.clone();
            let told: Hook = Arc::new(move |step: Step<'_>| here.journal_step(actor, step));
            living = living.with_hook(told.clone());
            hook = Some(told.clone());
            let (here, late) = (world.clone(), late.clone());
            kernel = kernel.watched(Arc::new(move |step: fake::Step<'_>| {
                let folder = || here.disk.of_process(number, Some(told.clone()));
                here.kernel_step(actor, step, &|| late.catch_up(folder));
            }));
            kernel = kernel.failing(plan(trouble, world.mutation));
        }
        let folder = world.disk.of_process(number, hook);
        Process { world: world.clone(), actor, trouble, living, kernel, folder, late }
    }
}

/// What goes wrong with the calls of the kernel.
fn plan(trouble: Trouble, mutation: Option<Mutation>) -> fake::Plan {
    let (calls, commits) = (AtomicUsize::new(0), AtomicUsize::new(0));
    Arc::new(move |step: fake::Step<'_>| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        let fault = trouble.kernel.filter(|(nth, _)| *nth == call).map(|(_, fault)| fault);
        let first = matches!(step.call, fake::Call::Commit(_))
            && commits.fetch_add(1, Ordering::Relaxed) == 0;
        let lost = (first && trouble.unanswered).then_some(Fault::LostAnswer(Errno::NOBUFS));
        let fault = fault.or(lost);
        fault.or_else(|| mutation.and_then(|mutation| mutation.of_call(step.call)))
    })
}

impl Node for Process {
    type Kernel = Fake;
    type Folder = MutantFolder;
    type Liveness = FakeLiveness;

    fn host_ports(&self, settings: Settings) -> Result<HostPorts<Fake>, hostport_nft::Error> {
        Ok(HostPorts::with(self.kernel.clone(), settings))
    }

    fn folder(&self) -> Result<MutantFolder, JournalError> {
        let (folder, mutation) = (self.folder.clone(), self.world.mutation);
        Ok(MutantFolder { folder, mutation, late: self.late.clone() })
    }

    fn existing_folder(&self) -> Result<Option<MutantFolder>, JournalError> {
        self.folder().map(Some)
    }

    fn has_entry(&self, owner: &OwnerId) -> bool {
        self.folder.stamp(&format!("{owner}.json")).is_some()
    }

    fn liveness(&self) -> &FakeLiveness {
        &self.living
    }

    /// No two have the same.
    fn now(&self) -> SystemTime {
        let milliseconds = self.world.milliseconds.fetch_add(1, Ordering::Relaxed);
        UNIX_EPOCH + Duration::from_millis(milliseconds)
    }
}

/// The disk is full when these processes write an entry for the n-th time.
pub fn fill_disk(world: &World, troubles: &[Trouble]) {
    if troubles.iter().all(|trouble| trouble.disk.is_none()) {
        return;
    }
    let full: BTreeMap<u32, usize> = troubles
        .iter()
        .enumerate()
        .filter_map(|(actor, trouble)| Some((number(Some(actor)), trouble.disk?)))
        .collect();
    let mut written: BTreeMap<u32, usize> = BTreeMap::new();
    world.disk.set_fault(move |process, call, _| {
        let nth = full.get(&process).filter(|_| call == Call::Write)?;
        let written = written.entry(process).or_default();
        *written += 1;
        (*written - 1 == *nth).then_some(Errno::NOSPC)
    });
}
