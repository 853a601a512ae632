//! `hostport explain`: twelve hosts, each broken on purpose in one way; and hosts that are not broken.

mod ground;

mod broken;
mod elsewhere;
mod open;
mod rules;
mod subnets;
mod usage;
mod ways;
