//! What a runtime calls a container and its pod. Only for display: nothing is decided by it.

use std::collections::BTreeMap;
use std::fmt;

use hostport_nft::OwnerId;
use serde::{Deserialize, Deserializer, Serialize};

use crate::output::escape::excerpt;

/// The longest name that Kubernetes allows: a DNS subdomain (RFC 1123).
const MOST: usize = 253;

/// The annotations with the name: kubelet's labels, which CRI-O copies; containerd's own; CRI-O's own.
const POD: [&str; 3] =
    ["io.kubernetes.pod.name", "io.kubernetes.cri.sandbox-name", "io.kubernetes.cri-o.KubeName"];
const NAMESPACE: [&str; 3] = [
    "io.kubernetes.pod.namespace",
    "io.kubernetes.cri.sandbox-namespace",
    "io.kubernetes.cri-o.Namespace",
];
const CONTAINER: [&str; 2] = ["io.kubernetes.container.name", "io.kubernetes.cri.container-name"];
/// What kubelet calls the container that is a pod's sandbox.
const SANDBOX: &str = "POD";

/// The length of a container's ID, and of the beginning that container tools show to people.
const ID: usize = 64;
const SHORT_ID: usize = 12;

/// The names of a container, as far as they are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The pod's.
    pub pod: Option<PodName>,
    /// The container's own. In a pod of Kubernetes, it is unique in the pod only.
    pub container: Option<String>,
}

/// A pod's name and namespace as the annotations have them: any characters, but not many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PodName {
    /// The pod's name.
    pub name: String,
    /// Its Kubernetes namespace; empty where none is known.
    pub namespace: String,
}

/// An owner as people know it: by its names, with the beginning of its ID; without names by its ID.
#[derive(Debug, Clone, Copy)]
pub struct Called<'a>(pub &'a OwnerId, pub &'a Names);

impl Names {
    /// No names.
    pub const NONE: &Names = &Names { pod: None, container: None };

    /// The names in annotations. A text too long to be a name is none.
    pub fn of(annotations: &BTreeMap<String, String>) -> Self {
        let pod = first(annotations, &POD).map(|name| PodName {
            name,
            namespace: first(annotations, &NAMESPACE).unwrap_or_default(),
        });
        Names { pod, container: first(annotations, &CONTAINER).filter(|name| name != SANDBOX) }
    }

    /// The names of the pod alone.
    pub fn of_pod(&self) -> Self {
        Names { pod: self.pod.clone(), container: None }
    }

    /// No name is known.
    pub fn is_none(&self) -> bool {
        self.pod.is_none() && self.container.is_none()
    }

    /// Whether one of the names begins with a text, or the pod's does with its namespace.
    pub fn begin_with(&self, text: &str) -> bool {
        let pod = self.pod.as_ref();
        let with_namespace = pod.map(|pod| format!("{}/{}", pod.namespace, pod.name));
        let names = [self.container.as_ref(), pod.map(|pod| &pod.name), with_namespace.as_ref()];
        names.into_iter().flatten().any(|name| name.starts_with(text))
    }

    /// The names, with this word before that of a pod's container.
    fn text(&self, word: &str) -> String {
        let container = self.container.as_ref().map(|name| excerpt(name, MOST));
        match (&self.pod, container) {
            (Some(pod), Some(container)) => format!("{pod} ({word}{container})"),
            (Some(pod), None) => pod.to_string(),
            (None, container) => container.unwrap_or_default(),
        }
    }

    /// For a table: `NAMESPACE/POD (CONTAINER)`.
    pub fn short(&self) -> String {
        self.text("")
    }
}

fn first(annotations: &BTreeMap<String, String>, keys: &[&str]) -> Option<String> {
    let mut texts = keys.iter().filter_map(|key| annotations.get(*key));
    texts.find(|text| is_name(text)).cloned()
}

/// Whether a text may be a name.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MOST
}

