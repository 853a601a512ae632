//! The hook under podman, with runc and with crun, and with this repository's hook configurations. podman runs in a
//! lab's node, and the lab's client sends the packets.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;

use hostport_tests::hook::{Bundle, hostport, list, program, published, state_dir};
use hostport_tests::lab::{Lab, NODE4, NODE6, Pod};
use hostport_tests::page::block;
use hostport_tests::runtime::{
    Container, Network, OciRuntime, Podman, Scratch, hook_configurations, run, wait_until,
};
use hostport_tests::web::{KUBELET, KUBELET_9000, assert_answers, assert_closed, page, seen};

/// The user's annotation.
const PORTS: &str = "io.hostport.ports";

/// The tests that are the same for both runtimes.
macro_rules! with_runc_and_crun {
    ($($name:ident)*) => {
        mod runc {
            $(#[test]
            fn $name() {
                super::$name(super::OciRuntime::Runc);
            })*
        }
        mod crun {
            $(#[test]
            fn $name() {
                super::$name(super::OciRuntime::Crun);
            })*
        }
    };
}

with_runc_and_crun! {
    publishes_in_a_given_namespace
    publishes_on_podmans_own_bridge_until_the_removal
    publishes_in_a_network_of_the_users
    a_container_that_ends_by_itself_is_withdrawn
    a_container_that_is_stopped_started_and_restarted_is_published_again
    a_container_that_is_killed_is_published_again_where_it_always_restarts
    the_containers_of_a_pod_have_their_ports
    a_host_network_container_starts_and_publishes_nothing
    field_25_one_of_two_containers_gets_a_port_and_the_other_is_shown
    field_21_a_container_in_a_user_namespace_starts_and_is_published
    field_28_a_reload_of_podmans_network_is_mended
    field_35_podmans_names_stand_beside_ids
}

/// podman in a lab's node, with this repository's hook configurations.
fn podman_of(lab: &Lab, runtime: OciRuntime) -> Podman {
    let podman = Podman::in_node(lab.node().path(), runtime);
    let journal = state_dir(lab.node());
    let arguments = ["--state-dir", journal.to_str().unwrap()];
    hook_configurations(&podman.default_hooks_dir(), &program(), &arguments);
    podman
}

fn web_in(pod: &Pod) -> Container {
    Container::http_server(8080).network(Network::Path(pod.path()))
}

/// What is published for a pod of the lab with 9000 to 8080.
fn as_published(pod: &Pod) -> [String; 2] {
    [
        format!("0.0.0.0 9000/tcp -> {} 8080", pod.ipv4()),
        format!(":: 9000/tcp -> {} 8080", pod.ipv6()),
    ]
}

#[track_caller]
fn assert_nothing_left(lab: &Lab) {
    assert_closed(lab);
    assert_eq!(published(lab.node()), [""; 0]);
}

/// The owners of all published ports.
fn owners(lab: &Lab) -> Vec<String> {
    list(lab.node()).iter().map(|row| row["owner"].as_str().unwrap().to_owned()).collect()
}

fn publishes_in_a_given_namespace(runtime: OciRuntime) {
    let lab = Lab::new();
    let pod = lab.pod("web");
    let podman = podman_of(&lab, runtime);
    for (name, key, value) in [("user", PORTS, "9000:8080"), ("kubelet", KUBELET, KUBELET_9000)] {
        podman.run(name, &web_in(&pod).annotation(key, value)).expect_success();
        assert_eq!(published(lab.node()), as_published(&pod));
        let id = podman.id(name).unwrap();
        assert_eq!(owners(&lab), [id.as_str(), &id]);
        assert_answers(&lab);
        podman.stop(name).expect_success();
        assert_nothing_left(&lab);
    }
}

