//! Every interleaving of the operations: what runs actors against each other, step by step, in all orders.

mod search;
mod stage;
