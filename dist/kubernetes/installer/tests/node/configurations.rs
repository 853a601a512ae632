//! Hook configurations: whose they are, and which options they give.

use super::*;

#[test]
fn options_that_the_program_does_not_take_are_not_installed() {
    let node = Node::new();
    node.call(&["install"]).expect_success();
    let before = fs::read(node.at("hooks/hostport.json")).unwrap();
    ship_hook(&node, "hostport.json", &["--exclud", "10.96.0.0/12"]);
    assert_refused(&node.call(&["install"]), "--exclud");
    assert_eq!(fs::read(node.at("hooks/hostport.json")).unwrap(), before);
    ship_hook(&node, "hostport.json", &["--exclude", "10.96.0.0/12", "--state-dir", "/run/other"]);
    node.call(&["install"]).expect_success();
    assert_ne!(fs::read(node.at("hooks/hostport.json")).unwrap(), before);
}

#[test]
fn a_configuration_that_a_release_drops_goes_and_all_go_with_an_uninstall() {
    let node = Node::new();
    ship_hook(&node, "hostport-old.json", &[]);
    node.call(&["install"]).expect_success();
    fs::remove_file(node.at("image/oci-hooks.d/hostport-old.json")).unwrap();
    let says = node.call(&["status", "--check"]);
    assert!(says.code == Some(1) && says.stdout.contains("of another release"), "{says:?}");
    let said = node.call(&["install"]).expect_success();
    assert!(
        said.stdout.contains("removed") && said.stdout.contains("hostport-old.json"),
        "{said:?}"
    );
    assert_eq!(node.files("hooks"), HOOKS);
    node.call(&["status", "--check"]).expect_success();

    // The image that uninstalls is of another release than the one that installed.
    fs::remove_file(node.at("image/oci-hooks.d/hostport.json")).unwrap();
    node.call(&["uninstall", "--containerd-is-clean"]).expect_success();
    assert!(node.files("hooks").is_empty() && node.files("bin").is_empty());
}

#[test]
fn a_configuration_that_calls_another_program_is_neither_replaced_nor_removed() {
    let node = Node::new();
    let packages = r#"{"version":"1.0.0","hook":{"path":"/usr/bin/hostport"}}"#;
    for place in ["hooks/hostport.json", "containerd/base-runtime-spec.json"] {
        fs::write(node.at(place), packages).unwrap();
        assert_refused(&node.call(&["install"]), "calls \"/usr/bin/hostport\", not");
        assert!(node.files("bin").is_empty(), "nothing changes");
        let said = node.call(&["uninstall", "--containerd-is-clean"]).expect_success();
        assert!(said.stdout.contains("stays: it does not call"), "{said:?}");
        assert_eq!(fs::read_to_string(node.at(place)).unwrap(), packages);
        fs::remove_file(node.at(place)).unwrap();
    }
    // One of another name is not in the way. One that calls ours keeps the program.
    fs::write(node.at("hooks/hostport-theirs.json"), packages).unwrap();
    node.call(&["install"]).expect_success();
    let ours = packages.replace("/usr/bin/hostport", node.at("bin/hostport").to_str().unwrap());
    fs::write(node.at("hooks/operators.json"), ours).unwrap();
    let said = node.call(&["uninstall", "--containerd-is-clean"]).expect_success();
    assert!(said.stdout.contains("operators.json\" calls it"), "{said:?}");
    assert_eq!(node.files("hooks"), ["hostport-theirs.json", "operators.json"]);
    assert_eq!(node.files("bin"), ["hostport"]);
}

#[test]
fn a_config_map_in_the_place_of_the_images_hooks_is_installed() {
    let node = Node::new();
    ship_hook(&node, "hostport.json", &["--exclude", "10.96.0.0/12"]);
    let hooks = node.at("image/oci-hooks.d");
    // As kubelet mounts it.
    let data = hooks.join("..2026_11_28");
    fs::create_dir(&data).unwrap();
    symlink("..2026_11_28", hooks.join("..data")).unwrap();
    for name in HOOKS {
        fs::rename(hooks.join(name), data.join(name)).unwrap();
        symlink(Path::new("..data").join(name), hooks.join(name)).unwrap();
    }
    node.call(&["install"]).expect_success();
    assert_eq!(node.files("hooks"), HOOKS);
    let text = fs::read_to_string(node.at("hooks/hostport.json")).unwrap();
    assert!(text.contains("--exclude"), "{text}");
    assert_eq!(node.named_by("hostport.json"), node.at("bin/hostport"));
    node.call(&["status", "--check"]).expect_success();
    for wrong in [r#"{"version":"1.0.0","hook":{"path":"/usr/bin/hostport"}}"#, "{ half"] {
        fs::write(data.join("hostport.json"), wrong).unwrap();
        assert_refused(&node.call(&["install"]), "is not JSON that calls hostport");
    }
}
