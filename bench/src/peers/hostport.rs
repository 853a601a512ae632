//! hostport's own hook calls.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Action, Call, Container, Pair, Peer};
use crate::node::Node;
use crate::peers::Published;

/// A config.json as podman writes it for a container of one port (11 kB; CRI-O's has the same parts).
const CONFIG: &str = include_str!("config.json");

/// The program.
pub struct Hostport {
    program: PathBuf,
}

impl Hostport {
    /// This file of it.
    pub fn new(program: &Path) -> Hostport {
        Hostport { program: program.to_owned() }
    }

    /// The calls for a container that asks for ports by `annotation`, or for none.
    fn calls(&self, container: &Container, annotation: Option<&str>) -> [Call; 2] {
        let mut config: Value = serde_json::from_str(CONFIG).expect("config.json is JSON");
        for namespace in config["linux"]["namespaces"].as_array_mut().expect("a list") {
            if namespace["type"] == "network" {
                namespace["path"] = container.netns.to_str().into();
            }
        }
        let annotations = config["annotations"].as_object_mut().expect("an object");
        annotations.retain(|key, _| !key.ends_with(".ports"));
        if let Some(ports) = annotation {
            annotations.insert("io.hostport.ports".into(), ports.into());
            annotations.insert("io.kubernetes.container.ports".into(), kubelet(container).into());
        }
        let name = if annotation.is_some() { "bundle" } else { "portless" };
        let bundle = container.folder().join(name);
        fs::create_dir_all(&bundle).expect("a folder in /tmp");
        fs::write(bundle.join("config.json"), config.to_string()).expect("a file in /tmp");
        let state = |status: &str, pid: Option<u32>| {
            let mut state = json!({
                "ociVersion": "1.0.2-dev",
                "id": container.id,
                "status": status,
                "bundle": bundle,
                "annotations": config["annotations"],
            });
            if let Some(pid) = pid {
                state["pid"] = pid.into();
            }
            let journal = container.journal.to_str().expect("a name in UTF-8");
            Call::new(&self.program, container.folder())
                .arguments(["hook", "--state-dir", journal])
                .input(&state.to_string())
        };
        [state("created", Some(container.init)), state("stopped", None)]
    }

    /// The prestart call of a container that asks for no host port: the commonest call by far.
    pub fn portless(&self, container: &Container) -> Box<dyn Action> {
        let [prestart, _] = self.calls(container, None);
        Box::new(prestart)
    }
}

impl Peer for Hostport {
    fn name(&self) -> &'static str {
        "hostport"
    }

    fn prepare(&self, container: &Container) -> Pair {
        let ports: Vec<String> =
            container.ports.iter().map(|(host, inside)| format!("{host}:{inside}")).collect();
        let [prestart, poststop] = self.calls(container, Some(&ports.join(",")));
        Pair { add: Box::new(prestart), remove: Box::new(poststop) }
    }

    fn fill(&self, node: &Node, ports: &[Published]) {
        node.publish(ports);
    }

    fn count(&self, rules: &str) -> usize {
        rules.lines().filter(|line| line.contains(". tcp ") && line.contains(" : ")).count()
    }
}

/// What kubelet writes of the same ports.
fn kubelet(container: &Container) -> String {
    let ports: Vec<Value> = (container.ports.iter())
        .map(|(host, inside)| {
            json!({"name": format!("p{host}"), "hostPort": host, "containerPort": inside, "protocol": "TCP"})
        })
        .collect();
    Value::from(ports).to_string()
}
