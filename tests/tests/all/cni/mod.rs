//! hostport as a CNI plugin, in portmap's place.

mod crowd;
mod input;
mod kills;
mod operations;
mod owners;
mod plugins;
mod settings;
