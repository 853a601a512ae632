//! `hostport explain`: twelve hosts that are broken on purpose, each by that very thing; and hosts that are
//! not.

mod ground;

mod broken;
mod open;
mod rules;
mod usage;
mod ways;
