//! The name of a Kubernetes pod, as a container runtime told it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A pod's namespace and name: letters, digits, `-` and `.` alone, so that they can be shown as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Form")]
pub struct PodName {
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
struct Form {
    namespace: String,
    name: String,
}

/// Annotations with namespace and name: those of containerd's CRI plugin (`pkg/cri/annotations`), and of
/// CRI-O (kubelet's labels of a container, which CRI-O copies).
const KEYS: [[&str; 2]; 2] = [
    ["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.cri.sandbox-name"],
    ["io.kubernetes.pod.namespace", "io.kubernetes.pod.name"],
];
/// The longest name of an object in Kubernetes (RFC 1123, subdomain).
const MOST: usize = 253;

impl PodName {
    /// A name, if it can be one. It only helps to read lists, so whatever cannot be a name is left out.
    pub fn new(namespace: &str, name: &str) -> Option<Self> {
        let valid = |text: &str| {
            (1..=MOST).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
        };
        (valid(namespace) && valid(name))
            .then(|| PodName { namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// What the annotations of a container tell.
    pub fn told_by(annotations: &BTreeMap<String, String>) -> Option<Self> {
        KEYS.iter().find_map(|[namespace, name]| {
            PodName::new(annotations.get(*namespace)?, annotations.get(*name)?)
        })
    }
}

impl TryFrom<Form> for PodName {
    type Error = &'static str;

    fn try_from(form: Form) -> Result<Self, Self::Error> {
        PodName::new(&form.namespace, &form.name).ok_or("not the name of a pod")
    }
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_name_is_left_out() {
        let told = |namespace: &str, name: &str| {
            let annotations = [(KEYS[1][0], namespace), (KEYS[1][1], name)];
            let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
            PodName::told_by(&BTreeMap::from(annotations)).map(|pod| pod.to_string())
        };
        assert_eq!(told("default", "web-0").as_deref(), Some("default/web-0"));
        for name in ["", "a b", "\x1b[2J", "a\nb", "../x", &"x".repeat(254)] {
            assert_eq!(told("default", name), None, "{name:?}");
        }
    }
}
