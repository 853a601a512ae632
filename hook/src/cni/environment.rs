//! The environment of a call (specification, section 2, "Parameters").

use std::path::PathBuf;

use fnv::FnvHasher;
use hostport_nft::OwnerId;
use std::hash::Hasher;

use super::error::{CniError, Code};
use crate::output::escape::{excerpt, quote};
use crate::request::Names;
use crate::request::names::{PodName, is_name};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// An interface was added to a container.
    Add,
    /// It goes, or went.
    Del,
    /// Whether all is still as ADD left it.
    Check,
    /// Remove what no attachment in a list has.
    Gc,
    /// Whether ADD can work.
    Status,
    /// Which versions are supported.
    Version,
}

/// A call, as its environment describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// What is to be done.
    pub operation: Operation,
    /// The container's ID; empty where the operation has none.
    pub container_id: String,
    /// The interface inside the container.
    pub interface: String,
    /// The container's network namespace.
    pub namespace: Option<PathBuf>,
    /// The caller says that it may be the caller's own.
    pub is_override: bool,
    /// The pod's name.
    pub names: Names,
}

/// The interface that Kubernetes' runtimes and podman give to a pod first.
const FIRST: &str = "eth0";
/// IFNAMSIZ without the final zero.
const LONGEST_INTERFACE: usize = 15;

impl Environment {
    /// Reads the variables.
    ///
    /// # Errors
    /// [`Code::Environment`], if one of them is missing or wrong.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, CniError> {
        let text = |name: &str| variable(name).unwrap_or_default();
        let command = text("CNI_COMMAND");
        let operation = match command.as_str() {
            "ADD" => Operation::Add,
            "DEL" => Operation::Del,
            "CHECK" => Operation::Check,
            "GC" => Operation::Gc,
            "STATUS" => Operation::Status,
            "VERSION" => Operation::Version,
            _ => {
                return Err(wrong(
                    "CNI_COMMAND",
                    &command,
                    "ADD, DEL, CHECK, GC, STATUS or VERSION",
                ));
            }
        };
        let environment = Environment {
            operation,
            container_id: text("CNI_CONTAINERID"),
            interface: text("CNI_IFNAME"),
            namespace: Some(text("CNI_NETNS")).filter(|path| !path.is_empty()).map(PathBuf::from),
            is_override: ["TRUE", "1"]
                .contains(&text("CNI_NETNS_OVERRIDE").to_uppercase().as_str()),
            names: names(&text("CNI_ARGS")),
        };
        if matches!(operation, Operation::Add | Operation::Del | Operation::Check) {
            environment.check()?;
        }
        Ok(environment)
    }

    /// What an attachment needs.
    fn check(&self) -> Result<(), CniError> {
        if !is_container_id(&self.container_id) {
            let what = "a letter or digit, then letters, digits, `_`, `.` and `-`";
            return Err(wrong("CNI_CONTAINERID", &self.container_id, what));
        }
        let is_interface = !["", ".", ".."].contains(&self.interface.as_str())
            && self.interface.len() <= LONGEST_INTERFACE
            && !self.interface.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
        if !is_interface {
            let what = "the name of an interface, of at most 15 bytes without `/`, `:` and spaces";
            return Err(wrong("CNI_IFNAME", &self.interface, what));
        }
        if self.namespace.is_none() && self.operation != Operation::Del {
            return Err(wrong("CNI_NETNS", "", "the path of a network namespace"));
        }
        Ok(())
    }

    /// Who owns what this attachment publishes.
    pub fn owner(&self) -> Result<OwnerId, CniError> {
        owner(&self.container_id, &self.interface)
    }

    /// The process whose namespace it is, if the path says so.
    pub fn pid(&self) -> Option<i32> {
        let path = self.namespace.as_ref()?.to_str()?;
        path.strip_prefix("/proc/")?.strip_suffix("/ns/net")?.parse().ok()
    }
}

/// The owner of an attachment: the container's ID, as an OCI hook knows it too; with the interface for all but
/// the first, since one container may have several.
fn owner(container_id: &str, interface: &str) -> Result<OwnerId, CniError> {
    let whole = match interface {
        FIRST => container_id.to_owned(),
        // What an interface's name may have, and an owner's not.
        interface => {
            let safe =
                |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '_' };
            format!("{container_id}+{}", interface.chars().map(safe).collect::<String>())
        }
    };
    let is_plain = interface.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    let fits = whole.len() <= OwnerId::MAX_LEN && (is_plain || interface == FIRST);
    let text = if fits { whole } else { hashed(&whole, container_id, interface) };
    text.parse().map_err(|error| CniError::new(Code::Environment, error))
}

/// An owner's name for what is too long for one, or has other characters: its beginning, and a hash of all.
fn hashed(whole: &str, container_id: &str, interface: &str) -> String {
    let mut hash = FnvHasher::default();
    hash.write(container_id.as_bytes());
    hash.write(b"+");
    hash.write(interface.as_bytes());
    let beginning = whole.get(..OwnerId::MAX_LEN - 17).unwrap_or(whole);
    format!("{beginning}-{:016x}", hash.finish())
}

fn is_container_id(text: &str) -> bool {
    text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// The pod's name in CNI_ARGS, which has the form `KEY=VALUE;KEY=VALUE`.
fn names(arguments: &str) -> Names {
    let pairs = arguments.split(';').filter_map(|pair| pair.split_once('='));
    let value = |key: &str| {
        let mut of_key = pairs.clone().filter(|(name, value)| *name == key && is_name(value));
        of_key.next().map(|(_, value)| value.to_owned())
    };
    let pod = value("K8S_POD_NAME")
        .map(|name| PodName { name, namespace: value("K8S_POD_NAMESPACE").unwrap_or_default() });
    Names { pod, container: None }
}

fn wrong(variable: &str, value: &str, what: &str) -> CniError {
    let is = if value.is_empty() { "missing".to_owned() } else { quote(&excerpt(value, 100)) };
    CniError::new(
        Code::Environment,
        format!("the environment variable {variable} is {is}, and must be {what}"),
    )
}
