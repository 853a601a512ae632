//! What the annotations call a container's pod. Only for display: nothing is decided by it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::output::escape::excerpt;

/// The longest name that Kubernetes allows: a DNS subdomain (RFC 1123).
const MOST: usize = 253;

/// The annotations with the name: kubelet's labels, which CRI-O copies; containerd's own; CRI-O's own.
const NAME: [&str; 3] =
    ["io.kubernetes.pod.name", "io.kubernetes.cri.sandbox-name", "io.kubernetes.cri-o.KubeName"];
const NAMESPACE: [&str; 3] = [
    "io.kubernetes.pod.namespace",
    "io.kubernetes.cri.sandbox-namespace",
    "io.kubernetes.cri-o.Namespace",
];

/// A pod's name and namespace as the annotations have them: any characters, but not many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PodName {
    /// The pod's name.
    pub name: String,
    /// Its Kubernetes namespace; empty where none is known.
    pub namespace: String,
}

impl PodName {
    /// The pod that annotations name, if they do. A text too long to be a name is none.
    pub fn of(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let first = |keys: [&str; 3]| {
            let mut texts = keys.iter().filter_map(|key| annotations.get(*key));
            texts.find(|text| !text.is_empty() && text.len() <= MOST).cloned()
        };
        Some(PodName { name: first(NAME)?, namespace: first(NAMESPACE).unwrap_or_default() })
    }

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

/// `NAMESPACE/NAME` in plain characters: a container's author may have written anything.
impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(f, "{}/", excerpt(&self.namespace, MOST))?;
        }
        f.write_str(&excerpt(&self.name, MOST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Option<PodName> {
        PodName::of(&pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect())
    }

    #[test]
    fn each_runtime_has_names_of_its_own() {
        for (name, namespace) in NAME.iter().zip(NAMESPACE) {
            let pod = of(&[(name, "web"), (namespace, "shop")]).unwrap();
            assert_eq!(pod.to_string(), "shop/web");
        }
        assert_eq!(of(&[("io.kubernetes.pod.namespace", "shop")]), None);
    }

    #[test]
    fn what_an_author_wrote_commands_no_terminal_and_is_short() {
        assert_eq!(of(&[(NAME[0], "a\u{1b}[2J\n")]).unwrap().to_string(), r"a\u{1b}[2J\n");
        assert_eq!(of(&[(NAME[0], &"x".repeat(254))]), None);
    }
}
