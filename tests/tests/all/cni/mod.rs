//! hostport as a CNI plugin, in portmap's place.

mod adopt;
mod crowd;
mod input;
mod kills;
mod operations;
mod owners;
mod plugins;
mod settings;
