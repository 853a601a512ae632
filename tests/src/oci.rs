//! What a runtime writes for a hook to read, in the field's own types: a bundle's config.json, the state, and hooks.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    ContainerState, Linux, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, Process,
    Root, Spec, State,
};
use serde::Serialize;
use serde_json::{Value, json};

/// Annotations, as config.json and the state have them.
pub type Annotations = HashMap<String, String>;

/// The version of the specification that runc 1.1 writes.
const VERSION: &str = "1.0.2-dev";

/// A namespace of a kind: a new one, or the one at a path.
pub fn namespace(kind: LinuxNamespaceType, path: Option<&Path>) -> LinuxNamespace {
    let namespace = LinuxNamespaceBuilder::default().typ(kind);
    let namespace = match path {
        Some(path) => namespace.path(path),
        None => namespace,
    };
    namespace.build().expect("a namespace")
}

/// The specification of a container that runs a command as root in the folder `rootfs` beside config.json, without
/// mounts, limits or security profiles.
pub fn spec(
    command: &[String],
    namespaces: Vec<LinuxNamespace>,
    annotations: &Annotations,
) -> Spec {
    let mut process = Process::default();
    process
        .set_args(Some(command.to_vec()))
        .set_env(Some(vec!["PATH=/bin".to_owned()]))
        .set_capabilities(None)
        .set_rlimits(None)
        .set_no_new_privileges(None);
    let mut root = Root::default();
    root.set_path("rootfs".into()).set_readonly(Some(true));
    let mut linux = Linux::default();
    linux.set_namespaces(Some(namespaces)).set_masked_paths(None).set_readonly_paths(None);
    let mut spec = Spec::default();
    spec.set_version(VERSION.to_owned())
        .set_process(Some(process))
        .set_root(Some(root))
        .set_hostname(None)
        .set_mounts(None)
        .set_annotations(Some(annotations.clone()))
        .set_linux(Some(linux));
    spec
}

/// The state of a container in a status, as runc sends it: one that has stopped has no process.
///
/// # Panics
///
/// If the specification knows no such status.
pub fn state(
    id: &str,
    status: &str,
    pid: Option<u32>,
    bundle: &Path,
    annotations: &Annotations,
) -> State {
    let status: ContainerState = serde_json::from_value(json!(status)).expect("a status");
    let pid = pid.filter(|_| status != ContainerState::Stopped);
    let mut state = State::default();
    state
        .set_version(VERSION.to_owned())
        .set_id(id.to_owned())
        .set_status(status)
        .set_pid(pid.map(|pid| i32::try_from(pid).expect("a process ID")))
        .set_bundle(bundle.to_owned())
        .set_annotations(Some(annotations.clone()));
    state
}

/// As JSON, for tests that change something in it.
pub fn to_json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("a value of the specification")
}

/// A hook.
#[derive(Clone, Debug, Serialize)]
pub struct Hook(oci_spec::runtime::Hook);

impl Hook {
    /// A hook with its arguments, without the first, the program's own name.
    pub fn new(path: impl Into<PathBuf>, args: &[&str]) -> Hook {
        let path = path.into();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let args = std::iter::once(name).chain(args.iter().map(|arg| arg.to_string())).collect();
        let mut hook = oci_spec::runtime::Hook::default();
        hook.set_path(path).set_args(Some(args));
        Hook(hook)
    }

    /// The hook's whole environment. Without it, runc passes its own on.
    pub fn env(mut self, env: &[&str]) -> Hook {
        self.0.set_env(Some(env.iter().map(|entry| entry.to_string()).collect()));
        self
    }

    /// Seconds until the runtime gives the hook up.
    pub fn timeout(mut self, seconds: u32) -> Hook {
        self.0.set_timeout(Some(seconds.into()));
        self
    }

    /// The hook of a configuration in JSON, for a program elsewhere and with more arguments.
    pub(crate) fn read(hook: Value, program: &Path, arguments: &[&str]) -> Hook {
        let mut hook: oci_spec::runtime::Hook = serde_json::from_value(hook).expect("a hook");
        hook.set_path(program.to_owned());
        let own = hook.args_mut().get_or_insert_default();
        own.extend(arguments.iter().map(|argument| argument.to_string()));
        Hook(hook)
    }

    /// A configuration for a hooks directory that calls this hook for every container (containers-common's
    /// oci-hooks(5)).
    pub fn always(&self, stages: &[&str]) -> Value {
        json!({ "version": "1.0.0", "hook": self, "when": { "always": true }, "stages": stages })
    }
}

/// Hooks by their stages, `prestart` and so on.
///
/// # Panics
///
/// If the specification knows no such stage.
pub(crate) fn hooks(stages: &BTreeMap<String, Vec<Hook>>) -> oci_spec::runtime::Hooks {
    let wanted = to_json(stages);
    let hooks = serde_json::from_value(wanted.clone()).expect("hooks");
    assert_eq!(to_json(&hooks), wanted, "a stage that the specification does not know");
    hooks
}
