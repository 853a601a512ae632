//! The ruleset in the kernel: what is in it, and small reads of it.

use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::kernel::dump;
use crate::kernel::socket::{PATIENCE, Socket};
use crate::kernel::transaction::{Attempt, Batch};
use crate::ops::withdraw::Listings;
use crate::ruleset::set::{Hairpin, Published, SameLink, hairpin_key, port_key};
use crate::ruleset::table::{Elements, HAIRPIN, PORTS, SAME_LINK, Table};
use crate::wire::element::Element;
use crate::wire::message::Message;
use crate::wire::reply;
use crate::{Error, Family, HostPort, Settings};

/// The host ports of a network namespace: the tables in its kernel, and a socket to them.
///
/// Publishing is in [`HostPorts::publish`], withdrawing in [`HostPorts::withdraw`].
///
/// ```no_run
/// use hostport_nft::{HostPorts, Settings};
///
/// let mut host_ports = HostPorts::open(Settings::default())?;
/// println!("{} host ports", host_ports.list()?.len());
/// # Ok::<(), hostport_nft::Error>(())
/// ```
#[derive(Debug)]
pub struct HostPorts {
    pub(crate) socket: Socket,
    pub(crate) settings: Settings,
    /// How long others may keep a list from being read.
    pub(crate) patience: Duration,
    /// What withdrawals may spend on lists.
    pub(crate) listings: Listings,
}

/// A family's table, as its comment tells, and how many sets, chains and rules it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableState {
    Missing,
    /// Ours, of this schema and with these settings.
    Current,
    /// Ours, of another schema, with other settings, or not whole.
    Outdated,
}

