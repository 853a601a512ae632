//! What the rules of others do with a packet that is to reach a host port.
//!
//! A [`Packet`] of which only a part is known is evaluated symbolically against the base chains of a
//! [`Snapshot`]. Where a rule asks for what is not known, both ways are followed, so that the answer is
//! certain or says that it is not. There is no I/O here: what the sets hold is asked of the caller.

mod chain;
mod eval;
mod packet;
mod path;
mod registers;
mod sets;
mod verdict;
mod xt;

use hostport_nft::Snapshot;
use hostport_nft::object::{BaseObject, ElementObject, ObjectId};

use sets::Elements;

pub use packet::{Interface, Packet};
pub use path::Stage;
pub use verdict::{Deed, Hook, Judgement, Origin};

/// A ruleset that packets are sent through.
///
/// ```no_run
/// # use hostport_nft::{Family, Protocol, SetReader, Snapshot};
/// # use hostport_trace::{Packet, Trace};
/// # let packet = Packet {
/// #     family: Family::Ip,
/// #     protocol: Protocol::Tcp,
/// #     source: None,
/// #     destination: None,
/// #     port: "8080".parse()?,
/// #     local: false,
/// #     translated: true,
/// #     in_link: None,
/// #     out_link: None,
/// # };
/// let mut sets = SetReader::open()?;
/// let mut trace = Trace::new(Snapshot::read()?, move |set| sets.read(set));
/// for judgement in trace.dropping(&packet) {
///     println!("{} {} drops it", judgement.table, judgement.chain);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Trace {
    snapshot: Snapshot,
    /// The chains that hooks call, by priority.
    bases: Vec<(ObjectId, BaseObject)>,
    elements: Elements,
}

impl Trace {
    /// Of a ruleset; `elements` is asked for what a set holds when a rule first looks into it, and says
    /// none where that cannot be told.
    ///
    /// ```
    /// # use hostport_nft::Snapshot;
    /// # use hostport_trace::Trace;
    /// let trace = Trace::new(Snapshot::default(), |_| None);
    /// ```
    pub fn new(
        snapshot: Snapshot,
        elements: impl FnMut(&ObjectId) -> Option<Vec<ElementObject>> + 'static,
    ) -> Self {
        // The chains of a dormant table are called from nowhere.
        let called = |id: &ObjectId| {
            let table = snapshot.tables.get(&(id.family, id.table.clone()));
            !table.is_some_and(|table| table.dormant)
        };
        let bases = snapshot.chains.iter().filter(|(id, _)| called(id));
        let mut bases: Vec<_> =
            bases.filter_map(|(id, chain)| Some((id.clone(), chain.base.clone()?))).collect();
        bases.sort_by_key(|(_, base)| base.priority);
        let sets = Elements::new(snapshot.sets.clone(), elements);
        Trace { snapshot, bases, elements: sets }
    }
}
