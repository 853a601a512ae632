//! A kernel in memory, for tests without root: behind the cargo feature `fake`, and in no product.
//!
//! It behaves as nf_tables does where our operations can tell: a transaction is made as a whole or not at
//! all, its failures name the changes that failed, and one that rests on another generation is stale. A
//! conformance test runs the same operations on it and on a real kernel.
//!
//! Before and after each call it calls the test's own hook, with nothing locked: there a scheduler can let
//! another actor go on, and a test can end the actor by a panic.

mod hand;
mod ruleset;
mod shared;

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::io::Errno;

pub use hand::Hand;

use super::{
    Element, Flow, Generation, Kernel, Outcome, Pass, SetName, SetRef, TableFacts, TableQuery,
    Transaction,
};
use crate::error::{Error, refusal};
use crate::model::{Boot, Family, LinkName, NfFamily, Port, Protocol, TableName};
use crate::wire::message::Message;
use crate::wire::snapshot::Snapshot;
use ruleset::{Ruleset, Verdict};
use shared::Shared;

/// One actor's socket to a kernel in memory. Actors of one kernel come from [`Fake::actor`].
///
/// ```
/// use hostport_nft::kernel::fake::Fake;
/// use hostport_nft::{HostPorts, Settings};
///
/// let kernel = Fake::new();
/// let mut one = HostPorts::with(kernel.actor(1), Settings::default());
/// let mut other = HostPorts::with(kernel.actor(2), Settings::default());
/// assert!(one.list()?.is_empty() && other.list()?.is_empty());
/// # Ok::<(), hostport_nft::Error>(())
/// ```
#[derive(Clone)]
pub struct Fake {
    shared: Arc<Shared>,
    actor: u32,
    watch: Option<Watch>,
    plan: Option<Plan>,
}

/// What is called before and after each step.
pub type Watch = Arc<dyn Fn(Step<'_>) + Send + Sync>;
/// What decides, before a step, whether it goes wrong.
pub type Plan = Arc<dyn Fn(Step<'_>) -> Option<Fault> + Send + Sync>;

/// One call of an actor, as it begins or as it ends.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// The actor.
    pub actor: u32,
    /// What it asks.
    pub call: Call<'a>,
    /// Whether it begins or ends.
    pub moment: Moment,
}

/// Whether a call begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Nothing has happened yet.
    Before,
    /// The kernel has done it, and the actor does not know yet.
    After,
}

