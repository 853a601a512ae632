//! The real kernel, behind a netlink socket.

use std::time::{Duration, Instant};
use std::{slice, thread};

use hostport_netlink::{End, Error as Netlink, NLM_F_ACK, NLM_F_EXCL, Object};
use rustix::io::Errno;
use rustix::net::netdevice::index_to_name;

use super::transaction::{Change, Failure, Outcome, Transaction};
use super::{Kernel, Pass, TableFacts, TableQuery, close};
use crate::error::{Error, Malformed, no_nf_tables, refusal};
use crate::model::{Boot, Family, Flow, Generation, LinkName, NfFamily, Port, Protocol, TableName};
use crate::ruleset::element::Element;
use crate::ruleset::set::{SetName, SetRef};
use crate::wire::constants::{
    NFT_MSG_GETCHAIN, NFT_MSG_GETRULE, NFT_MSG_GETSET, NFT_MSG_GETTABLE, NFT_MSG_NEWTABLE,
    NFTA_CHAIN_USE, NFTA_GEN_ID,
};
use crate::wire::message::{Message, NFGENMSG_LENGTH};
use crate::wire::object::{ChainObject, RuleObject, SetObject, TableObject, required};
use crate::wire::snapshot::Snapshot;
use crate::wire::{conntrack, element, table};

/// `linux/netlink.h`.
const NETLINK_NETFILTER: isize = 12;
/// The kernel builds no larger datagram for a dump (netlink_recvmsg).
const DUMP: usize = 32 * 1024;

/// The nf_tables and the connection tracking of a network namespace.
#[derive(Debug)]
pub struct Socket(hostport_netlink::Socket);

/// Opens a netfilter socket in the network namespace of the calling thread.
pub(super) fn open() -> Result<hostport_netlink::Socket, Error> {
    let socket = hostport_netlink::Socket::open(NETLINK_NETFILTER);
    socket.map_err(|error| Error::of("to open", error))
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
        let read = |object: Object<'_>| {
            let (_, attributes) = object.split::<NFGENMSG_LENGTH>()?;
            read(attributes)
        };
        match self.0.get(&request.0, read) {
            Err(Netlink::Refused(Errno::NOENT)) => Ok(None),
            object => object.map(Some).map_err(|error| Error::of(what, error)),
        }
    }

    /// Makes the changes of all these messages, or none. Returns the first that is refused, by its place; 0 is the
    /// transaction as a whole.
    pub(super) fn send(
        &mut self,
        generation: Option<Generation>,
        messages: impl Iterator<Item = Message>,
    ) -> Result<Option<(u32, Errno)>, Error> {
        let answer = self.0.batch(|first| whole_batch(first, generation, messages));
        let refusals = answer.and_then(|refusals| refusals).map_err(whole)?;
        Ok(refusals.into_iter().min_by_key(|(place, _)| *place))
    }

    /// Walks once over a list of objects, each a message. Empty if there is nothing to list from, and none if it was
    /// interrupted.
    fn list<T>(
        &mut self,
        request: &Message,
        decode: impl Fn(&[u8]) -> Result<T, Malformed>,
    ) -> Result<Option<Vec<T>>, Error> {
        Ok(match self.walk(request, |attributes| decode(attributes).map(Some))? {
            Pass::Complete(items) => Some(items),
            Pass::Missing => Some(Vec::new()),
            Pass::Interrupted => None,
        })
    }

    /// Walks once over a list of which each message holds several items.
    pub(super) fn walk<T, L: IntoIterator<Item = T>>(
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
            // nf_tables gives as `res_id`, alone shows that others changed the ruleset between two datagrams.
            Ok(*generation == *began.get_or_insert(*generation))
        });
        match end {
            Ok(End::Complete) => Ok(Pass::Complete(items)),
            // The set existed when the walk began, and was replaced or removed during it.
            Ok(End::Interrupted | End::Broken(Errno::NOENT)) => Ok(Pass::Interrupted),
            Ok(End::Broken(error)) => Err(refusal("to list the table", error)),
            Err(Netlink::Refused(Errno::NOENT)) => Ok(Pass::Missing),
            Err(error) => Err(Error::of("to list the table", error)),
        }
    }
}

impl Kernel for Socket {
    fn generation(&mut self) -> Result<Generation, Error> {
        let read = |attributes: &[u8]| required(attributes, NFTA_GEN_ID).map(Generation);
        let request = Message::get_generation();
        let generation = self.get("to read the ruleset's generation", &request, read);
        generation.map_err(no_nf_tables)?.ok_or(Error::NoNfTables)
    }

