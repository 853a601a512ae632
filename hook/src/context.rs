//! What a command works on.

use std::path::PathBuf;

use hostport_nft::TableName;

/// The tables in the kernel, and the journal.
#[derive(Debug, Clone)]
pub struct Context {
    pub table: TableName,
    pub state_dir: PathBuf,
}