fn publishes_on_podmans_own_bridge_until_the_removal(runtime: OciRuntime) {
    let lab = Lab::new();
    let podman = podman_of(&lab, runtime);
    let web = Container::http_server(8080).annotation(PORTS, "9000:8080");
    podman.run("web", &web).expect_success();
    assert_answers(&lab);
    // From the node, and from the container to itself.
    for address in [NODE4.into(), NODE6.into(), IpAddr::from([127, 0, 0, 1])] {
        seen(lab.node(), address, 9000).unwrap_or_else(|error| panic!("from the node: {error}"));
    }
    for address in [NODE4.to_string(), format!("[{NODE6}]")] {
        let url = format!("http://{address}:9000/");
        let got = podman.call(&["exec", "web", "wget", "-q", "-O", "-", &url]);
        assert_eq!(got.expect_success().output(), "hello", "from the container to {address}");
    }
    podman.remove("web").expect_success();
    assert_nothing_left(&lab);
}

fn publishes_in_a_network_of_the_users(runtime: OciRuntime) {
    let lab = Lab::new();
    let podman = podman_of(&lab, runtime);
    let subnets = ["--subnet=10.90.0.0/24", "--ipv6", "--subnet=fd00:90::/64"];
    let create = [&["network", "create", "--disable-dns"], &subnets[..], &["own"]].concat();
    podman.call(&create).expect_success();
    let web = Container::http_server(8080).annotation(PORTS, "9000:8080");
    podman.run_with("web", &web, &["--network=own"]).expect_success();
    let endpoints = published(lab.node());
    assert!(endpoints[0].starts_with("0.0.0.0 9000/tcp -> 10.90.0."), "{endpoints:?}");
    assert!(endpoints[1].starts_with(":: 9000/tcp -> fd00:90::"), "{endpoints:?}");
    assert_answers(&lab);
    podman.stop("web").expect_success();
    assert_nothing_left(&lab);
}

fn a_container_that_ends_by_itself_is_withdrawn(runtime: OciRuntime) {
    let lab = Lab::new();
    let pod = lab.pod("web");
    let podman = podman_of(&lab, runtime);
    let short = Container::new(&["/bin/sleep", "1"]).network(Network::Path(pod.path()));
    podman.run("short", &short.annotation(PORTS, "9000:8080")).expect_success();
    assert!(wait_until(|| published(lab.node()).is_empty()));
    assert_nothing_left(&lab);
}

fn a_container_that_is_stopped_started_and_restarted_is_published_again(runtime: OciRuntime) {
    let lab = Lab::new();
    let podman = podman_of(&lab, runtime);
    let web = Container::http_server(8080).annotation(KUBELET, KUBELET_9000);
    podman.run("web", &web).expect_success();
    let id = podman.id("web").unwrap();
    assert_answers(&lab);
    podman.stop("web").expect_success();
    assert_nothing_left(&lab);
    podman.start("web").expect_success();
    assert_answers(&lab);
    podman.call(&["restart", "--time=0", "web"]).expect_success();
    assert_answers(&lab);
    assert_eq!(owners(&lab), [id.as_str(), &id]);
    podman.remove("web").expect_success();
    assert_nothing_left(&lab);
}

fn a_container_that_is_killed_is_published_again_where_it_always_restarts(runtime: OciRuntime) {
    let lab = Lab::new();
    let podman = podman_of(&lab, runtime);
    let web = Container::http_server(8080).annotation(PORTS, "9000:8080");
    podman.run_with("web", &web, &["--restart=always"]).expect_success();
    assert_answers(&lab);
    for _ in 0..2 {
        let pid = podman.pid("web").unwrap();
        run(Command::new("kill").args(["-KILL", &pid.to_string()]));
        let again = || podman.pid("web").is_some_and(|next| next != pid);
        assert!(wait_until(again), "it is not started again");
        assert_answers(&lab);
        let id = podman.id("web").unwrap();
        assert_eq!(owners(&lab), [id.as_str(), &id]);
    }
    podman.remove("web").expect_success();
    assert_nothing_left(&lab);
}

