//! The image for Kubernetes nodes, run with the rights that the DaemonSet gives it. `make deploy-test` runs these
//! tests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hostport_tests::hook::published;
use hostport_tests::lab::Lab;
use hostport_tests::runtime::{
    Container, Finished, Network, OciRuntime, Podman, Scratch, wait_until, write_program,
};
use hostport_tests::web::{KUBELET, KUBELET_9000, assert_answers, assert_closed};

fn given(variable: &str) -> PathBuf {
    std::env::var_os(variable).unwrap_or_else(|| panic!("make deploy-test sets {variable}")).into()
}

/// A container of the image, like the DaemonSet's init container, with a node's folders.
fn task(podman: &Podman, image: &str, node: &Path, task: &[&str]) -> Finished {
    let mut arguments: Vec<String> = [
        "run",
        "--rm",
        "--network=none",
        "--read-only",
        "--cap-drop=all",
        "--user=0:0",
        "--security-opt=no-new-privileges",
        "--memory=64m",
    ]
    .map(str::to_owned)
    .to_vec();
    for folder in ["bin", "hooks"] {
        arguments.push(format!("--volume={}:/node/{folder}", node.join(folder).display()));
    }
    // Mounted only for the uninstallation, as in the overlay: kubelet would make it with a mode that the hook
    // refuses.
    if task == ["uninstall"] {
        arguments.push("--volume=/run/hostport:/node/journal".to_owned());
    }
    arguments.push(image.to_owned());
    arguments.extend(task.iter().map(|word| word.to_string()));
    // The folder where the node's runtime looks for the program.
    arguments.push(format!("--bin-on-node={}", node.join("bin").display()));
    podman.call(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
#[ignore = "make deploy-test builds the image"]
fn the_image_installs_upgrades_rolls_back_and_uninstalls_under_a_runtime_that_uses_it() {
    let (lab, node) = (Lab::new(), Scratch::new("fleet"));
    let pod = lab.pod("web");
    for folder in ["bin", "hooks"] {
        node.folder(folder);
    }
    let journal = Path::new("/run/hostport");
    assert_eq!(fs::read_dir(journal).unwrap().count(), 0, "make deploy-test mounts one of its own");
    fs::set_permissions(journal, fs::Permissions::from_mode(0o700)).unwrap();
    let podman = Podman::in_node(lab.node().path(), OciRuntime::Runc);
    let podman = podman.hooks_dir(node.path().join("hooks"));
    let load = podman.call(&["load", "--input", given("HOSTPORT_IMAGE").to_str().unwrap()]);
    let image = load.expect_success().stdout.trim().rsplit(' ').next().unwrap().to_owned();
    let call = |words: &[&str]| task(&podman, &image, node.path(), words);

    call(&["install"]).expect_success();
    call(&["status", "--check"]).expect_success();
    let web = Container::http_server(8080).network(Network::Path(pod.path()));
    podman.run("web", &web.annotation(KUBELET, KUBELET_9000)).expect_success();
    assert_answers(&lab);

    // An older build, which the image replaces while the port is published.
    let program = node.path().join("bin/hostport");
    let old = [&fs::read(&program).unwrap()[..], b"old"].concat();
    fs::remove_file(&program).unwrap();
    write_program(&program, &old);
    assert_eq!(call(&["status", "--check"]).code, Some(1));
    call(&["install"]).expect_success();
    assert_answers(&lab);
    call(&["rollback"]).expect_success();
    assert_eq!(fs::read(&program).unwrap(), old);
    call(&["rollback"]).expect_success();
    assert_answers(&lab);

    let said = call(&["uninstall"]).expect_success();
    assert!(said.stdout.contains("stays: 1 container is in the journal"), "{said:?}");
    assert_eq!(fs::read_dir(node.path().join("hooks")).unwrap().count(), 0);
    assert_answers(&lab);
    // podman added the hooks when it made the container.
    podman.stop("web").expect_success();
    assert_closed(&lab);
    assert_eq!(published(lab.node()), [""; 0]);
    call(&["uninstall"]).expect_success();
    assert_eq!(fs::read_dir(node.path().join("bin")).unwrap().count(), 0);
}

/// The container of the overlay `cni`, and then the one of `uninstall`, with the rights that they have there.
#[test]
#[ignore = "make deploy-test builds the image"]
fn the_image_follows_a_nodes_cni_list_and_puts_portmap_back() {
    const LIST: &str =
        r#"{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "portmap"}]}"#;
    let (lab, node) = (Lab::new(), Scratch::new("fleet"));
    let [bin, lists, plugins, _] =
        ["bin", "lists", "plugins", "hooks"].map(|name| node.folder(name));
    fs::write(plugins.join("portmap"), "").unwrap();
    let list = lists.join("10-pods.conflist");
    fs::write(&list, LIST).unwrap();
    let podman = Podman::in_node(lab.node().path(), OciRuntime::Runc);
    let load = podman.call(&["load", "--input", given("HOSTPORT_IMAGE").to_str().unwrap()]);
    let image = load.expect_success().stdout.trim().rsplit(' ').next().unwrap().to_owned();
    let run = |before: &[&str], words: &[&str]| {
        let folders =
            [(&bin, "opt/hostport"), (&lists, "etc/cni/net.d"), (&plugins, "opt/cni/bin")];
        let folders = folders.map(|(from, to)| format!("--volume={}:/node/{to}", from.display()));
        let rights =
            ["--network=host", "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges"];
        let program = ["cni", "--root", "/node", "--program", "/opt/hostport/hostport"];
        let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
        let image = ["--entrypoint=/hostport", &image];
        podman.call(&[&["run"], &rights[..], before, &folders, &image, words, &program].concat())
    };
    task(&podman, &image, node.path(), &["install"]).expect_success();
    let follow = ["--detach", "--name=lists", "--cap-add=NET_ADMIN"];
    run(&follow, &["install", "--follow"]).expect_success();
    let is_changed =
        || fs::read_to_string(&list).unwrap() == LIST.replace("\"portmap\"", "\"hostport\"");
    assert!(wait_until(is_changed), "{:?}", podman.call(&["logs", "lists"]));
    fs::write(&list, LIST).unwrap();
    assert!(wait_until(is_changed), "{:?}", podman.call(&["logs", "lists"]));
    podman.call(&["exec", "lists", "/hostport", "list"]).expect_success();
    assert_eq!(podman.call(&["stop", "lists"]).expect_success().code, Some(0));
    assert!(is_changed(), "the end of a pod is no removal");
    run(&["--rm", "--cap-add=NET_ADMIN"], &["install", "--check"]).expect_success();

    run(&["--rm"], &["uninstall"]).expect_success();
    assert_eq!(fs::read_to_string(&list).unwrap(), LIST);
    assert!(!plugins.join("hostport").is_symlink());
}

#[test]
#[ignore = "make deploy-test renders the manifests"]
fn the_manifests_ask_for_no_right_that_the_installer_can_do_without() {
    for (overlay, folders) in [
        ("cni", &["/opt/hostport", "/etc/cni/net.d", "/opt/cni/bin"][..]),
        ("crio", &["/opt/hostport", "/usr/share/containers/oci/hooks.d"]),
        ("crio-options", &["/opt/hostport", "/usr/share/containers/oci/hooks.d"]),
        ("containerd", &["/opt/hostport", "/etc/containerd/hostport"]),
        (
            "uninstall",
            &[
                "/opt/hostport",
                "/usr/share/containers/oci/hooks.d",
                "/etc/containerd/hostport",
                "/run/hostport",
                "/etc/cni/net.d",
                "/opt/cni/bin",
                "/var/lib/cni/results",
            ],
        ),
    ] {
        let text = fs::read_to_string(given("HOSTPORT_MANIFESTS").join(format!("{overlay}.yaml")));
        let text = text.unwrap();
        let count = |what: &str| text.matches(what).count();
        // The plugin's pods must start where the plugin fails. They ask the kernel whether it has nf_tables.
        let (containers, by_host, added) = match overlay {
            "cni" => (3, 1, 1),
            "uninstall" => (3, 1, 0),
            _ => (2, 0, 0),
        };
        assert_eq!((count("hostNetwork: true"), count("add:")), (by_host, added), "{overlay}");
        assert_eq!(count("- NET_ADMIN"), added, "{overlay}");
        for each in [
            "allowPrivilegeEscalation: false",
            "readOnlyRootFilesystem: true",
            "- ALL",
            "image: localhost/hostport:",
        ] {
            assert_eq!(count(each), containers, "{overlay}: {each}, once a container\n{text}");
        }
        for never in ["hostPID", "privileged: true", "env:", "kind: ClusterRole"] {
            assert_eq!(count(never), 0, "{overlay}: {never}\n{text}");
        }
        assert_eq!(count("automountServiceAccountToken: false"), 2, "{overlay}");
        assert_eq!(count("path: /"), folders.len(), "{overlay}\n{text}");
        for folder in folders {
            assert_eq!(count(&format!("path: {folder}\n")), 1, "{overlay}: {folder}");
        }
    }
}
