//! The real kernel, behind a netlink socket.

use std::thread;
use std::time::{Duration, Instant};

use hostport_netlink::{End, NLM_F_ACK, Socket as Netlink};
use rustix::io::Errno;

use super::dump::Pass;
use super::generation::Generation;
use super::transaction::{Change, Failure, Outcome, Transaction};
use super::{Kernel, TableFacts, TableQuery, close};
use crate::error::{Error, Malformed, refusal};
use crate::model::{Family, Flow, NfFamily, Port, Protocol, TableName};
use crate::ruleset::element::Element;
use crate::ruleset::set::SetName;
use crate::wire::message::{Message, NFGENMSG_LENGTH};
use crate::wire::object::{ChainObject, RuleObject, SetObject, TableObject};
use crate::wire::snapshot::{Objects, Snapshot};
use crate::wire::{conntrack, element, table};

/// `linux/netlink.h`.
const NETLINK_NETFILTER: isize = 12;
/// How long the kernel may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The kernel builds no larger datagram for a dump (netlink_recvmsg).
const DUMP: usize = 32 * 1024;
/// Room for a message: what a host port in ip6 takes.
const USUAL_MESSAGE: usize = 256;

/// The nf_tables and the connection tracking of a network namespace.
#[derive(Debug)]
pub struct Socket(Netlink);

/// Opens a netfilter socket in the network namespace of the calling thread.
pub(super) fn open() -> Result<Netlink, Error> {
    Netlink::open(NETLINK_NETFILTER, TIMEOUT).map_err(|error| Error::of("to open", error))
}

impl Socket {
    /// Opens a socket in the network namespace that the calling thread is in.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open() -> Result<Self, Error> {
        open().map(Socket)
    }

    /// Sends a request and gives the attributes of the object in answer to the reader.
    ///
    /// None where there is no such object (ENOENT). `what` completes the sentence "the kernel refused".
    fn get<T>(
        &mut self,
        what: &str,
        request: &Message,
        read: impl FnOnce(&[u8]) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Error> {
        let read = |object: hostport_netlink::Object<'_>| {
            let (_, attributes) = object.split::<NFGENMSG_LENGTH>()?;
            read(attributes)
        };
        match self.0.get(&request.0, read) {
            Err(hostport_netlink::Error::Refused(Errno::NOENT)) => Ok(None),
            object => object.map(Some).map_err(|error| Error::of(what, error)),
        }
    }

    /// Walks once over a list of objects of any kind, each a message.
    fn walk<T>(
        &mut self,
        request: &Message,
        decode: impl Fn(&[u8]) -> Result<T, Malformed>,
    ) -> Result<Pass<Vec<T>>, Error> {
        self.walk_lists(request, |attributes| decode(attributes).map(Some))
    }

    /// Walks once over a list of which each message holds several items.
    pub(crate) fn walk_lists<T, L: IntoIterator<Item = T>>(
        &mut self,
        request: &Message,
        decode: impl Fn(&[u8]) -> Result<L, Malformed>,
    ) -> Result<Pass<Vec<T>>, Error> {
        let (mut items, mut began) = (Vec::new(), None);
        let end = self.0.walk(&request.0, DUMP, |object| {
            let ([_family, _version, generation @ ..], attributes) =
                object.split::<NFGENMSG_LENGTH>()?;
            items.extend(decode(attributes)?);
            // A set's elements are not flagged (measured on Linux 6.18): the lower half of the generation, which
            // nf_tables gives as `res_id`, alone tells that others changed the ruleset between two datagrams.
            Ok(*generation == *began.get_or_insert(*generation))
        });
        match end {
            Ok(End::Complete) => Ok(Pass::Complete(items)),
            // The set was there when the walk began, and was replaced or removed meanwhile.
            Ok(End::Interrupted | End::Broken(Errno::NOENT)) => Ok(Pass::Interrupted),
            Ok(End::Broken(error)) => Err(refusal("to list the table", error)),
            Err(hostport_netlink::Error::Refused(Errno::NOENT)) => Ok(Pass::Missing),
            Err(error) => Err(Error::of("to list the table", error)),
        }
    }
}

impl Kernel for Socket {
    fn generation(&mut self) -> Result<Generation, Error> {
        let request = Message::get_generation();
        let generation = self.get("to tell the ruleset's generation", &request, table::generation);
        generation.map_err(no_nf_tables)?.map(Generation).ok_or(Error::NoNfTables)
    }

