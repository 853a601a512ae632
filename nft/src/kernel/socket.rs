//! The real kernel, behind a netlink socket.

use std::thread;
use std::time::{Duration, Instant};

use netlink_packet_core::NLM_F_ACK;
use rustix::io::Errno;

use super::dump::Pass;
use super::generation::Generation;
use super::netlink::Netlink;
use super::transaction::{Change, Failure, Outcome, Transaction};
use super::{Kernel, TableFacts, TableQuery};
use crate::error::{Error, Malformed, refusal};
use crate::model::{Family, Flow, Port, Protocol, TableName};
use crate::ruleset::element::Element;
use crate::ruleset::set::SetName;
use crate::wire::message::Message;
use crate::wire::object::{ChainObject, NfFamily, RuleObject, SetObject, TableObject};
use crate::wire::snapshot::{Objects, Snapshot};
use crate::wire::{conntrack, element, table};

/// Room for a message: what a host port in ip6 takes.
const USUAL_MESSAGE: usize = 256;

/// The nf_tables and the connection tracking of a network namespace.
#[derive(Debug)]
pub struct Socket(Netlink);

impl Socket {
    /// Opens a socket in the network namespace that the calling thread is in.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open() -> Result<Self, Error> {
        Netlink::open().map(Socket)
    }

    /// Walks once over a list of objects of any kind, each a message.
    pub(crate) fn walk<T>(
        &mut self,
        request: &Message,
        decode: impl Fn(&[u8]) -> Result<T, Malformed>,
    ) -> Result<Pass<Vec<T>>, Error> {
        self.0.walk(request, |attributes, items| {
            items.push(decode(attributes)?);
            Ok(())
        })
    }

    /// Walks once over a list of which each message holds several items.
    pub(crate) fn walk_lists<T>(
        &mut self,
        request: &Message,
        decode: impl Fn(&[u8]) -> Result<Vec<T>, Malformed>,
    ) -> Result<Pass<Vec<T>>, Error> {
        self.0.walk(request, |attributes, items| {
            items.extend(decode(attributes)?);
            Ok(())
        })
    }
}

impl Kernel for Socket {
    fn generation(&mut self) -> Result<Generation, Error> {
        let request = Message::get_generation();
        let generation =
            self.0.get("to tell the ruleset's generation", &request, table::generation);
        generation.map_err(no_nf_tables)?.map(Generation).ok_or(Error::NoNfTables)
    }