fn the_containers_of_a_pod_have_their_ports(runtime: OciRuntime) {
    let lab = Lab::new();
    let podman = podman_of(&lab, runtime);
    podman.call(&["pod", "create", "--name", "pod"]).expect_success();
    let web = Container::http_server(8080).annotation(KUBELET, KUBELET_9000);
    podman.run_with("web", &web, &["--pod", "pod"]).expect_success();
    let more = Container::http_server(8081).annotation(PORTS, "9001:8081");
    podman.run_with("more", &more, &["--pod", "pod"]).expect_success();
    let both = published(lab.node());
    assert_eq!(both.len(), 4);
    let answers = || page(lab.client(), NODE4, 9001).is_ok_and(|page| page == "hello");
    assert_answers(&lab);
    assert!(wait_until(answers));
    podman.call(&["restart", "--time=0", "web"]).expect_success();
    assert_answers(&lab);
    assert_eq!(published(lab.node()), both);
    podman.stop("web").expect_success();
    assert_closed_at_9000(&lab);
    assert!(answers());
    podman.call(&["pod", "stop", "--time=0", "pod"]).expect_success();
    assert_nothing_left(&lab);
    podman.call(&["pod", "start", "pod"]).expect_success();
    assert_answers(&lab);
    podman.call(&["pod", "rm", "--force", "--time=0", "pod"]).expect_success();
    assert_nothing_left(&lab);
}