    /// All of it is asked for in one datagram.
    fn tables(&mut self, queries: &[TableQuery<'_>]) -> Result<Vec<Option<TableFacts>>, Error> {
        let mut requests = Vec::new();
        for TableQuery { family, table, chains } in queries {
            requests.push(Message::get_table(*family, table).0);
            let chains = chains.iter().map(|chain| Message::get_chain(*family, table, chain).0);
            requests.extend(chains);
        }
        let read = |object: hostport_netlink::Object<'_>| {
            Ok(object.split::<NFGENMSG_LENGTH>()?.1.to_vec())
        };
        let what = "to read the table";
        let answers = self.0.get_all(&requests, read).map_err(|error| Error::of(what, error))?;
        let mut answers = answers.into_iter().map(|answer| match answer {
            Ok(object) => Ok(Some(object)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(no_nf_tables(refusal(what, error))),
        });
        let mut tables = Vec::new();
        for query in queries {
            let table = answers.next().transpose()?.flatten();
            let facts = table.map(|table| table::facts(&table)).transpose()?;
            let mut chains = Vec::new();
            for chain in answers.by_ref().take(query.chains.len()) {
                chains.push(chain?.map(|chain| table::chain_uses(&chain)).transpose()?);
            }
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
        let elements = self.get("to read an element", &request, element::elements)?;
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
        let tables = self.walk(&Message::dump_tables(family), TableObject::decode)?;
        let chains = self.walk(&Message::dump_chains(family), ChainObject::decode)?;
        let rules = self.walk(&Message::dump_rules(family, only), RuleObject::decode)?;
        let sets = self.walk(&Message::dump_sets(family, only), SetObject::decode)?;
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
        let what = "the transaction as a whole";
        let answer = self.0.batch(|first| encode(transaction, first, &mut ends));
        let failures = match answer.map_err(|error| Error::of(what, error))? {
            Ok(failures) => failures,
            Err(lost) => return Ok(Outcome::Unanswered(Error::of(what, lost))),
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
        let answer = self.0.batch(|first| {
            let mut bytes = Message::batch_begin(None).encode(first);
            let mut sequence = first;
            for (index, message) in messages.iter().enumerate() {
                sequence = sequence.wrapping_add(1);
                let last = index + 1 == messages.len();
                message.0.append(&mut bytes, sequence, if last { NLM_F_ACK } else { 0 });
            }
            // Without an end (NFNL_MSG_BATCH_END), the kernel undoes what it has worked through, which is how
            // `nft --check` does it: nfnetlink_rcv_batch in `net/netfilter/nfnetlink.c`.
            (bytes, messages.len() as u32)
        });
        let what = "the transaction as a whole";
        let failures =
            answer.and_then(|failures| failures).map_err(|error| Error::of(what, error))?;
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
        self.walk_lists(&request, |attributes| {
            let flow = Flow::decode(family, attributes)?;
            Ok(flow.filter(|flow| flow.host.protocol == protocol))
        })
    }

    fn forget(&mut self, flow: &Flow) -> Result<bool, Error> {
        match self.0.order(&conntrack::delete_request(flow).0) {
            Ok(()) => Ok(true),
            Err(hostport_netlink::Error::Refused(Errno::NOENT)) => Ok(false),
            Err(error) => Err(Error::of("to forget a tracked connection", error)),
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
        close::leave(self.0);
    }
}

/// The bytes of a batch from a sequence number on, and how many messages are between beginning and end.
///
/// Only the last message asks for an acknowledgement, because many of them overflow the socket's
/// receive buffer; errors are reported in any case.
fn encode(transaction: &Transaction, first: u32, ends: &mut Vec<u32>) -> (Vec<u8>, u32) {
    let mut bytes = Vec::with_capacity(transaction.changes.len() * USUAL_MESSAGE);
    let generation = transaction.generation.map(|generation| generation.0);
    Message::batch_begin(generation).0.append(&mut bytes, first, 0);
    let mut place = 0;
    let (name, changes) = (&transaction.table, transaction.changes.len());
    for (index, change) in transaction.changes.iter().enumerate() {
        let last = index + 1 == changes;
        let mut append = |message: Message, last: bool| {
            place += 1;
            let flags = if last { NLM_F_ACK } else { 0 };
            message.0.append(&mut bytes, first.wrapping_add(place), flags);
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
    Message::batch_end().0.append(&mut bytes, first.wrapping_add(place + 1), 0);
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
