//! CNI plugins, called as a runtime's library (libcni) calls them: the environment, the configuration with the result of
//! the plugins before on standard input, results that are kept for DEL.
//!
//! ```no_run
//! use hostport_tests::cni::Attachment;
//! use hostport_tests::lab::Lab;
//!
//! let lab = Lab::new();
//! let web = lab.pod("web");
//! let attachment = Attachment::of(&web).ports(&[(9000, 8080, "tcp")]);
//! attachment.add(lab.node()).expect_success();
//! attachment.del(lab.node()).expect_success();
//! ```

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Map, Value, json};

use crate::hook::{feed, program, state_dir};
use crate::lab::{Netns, Pod};
use crate::runtime::Finished;

/// Where Debian has the plugins.
const DEBIAN: &str = "/usr/lib/cni";

/// A container's interface on a network.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// The container's ID.
    pub id: String,
    /// The interface inside.
    pub interface: String,
    /// Its network namespace; empty once it is gone.
    pub namespace: PathBuf,
    /// What runtimes say of the pod.
    pub arguments: String,
    /// The network's version.
    pub version: String,
    /// The result of the plugins before.
    pub previous: Option<Value>,
    /// More of hostport's configuration.
    pub more: Map<String, Value>,
    /// What it asks for: `portMappings`.
    pub ports: Value,
}

impl Attachment {
    /// The first interface of a pod, whose network is up already.
    pub fn of(pod: &Pod) -> Self {
        let ips = [format!("{}/24", pod.ipv4()), format!("{}/64", pod.ipv6())];
        let mut of = Attachment::at(&pod.path());
        let sandbox = of.namespace.clone();
        of.previous = Some(json!({
            "cniVersion": of.version,
            "interfaces": [{ "name": pod.host_link() }, { "name": "eth0", "sandbox": sandbox }],
            "ips": ips.map(|ip| json!({ "address": ip, "interface": 1 })),
            "dns": {},
            "unknown": [1.50, "kept"],
        }));
        of
    }

    /// The first interface of a namespace that has no network yet.
    pub fn at(path: &Path) -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(1);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        Attachment {
            id: format!("{:08x}{number:056x}", std::process::id()),
            interface: "eth0".to_owned(),
            namespace: path.to_owned(),
            arguments: "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0".to_owned(),
            version: "1.0.0".to_owned(),
            previous: None,
            more: Map::new(),
            ports: Value::Null,
        }
    }

    /// With these ports of the host and the container.
    pub fn ports(self, ports: &[(u16, u16, &str)]) -> Self {
        let mapping = |(host, container, protocol): &(u16, u16, &str)| json!({ "hostPort": host, "containerPort": container, "protocol": protocol });
        let ports = ports.iter().map(mapping).collect();
        Attachment { ports, ..self }
    }

    /// With this value of `portMappings`.
    pub fn port_mappings(self, ports: Value) -> Self {
        Attachment { ports, ..self }
    }

    /// With a key of the configuration.
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.more.insert(key.to_owned(), value);
        self
    }

    /// As another interface of the same container.
    pub fn interface(self, interface: &str) -> Self {
        Attachment { interface: interface.to_owned(), ..self }
    }

    /// Of a network with this version.
    pub fn version(mut self, version: &str) -> Self {
        if let Some(previous) = &mut self.previous {
            previous["cniVersion"] = version.into();
        }
        Attachment { version: version.to_owned(), ..self }
    }

    /// hostport's configuration.
    pub fn configuration(&self, node: &Netns) -> Value {
        let mut configuration = json!({
            "cniVersion": self.version,
            "name": "pods",
            "type": "hostport",
            "capabilities": { "portMappings": true },
            "stateDir": state_dir(node),
        });
        configuration.as_object_mut().unwrap().extend(self.more.clone());
        if let Some(previous) = &self.previous {
            configuration["prevResult"] = previous.clone();
        }
        if !self.ports.is_null() {
            configuration["runtimeConfig"] = json!({ "portMappings": self.ports });
        }
        configuration
    }

    /// Calls hostport for an operation.
    pub fn call(&self, node: &Netns, operation: &str) -> Finished {
        let text = self.configuration(node).to_string();
        self.call_with(node, operation, text.as_bytes())
    }

    /// The same with any standard input.
    pub fn call_with(&self, node: &Netns, operation: &str, input: &[u8]) -> Finished {
        feed(node, self.command(operation, &program()), input)
    }

    /// The command that calls a plugin.
    pub fn command(&self, operation: &str, plugin: &Path) -> Command {
        let mut command = Command::new("env");
        command.args(self.environment(operation)).arg(plugin);
        command
    }

    /// The environment of a call, each variable with its value.
    pub fn environment(&self, operation: &str) -> Vec<String> {
        vec![
            format!("CNI_COMMAND={operation}"),
            format!("CNI_CONTAINERID={}", self.id),
            format!("CNI_IFNAME={}", self.interface),
            format!("CNI_NETNS={}", self.namespace.display()),
            format!("CNI_ARGS={}", self.arguments),
            format!("CNI_PATH={DEBIAN}"),
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        ]
    }

    /// ADD by hostport.
    pub fn add(&self, node: &Netns) -> Finished {
        self.call(node, "ADD")
    }

    /// DEL by hostport.
    pub fn del(&self, node: &Netns) -> Finished {
        self.call(node, "DEL")
    }
}