/// A call of [`Kernel`].
#[derive(Debug, Clone, Copy)]
pub enum Call<'a> {
    /// [`Kernel::generation`]
    Generation,
    /// [`Kernel::tables`]
    Tables,
    /// [`Kernel::element`]
    Element(Family, SetName, &'a [u8]),
    /// [`Kernel::elements`]
    Elements(Family, SetName),
    /// [`Kernel::objects`]
    Objects(NfFamily),
    /// [`Kernel::commit`]
    Commit(&'a Transaction),
    /// [`Kernel::first_refused`]
    FirstRefused,
    /// [`Kernel::flows`]
    Flows(Family, Protocol),
    /// [`Kernel::forget`]
    Forget(&'a Flow),
    /// [`Kernel::pause`]
    Pause,
}

/// What goes wrong with a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request does not reach the kernel: ENOBUFS for a full socket, EMSGSIZE for a batch that is too large.
    Unsent(Errno),
    /// The kernel does not permit it (EPERM).
    NotPermitted,
    /// A walk over a list is interrupted. Nothing else is.
    Interrupted,
    /// A transaction meets another one (EAGAIN). Nothing else does.
    Stale,
    /// The kernel has no memory for a transaction (ENOMEM). Nothing else needs any.
    NoMemory,
    /// A transaction is made whatever the ruleset's generation is, as if it named none. Nothing else names one.
    AnyGeneration,
    /// The kernel does what is asked, and its answer is lost: ENOBUFS for a full socket, EAGAIN for none in time.
    LostAnswer(Errno),
}

impl Default for Fake {
    fn default() -> Self {
        Fake::new()
    }
}

impl Fake {
    /// A kernel without any table.
    pub fn new() -> Self {
        Fake { shared: Arc::default(), actor: 0, watch: None, plan: None }
    }

    /// Another actor of the same kernel, watched and failed alike.
    pub fn actor(&self, actor: u32) -> Self {
        Fake { actor, ..self.clone() }
    }

    /// The same actor, with something that is called before and after each of its steps.
    pub fn watched(self, watch: Watch) -> Self {
        Fake { watch: Some(watch), ..self }
    }

    /// The same actor, with a plan of what goes wrong.
    pub fn failing(self, plan: Plan) -> Self {
        Fake { plan: Some(plan), ..self }
    }

    /// The hand of somebody who changes the ruleset without hostport, and who sees all of it.
    pub fn hand(&self) -> Hand {
        Hand(self.shared.clone())
    }

    /// One step: the test is called, the kernel does it, the test is called again.
    fn step<T>(
        &self,
        call: Call<'_>,
        does: impl FnOnce(&mut Ruleset, Option<Fault>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let step = |moment| Step { actor: self.actor, call, moment };
        self.tell(step(Moment::Before));
        let fault = self.plan.as_ref().and_then(|plan| plan(step(Moment::Before)));
        let commits = matches!(call, Call::Commit(_));
        let result = match fault {
            Some(Fault::Unsent(error)) => Err(lost(error)),
            Some(Fault::NotPermitted) => Err(Error::NotPermitted),
            Some(Fault::LostAnswer(error)) if !commits => {
                does(&mut self.shared.ruleset(), fault).and(Err(lost(error)))
            }
            fault => does(&mut self.shared.ruleset(), fault),
        };
        self.tell(step(Moment::After));
        result
    }

    fn tell(&self, step: Step<'_>) {
        if let Some(watch) = &self.watch {
            watch(step);
        }
    }
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Committed => Outcome::Committed,
            Verdict::Stale => Outcome::Stale,
            Verdict::Failed(failures) => Outcome::Failed(failures),
        }
    }
}

fn lost(error: Errno) -> Error {
    Error::Transport(io::Error::from(error))
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fake").field("actor", &self.actor).finish_non_exhaustive()
    }
}

impl Kernel for Fake {
    fn generation(&mut self) -> Result<Generation, Error> {
        self.step(Call::Generation, |ruleset, _| Ok(Generation(ruleset.generation)))
    }

    fn tables(&mut self, queries: &[TableQuery<'_>]) -> Result<Vec<Option<TableFacts>>, Error> {
        let facts = |ruleset: &Ruleset, query: &TableQuery<'_>| {
            let table = ruleset.table(query.family, query.table)?;
            Some(TableFacts {
                comment: table.comment.clone(),
                flags: table.flags,
                uses: table.uses(),
                chains: query.chains.iter().map(|chain| table.chain_uses(chain)).collect(),
            })
        };
        self.step(Call::Tables, |ruleset, _| {
            Ok(queries.iter().map(|query| facts(ruleset, query)).collect())
        })
    }

    fn element(&mut self, set: SetRef<'_>, key: &[u8]) -> Result<Option<Element>, Error> {
        self.step(Call::Element(set.family, set.name, key), |ruleset, _| {
            let table = ruleset.table(set.family, set.table);
            let Some(set) = table.and_then(|table| table.sets.get(set.name.as_str())) else {
                return Ok(None);
            };
            set.has_length(key).map_err(|error| refusal("to read an element", error))?;
            Ok(set.elements.get(&(key.to_vec(), false)).cloned())
        })
    }

    fn elements(&mut self, set: SetRef<'_>) -> Result<Pass<Vec<Element>>, Error> {
        self.step(Call::Elements(set.family, set.name), |ruleset, fault| {
            let table = ruleset.table(set.family, set.table);
            Ok(match table.and_then(|table| table.sets.get(set.name.as_str())) {
                None => Pass::Missing,
                Some(_) if fault == Some(Fault::Interrupted) => Pass::Interrupted,
                Some(set) => Pass::Complete(set.elements.values().cloned().collect()),
            })
        })
    }

