//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Put hostport on a Kubernetes node, or take it away
///
/// For the container of a DaemonSet, with folders of the node mounted. A folder that is not mounted is skipped:
/// without --hooks, podman and CRI-O do not call hostport; without --containerd, its configuration has no files
/// to name.
#[derive(Debug, Parser)]
#[command(name = "hostport-install", version, arg_required_else_help = true)]
#[command(after_help = "Example:\n  hostport-install install && hostport-install stay")]
pub struct Arguments {
    #[command(flatten)]
    pub folders: Folders,

    #[command(subcommand)]
    pub task: Task,
}

#[derive(Debug, Args)]
pub struct Folders {
    /// The folder with the files to install: hostport, oci-hooks.d and containerd
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    pub files: PathBuf,

    /// The node's folder for the program, as it is mounted here
    #[arg(long, global = true, value_name = "DIR", default_value = "/node/bin")]
    pub bin: PathBuf,

    /// The same folder as the node's runtime names it
    #[arg(long, global = true, value_name = "DIR", default_value = "/opt/hostport", value_parser = path_on_node)]
    pub bin_on_node: PathBuf,

    /// The node's folder of hook configurations (podman, CRI-O), as it is mounted here
    #[arg(long, global = true, value_name = "DIR", default_value = "/node/hooks")]
    pub hooks: PathBuf,

    /// The node's /etc/containerd/hostport, as it is mounted here
    #[arg(long, global = true, value_name = "DIR", default_value = "/node/containerd")]
    pub containerd: PathBuf,

    /// The node's journal, /run/hostport, as it is mounted here; only `uninstall` reads it
    #[arg(long, global = true, value_name = "DIR", default_value = "/node/journal")]
    pub journal: PathBuf,

    /// The node's folder of CNI plugins, as it is mounted here; only `uninstall` reads it
    #[arg(long, global = true, value_name = "DIR", default_value = "/node/opt/cni/bin")]
    pub plugins: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum Task {
    /// Install, or upgrade
    ///
    /// The new program is tried before it replaces the present one, also as a hook for a container without ports. The
    /// present one stays as hostport.previous, if it runs. Files that are current are not touched. Hook configurations
    /// hostport*.json that call this program are the installer's: they are replaced, and removed where this image has
    /// none of that name. A configuration that calls another program belongs to an operator or a package; where it has
    /// the name of one to install, nothing is installed.
    #[command(after_help = "Example:\n  hostport-install install")]
    Install,

    /// Say what is installed
    #[command(after_help = "Example:\n  hostport-install status --check")]
    Status {
        /// Exit status 1 unless all is as `install` leaves it
        #[arg(long)]
        check: bool,
    },

    /// Exchange hostport and hostport.previous; a second call exchanges them back
    ///
    /// Hook configurations stay as they are. Refused if the previous program fails as the hook that they call.
    #[command(after_help = "Example:\n  hostport-install rollback")]
    Rollback,

    /// Remove the hook configurations, and then the program if nothing needs it any more
    ///
    /// Removes all hook configurations hostport*.json that call this program, and no others. Running containers need
    /// the program when they end. While the journal lists any, or the CNI plugin's link leads to it, the program stays, and so do the files that containerd's
    /// configuration may name: call this again later.
    #[command(after_help = "Example:\n  hostport-install uninstall")]
    Uninstall {
        /// containerd's configuration no longer names the files: remove them as well
        #[arg(long)]
        containerd_is_clean: bool,
    },

    /// Wait for SIGTERM or SIGINT, so that the container keeps running
    #[command(after_help = "Example:\n  hostport-install stay")]
    Stay,
}

/// The path is written into JSON and TOML unquoted, and runtimes accept only an absolute one.
fn path_on_node(text: &str) -> Result<PathBuf, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
    match text.starts_with('/') && text.chars().all(plain) {
        true => Ok(text.into()),
        false => Err("give an absolute path of letters, digits and /._+-".to_owned()),
    }
}