/// The error on standard output: its code and its message.
#[track_caller]
pub fn error(finished: &Finished) -> (u64, String) {
    assert_eq!(finished.code, Some(1), "{finished:#?}");
    let error: Value = serde_json::from_str(&finished.stdout).expect("an error is JSON");
    assert!(error["cniVersion"].is_string(), "{error}");
    (error["code"].as_u64().unwrap(), error["msg"].as_str().unwrap().to_owned())
}

/// A list of plugins on a node.
#[derive(Debug)]
pub struct PluginList {
    /// The version that the list has.
    pub version: String,
    plugins: Vec<(PathBuf, Value)>,
}

impl PluginList {
    /// A list of Debian's plugins, and last the one at a path; each with its own keys.
    pub fn new(version: &str, plugins: &[Value], last: (PathBuf, Value)) -> Self {
        let debian = |plugin: &Value| {
            let name = plugin["type"].as_str().expect("a plugin's type");
            (Path::new(DEBIAN).join(name), plugin.clone())
        };
        let plugins = plugins.iter().map(debian).chain([last]).collect();
        PluginList { version: version.to_owned(), plugins }
    }

    /// Calls ADD of each in turn; what the last one answers is kept in the attachment.
    pub fn add(&self, node: &Netns, attachment: &mut Attachment) -> Result<(), Finished> {
        attachment.previous = None;
        for plugin in &self.plugins {
            let done = self.call(node, "ADD", attachment, plugin);
            if !done.success() {
                return Err(done);
            }
            attachment.previous = Some(serde_json::from_str(&done.stdout).expect("a result"));
        }
        Ok(())
    }

    /// Calls DEL of each, the last one first.
    pub fn del(&self, node: &Netns, attachment: &Attachment) -> Result<(), Finished> {
        for plugin in self.plugins.iter().rev() {
            let done = self.call(node, "DEL", attachment, plugin);
            if !done.success() {
                return Err(done);
            }
        }
        Ok(())
    }

    fn call(
        &self,
        node: &Netns,
        operation: &str,
        attachment: &Attachment,
        (path, plugin): &(PathBuf, Value),
    ) -> Finished {
        let mut configuration = plugin.clone();
        configuration["cniVersion"] = self.version.clone().into();
        configuration["name"] = "pods".into();
        // DEL has it since version 0.4.0.
        let has_previous = operation == "ADD" || !self.version.starts_with("0.3.");
        if let Some(previous) = attachment.previous.as_ref().filter(|_| has_previous) {
            configuration["prevResult"] = previous.clone();
        }
        if plugin["capabilities"]["portMappings"] == true && !attachment.ports.is_null() {
            configuration["runtimeConfig"] = json!({ "portMappings": attachment.ports });
        }
        feed(node, attachment.command(operation, path), configuration.to_string().as_bytes())
    }
}
