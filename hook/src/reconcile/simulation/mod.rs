//! Every interleaving of the operations.

mod search;
mod stage;
