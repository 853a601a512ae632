//! Why nothing can be said of this host.

use std::path::PathBuf;

use thiserror::Error;

use crate::network::rtnetlink;

#[derive(Debug, Error)]
pub enum DiagnoseError {
    #[error(transparent)]
    Ruleset(#[from] hostport_nft::Error),
    #[error("cannot read the journal {0:?}: permission denied: run it as root")]
    NotRoot(PathBuf),
    #[error("cannot find the links to the containers: {0}")]
    Rtnetlink(#[from] rtnetlink::Error),
}
