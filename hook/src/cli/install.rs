//! The arguments of `hostport install` and `hostport uninstall`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What a node's host ports are published by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Face {
    /// The CNI plugin, in portmap's place in each CNI list
    Cni,
    /// The hook, by containerd's base specification
    Containerd,
    /// The hook, by CRI-O's folder of hook configurations
    Crio,
    /// The hook, by podman's folder of hook configurations
    Podman,
}

#[derive(Debug, Args)]
pub struct PlaceArguments {
    /// How containers get their host ports
    #[arg(value_enum, value_name = "cni|containerd|crio|podman")]
    pub face: Face,

    /// Print the changes as a diff, and make none
    #[arg(long)]
    pub dry_run: bool,

    /// The node's root folder; another one for an image, or in a container
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// The program as the node's runtimes call it [default: this one]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,

    /// cni: the node's folder of CNI lists
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub lists: PathBuf,

    /// cni: a folder where the runtime looks for plugins (repeatable) [default: the usual ones that have portmap]
    #[arg(long, value_name = "DIR")]
    pub plugins: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct InstallArguments {
    #[command(flatten)]
    pub place: PlaceArguments,

    /// cni: keep running, and change a list again whenever its owner writes it anew
    ///
    /// Ends with exit status 0 on SIGTERM and SIGINT.
    #[arg(long, conflicts_with = "dry_run")]
    pub follow: bool,

    /// Print the changes as --dry-run does; exit status 1 if there are any
    #[arg(long, conflicts_with = "follow")]
    pub check: bool,
}

#[derive(Debug, Args)]
pub struct UninstallArguments {
    #[command(flatten)]
    pub place: PlaceArguments,

    /// cni: folder of libcni's records, which say whether a pod's end still needs the plugin
    #[arg(long, value_name = "DIR", default_value = "/var/lib/cni/results")]
    pub results: PathBuf,
}

impl InstallArguments {
    /// What is wrong in these arguments together.
    pub fn check(&self) -> Result<(), String> {
        match self.follow && self.place.face != Face::Cni {
            true => {
                Err("--follow is for cni: other runtimes' files have no other owner".to_owned())
            }
            false => self.place.check(),
        }
    }
}

impl PlaceArguments {
    /// What is wrong in these arguments together.
    pub fn check(&self) -> Result<(), String> {
        let relative = self.plugins.iter().chain([&self.lists]).find(|folder| folder.is_relative());
        match relative {
            Some(folder) => Err(format!("{folder:?} is not an absolute path of the node")),
            None if !self.plugins.is_empty() && self.face != Face::Cni => {
                Err("--plugins is for cni".to_owned())
            }
            None => Ok(()),
        }
    }
}
