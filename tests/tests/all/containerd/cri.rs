//! A CRI client that makes kubelet's calls.

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use hostport_tests::runtime::{IMAGE, wait_until};
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::*;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

/// No call takes longer, hooks included.
const LIMIT: Duration = Duration::from_secs(30);

/// The pods differ in their names.
const UID: &str = "5ff0d1ae-1d53-4a16-9d14-3a8cf6c1d9b1";

/// A connection to a runtime's CRI service.
pub struct Cri {
    runtime: Runtime,
    client: RuntimeServiceClient<Channel>,
}

/// A pod to run.
#[derive(Default)]
pub struct Pod<'a> {
    pub name: &'a str,
    /// Its author's annotations.
    pub annotations: &'a [(&'a str, &'a str)],
    pub host_network: bool,
    /// The host ports of its containers, and where these listen.
    pub ports: &'a [(i32, i32)],
    /// The runtime's name in the runtime's configuration; empty for the default.
    pub handler: &'a str,
}

/// A pod's sandbox, and what kubelet repeats for each of its containers.
pub struct PodSandbox {
    pub id: String,
    config: PodSandboxConfig,
    host_network: bool,
}

fn port_mapping((host_port, container_port): &(i32, i32)) -> PortMapping {
    PortMapping { host_port: *host_port, container_port: *container_port, ..Default::default() }
}

impl Cri {
    /// Connects to the socket at a path, and waits until the service knows the test's image.
    pub fn connect(socket: &Path) -> Cri {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
        let channel = runtime.block_on(endpoint.connect()).expect("containerd's socket");
        let images = ImageServiceClient::new(channel.clone());
        let cri = Cri { runtime, client: RuntimeServiceClient::new(channel) };
        // It learns about an imported image a moment later.
        let image = ImageSpec { image: IMAGE.to_owned(), ..Default::default() };
        let request = ImageStatusRequest { image: Some(image), verbose: false };
        let mut last = None;
        let known = wait_until(|| {
            let call = |mut images: ImageServiceClient<Channel>| {
                let request = request.clone();
                async move { images.image_status(request).await }
            };
            last = Some(cri.wait(call(images.clone())));
            matches!(&last, Some(Ok(status)) if status.image.is_some())
        });
        assert!(known, "containerd does not know {IMAGE}: {last:?}");
        cri
    }

    /// Waits for an answer, and returns its content or the error's message.
    fn wait<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, String> {
        let answer = self.runtime.block_on(async { tokio::time::timeout(LIMIT, call).await });
        let answer = answer.unwrap_or_else(|_| panic!("no answer in {LIMIT:?}"));
        answer.map(Response::into_inner).map_err(|status| status.message().to_owned())
    }

