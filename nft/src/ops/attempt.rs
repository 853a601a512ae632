//! Changes that are made only if the ruleset is still as it was read, and are tried again if it is not.

use std::time::Duration;

use super::HostPorts;
use crate::error::{Error, refusal};
use crate::kernel::walk::back_off;
use crate::kernel::{Failure, Kernel, Outcome, Transaction};

/// What became of an attempt to make a change.
#[derive(Debug)]
pub(super) enum Attempt<T> {
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
    /// [`Error::Refused`] or [`Error::NotPermitted`] for the first change that failed.
    pub(super) fn of<T>(self, transaction: &Transaction, change: T) -> Result<Attempt<T>, Error> {
        match self {
            Outcome::Committed => Ok(Attempt::Made(change)),
            Outcome::Stale => Ok(Attempt::Void),
            Outcome::Failed(failures) => match failures.first() {
                Some(Failure { change, error }) => Err(refusal(transaction.part(*change), *error)),
                None => Ok(Attempt::Made(change)),
            },
            Outcome::Unanswered(error) => Ok(Attempt::Lost(change, error)),
        }
    }
}

impl<K: Kernel> HostPorts<K> {
    /// A transaction on the ruleset as it is now.
    pub(super) fn transaction(&mut self) -> Result<Transaction, Error> {
        Ok(Transaction::new(&self.settings.table, Some(self.kernel.generation()?)))
    }

    /// Commits a transaction that makes this change.
    pub(super) fn commit<T>(
        &mut self,
        transaction: &Transaction,
        change: T,
    ) -> Result<Attempt<T>, Error> {
        self.kernel.commit(transaction)?.of(transaction, change)
    }
}

/// How often a compare-and-swap is tried, within the caller's limit. Each attempt fails only because another
/// program's transaction succeeded in between. With few processors and very many hooks, some tens of attempts take
/// longer than the time-out of the runtime that calls the hook.
const ATTEMPTS: u32 = 200;
/// How often it is tried again because the answer was lost.
const LOST_ANSWERS: u32 = 3;

/// Makes a change by attempts that each read the ruleset first.
///
/// An attempt whose answer was lost is followed by another, which finds nothing left to do, or does it.
/// So with the change that was made comes the one that may have been made before.
pub(super) fn attempt<K: Kernel, T>(
    host_ports: &mut HostPorts<K>,
    limit: Option<Duration>,
    mut once: impl FnMut(&mut HostPorts<K>) -> Result<Attempt<T>, Error>,
) -> Result<(T, Option<T>), Error> {
    let (mut lost, mut lost_answers, mut attempts) = (None, 0, 0);
    let begin = host_ports.kernel.now();
    let in_time = |kernel: &K| limit.is_none_or(|limit| kernel.now().duration_since(begin) < limit);
    while attempts < ATTEMPTS && (attempts == 0 || in_time(&host_ports.kernel)) {
        back_off(&mut host_ports.kernel, attempts);
        attempts += 1;
        match once(host_ports) {
            Ok(Attempt::Made(change)) => return Ok((change, lost)),
            Ok(Attempt::Void) => {}
            Ok(Attempt::Lost(_, error)) if lost_answers == LOST_ANSWERS || timed_out(&error) => {
                return Err(Error::Unanswered(Box::new(error)));
            }
            Ok(Attempt::Lost(change, _)) => {
                lost_answers += 1;
                lost = lost.or(Some(change));
            }
            // Also if a host port is taken: another container may have replaced this one there, and there alone.
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
