//! Each runtime's configuration as people have it, below a folder.

use std::fs;
use std::path::PathBuf;

use super::files::below;
use super::*;

/// A root folder of its own, gone after the test.
struct Root(PathBuf);

impl Root {
    fn new(name: &str) -> Self {
        let name = format!("hostport-installation-{name}-{}", std::process::id());
        Root(std::env::temp_dir().join(name))
    }

    fn with(self, path: &str, text: &str) -> Self {
        let file = below(&self.0, path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
        self
    }

    fn says(&self, runtime: Runtime) -> String {
        let Some(Hindrance { evidence, fix }) = runtime.hindrance(&self.0) else {
            return "sound".to_owned();
        };
        format!("{}\n{fix}", evidence.join("\n"))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const HOOK: &str =
    r#"{"version":"1.0.0","hook":{"path":"/usr/bin/hostport"},"when":{},"stages":[]}"#;
const USR: &str = "/usr/share/containers/oci/hooks.d/hostport.json";
const ETC: &str = "/etc/containers/oci/hooks.d/hostport.json";
const CONF: &str = "/etc/containers/containers.conf";
const SPEC: &str = "/etc/containerd/hostport/base-runtime-spec.json";
const HOOKED: &str = r#"{"hooks":{"prestart":[{"path":"/usr/local/bin/hostport"}]}}"#;
const CONTAINERD: &str = "/etc/containerd/config.toml";

#[test]
fn podman_reads_one_folder_unless_its_configuration_names_others() {
    let root = Root::new("podman").with("/usr/bin/podman", "").with("/usr/bin/hostport", "");
    assert!(!Runtime::Podman.is_meant(&root.0), "nothing of hostport is there");
    let root = root.with(ETC, HOOK);
    assert!(Runtime::Podman.is_meant(&root.0));
    let said = root.says(Runtime::Podman);
    assert!(said.contains("in /usr/share/containers/oci/hooks.d\n"), "{said}");
    assert!(said.contains("are in /etc/containers/oci/hooks.d\n"), "{said}");
    let root = root.with(CONF, "[engine]\nhooks_dir = ['/etc/containers/oci/hooks.d']\n");
    assert_eq!(root.says(Runtime::Podman), "sound");
    // A fragment counts more than the file.
    let fragment = "/etc/containers/containers.conf.d/site.conf";
    let root = root.with(fragment, "[engine]\nhooks_dir = ['/srv/hooks']\n");
    let said = root.says(Runtime::Podman);
    assert!(said.contains("in /srv/hooks, as ") && said.contains("site.conf says"), "{said}");
    assert!(said.contains(r#"["/srv/hooks", "/etc/containers/oci/hooks.d"]"#), "{said}");
}

#[test]
fn a_program_that_is_gone_and_configurations_that_are_gone_are_said() {
    let root = Root::new("gone").with(USR, HOOK);
    let said = root.says(Runtime::Crio);
    assert!(said.contains("calls /usr/bin/hostport, which does not exist"), "{said}");
    let said = Root::new("away").says(Runtime::Crio);
    assert!(said.contains("neither there nor elsewhere"), "{said}");
}

#[test]
fn crio_reads_the_folders_of_its_last_file() {
    let root = Root::new("crio")
        .with("/usr/bin/hostport", "")
        .with(USR, HOOK)
        .with("/etc/crio/crio.conf", "[crio.runtime]\ndisable_hostport_mapping = true\n");
    assert!(Runtime::Crio.is_meant(&root.0));
    assert_eq!(root.says(Runtime::Crio), "sound");
    let root =
        root.with("/etc/crio/crio.conf.d/10-x", "[crio.runtime]\nhooks_dir = [\n \"/srv\",\n]\n");
    let said = root.says(Runtime::Crio);
    assert!(
        said.contains("/etc/crio/crio.conf.d/zz-hostport.conf && systemctl restart crio"),
        "{said}"
    );
}

#[test]
fn crios_own_host_ports_are_named_until_they_are_off() {
    let file = "/etc/crio/crio.conf.d/10-x";
    let root = Root::new("mapping").with("/usr/bin/hostport", "").with(USR, HOOK);
    for text in ["", "[crio.runtime]\ndisable_hostport_mapping = false\n"] {
        let root =
            Root::new("mapping-on").with("/usr/bin/hostport", "").with(USR, HOOK).with(file, text);
        let lines = r#"printf '[crio.runtime]\nhooks_dir = ["/usr/share/containers/oci/hooks.d"]\ndisable_hostport_mapping = true\n' > /etc"#;
        let said = root.says(Runtime::Crio);
        for part in ["publishes host ports itself", "disable_hostport_mapping is not true", lines] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    let off = root.with(file, "[crio.runtime]\ndisable_hostport_mapping = true\n");
    assert_eq!(off.says(Runtime::Crio), "sound");
}

#[test]
fn crio_needs_the_configuration_for_kubelets_annotation() {
    let of = |file: &str| format!("/usr/share/containers/oci/hooks.d/{file}");
    let installed = |text: &str| text.replace("/usr/local/bin", "/usr/bin");
    let root = Root::new("kubelet")
        .with("/usr/bin/hostport", "")
        .with("/etc/crio/crio.conf", "[crio.runtime]\ndisable_hostport_mapping = true\n")
        .with(
            &of("hostport.json"),
            &installed(include_str!("../../../../oci-hooks.d/hostport.json")),
        );
    let said = root.says(Runtime::Crio);
    for part in [
        "hostport's configuration for kubelet is neither there nor elsewhere",
        "put hostport.json and",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(root.says(Runtime::Podman), "sound");
    let root = root.with(
        &of("hostport-kubernetes.json"),
        &installed(include_str!("../../../../oci-hooks.d/hostport-kubernetes.json")),
    );
    assert_eq!(root.says(Runtime::Crio), "sound");
}

#[test]
fn field_36_a_node_is_watched_by_a_process_the_timer_or_the_plugin() {
    let root = Root::new("watched").with("/proc/7/comm", "hostport\n");
    let root = root.with("/proc/7/cmdline", "hostport\0hook\0prestart\0");
    assert!(!is_watched(&root.0));
    let timer = "/etc/systemd/system/timers.target.wants/hostport-gc.timer";
    assert!(is_watched(&Root::new("timer").with(timer, "").0));
    for (plugin, watched) in [("hostport", true), ("portmap", false)] {
        let list = format!("{{\"plugins\": [{{\"type\" : \"{plugin}\"}}]}}");
        let root = Root::new(plugin).with("/etc/cni/net.d/10-x.conflist", &list);
        assert_eq!(is_watched(&root.0), watched);
    }
    let root = root.with("/proc/8/comm", "hostport\n");
    assert!(is_watched(&root.with("/proc/8/cmdline", "/usr/bin/hostport\0watch\0").0));
}

#[test]
fn a_list_that_names_a_plugin_which_is_not_there_is_found() {
    let list = r#"{"plugins": [{"type": "ptp"}, {"type": "hostport"}]}"#;
    let root = Root::new("plugin").with("/etc/cni/net.d/10-x.conflist", list);
    assert_eq!(missing_plugin(&root.0), None, "the runtime looks elsewhere");
    let root = root.with("/usr/lib/cni/ptp", "");
    let (path, folder) = missing_plugin(&root.0).unwrap();
    assert_eq!((path.ends_with("10-x.conflist"), folder), (true, "/usr/lib/cni"));
    assert_eq!(missing_plugin(&root.with("/usr/lib/cni/hostport", "").0), None);
}

const V2: &str = r#"version = 2
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  base_runtime_spec = ""
  container_annotations = []
"#;
const V3: &str = "version = 3\nimports = ['/etc/containerd/conf.d/*.toml']\n\
     [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\n  base_runtime_spec = ''\n";

#[test]
fn containerd_must_name_the_specification_and_the_annotation() {
    let root = Root::new("containerd").with(SPEC, HOOKED);
    assert!(!Runtime::Containerd.is_meant(&root.0), "it is not configured");
    let root = root.with(CONTAINERD, V2);
    assert!(Runtime::Containerd.is_meant(&root.0));
    let said = root.says(Runtime::Containerd);
    for part in ["no base_runtime_spec", "lacks io.kubernetes.container.ports", SPEC] {
        assert!(said.contains(part), "{said}");
    }
    let set = V2.replace("\"\"", &format!("\"{SPEC}\""));
    let root = root.with(CONTAINERD, &set);
    let said = root.says(Runtime::Containerd);
    assert!(said.contains("lacks") && !said.contains("base_runtime_spec"), "{said}");
    for names in ["'io.kubernetes.container.ports'", "'a', \"io.kubernetes.*\""] {
        let root = Root::new("named")
            .with(SPEC, HOOKED)
            .with(CONTAINERD, &set.replace("[]", &format!("[{names}]")));
        assert_eq!(root.says(Runtime::Containerd), "sound", "{names}");
    }
    let other = set.replace(SPEC, "/etc/other.json");
    let said = root.with(CONTAINERD, &other).says(Runtime::Containerd);
    assert!(said.contains("another base_runtime_spec: /etc/other.json"), "{said}");
}

#[test]
fn what_containerd_imports_counts_and_a_containerd_without_cri_is_another_programs() {
    let table = include_str!("../../../../dist/containerd/config-v3.toml");
    let root = Root::new("imports").with(SPEC, HOOKED).with(CONTAINERD, V3);
    assert!(root.says(Runtime::Containerd).contains("no base_runtime_spec"));
    let root = root.with("/etc/containerd/conf.d/hostport.toml", table);
    assert_eq!(root.says(Runtime::Containerd), "sound");
    let docker = "disabled_plugins = [\"cri\"]\n";
    assert!(!Runtime::Containerd.is_meant(&root.with(CONTAINERD, docker).0));
    let circle =
        Root::new("circle").with(SPEC, HOOKED).with(CONTAINERD, "imports = [\"config.toml\"]\n");
    assert!(circle.says(Runtime::Containerd).contains("no base_runtime_spec"));
}

#[test]
fn field_38_the_hook_injector_without_the_annotation_is_named() {
    let root = Root::new("injector")
        .with(USR, HOOK)
        .with("/opt/nri/plugins/10-hook-injector", "")
        .with(CONTAINERD, V2);
    assert!(Runtime::Containerd.is_meant(&root.0));
    let said = root.says(Runtime::Containerd);
    for part in [
        "the NRI plugin hook-injector calls hostport",
        "lacks io.kubernetes.container.ports: config.json has no ports",
        "set container_annotations = [\"io.kubernetes.container.ports\"]; then: systemctl restart containerd",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let named = V2.replace("[]", "[\"io.kubernetes.container.ports\"]");
    assert_eq!(root.with(CONTAINERD, &named).says(Runtime::Containerd), "sound");
}
