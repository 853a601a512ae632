//! Which of the specification's error codes the failure of an operation gets.

use crate::admission::AdmissionError;
use crate::cni::{CniError, Code};
use crate::network::container::PodError;
use crate::network::namespace;
use crate::reconcile;

/// Why ports could not be published.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    #[error(transparent)]
    Cni(#[from] CniError),
    #[error(transparent)]
    Admission(#[from] AdmissionError),
    #[error(transparent)]
    Operation(#[from] reconcile::Error),
}

impl From<AddError> for CniError {
    fn from(error: AddError) -> Self {
        use namespace::Error::{Gone, NotANetworkNamespace};
        let code = match error {
            AddError::Cni(error) => return error,
            AddError::Operation(error) => return error.into(),
            AddError::Admission(AdmissionError::Pod(PodError::Namespace(
                Gone(_) | NotANetworkNamespace(_),
            ))) => Code::Environment,
            AddError::Admission(
                AdmissionError::Pod(PodError::Broadcast(..)) | AdmissionError::Resolve(_),
            ) => Code::Configuration,
            AddError::Admission(_) => Code::Other,
        };
        CniError::new(code, error)
    }
}

impl From<reconcile::Error> for CniError {
    fn from(error: reconcile::Error) -> Self {
        use hostport_nft::Error::{Contention, NoNfTables, NotPermitted, Open, Unsupported};
        let code = match &error {
            error if error.is_conflict() => Code::TryAgain,
            reconcile::Error::Journal(crate::journal::JournalError::Locked { .. })
            | reconcile::Error::Ruleset(Contention { .. }) => Code::TryAgain,
            reconcile::Error::Ruleset(Open(_) | NoNfTables | NotPermitted | Unsupported(_)) => {
                Code::NotAvailable
            }
            _ => Code::Other,
        };
        CniError::new(code, error)
    }
}