#[track_caller]
fn assert_closed_at_9000(lab: &Lab) {
    let error = seen(lab.client(), NODE4, 9000).expect_err("nobody there");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

fn a_host_network_container_starts_and_publishes_nothing(runtime: OciRuntime) {
    let lab = Lab::new();
    let podman = podman_of(&lab, runtime);
    let web = Container::sleeper().network(Network::Host).annotation(KUBELET, KUBELET_9000);
    podman.run("web", &web).expect_success();
    assert_nothing_left(&lab);
}

fn field_25_one_of_two_containers_gets_a_port_and_the_other_is_shown(runtime: OciRuntime) {
    let lab = Lab::new();
    let (first, second) = (lab.pod("web"), lab.pod("late"));
    let podman = podman_of(&lab, runtime);
    podman.run("first", &web_in(&first).annotation(KUBELET, KUBELET_9000)).expect_success();
    let file = Scratch::new("stderr");
    let stderr = file.path().join("hook");
    let late = web_in(&second)
        .annotation(PORTS, "8999:8080,9000:8080,9001:8080/udp")
        .annotation("run.oci.hooks.stderr", &stderr.to_string_lossy());
    let failed = podman.run("second", &late).expect_failure();
    // crun's error contains only the hook's status.
    let said = match runtime {
        OciRuntime::Runc => failed.stderr,
        OciRuntime::Crun => {
            assert_eq!(failed.code, Some(126));
            fs::read_to_string(stderr).unwrap()
        }
    };
    let line = said.lines().find(|line| line.contains("9000/tcp")).expect("a word of the port");
    let first_id = podman.id("first").unwrap();
    let owner = format!("first [{}] (endpoint {}:8080)", &first_id[..12], first.ipv4());
    assert!(line.contains(&owner), "{owner:?} is not in: {line}");
    // Without that file too, it is shown.
    let called = format!("second [{}] could not start", &podman.id("second").unwrap()[..12]);
    for arguments in [&["doctor"][..], &["explain", "8999"]] {
        let shown = hostport(lab.node(), arguments).stdout;
        assert!(shown.contains(&called) && shown.contains(&owner), "{shown}");
    }
    assert_eq!(podman.status("second").as_deref(), Some("created"));
    assert_eq!(published(lab.node()), as_published(&first));
    // Removing the loser takes nothing from the winner.
    podman.remove("second").expect_success();
    assert_eq!(published(lab.node()), as_published(&first));
    assert_answers(&lab);
    // Once the port is free, the next container that asks gets it.
    podman.remove("first").expect_success();
    podman.run("third", &web_in(&second).annotation(PORTS, "9000:8080")).expect_success();
    assert_eq!(published(lab.node()), as_published(&second));
}

/// podman sets such a container's network up only after prestart.
fn field_21_a_container_in_a_user_namespace_starts_and_is_published(runtime: OciRuntime) {
    let lab = Lab::new();
    let podman = podman_of(&lab, runtime);
    let web = Container::http_server(8080).annotation(PORTS, "9000:8080");
    let rootfs = podman.folder().join("rootfs");
    run(Command::new("chown").args(["-R", "100000:100000"]).arg(rootfs)).expect_success();
    for _ in 0..2 {
        let mapped = ["--uidmap=0:100000:65536", "--gidmap=0:100000:65536"];
        podman.run_with("web", &web, &mapped).expect_success();
        // runc calls poststart hooks too early, at creation, until version 1.3.
        if runtime == OciRuntime::Runc {
            hostport(lab.node(), &["restore"]).expect_success();
        }
        assert_eq!(published(lab.node()).len(), 2);
        assert_answers(&lab);
        podman.remove("web").expect_success();
        assert_nothing_left(&lab);
    }
}

/// podman connects the container with a new link.
fn field_28_a_reload_of_podmans_network_is_mended(runtime: OciRuntime) {
    let lab = Lab::new();
    lab.bridge_nf(true);
    let podman = podman_of(&lab, runtime);
    let web = Container::http_server(8080).annotation(PORTS, "9000:8080");
    podman.run("web", &web).expect_success();
    let assert_works = || {
        let url = format!("http://{NODE4}:9000/");
        let itself = podman.call(&["exec", "web", "wget", "-q", "-O", "-", &url]);
        assert_eq!(itself.expect_success().output(), "hello");
        seen(lab.node(), Ipv4Addr::LOCALHOST, 9000).unwrap();
    };
    assert_works();
    lab.node().nft("flush ruleset");
    podman.call(&["network", "reload", "web"]).expect_success();
    let said = hostport(lab.node(), &["restore"]).expect_success().stdout;
    assert!(
        said.starts_with("opened 127.0.0.1 towards podman0\nturned hairpin mode on for "),
        "{said}"
    );
    assert_answers(&lab);
    assert_works();
}

/// podman tells its hooks no name: it is in its storage alone.
fn field_35_podmans_names_stand_beside_ids(runtime: OciRuntime) {
    let lab = Lab::new();
    let podman = podman_of(&lab, runtime);
    let web = Container::http_server(8080).annotation(PORTS, "9000:8080");
    podman.run("web", &web).expect_success();
    let short = Container::sleeper().annotation(PORTS, "9001:8080");
    podman.run_with("of-a-moment", &short, &["--rm"]).expect_success();
    let called = format!("web [{}]", &podman.id("web").unwrap()[..12]);
    let says = |arguments: &[&str]| hostport(lab.node(), arguments).stdout;
    let listed = says(&["list"]);
    let line = listed.lines().find(|line| line.contains(" 9000 ")).unwrap();
    assert!(
        line.ends_with(&format!("  web          {}", &podman.id("web").unwrap()[..12])),
        "{listed}"
    );
    assert!(listed.contains("  of-a-moment  "), "{listed}");
    assert_eq!(says(&["list", "--owner", "web"]).lines().count(), 3);
    assert!(says(&["list", "--json", "--owner", "web"]).contains(r#""container_name": "web""#));
    let explained = says(&["explain", "9000"]);
    assert!(explained.contains(&format!("{called}, since ")), "{explained}");
    assert!(explained.contains(&format!(" of {called}.")), "{explained}");
    lab.node().nft("delete element ip hostport ports { 0.0.0.0 . 9000 . tcp }");
    let said = says(&["doctor"]);
    assert!(said.contains(&format!("{called}: 1 host port is in the journal")), "{said}");
    // A new name is shown at once.
    podman.call(&["rename", "web", "shop"]).expect_success();
    assert!(says(&["list", "--owner", "shop"]).contains("  shop "));
}

#[test]
fn both_annotations_on_one_container_publish_once() {
    let lab = Lab::new();
    let pod = lab.pod("web");
    let podman = podman_of(&lab, OciRuntime::Runc);
    let web = web_in(&pod).annotation(PORTS, "9000:8080").annotation(KUBELET, KUBELET_9000);
    podman.run("web", &web).expect_success();
    assert_eq!(published(lab.node()), as_published(&pod));
    assert_answers(&lab);
    podman.remove("web").expect_success();
    assert_nothing_left(&lab);
}

/// Why the hooks directory must be in containers.conf, unless it is a default one.
#[test]
fn podman_forgets_a_hooks_dir_of_its_command_line_when_it_restarts_a_container() {
    let lab = Lab::new();
    let hooks = Scratch::new("hooks");
    let journal = state_dir(lab.node());
    let arguments = ["--state-dir", journal.to_str().unwrap()];
    hook_configurations(hooks.path(), &program(), &arguments);
    let podman = Podman::in_node(lab.node().path(), OciRuntime::Runc).hooks_dir(hooks.path());
    let web = Container::http_server(8080).annotation(PORTS, "9000:8080");
    podman.run_with("web", &web, &["--restart=always"]).expect_success();
    assert_answers(&lab);
    let pid = podman.pid("web").unwrap();
    run(Command::new("kill").args(["-KILL", &pid.to_string()]));
    let again = || podman.pid("web").is_some_and(|next| next != pid);
    assert!(wait_until(again), "it is not started again");
    assert_nothing_left(&lab);
}

/// FIELD 26. As the page says: a copy with other options, and a line that names its folder.
#[test]
fn field_26_options_in_etc_count_once_hooks_dir_names_the_folder() {
    let lab = Lab::new();
    let podman = Podman::in_node(lab.node().path(), OciRuntime::Runc).installed();
    let journal = state_dir(lab.node());
    let [etc, usr] = ["etc", "usr"].map(|name| podman.folder().join(name));
    let arguments = ["--state-dir", journal.to_str().unwrap()];
    hook_configurations(&usr.join("oci/hooks.d"), &program(), &arguments);
    let arguments = [&arguments[..], &["--exclude", "10.96.0.0/12"]].concat();
    hook_configurations(&etc.join("oci/hooks.d"), &program(), &arguments);
    let excludes = || {
        podman.run("web", &Container::http_server(8080).annotation(PORTS, "9000:8080"));
        assert_answers(&lab);
        let table = lab.node().nft_list();
        podman.remove("web").expect_success();
        table.contains("10.96.0.0/12")
    };
    assert!(!excludes(), "podman reads that folder by itself: the page says that it does not");
    let file = etc.join("containers.conf.d/hostport.conf");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, block("operations.md", "[engine]")).unwrap();
    assert!(excludes());
}

#[test]
fn kubelets_annotation_without_a_host_port_does_not_call_the_hook() {
    let lab = Lab::new();
    let pod = lab.pod("web");
    // A program that always fails, so that no call of the hook is missed.
    let hooks = Scratch::new("hooks");
    hook_configurations(hooks.path(), Path::new("/bin/false"), &[]);
    let podman = Podman::in_node(lab.node().path(), OciRuntime::Runc).hooks_dir(hooks.path());
    for (name, ports) in [
        ("absent", r#"[{"name":"web","containerPort":8080,"protocol":"TCP"}]"#),
        ("zero", r#"[{"name":"web","hostPort":0,"containerPort":8080,"protocol":"TCP"}]"#),
    ] {
        podman.run(name, &web_in(&pod).annotation(KUBELET, ports)).expect_success();
        podman.remove(name).expect_success();
    }
    podman.run("asked", &web_in(&pod).annotation(KUBELET, KUBELET_9000)).expect_failure();
}

#[test]
fn podmans_error_contains_all_of_the_hooks_error_for_a_bad_annotation() {
    let lab = Lab::new();
    let pod = lab.pod("web");
    let podman = podman_of(&lab, OciRuntime::Runc);
    for bad in ["9000:http".to_owned(), format!("9000:8080;{}", "x".repeat(3000))] {
        let said = Bundle::of(&pod).annotation(PORTS, &bad).prestart(lab.node(), &[]);
        let line = said.stderr.trim_end();
        assert!(said.code == Some(1) && line.starts_with("hostport: "), "{said:?}");
        let failed = podman.run("bad", &web_in(&pod).annotation(PORTS, &bad));
        assert_eq!(failed.code, Some(126), "{failed:?}");
        let shown = failed.stderr.replace("\\\"", "\"").replace("\\\\", "\\");
        assert!(shown.contains(line), "{line}\n{shown}");
        podman.remove("bad");
    }
}