    /// All of it is asked for in one datagram.
    fn tables(&mut self, queries: &[TableQuery<'_>]) -> Result<Vec<Option<TableFacts>>, Error> {
        let mut requests = Vec::new();
        for TableQuery { family, table, chains } in queries {
            requests.push(Message::get_table(*family, table).0);
            let chains = chains.iter().map(|chain| Message::get_chain(*family, table, chain).0);
            requests.extend(chains);
        }
        // What is known of a table, and of a chain how often it is used.
        let read = |object: Object<'_>| {
            let (_, attributes) = object.split::<NFGENMSG_LENGTH>()?;
            Ok(match object.kind & 0xff {
                NFT_MSG_NEWTABLE => (Some(table::facts(attributes)?), 0),
                _ => (None, required(attributes, NFTA_CHAIN_USE)?),
            })
        };
        let answers = self.0.get_all(&requests, read);
        let answers = answers.map_err(|error| Error::of("to read the table", error));
        let mut answers = answers.map_err(no_nf_tables)?.into_iter();
        let mut tables = Vec::new();
        for query in queries {
            let facts = answers.next().flatten().and_then(|(facts, _)| facts);
            let chains = answers.by_ref().take(query.chains.len());
            let chains = chains.map(|chain| chain.map(|(_, uses)| uses)).collect();
            tables.push(facts.map(|facts| TableFacts { chains, ..facts }));
        }
        Ok(tables)
    }

    fn element(&mut self, set: SetRef<'_>, key: &[u8]) -> Result<Option<Element>, Error> {
        let request = Message::get_element(set, key);
        Ok(self.get("to read an element", &request, element::first)?.flatten())
    }

    fn elements(&mut self, set: SetRef<'_>) -> Result<Pass<Vec<Element>>, Error> {
        self.walk(&Message::dump_elements(set), element::elements)
    }

