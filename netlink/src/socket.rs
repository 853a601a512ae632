//! One netlink socket, of any protocol: requests out, replies in.
//!
//! The kernel works on a request while it is being sent, so its answers are there when the send
//! returns. So nothing here waits for an answer; only notifications are waited for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::{Socket as NetlinkSocket, SocketAddr};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::net::sockopt::{set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force};

use crate::error::Malformed;
use crate::header::{NLM_F_ACK, NetlinkRequest};
use crate::reply::{Object, Replies, Reply};

/// Room for any answer but a long dump's, and for a notification (NLMSG_GOODSIZE).
const DATAGRAM: usize = 8 * 1024;
/// What the usual socket buffers of 208 KiB take in any case, with all the errors in answer.
const ORDINARY_BATCH: usize = 16 * 1024;
/// Room for a request.
const USUAL_REQUEST: usize = 64;
/// How many datagrams of earlier requests are passed over.
const STRAY_DATAGRAMS: u32 = 1000;
/// How many signals may interrupt one call.
const INTERRUPTIONS: u32 = 100;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket could not be opened.
    #[error("cannot open a netlink socket: {0}")]
    Open(#[source] io::Error),
    /// Sending or receiving failed; EAGAIN if no answer came.
    #[error("cannot talk to the kernel over netlink: {0}")]
    Io(#[source] io::Error),
    /// The kernel answered with an error.
    #[error("the kernel refused a request: {0}")]
    Refused(Errno),
    /// The answer is not what the protocol says.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// How a dump ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is whole.
    Complete,
    /// The listed objects changed during it (NLM_F_DUMP_INTR, EINTR): begin it again.
    Interrupted,
    /// It broke off with this error.
    Broken(Errno),
}

/// A message of a batch that failed: its place, counted from 1, and the kernel's error.
pub type Refusal = (u32, Errno);

/// A socket, and the buffer that answers arrive in.
#[derive(Debug)]
pub struct Socket {
    socket: NetlinkSocket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Socket {
    /// Opens a socket of a protocol (NETLINK_*) in the network namespace of the calling thread. The first request
    /// binds it.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open(protocol: isize) -> Result<Self, Error> {
        let socket = NetlinkSocket::new(protocol).map_err(Error::Open)?;
        Ok(Socket { socket, buffer: Vec::with_capacity(DATAGRAM), sequence: 1 })
    }

    /// Lets the kernel check and obey what a dump asks for (NETLINK_GET_STRICT_CHK). Before Linux 4.20 there is no
    /// such option, and more is listed than was asked for.
    pub fn check_strictly(&mut self) {
        let _ = self.socket.set_netlink_get_strict_chk(true);
    }

    /// Joins a multicast group, and makes room for a burst of so many bytes, if the kernel lets it.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn join(&mut self, group: u32, room: usize) -> Result<(), Error> {
        self.socket.bind_auto().map_err(Error::Open)?;
        self.socket.add_membership(group).map_err(Error::Open)?;
        // Failing to make room is no error: see `hear`.
        let _ = set_socket_recv_buffer_size_force(&self.socket, room);
        Ok(())
    }

    /// Waits for notifications, and gives each one to the reader. False if some were lost, because
    /// they came faster than they were read (ENOBUFS).
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Malformed`].
    pub fn hear(
        &mut self,
        mut read: impl FnMut(Object<'_>) -> Result<(), Malformed>,
    ) -> Result<bool, Error> {
        match self.receive(RecvFlags::empty()) {
            Err(Error::Io(error)) if Errno::from_io_error(&error) == Some(Errno::NOBUFS) => {
                return Ok(false);
            }
            received => received?,
        }
        for answer in Replies::new(&self.buffer) {
            if let (_, Reply::Object(object)) = answer? {
                read(object)?;
            }
        }
        Ok(true)
    }

    /// Sends a request and gives the object in answer to the reader.
    ///
    /// # Errors
    /// All but [`Error::Open`].
    pub fn get<T>(
        &mut self,
        request: &NetlinkRequest,
        read: impl FnOnce(Object<'_>) -> Result<T, Malformed>,
    ) -> Result<T, Error> {
        let sequence = self.request(request, 0)?;
        self.answer(sequence, |object| read(object.ok_or(Malformed)?))
    }

    /// Sends several requests at once, and gives each object in answer to the reader, in their order; none for one
    /// that does not exist (ENOENT).
    ///
    /// The kernel answers one after the other (netlink_rcv_skb), each in a datagram of its own.
    ///
    /// # Errors
    /// All but [`Error::Open`]. Another error than ENOENT may be the answer to all of them at once.
    pub fn get_all<T>(
        &mut self,
        requests: &[NetlinkRequest],
        mut read: impl FnMut(Object<'_>) -> Result<T, Malformed>,
    ) -> Result<Vec<Option<T>>, Error> {
        let first = self.sequence;
        let mut bytes = Vec::with_capacity(requests.len() * USUAL_REQUEST);
        for request in requests {
            request.append(&mut bytes, self.sequence, 0);
            self.sequence = self.sequence.wrapping_add(1);
        }
        self.send(&bytes)?;
        let mut objects = Vec::with_capacity(requests.len());
        for place in 0..requests.len() as u32 {
            let object =
                self.answer(first.wrapping_add(place), |object| read(object.ok_or(Malformed)?));
            objects.push(match object {
                Err(Error::Refused(Errno::NOENT)) => None,
                object => Some(object?),
            });
        }
        Ok(objects)
    }

    /// Sends a request that is answered by an acknowledgement alone.
    ///
    /// # Errors
    /// All but [`Error::Open`].
    pub fn order(&mut self, request: &NetlinkRequest) -> Result<(), Error> {
        let sequence = self.request(request, NLM_F_ACK)?;
        self.answer(sequence, |object| if object.is_some() { Err(Malformed) } else { Ok(()) })
    }

    /// Goes once through a dump, giving each object to the reader, which returns whether it is still consistent
    /// with those before. `room` is the largest datagram that the kernel should build for it.
    ///
    /// # Errors
    /// All but [`Error::Open`].
    pub fn walk(
        &mut self,
        request: &NetlinkRequest,
        room: usize,
        mut read: impl FnMut(Object<'_>) -> Result<bool, Malformed>,
    ) -> Result<End, Error> {
        self.buffer.reserve(room);
        let own = self.request(request, 0)?;
        let mut restart = false;
        // Each datagram but the last holds at least one object, so the kernel bounds this loop.
        loop {
            self.receive_answer()?;
            for answer in Replies::new(&self.buffer) {
                match answer? {
                    (sequence, _) if sequence != own => {}
                    (_, Reply::Object(object)) => {
                        // The rest must be received all the same, before the socket takes another request.
                        restart = restart || object.interrupted || !read(object)?;
                    }
                    (_, Reply::Failed(Errno::INTR))
                    | (_, Reply::Done { error: Some(Errno::INTR), .. }) => {
                        return Ok(End::Interrupted);
                    }
                    (_, Reply::Failed(error)) => return Err(Error::Refused(error)),
                    (_, Reply::Done { error: Some(error), .. }) => return Ok(End::Broken(error)),
                    (_, Reply::Done { interrupted, .. }) => {
                        let complete = !restart && !interrupted;
                        return Ok(if complete { End::Complete } else { End::Interrupted });
                    }
                    (_, Reply::Acknowledged) => {}
                }
            }
        }
    }

    /// Sends a batch of messages whose last one asks to be acknowledged, and collects what failed.
    ///
    /// The kernel has done its work when the sending returns. The inner error is that its answer could not be
    /// read.
    ///
    /// `encode` gets the sequence number of the batch's beginning, which stands for the whole and is place 0, and
    /// returns the bytes with the number of messages between beginning and end.
    ///
    /// # Errors
    /// [`Error::Io`] if it was not sent.
    pub fn batch(
        &mut self,
        encode: impl FnOnce(u32) -> (Vec<u8>, u32),
    ) -> Result<Result<Vec<Refusal>, Error>, Error> {
        let first = self.sequence;
        let (batch, length) = encode(first);
        self.sequence = self.sequence.wrapping_add(length + 2);
        if batch.len() > ORDINARY_BATCH {
            // Each message may be answered by an error that repeats it, in a buffer of the kernel's own
            // that is several times as large. Failing to raise a limit is no error yet: what does not
            // fit fails later (EMSGSIZE, ENOBUFS).
            let _ = set_socket_send_buffer_size_force(&self.socket, batch.len() * 2);
            let _ = set_socket_recv_buffer_size_force(&self.socket, batch.len() * 8);
        }
        self.send(&batch)?;
        Ok(self.refusals(first, length))
    }

    fn refusals(&mut self, first: u32, length: u32) -> Result<Vec<Refusal>, Error> {
        let mut refusals = Vec::new();
        // One answer a message at most, and the last message is answered in any case.
        loop {
            self.receive_answer()?;
            for answer in Replies::new(&self.buffer) {
                let (sequence, reply) = answer?;
                let place = sequence.wrapping_sub(first);
                match reply {
                    _ if place > length => {}
                    Reply::Failed(error) => {
                        refusals.push((place, error));
                        if place == length || place == 0 {
                            return Ok(refusals);
                        }
                    }
                    Reply::Acknowledged if place == length => return Ok(refusals),
                    _ => {}
                }
            }
        }
    }

    fn request(&mut self, request: &NetlinkRequest, flags: u16) -> Result<u32, Error> {
        let sequence = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(USUAL_REQUEST);
        request.append(&mut bytes, sequence, flags);
        self.send(&bytes)?;
        Ok(sequence)
    }

    /// Gives the object in answer to a request to the reader; none for an acknowledgement. Replies to earlier
    /// requests, which were not waited for, are passed over.
    fn answer<T>(
        &mut self,
        own: u32,
        read: impl FnOnce(Option<Object<'_>>) -> Result<T, Malformed>,
    ) -> Result<T, Error> {
        for _ in 0..STRAY_DATAGRAMS {
            self.receive_answer()?;
            for answer in Replies::new(&self.buffer) {
                let (sequence, reply) = answer?;
                if sequence != own {
                    continue;
                }
                return match reply {
                    Reply::Object(object) => Ok(read(Some(object))?),
                    Reply::Acknowledged => Ok(read(None)?),
                    Reply::Failed(error) => Err(Error::Refused(error)),
                    Reply::Done { .. } => Err(Malformed.into()),
                };
            }
        }
        Err(Malformed.into())
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        let kernel = SocketAddr::new(0, 0);
        uninterrupted(|| self.socket.send_to(bytes, &kernel, 0)).map(drop)
    }

    /// Receives an answer of the kernel's into the buffer; EAGAIN if there is none.
    fn receive_answer(&mut self) -> Result<(), Error> {
        self.receive(RecvFlags::DONTWAIT)
    }

    /// Receives a datagram of the kernel's into the buffer.
    fn receive(&mut self, flags: RecvFlags) -> Result<(), Error> {
        // With MSG_TRUNC, recv(2) returns the whole length even if it did not fit.
        let flags = (RecvFlags::TRUNC | flags).bits() as i32;
        for _ in 0..STRAY_DATAGRAMS {
            let (length, sender) = uninterrupted(|| {
                self.buffer.clear();
                self.socket.recv_from(&mut self.buffer, flags)
            })?;
            // Another port is another process.
            if sender.port_number() == 0 {
                let first = || Replies::new(&self.buffer).next();
                // Of an error, the beginning is enough.
                let readable = length <= self.buffer.len()
                    || matches!(first(), Some(Ok((_, Reply::Failed(_)))));
                return readable.then_some(()).ok_or(Error::Malformed(Malformed));
            }
        }
        Err(Malformed.into())
    }
}

/// Calls again what a signal interrupted (EINTR).
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> Result<T, Error> {
    let mut left = INTERRUPTIONS;
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted && left > 0 => left -= 1,
            done => return done.map_err(Error::Io),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
