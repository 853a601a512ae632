//! Who is connected: few at once, and who says nothing makes room for who comes.

use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections that are answered at once.
const CONNECTIONS: usize = 8;
/// Connections at all: some are told to come again, or have just been closed.
const MOST: usize = 32;

/// All of them.
#[derive(Debug, Default)]
pub struct Clients(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    next: u64,
    /// With those that have made room, and are going.
    open: usize,
    /// The oldest first.
    answered: Vec<Client>,
}

#[derive(Debug)]
struct Client {
    number: u64,
    stream: Arc<TcpStream>,
    /// It has not asked yet, or it has its answer: nothing is lost with it.
    is_idle: bool,
}

/// What becomes of a connection.
#[derive(Debug)]
pub enum Admission {
    /// It is answered.
    Free(Ticket),
    /// The same, and one that was idle made room.
    Cleared(Ticket),
    /// All are busy: it can be told so.
    Busy(Ticket),
    /// Not even that.
    None,
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
pub struct Ticket {
    clients: Arc<Clients>,
    number: u64,
}

impl Clients {
    fn list(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one more.
    pub fn admit(self: &Arc<Self>, stream: &Arc<TcpStream>) -> Admission {
        let mut list = self.list();
        if list.open >= MOST {
            return Admission::None;
        }
        list.open += 1;
        list.next += 1;
        let number = list.next;
        let ticket = Ticket { clients: Arc::clone(self), number };
        let is_full = list.answered.len() >= CONNECTIONS;
        if is_full {
            let Some(idle) = list.answered.iter().position(|client| client.is_idle) else {
                return Admission::Busy(ticket);
            };
            // Its thread meets the end of the stream.
            let _ = list.answered.remove(idle).stream.shutdown(Shutdown::Both);
        }
        list.answered.push(Client { number, stream: Arc::clone(stream), is_idle: true });
        if is_full { Admission::Cleared(ticket) } else { Admission::Free(ticket) }
    }
}

impl Ticket {
    /// Whether the connection may make room for another.
    pub fn set_idle(&self, is_idle: bool) {
        let mut list = self.clients.list();
        let mut clients = list.answered.iter_mut();
        if let Some(client) = clients.find(|client| client.number == self.number) {
            client.is_idle = is_idle;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut list = self.clients.list();
        list.open -= 1;
        list.answered.retain(|client| client.number != self.number);
    }
}