impl HostPorts {
    /// Opens the ruleset of the network namespace that the calling thread is in. Changes nothing.
    ///
    /// ```no_run
    /// # use hostport_nft::{HostPorts, Settings};
    /// let exclude = vec!["10.96.0.0/12".parse()?];
    /// let host_ports = HostPorts::open(Settings { exclude, ..Settings::default() })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Open`] if there is no netfilter netlink.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        let listings = Listings::new();
        Ok(HostPorts { socket: Socket::open()?, settings, patience: PATIENCE, listings })
    }

    /// Ends the work without waiting for what the kernel does at its end: after a removal it frees what
    /// was removed before the socket is closed, which takes about ten milliseconds. Before Linux 6.9 there
    /// is no way round it, and this takes as long as dropping the value.
    ///
    /// ```no_run
    /// # use hostport_nft::{HostPorts, Settings};
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// host_ports.remove()?;
    /// host_ports.leave();
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    pub fn leave(self) {
        self.socket.leave();
    }

    /// What is published, in the order of <hostIP, hostPort, protocol>, IPv4 first.
    ///
    /// Elements that somebody else's hand put into the map and that are no mappings are left out. The
    /// kernel restarts its walk for every 32 KiB of a list: for very many ports this takes long.
    ///
    /// ```no_run
    /// # use hostport_nft::{HostPorts, Settings};
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// for published in host_ports.list()? {
    ///     println!("{}", published.mapping);
    /// }
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotPermitted`], [`Error::Transport`], or [`Error::Contention`] if the list kept
    /// changing while it was read.
    pub fn list(&mut self) -> Result<Vec<Published>, Error> {
        let mut published = Vec::new();
        for family in Family::ALL {
            published.extend(self.ports(family)?);
        }
        published.sort_unstable_by_key(|published| published.mapping);
        Ok(published)
    }

    /// What is published at one host port, without reading any other.
    ///
    /// ```no_run
    /// # use hostport_nft::{Family, HostPort, HostPorts, Protocol, Settings};
    /// let host_ip = Family::Ip.wildcard();
    /// let host = HostPort { host_ip, port: "9000".parse()?, protocol: Protocol::Tcp };
    /// if let Some(published) = HostPorts::open(Settings::default())?.get(host)? {
    ///     println!("{host} leads to {}", published.mapping.endpoint());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotPermitted`] or [`Error::Transport`].
    pub fn get(&mut self, host: HostPort) -> Result<Option<Published>, Error> {
        let family = host.family();
        let request = Message::get_element(family, &self.settings.table, PORTS, &port_key(host));
        let elements = self.socket.get("to read an element", &request, reply::elements)?;
        let element = elements.unwrap_or_default().pop();
        Ok(element.and_then(|element| Published::from_element(family, &element)))
    }

    /// The tables as they are in the kernel, but for the settings: those are this object's own.
    ///
    /// A table that is not there is shown as it would be made.
    ///
    /// ```no_run
    /// # use hostport_nft::{HostPorts, Settings};
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// for table in host_ports.tables()? {
    ///     print!("{table}");
    /// }
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`HostPorts::list`].
    pub fn tables(&mut self) -> Result<Vec<Table>, Error> {
        let mut tables = Vec::new();
        for family in Family::ALL {
            let mut elements = self.elements(family)?;
            elements.ports.sort_unstable_by_key(|published| published.mapping);
            elements.hairpin.sort_unstable_by_key(|hairpin| hairpin.pod);
            tables.push(Table::with(family, &self.settings, elements));
        }
        Ok(tables)
    }

    /// Whether the tables that exist were made with this object's settings.
    ///
    /// ```no_run
    /// # use hostport_nft::{HostPorts, Settings};
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// if !host_ports.is_current()? {
    ///     println!("the next publication will replace the tables");
    /// }
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotPermitted`], [`Error::Transport`] or [`Error::ForeignTable`].
    pub fn is_current(&mut self) -> Result<bool, Error> {
        for family in Family::ALL {
            if self.table_state(family)? == TableState::Outdated {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes both tables with all that is published, in one transaction. True if there was one.
    ///
    /// ```no_run
    /// # use hostport_nft::{HostPorts, Settings};
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// assert!(host_ports.remove()?, "there were tables");
    /// assert!(!host_ports.remove()?, "and now there are none");
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotPermitted`], [`Error::Transport`], [`Error::ForeignTable`], or
    /// [`Error::Contention`] if others kept changing the ruleset.
    pub fn remove(&mut self) -> Result<bool, Error> {
        let (removed, lost) = attempt(None, || {
            let mut batch = Batch::new(Some(self.generation()?));
            for family in Family::ALL {
                if self.table_state(family)? != TableState::Missing {
                    batch.push(Message::delete_table(family, &self.settings.table), "the table");
                }
            }
            batch.commit(&mut self.socket)?.of(!batch.is_empty())
        })?;
        Ok(removed || lost == Some(true))
    }

    /// The ruleset's generation: it changes with every transaction of anybody.
    pub(crate) fn generation(&mut self) -> Result<u32, Error> {
        generation(&mut self.socket)
    }

    pub(crate) fn table_state(&mut self, family: Family) -> Result<TableState, Error> {
        let states = self.table_states([family])?;
        Ok(states.into_iter().next().map_or(TableState::Missing, |(_, state)| state))
    }

    /// How the tables of some families are, all asked for at once.
    pub(crate) fn table_states(
        &mut self,
        families: impl IntoIterator<Item = Family>,
    ) -> Result<Vec<(Family, TableState)>, Error> {
        let name = &self.settings.table;
        let whole: Vec<Table> =
            families.into_iter().map(|family| Table::new(family, &self.settings)).collect();
        let mut requests = Vec::new();
        for table in &whole {
            requests.push(("to read the table", Message::get_table(table.family, name)));
            // `nft flush table` takes the rules and leaves the rest.
            for (chain, _) in table.chain_uses() {
                let request = Message::get_chain(table.family, name, chain);
                requests.push(("to read a chain", request));
            }
        }
        let mut answers = self.socket.get_all(&requests).map_err(no_nf_tables)?.into_iter();
        let mut states = Vec::new();
        for table in whole {
            let found = answers.next().flatten();
            let chains: Vec<_> = table
                .chain_uses()
                .zip(answers.by_ref())
                .map(|((_, n), found)| (n, found))
                .collect();
            let state = match found {
                None => TableState::Missing,
                Some(found) => self.state_of(&table, &found, chains)?,
            };
            states.push((table.family, state));
        }
        Ok(states)
    }

    /// The state of a table that is there: `chains` are the uses that each should have, and what was read.
    fn state_of(
        &self,
        whole: &Table,
        found: &[u8],
        chains: Vec<(u32, Option<Vec<u8>>)>,
    ) -> Result<TableState, Error> {
        let (comment, uses) = reply::table(found)?;
        if !comment.starts_with("hostport schema ") {
            return Err(Error::ForeignTable { family: whole.family, table: whole.name.clone() });
        }
        let mut current = comment == whole.comment && uses == whole.uses();
        for (expected, found) in chains {
            let uses = found.map(|found| reply::chain_uses(&found)).transpose()?;
            current &= uses == Some(expected);
        }
        Ok(if current { TableState::Current } else { TableState::Outdated })
    }

    pub(crate) fn hairpin(&mut self, pod: std::net::IpAddr) -> Result<Option<Hairpin>, Error> {
        let family = Family::of(pod);
        let request =
            Message::get_element(family, &self.settings.table, HAIRPIN, &hairpin_key(pod));
        let elements = self.socket.get("to read an element", &request, reply::elements)?;
        let element = elements.unwrap_or_default().pop();
        Ok(element.and_then(|element| Hairpin::from_element(family, &element)))
    }

    pub(crate) fn ports(&mut self, family: Family) -> Result<Vec<Published>, Error> {
        self.dump(family, PORTS, |element| Published::from_element(family, element))
    }

    /// All elements of a family's table but those that the settings give.
    pub(crate) fn elements(&mut self, family: Family) -> Result<Elements, Error> {
        Ok(Elements {
            ports: self.ports(family)?,
            hairpin: self.dump(family, HAIRPIN, |e| Hairpin::from_element(family, e))?,
            same_link: self.dump(family, SAME_LINK, SameLink::from_element)?,
        })
    }

    fn dump<T>(
        &mut self,
        family: Family,
        set: &str,
        read: impl Fn(&Element) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let elements = self.elements_of(family, set).map_err(no_nf_tables)?;
        Ok(elements.unwrap_or_default().iter().filter_map(read).collect())
    }

    /// The elements of a set, as bytes; none if there is no such set.
    pub(crate) fn elements_of(
        &mut self,
        family: Family,
        set: &str,
    ) -> Result<Option<Vec<Element>>, Error> {
        let request = Message::dump_elements(family, &self.settings.table, set);
        dump::elements(&mut self.socket, &request, self.patience, reply::elements)
    }
}

pub(crate) fn generation(socket: &mut Socket) -> Result<u32, Error> {
    socket
        .get("to tell the ruleset's generation", &Message::get_generation(), reply::generation)
        .map_err(no_nf_tables)?
        .ok_or(Error::NoNfTables)
}

/// The kernel answers EINVAL to any request for a subsystem that it does not have
/// (nfnetlink_rcv_msg). These requests have nothing else that it could find invalid.
fn no_nf_tables(error: Error) -> Error {
    match error {
        Error::Refused { error: Errno::INVAL, .. } => Error::NoNfTables,
        other => other,
    }
}

/// How often a compare-and-swap is tried, within the caller's limit. Each attempt fails only because somebody else's
/// transaction succeeded meanwhile. Where processors are few for very many hooks, some tens of them take longer than
/// any limit that would be of use: whoever calls a hook has one.
const ATTEMPTS: u32 = 200;
/// How often it is tried again because the answer was lost.
const LOST_ANSWERS: u32 = 3;

/// Makes a change by attempts that each begin with a look at what is there.
///
/// An attempt whose answer was lost is followed by another, which finds nothing left to do, or does it.
/// So with the change that was made comes the one that may have been made before.
pub(crate) fn attempt<T>(
    limit: Option<Duration>,
    mut once: impl FnMut() -> Result<Attempt<T>, Error>,
) -> Result<(T, Option<T>), Error> {
    let (mut lost, mut lost_answers) = (None, 0);
    let (begin, mut attempts) = (Instant::now(), 0);
    let in_time = || limit.is_none_or(|limit| begin.elapsed() < limit);
    while attempts < ATTEMPTS && (attempts == 0 || in_time()) {
        back_off(attempts);
        attempts += 1;
        match once() {
            Ok(Attempt::Made(change)) => return Ok((change, lost)),
            Ok(Attempt::Void) => {}
            Ok(Attempt::Lost(_, error)) if lost_answers == LOST_ANSWERS || timed_out(&error) => {
                return Err(Error::Unanswered(Box::new(error)));
            }
            Ok(Attempt::Lost(change, _)) => {
                lost_answers += 1;
                lost = lost.or(Some(change));
            }
            // If it had been made, the host ports would be ours.
            Err(error @ Error::Taken(_)) => return Err(error),
            Err(error) if lost.is_some() => return Err(Error::Unanswered(Box::new(error))),
            Err(error) => return Err(error),
        }
    }
    let contention = Error::Contention { attempts };
    Err(if lost.is_some() { Error::Unanswered(Box::new(contention)) } else { contention })
}

/// A kernel that does not answer in all that time will not answer the next question either.
fn timed_out(error: &Error) -> bool {
    matches!(error, Error::Transport(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Waits before another attempt: longer each time up to 20 ms, and never as long as the neighbour.
pub(crate) fn back_off(attempt: u32) {
    use std::hash::{BuildHasher, Hasher, RandomState};

    if attempt > 0 {
        let most = (100u64 << attempt.min(8)).min(20_000);
        let random = RandomState::new().build_hasher().finish();
        thread::sleep(Duration::from_micros(random % most));
    }
}
