//! A container's attachment to a network of CNI.

use serde::{Deserialize, Serialize};

/// What CNI knows an attachment by, and what the network's configuration says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The network's name.
    pub network: String,
    /// The container's ID, which an owner may have in a shorter form.
    pub container_id: String,
    /// The interface inside the container.
    pub interface: String,
    /// Sources may be rewritten where answers would miss the node, and 127.0.0.1 may be opened.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub snat: bool,
}

fn yes() -> bool {
    true
}

fn is_true(value: &bool) -> bool {
    *value
}