/// Reads a container's name leniently: what is none must not cost an entry, only the name.
pub fn read_container<'de, D: Deserializer<'de>>(json: D) -> Result<Option<String>, D::Error> {
    let value = serde_json::Value::deserialize(json)?;
    Ok(value.as_str().filter(|text| is_name(text)).map(str::to_owned))
}

impl PodName {
    /// Reads it leniently: what is not a pod's name must not cost an entry, only the name.
    pub fn read<'de, D: Deserializer<'de>>(json: D) -> Result<Option<Self>, D::Error> {
        let value = serde_json::Value::deserialize(json)?;
        let text = |key| {
            let text = value.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
            if text.len() <= MOST { text.to_owned() } else { String::new() }
        };
        let pod = PodName { name: text("name"), namespace: text("namespace") };
        Ok(Some(pod).filter(|pod| !pod.name.is_empty()))
    }
}

/// The beginning of a container's ID, and the whole of any other owner.
pub fn short_id(owner: &str) -> &str {
    let is_id = owner.len() == ID && owner.bytes().all(|byte| byte.is_ascii_hexdigit());
    owner.get(..SHORT_ID).filter(|_| is_id).unwrap_or(owner)
}

/// `NAMESPACE/NAME` in plain characters: a container's author may have written anything.
impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(f, "{}/", excerpt(&self.namespace, MOST))?;
        }
        f.write_str(&excerpt(&self.name, MOST))
    }
}

/// `NAMESPACE/POD (container CONTAINER)`, as far as it is known.
impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text("container "))
    }
}

impl fmt::Display for Called<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Called(owner, names) = self;
        match names.is_none() {
            true => write!(f, "{owner}"),
            false => write!(f, "{names} [{}]", short_id(owner.as_str())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Names {
        Names::of(&pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect())
    }

    #[test]
    fn each_runtime_has_names_of_its_own() {
        for (name, namespace) in POD.iter().zip(NAMESPACE) {
            let names = of(&[(name, "web"), (namespace, "shop")]);
            assert_eq!(names.to_string(), "shop/web");
        }
        for container in CONTAINER {
            let names = of(&[(POD[0], "web"), (NAMESPACE[0], "default"), (container, "c1")]);
            assert_eq!(names.to_string(), "default/web (container c1)");
            assert_eq!(names.short(), "default/web (c1)");
            assert_eq!(names.of_pod().to_string(), "default/web");
            assert_eq!(of(&[(POD[0], "web"), (container, SANDBOX)]).to_string(), "web");
        }
        assert!(of(&[(NAMESPACE[0], "shop")]).is_none());
    }

    #[test]
    fn what_an_author_wrote_commands_no_terminal_and_is_short() {
        for key in [POD[0], CONTAINER[0]] {
            assert_eq!(of(&[(key, "a\u{1b}[2J\n")]).to_string(), r"a\u{1b}[2J\n");
            assert!(of(&[(key, &"x".repeat(254))]).is_none());
        }
    }

    #[test]
    fn people_see_the_beginning_of_a_containers_id_and_the_whole_of_a_name() {
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(short_id(&id), "0123456789ab");
        assert_eq!(short_id("a-name-of-some-length"), "a-name-of-some-length");
        assert_eq!(short_id(&id.replace('f', "g")), id.replace('f', "g"));
        let (owner, names) = (id.parse().unwrap(), of(&[(POD[0], "web")]));
        assert_eq!(Called(&owner, &names).to_string(), "web [0123456789ab]");
        assert_eq!(Called(&owner, &Names::default()).to_string(), id);
    }

    #[test]
    fn a_name_is_found_by_its_beginning() {
        let names = of(&[(POD[0], "web-0"), (NAMESPACE[0], "shop"), (CONTAINER[0], "app")]);
        for text in ["web", "web-0", "shop/web", "app", ""] {
            assert!(names.begin_with(text), "{text}");
        }
        for text in ["shop-", "0", "web-0/app", "shop/app"] {
            assert!(!names.begin_with(text), "{text}");
        }
    }
}
