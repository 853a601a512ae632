//! The only place that does I/O: one netfilter netlink socket.
//!
//! The kernel works on a request while it is being sent, so its answers are there when the send
//! returns. The receive timeout is for the case that they are not: nothing here can wait for ever.

use std::io;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket as NetlinkSocket, SocketAddr};
use rustix::io::Errno;
use rustix::net::sockopt::{
    Timeout, set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force,
    set_socket_timeout,
};

use crate::Error;
use crate::message::Message;
use crate::reply::{Replies, Reply};

/// The kernel builds no larger datagram for a dump.
const DATAGRAM: usize = 32 * 1024;
/// What a socket takes without asking (half of the usual net.core.wmem_default, for overhead).
const ORDINARY_SEND: usize = 64 * 1024;
/// How often an interrupted dump is begun again.
const DUMP_ATTEMPTS: u32 = 20;
const PATIENCE: Duration = Duration::from_secs(10);

/// A socket, and the buffer that answers arrive in.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: NetlinkSocket,
    buffer: Vec<u8>,
    sequence: u32,
}

/// The answer to one message of a batch: its number, counted from 1, and the kernel's error.
pub(crate) type Failure = (u32, Errno);

impl Socket {
    /// Opens a socket in the network namespace of the calling thread.
    pub(crate) fn open() -> Result<Self, Error> {
        let socket = NetlinkSocket::new(NETLINK_NETFILTER).map_err(Error::Open)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))
            .map_err(|error| Error::Open(error.into()))?;
        Ok(Socket { socket, buffer: Vec::with_capacity(DATAGRAM), sequence: 1 })
    }

    /// Sends a request and gives the attributes of the object in answer to the reader.
    ///
    /// None where there is no such object (ENOENT).
    pub(crate) fn get<T>(
        &mut self,
        what: &str,
        request: &Message,
        read: impl FnOnce(&[u8]) -> Result<T, crate::reply::Malformed>,
    ) -> Result<Option<T>, Error> {
        self.send(&request.encode(self.sequence))?;
        self.sequence += 1;
        self.receive()?;
        match Replies::new(&self.buffer).next() {
            Some(Ok(Reply::Object { attributes, .. })) => Ok(Some(read(attributes)?)),
            Some(Ok(Reply::Failed { error: Errno::NOENT, .. })) => Ok(None),
            Some(Ok(Reply::Failed { error, .. })) => Err(refusal(what, error)),
            Some(Err(malformed)) => Err(malformed.into()),
            Some(Ok(_)) | None => Err(crate::reply::Malformed.into()),
        }
    }

    /// Sends a request that is answered by an acknowledgement alone.
    pub(crate) fn order(&mut self, request: Message) -> Result<Result<(), Errno>, Error> {
        self.send(&request.acknowledged().encode(self.sequence))?;
        self.sequence += 1;
        self.receive()?;
        match Replies::new(&self.buffer).next() {
            Some(Ok(Reply::Acknowledged { .. })) => Ok(Ok(())),
            Some(Ok(Reply::Failed { error, .. })) => Ok(Err(error)),
            _ => Err(crate::reply::Malformed.into()),
        }
    }

    /// Dumps a list, giving each message's attributes to the reader.
    ///
    /// A dump that the kernel flags as interrupted is begun again. None where there is nothing to dump
    /// from (ENOENT).
    pub(crate) fn dump<T>(
        &mut self,
        request: &Message,
        mut read: impl FnMut(&[u8], &mut Vec<T>) -> Result<(), crate::reply::Malformed>,
    ) -> Result<Option<Vec<T>>, Error> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut items = Vec::new();
            match self.dump_once(request, |attributes| read(attributes, &mut items))? {
                DumpEnd::Complete => return Ok(Some(items)),
                DumpEnd::Missing => return Ok(None),
                DumpEnd::Interrupted => {}
            }
        }
        Err(Error::Contention { attempts: DUMP_ATTEMPTS })
    }

    fn dump_once(
        &mut self,
        request: &Message,
        mut read: impl FnMut(&[u8]) -> Result<(), crate::reply::Malformed>,
    ) -> Result<DumpEnd, Error> {
        self.send(&request.encode(self.sequence))?;
        self.sequence += 1;
        let mut restart = false;
        // Each datagram but the last holds at least one element, so the kernel bounds this loop.
        loop {
            self.receive()?;
            for reply in Replies::new(&self.buffer) {
                match reply? {
                    Reply::Object { attributes, interrupted } => {
                        restart |= interrupted;
                        read(attributes)?;
                    }
                    Reply::Done { interrupted, error } => {
                        return match error {
                            Some(Errno::NOENT) => Ok(DumpEnd::Missing),
                            Some(Errno::INTR) => Ok(DumpEnd::Interrupted),
                            Some(error) => Err(refusal("a dump", error)),
                            None if restart || interrupted => Ok(DumpEnd::Interrupted),
                            None => Ok(DumpEnd::Complete),
                        };
                    }
                    Reply::Failed { error: Errno::NOENT, .. } => return Ok(DumpEnd::Missing),
                    Reply::Failed { error, .. } => return Err(refusal("a dump", error)),
                    Reply::Acknowledged { .. } => {}
                }
            }
        }
    }

    /// Sends a batch whose last message asks to be acknowledged, and collects what failed.
    ///
    /// `last` is the number of that message. Sequence 0, the batch's beginning, stands for the batch
    /// as a whole: ERESTART for another generation, EPERM, EOPNOTSUPP.
    pub(crate) fn commit(&mut self, batch: &[u8], last: u32) -> Result<Vec<Failure>, Error> {
        if batch.len() > ORDINARY_SEND {
            // Failing to raise them is no error yet: the send itself will tell (EMSGSIZE).
            let _ = set_socket_send_buffer_size_force(&self.socket, batch.len() * 2);
            let _ = set_socket_recv_buffer_size_force(&self.socket, batch.len() * 4);
        }
        self.send(batch)?;
        let mut failures = Vec::new();
        loop {
            self.receive()?;
            for reply in Replies::new(&self.buffer) {
                match reply? {
                    Reply::Acknowledged { sequence } if sequence == last => return Ok(failures),
                    Reply::Failed { sequence, error } => {
                        failures.push((sequence, error));
                        if sequence == last || sequence == 0 {
                            return Ok(failures);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        let kernel = SocketAddr::new(0, 0);
        loop {
            match self.socket.send_to(bytes, &kernel, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Transport(error)),
            }
        }
    }

    fn receive(&mut self) -> Result<(), Error> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Transport(error)),
            }
        }
    }
}

enum DumpEnd {
    Complete,
    Missing,
    Interrupted,
}

/// The error for something that the kernel refused, whatever it was part of.
pub(crate) fn refusal(what: &str, error: Errno) -> Error {
    match error {
        Errno::PERM => Error::NotPermitted,
        _ => Error::Refused { what: what.to_owned(), error },
    }
}
