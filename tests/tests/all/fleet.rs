//! The image for Kubernetes nodes, run with the rights that the DaemonSet gives it. `make deploy-test` runs these
//! tests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hostport_tests::hook::published;
use hostport_tests::lab::Lab;
use hostport_tests::runtime::{
    Container, Finished, Network, OciRuntime, Podman, Scratch, write_program,
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

#[test]
#[ignore = "make deploy-test renders the manifests"]
fn the_manifests_ask_for_no_right_that_the_installer_can_do_without() {
    for (overlay, folders) in [
        ("crio", &["/opt/hostport", "/usr/share/containers/oci/hooks.d"][..]),
        ("crio-options", &["/opt/hostport", "/usr/share/containers/oci/hooks.d"]),
        ("containerd", &["/opt/hostport", "/etc/containerd/hostport"]),
        (
            "uninstall",
            &[
                "/opt/hostport",
                "/usr/share/containers/oci/hooks.d",
                "/etc/containerd/hostport",
                "/run/hostport",
            ],
        ),
    ] {
        let text = fs::read_to_string(given("HOSTPORT_MANIFESTS").join(format!("{overlay}.yaml")));
        let text = text.unwrap();
        let count = |what: &str| text.matches(what).count();
        for each in [
            "allowPrivilegeEscalation: false",
            "readOnlyRootFilesystem: true",
            "- ALL",
            "image: localhost/hostport:",
        ] {
            assert_eq!(count(each), 2, "{overlay}: {each}, once a container\n{text}");
        }
        for never in
            ["hostNetwork", "hostPID", "privileged: true", "add:", "env:", "kind: ClusterRole"]
        {
            assert_eq!(count(never), 0, "{overlay}: {never}\n{text}");
        }
        assert_eq!(count("automountServiceAccountToken: false"), 2, "{overlay}");
        assert_eq!(count("path: /"), folders.len(), "{overlay}\n{text}");
        for folder in folders {
            assert_eq!(count(&format!("path: {folder}\n")), 1, "{overlay}: {folder}");
        }
    }
}
