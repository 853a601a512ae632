//! Real container runtimes, started as their users start them: runc with a bundle, podman with a
//! hooks directory.
//!
//! Every runtime here lives in folders of its own, so tests run side by side, and is called in the
//! network namespace of a node (`/run/netns/NAME`), because a hook runs where its runtime runs. All
//! of it needs root. Each call is bounded in time and ends with what the program said; nothing is
//! skipped where a program is missing, the call fails and names it.
//!
//! ```no_run
//! use hostport_tests::runtime::{Container, Hook, Network, Runc};
//!
//! let runc = Runc::in_node("/run/netns/node");
//! let web = Container::http_server(8080)
//!     .annotation("io.hostport.ports", "9000:8080")
//!     .network(Network::Path("/run/netns/pod".into()))
//!     .hook("prestart", Hook::new("/usr/local/bin/hostport", &["hook"]))
//!     .hook("poststop", Hook::new("/usr/local/bin/hostport", &["hook"]));
//! runc.run("web", &web).expect_success();
//! runc.remove("web").expect_success();
//! ```

mod container;
mod containerd;
mod image;
mod mounts;
mod podman;
mod process;
mod recorder;
mod runc;

pub use crate::oci::Hook;
pub use container::{Container, Network};
pub use containerd::{Containerd, IMAGE, containerd_bin};
pub use podman::{OciRuntime, Podman, hook_configurations};
pub use process::{
    Finished, Scratch, copy_program, run, run_within, wait_until, wait_within, write_program,
};
pub use recorder::{Call, Recorder};
pub use runc::Runc;

/// What a fresh Debian 12 needs, installed without recommended packages, for everything here to run.
///
/// `netavark` and `iptables` make podman's bridge network, `catatonit` the first process of a podman
/// pod. `util-linux` (nsenter, unshare, mount) is on every Debian.
pub const DEBIAN_PACKAGES: &[&str] = &[
    "busybox-static",
    "catatonit",
    "conmon",
    "containernetworking-plugins",
    "crun",
    "golang-github-containers-common",
    "iproute2",
    "iptables",
    "netavark",
    "nftables",
    "podman",
    "runc",
];