    /// All of it is asked for in one datagram.
    fn tables(&mut self, queries: &[TableQuery<'_>]) -> Result<Vec<Option<TableFacts>>, Error> {
        let mut requests = Vec::new();
        for TableQuery { family, table, chains } in queries {
            requests.push(("to read the table", Message::get_table(*family, table)));
            let chain =
                |chain: &&str| ("to read a chain", Message::get_chain(*family, table, chain));
            requests.extend(chains.iter().map(chain));
        }
        let mut answers = self.0.get_all(&requests).map_err(no_nf_tables)?.into_iter();
        let mut tables = Vec::new();
        for query in queries {
            let facts = answers.next().flatten().map(|table| table::facts(&table)).transpose()?;
            let chains = answers.by_ref().take(query.chains.len());
            let uses = |chain: Option<Vec<u8>>| chain.map(|c| table::chain_uses(&c)).transpose();
            let chains: Vec<_> = chains.map(uses).collect::<Result<_, _>>()?;
            tables.push(facts.map(|facts| TableFacts { chains, ..facts }));
        }
        Ok(tables)
    }

    fn element(
        &mut self,
        family: Family,
        table: &TableName,
        set: SetName,
        key: &[u8],
    ) -> Result<Option<Element>, Error> {
        let request = Message::get_element(family, table, set, key);
        let elements = self.0.get("to read an element", &request, element::elements)?;
        Ok(elements.unwrap_or_default().pop())
    }

    fn elements(
        &mut self,
        family: Family,
        table: &TableName,
        set: SetName,
    ) -> Result<Pass<Vec<Element>>, Error> {
        let request = Message::dump_elements(family, table, set);
        self.walk_lists(&request, element::elements)
    }

    fn objects(
        &mut self,
        family: NfFamily,
        only: Option<&TableName>,
    ) -> Result<Pass<Snapshot>, Error> {
        let number = family as u8;
        let tables = self.walk(&Message::dump_tables(number), TableObject::decode)?;
        let chains = self.walk(&Message::dump_chains(number), ChainObject::decode)?;
        let rules = self.walk(&Message::dump_rules(number, only), RuleObject::decode)?;
        let sets = self.walk(&Message::dump_sets(number, only), SetObject::decode)?;
        let (Some(tables), Some(chains), Some(rules), Some(sets)) =
            (list(tables), list(chains), list(rules), list(sets))
        else {
            return Ok(Pass::Interrupted);
        };
        let mut snapshot = Snapshot::default();
        snapshot.add(family, Objects { tables, chains, rules, sets });
        Ok(Pass::Complete(snapshot))
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<Outcome, Error> {
        // An empty transaction changes nothing, but what it rests on must hold as well.
        if transaction.changes.is_empty() {
            return Ok(match transaction.generation {
                Some(looked_at) if self.generation()? != looked_at => Outcome::Stale,
                _ => Outcome::Committed,
            });
        }
        // The messages of each change end where those of the next begin.
        let mut ends = Vec::with_capacity(transaction.changes.len());
        let failures = match self.0.commit(|first| encode(transaction, first, &mut ends))? {
            Ok(failures) => failures,
            Err(lost) => return Ok(Outcome::Unanswered(lost)),
        };
        if failures.is_empty() {
            return Ok(Outcome::Committed);
        }
        let mut failed: Vec<Failure> = Vec::new();
        for (place, error) in failures {
            match (place, error) {
                (_, Errno::RESTART | Errno::AGAIN | Errno::INTR) => return Ok(Outcome::Stale),
                (0, error) => return Err(whole(error)),
                (place, error) => {
                    let change = ends.partition_point(|end| *end < place);
                    if failed.last().is_none_or(|last| last.change != change) {
                        failed.push(Failure { change, error });
                    }
                }
            }
        }
        Ok(Outcome::Failed(failed))
    }

    fn first_refused(&mut self, messages: &[Message]) -> Result<Option<(usize, Errno)>, Error> {
        let failures = self.0.commit(|first| {
            let mut bytes = Message::batch_begin(None).encode(first);
            let mut sequence = first;
            for (index, message) in messages.iter().enumerate() {
                sequence = sequence.wrapping_add(1);
                let last = index + 1 == messages.len();
                message.append(&mut bytes, sequence, if last { NLM_F_ACK } else { 0 });
            }
            // Without an end (NFNL_MSG_BATCH_END), the kernel undoes what it has worked through, which is how
            // `nft --check` does it: nfnetlink_rcv_batch in `net/netfilter/nfnetlink.c`.
            (bytes, messages.len() as u32)
        })??;
        // What builds on a part that failed fails as well.
        match failures.into_iter().min_by_key(|(place, _)| *place) {
            None => Ok(None),
            Some((0, error)) => Err(whole(error)),
            Some((place, error)) => Ok(Some((place as usize - 1, error))),
        }
    }

    fn flows(
        &mut self,
        family: Family,
        protocol: Protocol,
        port: Option<Port>,
    ) -> Result<Pass<Vec<Flow>>, Error> {
        let request = conntrack::dump_request(family, protocol, port);
        self.0.walk(&request, |attributes, flows| {
            let flow = Flow::decode(family, attributes)?;
            flows.extend(flow.filter(|flow| flow.host.protocol == protocol));
            Ok(())
        })
    }

    fn forget(&mut self, flow: &Flow) -> Result<bool, Error> {
        match self.0.order(conntrack::delete_request(flow))? {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(refusal("to forget a tracked connection", error)),
        }
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn pause(&mut self, most: Duration) {
        use std::hash::{BuildHasher, Hasher, RandomState};

        let random = RandomState::new().build_hasher().finish();
        let most = (most.as_micros() as u64).max(1);
        thread::sleep(Duration::from_micros(random % most));
    }

    fn leave(self) {
        self.0.leave();
    }
}

/// The bytes of a batch from a sequence number on, and how many messages are between beginning and end.
///
/// Only the last message asks for an acknowledgement, because many of them overflow the socket's
/// receive buffer; errors are reported in any case.
fn encode(transaction: &Transaction, first: u32, ends: &mut Vec<u32>) -> (Vec<u8>, u32) {
    let mut bytes = Vec::with_capacity(transaction.changes.len() * USUAL_MESSAGE);
    let generation = transaction.generation.map(|generation| generation.0);
    Message::batch_begin(generation).append(&mut bytes, first, 0);
    let mut place = 0;
    let (name, changes) = (&transaction.table, transaction.changes.len());
    for (index, change) in transaction.changes.iter().enumerate() {
        let last = index + 1 == changes;
        let mut append = |message: Message, last: bool| {
            place += 1;
            let flags = if last { NLM_F_ACK } else { 0 };
            message.append(&mut bytes, first.wrapping_add(place), flags);
        };
        match change {
            Change::DeleteTable(family) => append(Message::delete_table(*family, name), last),
            Change::NewElement(family, set, element) => {
                append(Message::new_element(*family, name, *set, element).exclusive(), last);
            }
            Change::DeleteElement(family, set, key) => {
                append(Message::delete_element(*family, name, *set, key), last);
            }
            Change::NewTable(table) => each(table.messages().into_iter(), last, append),
            Change::NewElements(family, set, elements) => {
                each(Message::new_elements(*family, name, *set, elements.iter()), last, append);
            }
        }
        ends.push(place);
    }
    Message::batch_end().append(&mut bytes, first.wrapping_add(place + 1), 0);
    (bytes, place)
}

/// Appends messages, of which the last one may be that of the batch.
fn each(
    messages: impl Iterator<Item = Message>,
    last: bool,
    mut append: impl FnMut(Message, bool),
) {
    let mut messages = messages.peekable();
    while let Some(message) = messages.next() {
        append(message, last && messages.peek().is_none());
    }
}

/// A list that nobody interrupted; empty if there is nothing to list from.
fn list<T>(pass: Pass<Vec<T>>) -> Option<Vec<T>> {
    match pass {
        Pass::Complete(items) => Some(items),
        Pass::Missing => Some(Vec::new()),
        Pass::Interrupted => None,
    }
}

/// The error for a transaction of which the kernel did not look at any message.
fn whole(error: Errno) -> Error {
    match error {
        Errno::OPNOTSUPP => Error::NoNfTables,
        error => refusal("the transaction as a whole", error),
    }
}

/// The kernel answers EINVAL to any request for a subsystem that it does not have
/// (nfnetlink_rcv_msg). These requests have nothing else that it could find invalid.
fn no_nf_tables(error: Error) -> Error {
    match error {
        Error::Refused { error: Errno::INVAL, .. } => Error::NoNfTables,
        other => other,
    }
}