    /// RunPodSandbox.
    pub fn run_pod(&self, pod: &Pod, logs: &Path) -> Result<PodSandbox, String> {
        let name = pod.name;
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                uid: UID.to_owned(),
                namespace: "default".to_owned(),
                attempt: 0,
            }),
            // Kubelet sets none for a pod on the host's network.
            hostname: if pod.host_network { "" } else { name }.to_owned(),
            log_directory: logs.join(name).to_string_lossy().into_owned(),
            labels: labels(name, None),
            port_mappings: pod.ports.iter().map(port_mapping).collect(),
            annotations: map(&[
                ("kubernetes.io/config.seen", "2026-01-02T03:04:05.678901234Z"),
                ("kubernetes.io/config.source", "api"),
            ])
            .into_iter()
            .chain(map(pod.annotations))
            .collect(),
            linux: Some(LinuxPodSandboxConfig {
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces(pod.host_network)),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: pod.handler.to_owned(),
        };
        let id = self.wait(self.client.clone().run_pod_sandbox(request))?.pod_sandbox_id;
        Ok(PodSandbox { id, config, host_network: pod.host_network })
    }

    /// CreateContainer with kubelet's annotations, `ports` among them if there are any.
    pub fn create(
        &self,
        pod: &PodSandbox,
        (name, attempt): (&str, u32),
        command: &[&str],
        ports: Option<&str>,
    ) -> Result<String, String> {
        let mut annotations = map(&[
            ("io.kubernetes.container.hash", "5c0f8f2a"),
            ("io.kubernetes.container.restartCount", &attempt.to_string()),
            ("io.kubernetes.container.terminationMessagePath", "/dev/termination-log"),
            ("io.kubernetes.container.terminationMessagePolicy", "File"),
            ("io.kubernetes.pod.terminationGracePeriod", "30"),
        ]);
        annotations
            .extend(ports.map(|ports| ("io.kubernetes.container.ports".into(), ports.into())));
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.to_owned(), attempt }),
            image: Some(ImageSpec { image: IMAGE.to_owned(), ..Default::default() }),
            command: command.iter().map(|word| word.to_string()).collect(),
            labels: labels(&pod.config.metadata.as_ref().unwrap().name, Some(name)),
            annotations,
            log_path: format!("{name}_{attempt}.log"),
            linux: Some(LinuxContainerConfig {
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options: Some(namespaces(pod.host_network)),
                    no_new_privs: true,
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            config: Some(config),
            sandbox_config: Some(pod.config.clone()),
        };
        Ok(self.wait(self.client.clone().create_container(request))?.container_id)
    }

    /// StartContainer.
    pub fn start(&self, id: &str) -> Result<(), String> {
        let request = StartContainerRequest { container_id: id.to_owned() };
        self.wait(self.client.clone().start_container(request)).map(drop)
    }

    /// StopContainer, which kills at once.
    pub fn stop(&self, id: &str) -> Result<(), String> {
        let request = StopContainerRequest { container_id: id.to_owned(), timeout: 0 };
        self.wait(self.client.clone().stop_container(request)).map(drop)
    }

    /// RemoveContainer.
    pub fn remove(&self, id: &str) -> Result<(), String> {
        let request = RemoveContainerRequest { container_id: id.to_owned() };
        self.wait(self.client.clone().remove_container(request)).map(drop)
    }

    /// Whether a container runs.
    pub fn is_running(&self, id: &str) -> bool {
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let status = self.wait(self.client.clone().container_status(request)).unwrap().status;
        status.unwrap().state == ContainerState::ContainerRunning as i32
    }

    /// ExecSync: what a program in a container prints, if it succeeds.
    pub fn exec(&self, id: &str, command: &[&str]) -> Result<String, String> {
        let request = ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: command.iter().map(|word| word.to_string()).collect(),
            timeout: 5,
        };
        let said = self.wait(self.client.clone().exec_sync(request))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if said.exit_code == 0 { Ok(text(&said.stdout)) } else { Err(text(&said.stderr)) }
    }

    /// The pod's addresses.
    pub fn addresses(&self, pod: &PodSandbox) -> Vec<String> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: false };
        let status = self.wait(self.client.clone().pod_sandbox_status(request)).unwrap().status;
        let network = status.and_then(|status| status.network).expect("the pod's network");
        std::iter::once(network.ip)
            .chain(network.additional_ips.into_iter().map(|ip| ip.ip))
            .collect()
    }

    /// StopPodSandbox.
    pub fn stop_pod(&self, pod: &PodSandbox) -> Result<(), String> {
        let request = StopPodSandboxRequest { pod_sandbox_id: pod.id.clone() };
        self.wait(self.client.clone().stop_pod_sandbox(request)).map(drop)
    }

    /// RemovePodSandbox.
    pub fn remove_pod(&self, pod: &PodSandbox) -> Result<(), String> {
        let request = RemovePodSandboxRequest { pod_sandbox_id: pod.id.clone() };
        self.wait(self.client.clone().remove_pod_sandbox(request)).map(drop)
    }
}

fn namespaces(host_network: bool) -> NamespaceOption {
    let network = if host_network { NamespaceMode::Node } else { NamespaceMode::Pod };
    NamespaceOption {
        network: network as i32,
        pid: NamespaceMode::Container as i32,
        ..Default::default()
    }
}

fn map(entries: &[(&str, &str)]) -> HashMap<String, String> {
    entries.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn labels(pod: &str, container: Option<&str>) -> HashMap<String, String> {
    let mut labels = map(&[
        ("io.kubernetes.pod.name", pod),
        ("io.kubernetes.pod.namespace", "default"),
        ("io.kubernetes.pod.uid", UID),
    ]);
    labels.extend(container.map(|name| ("io.kubernetes.container.name".into(), name.into())));
    labels
}
