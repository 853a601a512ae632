//! Deletes what other programs have left in the ruleset, in one transaction.

use rustix::io::Errno;

use super::{Socket, snapshot};
use crate::error::{Error, refusal};
use crate::model::{Handle, NfFamily};
use crate::wire::message::Message;
use crate::wire::object::ObjectId;
use crate::wire::snapshot::Snapshot;

/// Something of another program that is to be deleted.
///
/// ```
/// use hostport_nft::{Foreign, object::NfFamily};
///
/// let table = Foreign::Table(NfFamily::Ip, "cni_hostport".to_owned());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreign {
    /// A rule of a chain.
    Rule(ObjectId, Handle),
    /// A chain with its rules. The rules that lead to it have to go as well.
    Chain(ObjectId),
    /// A table with all that it holds.
    Table(NfFamily, String),
}

impl Snapshot {
    /// Deletes what is chosen from the ruleset, all of it or nothing. If another program changes the ruleset
    /// meanwhile, it is read and chosen from again.
    ///
    /// ```no_run
    /// # use hostport_nft::{Error, Foreign, Snapshot, object::NfFamily};
    /// Snapshot::delete(|ruleset| {
    ///     let tables = ruleset.tables.keys().filter(|(_, name)| name == "left-over");
    ///     Ok::<_, Error>(tables.map(|(family, name)| Foreign::Table(*family, name.clone())).collect())
    /// })?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::read`], those of `choose`, and [`Error::Refused`].
    pub fn delete<E: From<Error>>(
        mut choose: impl FnMut(&Snapshot) -> Result<Vec<Foreign>, E>,
    ) -> Result<(), E> {
        let mut socket = Socket::open()?;
        for _ in 0..snapshot::ATTEMPTS {
            let (snapshot, generation) = snapshot::read(&mut socket)?;
            let messages = messages(&choose(&snapshot)?);
            if messages.is_empty() {
                return Ok(());
            }
            match socket.send(Some(generation), messages.into_iter())? {
                None => return Ok(()),
                Some((_, Errno::RESTART | Errno::AGAIN | Errno::INTR)) => {}
                Some((_, error)) => {
                    return Err(refusal("to delete other programs' rules", error).into());
                }
            }
        }
        Err(Error::Contention { attempts: snapshot::ATTEMPTS }.into())
    }
}

/// First the rules, since a chain that a rule leads to cannot be deleted.
fn messages(foreign: &[Foreign]) -> Vec<Message> {
    let rules = foreign.iter().filter_map(|one| match one {
        Foreign::Rule(chain, handle) => Some(Message::delete_rules(chain, Some(*handle))),
        Foreign::Chain(chain) => Some(Message::delete_rules(chain, None)),
        Foreign::Table(..) => None,
    });
    let rest = foreign.iter().filter_map(|one| match one {
        Foreign::Rule(..) => None,
        Foreign::Chain(chain) => Some(Message::delete_chain(chain)),
        Foreign::Table(family, name) => Some(Message::delete_any_table(*family, name)),
    });
    rules.chain(rest).collect()
}