    fn objects(
        &mut self,
        family: NfFamily,
        only: Option<&TableName>,
    ) -> Result<Pass<Snapshot>, Error> {
        let dump = |kind, only| Message::dump(kind, family, only);
        let tables = self.list(&dump(NFT_MSG_GETTABLE, None), TableObject::decode)?;
        let chains = self.list(&dump(NFT_MSG_GETCHAIN, None), ChainObject::decode)?;
        let rules = self.list(&dump(NFT_MSG_GETRULE, only), RuleObject::decode)?;
        let sets = self.list(&dump(NFT_MSG_GETSET, only), SetObject::decode)?;
        Ok(match (tables, chains, rules, sets) {
            (Some(tables), Some(chains), Some(rules), Some(sets)) => {
                Pass::Complete(Snapshot::of(family, tables, chains, rules, sets))
            }
            _ => Pass::Interrupted,
        })
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<Outcome, Error> {
        // An empty transaction changes nothing, but what it rests on must hold as well.
        if transaction.changes.is_empty() {
            return Ok(match transaction.generation {
                Some(looked_at) if self.generation()? != looked_at => Outcome::Stale,
                _ => Outcome::Committed,
            });
        }
        // The change that each message is part of.
        let mut of = Vec::with_capacity(transaction.changes.len());
        let answer = self.0.batch(|first| {
            let changes = transaction.changes.iter().enumerate();
            let messages = changes.flat_map(|(index, change)| {
                let messages = messages(&transaction.table, change);
                of.extend(messages.iter().map(|_| index));
                messages
            });
            whole_batch(first, transaction.generation, messages)
        });
        let refusals = match answer.map_err(whole)? {
            Ok(refusals) => refusals,
            Err(lost) => return Ok(Outcome::Unanswered(whole(lost))),
        };
        let mut failures: Vec<Failure> = Vec::new();
        for (place, error) in refusals {
            if matches!(error, Errno::RESTART | Errno::AGAIN | Errno::INTR) {
                return Ok(Outcome::Stale);
            }
            let change = (place as usize).checked_sub(1).and_then(|place| of.get(place));
            let change = *change.ok_or_else(|| whole(Netlink::Refused(error)))?;
            if failures.last().is_none_or(|last| last.change != change) {
                failures.push(Failure { change, error });
            }
        }
        Ok(if failures.is_empty() { Outcome::Committed } else { Outcome::Failed(failures) })
    }

    /// Without an end (NFNL_MSG_BATCH_END), the kernel undoes what it has worked through, which is how
    /// `nft --check` does it: nfnetlink_rcv_batch in `net/netfilter/nfnetlink.c`.
    fn first_refused(&mut self, messages: &[Message]) -> Result<Option<(usize, Errno)>, Error> {
        let answer = self.0.batch(|first| encode(first, None, messages.iter().cloned()));
        let refusals = answer.and_then(|refusals| refusals).map_err(whole)?;
        // What builds on a part that failed fails as well.
        let Some((place, error)) = refusals.into_iter().min_by_key(|(place, _)| *place) else {
            return Ok(None);
        };
        let place =
            (place as usize).checked_sub(1).ok_or_else(|| whole(Netlink::Refused(error)))?;
        Ok(Some((place, error)))
    }

    fn flows(
        &mut self,
        family: Family,
        protocol: Protocol,
        port: Option<Port>,
        unanswered: bool,
    ) -> Result<Pass<Vec<Flow>>, Error> {
        let request = conntrack::dump_request(family, protocol, port, unanswered);
        self.walk(&request, |attributes| {
            let flow = Flow::decode(family, attributes)?;
            // An older kernel does not know each of the conditions.
            let asked = |flow: &Flow| {
                flow.host.protocol == protocol
                    && port.is_none_or(|port| flow.host.port == port)
                    && !(unanswered && flow.replied)
            };
            Ok(flow.filter(asked))
        })
    }

    fn forget(&mut self, flow: &Flow) -> Result<bool, Error> {
        match self.0.order(&conntrack::delete_request(flow).0) {
            Ok(()) => Ok(true),
            Err(Netlink::Refused(Errno::NOENT)) => Ok(false),
            Err(error) => Err(Error::of("to forget a tracked connection", error)),
        }
    }

    fn boot(&self) -> Option<Boot> {
        super::boot()
    }

    fn link_name(&self, index: u32) -> Option<LinkName> {
        LinkName::new(index_to_name(&self.0, index).ok()?.as_ref())
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

/// The messages that make a change.
fn messages(table: &TableName, change: &Change) -> Vec<Message> {
    let set = |family: &Family, name: &SetName| SetRef { family: *family, table, name: *name };
    match change {
        Change::NewTable(table) => table.messages(),
        Change::DeleteTable(family) => vec![Message::delete_table(*family, table)],
        Change::NewElement(family, name, element) => {
            Message::new_elements(set(family, name), NLM_F_EXCL, slice::from_ref(element)).collect()
        }
        Change::NewElements(family, name, elements) => {
            Message::new_elements(set(family, name), 0, elements).collect()
        }
        Change::DeleteElement(family, name, key) => {
            vec![Message::delete_element(set(family, name), key, None)]
        }
        Change::DeleteRange(family, name, key, last) => {
            vec![Message::delete_element(set(family, name), key, Some(last))]
        }
    }
}

/// The bytes of a batch without its end, from a sequence number on, and how many messages follow its beginning.
///
/// Only the last message asks for an acknowledgement, because many of them overflow the socket's
/// receive buffer; errors are reported in any case.
fn encode(
    first: u32,
    generation: Option<Generation>,
    messages: impl Iterator<Item = Message>,
) -> (Vec<u8>, u32) {
    let (mut bytes, mut length) = (Message::batch_begin(generation).encode(first), 0);
    let mut messages = messages.peekable();
    while let Some(Message(request)) = messages.next() {
        length += 1;
        let flags = if messages.peek().is_none() { NLM_F_ACK } else { 0 };
        request.append(&mut bytes, first.wrapping_add(length), flags);
    }
    (bytes, length)
}

/// The same with its end, at which the kernel commits it.
fn whole_batch(
    first: u32,
    generation: Option<Generation>,
    messages: impl Iterator<Item = Message>,
) -> (Vec<u8>, u32) {
    let (mut bytes, length) = encode(first, generation, messages);
    Message::batch_end().0.append(&mut bytes, first.wrapping_add(length + 1), 0);
    (bytes, length)
}

/// The error for a transaction of which the kernel did not look at any message.
fn whole(error: Netlink) -> Error {
    match error {
        Netlink::Refused(Errno::OPNOTSUPP) => Error::NoNfTables,
        error => Error::of("the transaction as a whole", error),
    }
}