    fn objects(
        &mut self,
        family: NfFamily,
        only: Option<&TableName>,
    ) -> Result<Pass<Snapshot>, Error> {
        self.step(Call::Objects(family), |ruleset, fault| {
            if fault == Some(Fault::Interrupted) {
                return Ok(Pass::Interrupted);
            }
            let (mut tables, mut chains, mut rules, mut sets) = (vec![], vec![], vec![], vec![]);
            for ((of, name), table) in &ruleset.tables {
                if NfFamily::from(*of) != family {
                    continue;
                }
                tables.push(table.object(name));
                chains.extend(table.chains.iter().map(|chain| (*chain.object).clone()));
                if only.is_none_or(|only| only.as_str() == name) {
                    let of_chains = table.chains.iter().flat_map(|chain| &chain.rules);
                    rules.extend(of_chains.map(|rule| (*rule.object).clone()));
                    sets.extend(table.sets.values().map(|set| (*set.object).clone()));
                }
            }
            Ok(Pass::Complete(Snapshot::of(family, tables, chains, rules, sets)))
        })
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<Outcome, Error> {
        self.step(Call::Commit(transaction), |ruleset, fault| match fault {
            Some(Fault::Stale) => Ok(Outcome::Stale),
            Some(Fault::NoMemory) => {
                let error = Errno::NOMEM;
                Ok(Outcome::Failed(vec![super::Failure { change: 0, error }]))
            }
            Some(Fault::LostAnswer(error)) => {
                ruleset.commit(transaction);
                Ok(Outcome::Unanswered(lost(error)))
            }
            Some(Fault::AnyGeneration) => {
                let of_any = Transaction { generation: None, ..transaction.clone() };
                Ok(ruleset.commit(&of_any).into())
            }
            _ => Ok(ruleset.commit(transaction).into()),
        })
    }

    /// It lacks no module, and takes all of our messages.
    fn first_refused(&mut self, _messages: &[Message]) -> Result<Option<(usize, Errno)>, Error> {
        self.step(Call::FirstRefused, |_, _| Ok(None))
    }

    fn flows(
        &mut self,
        family: Family,
        protocol: Protocol,
        port: Option<Port>,
        unanswered: bool,
    ) -> Result<Pass<Vec<Flow>>, Error> {
        self.step(Call::Flows(family, protocol), |ruleset, fault| {
            if fault == Some(Fault::Interrupted) {
                return Ok(Pass::Interrupted);
            }
            let asked = |flow: &&Flow| {
                (flow.host.family(), flow.host.protocol) == (family, protocol)
                    && port.is_none_or(|port| flow.host.port == port)
                    && !(unanswered && flow.replied)
            };
            Ok(Pass::Complete(ruleset.flows.iter().filter(asked).cloned().collect()))
        })
    }

    fn forget(&mut self, flow: &Flow) -> Result<bool, Error> {
        self.step(Call::Forget(flow), |ruleset, _| {
            let before = ruleset.flows.len();
            ruleset.flows.retain(|present| present.name != flow.name);
            Ok(ruleset.flows.len() < before)
        })
    }

    /// This machine's.
    fn boot(&self) -> Option<Boot> {
        static BOOT: OnceLock<Option<Boot>> = OnceLock::new();
        BOOT.get_or_init(super::boot).clone()
    }

    fn link_name(&self, index: u32) -> Option<LinkName> {
        LinkName::new(format!("link{index}").as_ref())
    }

    /// Time passes only while an actor pauses.
    fn now(&self) -> Instant {
        self.shared.now()
    }

    /// The whole time, so that the same schedule comes to the same end again.
    fn pause(&mut self, most: Duration) {
        let step = |moment| Step { actor: self.actor, call: Call::Pause, moment };
        self.tell(step(Moment::Before));
        *self.shared.passed() += most;
        self.tell(step(Moment::After));
    }

    fn leave(self) {}
}
