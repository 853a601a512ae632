//! One netfilter netlink socket: requests out, replies in.
//!
//! The kernel works on a request while it is being sent, so its answers are there when the send
//! returns. The receive timeout is for the case that they are not: nothing here can wait for ever.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket as NetlinkSocket, SocketAddr};
use rustix::io::Errno;
use rustix::net::sockopt::{
    Timeout, set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force,
    set_socket_timeout,
};

use super::close;
use super::dump::Pass;
use crate::error::{Error, Malformed, refusal};
use crate::wire::message::Message;
use crate::wire::reply::{Replies, Reply};

/// The kernel builds no larger datagram for a dump (netlink_recvmsg).
const DUMP: usize = 32 * 1024;
/// Room for any other answer, and for a notification (NLMSG_GOODSIZE).
const DATAGRAM: usize = 8 * 1024;
/// What the usual socket buffers of 208 KiB take in any case, with all the errors in answer.
const ORDINARY_BATCH: usize = 16 * 1024;
/// Room for a request: a table's name, a chain's name.
const USUAL_REQUEST: usize = 64;
/// How many datagrams of earlier requests are passed over.
const STRAY_DATAGRAMS: u32 = 1000;
/// `linux/netfilter/nfnetlink.h`.
const NFNLGRP_NFTABLES: u32 = 7;
const LISTENING_BUFFER: usize = 8 * 1024 * 1024;
/// How long the kernel may take to answer, and how long a list is tried to be read.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many signals may interrupt one call.
const INTERRUPTIONS: u32 = 100;

/// A socket, and the buffer that answers arrive in.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: NetlinkSocket,
    buffer: Vec<u8>,
    sequence: u32,
}

/// The answer to one message of a batch: its place, counted from 1, and the kernel's error.
pub(crate) type Refusal = (u32, Errno);

