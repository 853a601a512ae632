//! The tests of hostport that need root, a kernel or a container runtime: one module per subject, in one program,
//! since cargo links and runs programs one after another.
//!
//! One subject, after `make build`: `cargo test --package hostport-tests --test all reachable::`. What several
//! subjects use is in the library (`tests/src`).

mod addresses;
mod bad_input;
mod cni;
mod command_line;
mod conformance;
mod containerd;
mod counters;
mod crash;
mod crio;
mod dead_owners;
mod doctor;
mod endurance;
mod examples;
mod explain;
mod faults;
mod fleet;
mod flows;
mod golden;
mod install;
mod installing;
mod ipvs;
mod lab_itself;
mod libnftnl;
mod library;
mod listing;
mod localhost;
mod logs;
mod maintainer_scripts;
mod mappings;
mod metrics;
mod model;
mod modules;
mod neighbours;
mod options;
mod ownership;
mod packages;
mod podman;
mod policy;
mod precedence;
mod prometheus;
mod races;
mod reachable;
mod refusals;
mod reloads;
mod runc;
mod runtimes_themselves;
mod rustables;
mod scrapes;
mod sctp;
mod sharing;
mod takeover;
mod textfile;
mod upgrade;
mod watch;
