//! A transaction: messages that the kernel takes all or none.

use netlink_packet_core::NLM_F_ACK;
use rustix::io::Errno;

use crate::Error;
use crate::kernel::socket::{Socket, refusal};
use crate::ops::host_ports::generation;
use crate::wire::message::Message;

/// What a message of a transaction is for, to name it in an error.
pub(crate) type Label = &'static str;

/// Room for a message: what a host port in ip6 takes.
const USUAL_MESSAGE: usize = 256;

/// Messages of one transaction.
#[derive(Debug)]
pub(crate) struct Batch {
    generation: Option<u32>,
    messages: Vec<(Message, Label)>,
}

/// How a transaction ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// All of it is in the kernel.
    Committed,
    /// The ruleset is not of the generation that the batch was made for (ERESTART), or somebody
    /// changed it while the kernel was at work (EAGAIN).
    Stale,
    /// These messages failed, and nothing was changed.
    Failed(Vec<(Label, Errno)>),
    /// Committed or not: the answer was lost.
    Unanswered(Error),
}

/// What became of an attempt to make a change.
#[derive(Debug)]
pub(crate) enum Attempt<T> {
    /// It is made.
    Made(T),
    /// It is not, and nothing keeps another attempt from succeeding.
    Void,
    /// It may be made.
    Lost(T, Error),
}

impl Outcome {
    /// What it means for an attempt to make this change.
    ///
    /// # Errors
    /// [`Error::Refused`] or [`Error::NotPermitted`] for the first message that failed.
    pub(crate) fn of<T>(self, change: T) -> Result<Attempt<T>, Error> {
        match self {
            Outcome::Committed => Ok(Attempt::Made(change)),
            Outcome::Stale => Ok(Attempt::Void),
            Outcome::Failed(failures) => match failures.first() {
                Some((what, error)) => Err(refusal(what, *error)),
                None => Ok(Attempt::Made(change)),
            },
            Outcome::Unanswered(error) => Ok(Attempt::Lost(change, error)),
        }
    }
}

impl Batch {
    /// An empty transaction; with a generation, it is made only on the ruleset of that generation.
    pub(crate) fn new(generation: Option<u32>) -> Self {
        Batch { generation, messages: Vec::new() }
    }

    pub(crate) fn push(&mut self, message: Message, label: Label) {
        self.messages.push((message, label));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The bytes to send: a beginning with the sequence number `first`, the messages, an end.
    ///
    /// Only the last message asks for an acknowledgement, lest many of them overflow the socket's
    /// receive buffer; errors are reported in any case.
    fn encode(&self, first: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.messages.len() * USUAL_MESSAGE);
        Message::batch_begin(self.generation).append(&mut bytes, first, 0);
        let mut sequence = first;
        for (index, (message, _)) in self.messages.iter().enumerate() {
            sequence = sequence.wrapping_add(1);
            let last = index + 1 == self.messages.len();
            message.append(&mut bytes, sequence, if last { NLM_F_ACK } else { 0 });
        }
        Message::batch_end().append(&mut bytes, sequence.wrapping_add(1), 0);
        bytes
    }

    /// Sends it. An empty transaction changes nothing, but what it rests on must hold as well.
    pub(crate) fn commit(&self, socket: &mut Socket) -> Result<Outcome, Error> {
        if self.is_empty() {
            return Ok(match self.generation {
                Some(looked_at) if generation(socket)? != looked_at => Outcome::Stale,
                _ => Outcome::Committed,
            });
        }
        let length = self.messages.len() as u32;
        let failures = match socket.commit(|first| self.encode(first), length)? {
            Ok(failures) => failures,
            Err(lost) => return Ok(Outcome::Unanswered(lost)),
        };
        if failures.is_empty() {
            return Ok(Outcome::Committed);
        }
        let mut labelled = Vec::with_capacity(failures.len());
        for (place, error) in failures {
            if matches!(error, Errno::RESTART | Errno::AGAIN | Errno::INTR) {
                return Ok(Outcome::Stale);
            }
            let label = (place as usize).checked_sub(1).and_then(|i| self.messages.get(i));
            match label {
                Some((_, label)) => labelled.push((*label, error)),
                None if error == Errno::OPNOTSUPP => return Err(Error::NoNfTables),
                None => return Err(refusal("the transaction as a whole", error)),
            }
        }
        Ok(Outcome::Failed(labelled))
    }
}