impl Netlink {
    /// Opens a socket in the network namespace of the calling thread.
    pub(crate) fn open() -> Result<Self, Error> {
        let socket = NetlinkSocket::new(NETLINK_NETFILTER).map_err(Error::Open)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))
            .map_err(|error| Error::Open(error.into()))?;
        Ok(Netlink { socket, buffer: Vec::with_capacity(DATAGRAM), sequence: 1 })
    }

    /// Closes it without waiting for what the kernel does then.
    pub(crate) fn leave(self) {
        close::leave(self.socket);
    }

    /// Opens a socket that hears of every change of the ruleset (NFNLGRP_NFTABLES).
    pub(crate) fn listen() -> Result<Self, Error> {
        let mut listener = Netlink::open()?;
        listener.socket.bind_auto().map_err(Error::Open)?;
        listener.socket.add_membership(NFNLGRP_NFTABLES).map_err(Error::Open)?;
        // A flush of many elements is one burst. Failing to make room is no error: see `hear`.
        let _ = set_socket_recv_buffer_size_force(&listener.socket, LISTENING_BUFFER);
        Ok(listener)
    }

    /// Waits for notifications, and gives each one to the reader. False if some were lost, because
    /// they came faster than they were read (ENOBUFS).
    pub(crate) fn hear(
        &mut self,
        mut read: impl FnMut(u16, &[u8]) -> Result<(), Malformed>,
    ) -> Result<bool, Error> {
        match self.receive() {
            Ok(()) => {}
            Err(Error::Transport(error)) if lost_some(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
        for answer in Replies::new(&self.buffer) {
            if let (_, Reply::Object { kind, attributes, .. }) = answer? {
                read(kind, attributes)?;
            }
        }
        Ok(true)
    }

    /// Sends a request and gives the attributes of the object in answer to the reader.
    ///
    /// None where there is no such object (ENOENT). `what` completes the sentence "the kernel refused".
    pub(crate) fn get<T>(
        &mut self,
        what: &str,
        request: &Message,
        read: impl FnOnce(&[u8]) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Error> {
        let sequence = self.request(request)?;
        self.object(sequence, what, read)
    }

    /// The object in answer to the request of a sequence number.
    fn object<T>(
        &mut self,
        sequence: u32,
        what: &str,
        read: impl FnOnce(&[u8]) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Error> {
        self.answer(sequence, |reply| match reply {
            Reply::Object { attributes, .. } => Ok(Some(read(attributes)?)),
            Reply::Failed(Errno::NOENT) => Ok(None),
            Reply::Failed(error) => Err(refusal(what, error)),
            Reply::Acknowledged | Reply::Done { .. } => Err(Malformed.into()),
        })
    }

    /// Sends several requests at once, and gives the attributes of the objects in answer, in their order.
    ///
    /// The kernel answers one after the other (netlink_rcv_skb), each in a datagram of its own.
    pub(crate) fn get_all(
        &mut self,
        requests: &[(&'static str, Message)],
    ) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let first = self.sequence;
        let mut bytes = Vec::with_capacity(requests.len() * USUAL_REQUEST);
        for (_, request) in requests {
            request.append(&mut bytes, self.sequence, 0);
            self.sequence = self.sequence.wrapping_add(1);
        }
        self.send(&bytes)?;
        let mut objects = Vec::with_capacity(requests.len());
        for place in 0..requests.len() as u32 {
            let own = first.wrapping_add(place);
            let what = requests.get(place as usize).map_or("", |(what, _)| *what);
            objects.push(self.object(own, what, |attributes| Ok(attributes.to_vec()))?);
        }
        Ok(objects)
    }

    /// Sends a request that is answered by an acknowledgement alone.
    pub(crate) fn order(&mut self, request: Message) -> Result<Result<(), Errno>, Error> {
        let sequence = self.request(&request.acknowledged())?;
        self.answer(sequence, |reply| match reply {
            Reply::Acknowledged => Ok(Ok(())),
            Reply::Failed(error) => Ok(Err(error)),
            Reply::Object { .. } | Reply::Done { .. } => Err(Malformed.into()),
        })
    }

    /// Walks once over a list, giving each message's attributes to the reader.
    pub(crate) fn walk<T>(
        &mut self,
        request: &Message,
        mut read: impl FnMut(&[u8], &mut Vec<T>) -> Result<(), Malformed>,
    ) -> Result<Pass<Vec<T>>, Error> {
        let mut items = Vec::new();
        self.buffer.reserve(DUMP);
        let own = self.request(request)?;
        let (mut restart, mut began) = (false, None);
        // Each datagram but the last holds at least one element, so the kernel bounds this loop.
        loop {
            self.receive()?;
            for answer in Replies::new(&self.buffer) {
                match answer? {
                    (sequence, _) if sequence != own => {}
                    (_, Reply::Object { attributes, generation, interrupted, .. }) => {
                        // A set's elements are not flagged (measured on Linux 6.18): the generation
                        // alone tells that others changed the ruleset between two datagrams.
                        restart |= interrupted || generation != *began.get_or_insert(generation);
                        // The rest must be received all the same, before the socket takes another request.
                        if !restart {
                            read(attributes, &mut items)?;
                        }
                    }
                    (_, Reply::Failed(Errno::NOENT)) => return Ok(Pass::Missing),
                    // The set was there when the walk began, and was replaced or removed meanwhile.
                    (_, Reply::Done { error: Some(Errno::NOENT | Errno::INTR), .. })
                    | (_, Reply::Failed(Errno::INTR)) => return Ok(Pass::Interrupted),
                    (_, Reply::Failed(error) | Reply::Done { error: Some(error), .. }) => {
                        return Err(refusal("to list the table", error));
                    }
                    (_, Reply::Done { interrupted, .. }) => {
                        let complete = !restart && !interrupted;
                        return Ok(if complete {
                            Pass::Complete(items)
                        } else {
                            Pass::Interrupted
                        });
                    }
                    (_, Reply::Acknowledged) => {}
                }
            }
        }
    }

    /// Sends a batch whose last message asks to be acknowledged, and collects what failed.
    ///
    /// The kernel has done its work by the time that the sending returns. If its answer cannot be read
    /// then, that is the inner error.
    ///
    /// The batch is encoded from a sequence number on: that of its beginning, which stands for the
    /// whole (ERESTART for another generation, EPERM, EOPNOTSUPP) and is place 0. With its bytes comes the
    /// number of messages between beginning and end.
    pub(crate) fn commit(
        &mut self,
        encode: impl FnOnce(u32) -> (Vec<u8>, u32),
    ) -> Result<Result<Vec<Refusal>, Error>, Error> {
        let first = self.sequence;
        let (batch, length) = encode(first);
        self.sequence = self.sequence.wrapping_add(length + 2);
        if batch.len() > ORDINARY_BATCH {
            // Each message may be answered by an error that repeats it, in a buffer of the kernel's own
            // that is several times as large. Failing to raise a limit is no error yet: what does not
            // fit will tell (EMSGSIZE, ENOBUFS).
            let _ = set_socket_send_buffer_size_force(&self.socket, batch.len() * 2);
            let _ = set_socket_recv_buffer_size_force(&self.socket, batch.len() * 8);
        }
        self.send(&batch)?;
        Ok(self.failures(first, length))
    }

    fn failures(&mut self, first: u32, length: u32) -> Result<Vec<Refusal>, Error> {
        let mut failures = Vec::new();
        // One answer a message at most, and the last message is answered in any case.
        loop {
            self.receive()?;
            for answer in Replies::new(&self.buffer) {
                let (sequence, reply) = answer?;
                let place = sequence.wrapping_sub(first);
                match reply {
                    _ if place > length => {}
                    Reply::Failed(error) => {
                        failures.push((place, error));
                        if place == length || place == 0 {
                            return Ok(failures);
                        }
                    }
                    Reply::Acknowledged if place == length => return Ok(failures),
                    _ => {}
                }
            }
        }
    }

    fn request(&mut self, request: &Message) -> Result<u32, Error> {
        let sequence = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        self.send(&request.encode(sequence))?;
        Ok(sequence)
    }

    /// Gives the first reply to a request to the reader. Replies to earlier requests, which were not
    /// waited for, are passed over.
    fn answer<T>(
        &mut self,
        own: u32,
        read: impl FnOnce(Reply<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        for _ in 0..STRAY_DATAGRAMS {
            self.receive()?;
            for answer in Replies::new(&self.buffer) {
                let (sequence, reply) = answer?;
                if sequence == own {
                    return read(reply);
                }
            }
        }
        Err(Malformed.into())
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        let kernel = SocketAddr::new(0, 0);
        uninterrupted(|| self.socket.send_to(bytes, &kernel, 0)).map(drop)
    }

    fn receive(&mut self) -> Result<(), Error> {
        uninterrupted(|| {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, 0)
        })
        .map(drop)
    }
}

/// Calls again what a signal interrupted (EINTR).
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> Result<T, Error> {
    let mut left = INTERRUPTIONS;
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted && left > 0 => left -= 1,
            done => return done.map_err(Error::Transport),
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn lost_some(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error())
}
