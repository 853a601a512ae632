//! Who wrote a container's annotations.

use std::borrow::Cow;
use std::collections::BTreeMap;

use hostport_nft::OwnerId;
use serde_json::{Map, Value};

/// Kubelet's list of a container's ports (containerPortsLabel in pkg/kubelet/kuberuntime/labels.go).
pub const KUBELET_PORTS: &str = "io.kubernetes.container.ports";

pub const CRIO_RECORD: &str = "io.kubernetes.cri-o.Annotations";
pub const CRIO_SANDBOX_ID: &str = "io.kubernetes.cri-o.SandboxID";
pub const CRIO_TYPE: &str = "io.kubernetes.cri-o.ContainerType";
pub const CONTAINERD_SANDBOX_ID: &str = "io.kubernetes.cri.sandbox-id";
pub const CONTAINERD_TYPE: &str = "io.kubernetes.cri.container-type";
pub const MANAGER: &str = "io.container.manager";
pub const POD_UID: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";

/// Where a container comes from, by annotations that its pod's author cannot forge.
pub struct Caller<'a> {
    pub kubernetes: bool,
    crio: bool,
    pub sandbox: bool,
    /// The sandbox of its pod, and the annotation that names it.
    pub pod: Option<(&'static str, &'a str)>,
}

impl<'a> Caller<'a> {
    pub fn of(id: &OwnerId, annotations: &'a BTreeMap<String, String>) -> Self {
        let get = |key| annotations.get(key).map(String::as_str);
        let crio = get(MANAGER) == Some("cri-o");
        let found = [CONTAINERD_TYPE, CONTAINERD_SANDBOX_ID, POD_UID].map(get);
        let kubernetes = crio || found.iter().any(Option::is_some);
        // Each runtime's own keys first: a pod may carry the other's. Podman writes CRI-O's.
        let crio_keys = (CRIO_SANDBOX_ID, CRIO_TYPE);
        let containerd_keys = (CONTAINERD_SANDBOX_ID, CONTAINERD_TYPE);
        let has_containerd_keys = found.iter().take(2).any(Option::is_some);
        let (sandbox_key, type_key) =
            if has_containerd_keys && !crio { containerd_keys } else { crio_keys };
        let sandbox = get(CONTAINER_NAME) == Some("POD")
            || get(type_key) == Some("sandbox")
            || get(sandbox_key) == Some(id.as_str());
        let pod = get(sandbox_key).filter(|pod| !pod.is_empty()).map(|pod| (sandbox_key, pod));
        Caller { kubernetes, crio, sandbox, pod }
    }
}

/// The sandbox of a container's pod, if it is in one.
pub fn sandbox(id: &OwnerId, annotations: &BTreeMap<String, String>) -> Option<OwnerId> {
    Caller::of(id, annotations).pod.and_then(|(_, pod)| pod.parse().ok())
}

/// Kubelet's list of the container's ports, if kubelet wrote it.
pub fn kubelet_ports<'a>(
    origin: &Caller,
    annotations: &'a BTreeMap<String, String>,
    warnings: &mut Vec<String>,
) -> Option<Cow<'a, str>> {
    let text = annotations.get(KUBELET_PORTS)?;
    // Every CRI-O writes the record, and no author can take it away from a container.
    let Some(record) = annotations.get(CRIO_RECORD).filter(|_| origin.crio) else {
        return Some(Cow::Borrowed(text));
    };
    let record: Map<String, Value> = serde_json::from_str(record).unwrap_or_default();
    match record.get(KUBELET_PORTS) {
        Some(Value::String(ports)) => Some(Cow::Owned(ports.clone())),
        _ => {
            warnings.push(format!(
                "annotation {KUBELET_PORTS} is ignored: it is not among those that kubelet sent for \
                 this container ({CRIO_RECORD}), so the pod's author wrote it; use hostPort in the \
                 pod's spec"
            ));
            None
        }
    }
}
