//! The hook under real container runtimes: runc with a bundle, podman with this repository's hook
//! configurations. Each runs in a lab's node, and the lab's client sends the packets.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hostport_tests::hook::{list, program, published, state_dir};
use hostport_tests::lab::{CLIENT4, CLIENT6, Lab, NODE4, NODE6, Netns, Pod};
use hostport_tests::runtime::{
    Container, Finished, Hook, Network, OciRuntime, Podman, Runc, Scratch, hook_configurations,
    run, wait_until,
};

/// The user's annotation.
const PORTS: &str = "io.hostport.ports";
/// Kubelet's annotation, and its text for a container port 8080 with host port 9000.
const KUBELET: &str = "io.kubernetes.container.ports";
const KUBELET_9000: &str =
    r#"[{"name":"web","hostPort":9000,"containerPort":8080,"protocol":"TCP"}]"#;

/// The address that the container's web server sees, asked on port 9000 of an address of the node.
fn seen(from: &Netns, node: IpAddr) -> io::Result<IpAddr> {
    let limit = Duration::from_secs(2);
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(node, 9000), limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(b"GET /cgi-bin/client HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let last = text.lines().last().unwrap_or_default();
        last.parse().map_err(|_| io::Error::other(format!("not an answer: {text:?}")))
    };
    from.run(ask)
}

/// Waits until the container's server is up, and sees the client's own address in both families.
#[track_caller]
fn assert_answers(lab: &Lab) {
    let ways: [(IpAddr, IpAddr); 2] =
        [(NODE4.into(), CLIENT4.into()), (NODE6.into(), CLIENT6.into())];
    for (node, client) in ways {
        let mut last = None;
        wait_until(Duration::from_secs(5), || {
            last = Some(seen(lab.client(), node));
            last.as_ref().is_some_and(Result::is_ok)
        });
        assert_eq!(last.unwrap().unwrap_or_else(|error| panic!("{node}: {error}")), client);
    }
}

/// Nothing is published, in the kernel's own words, and the client is refused at once.
#[track_caller]
fn assert_nothing_left(lab: &Lab) {
    // Each element that a container brings has a comment, and besides only the tables have one.
    let ruleset = lab.node().nft_list();
    let mut comments = ruleset.lines().filter(|line| line.contains("comment \""));
    assert!(comments.all(|line| line.contains("hostport schema")), "left:\n{ruleset}");
    assert_eq!(published(lab.node()), [""; 0]);
    for node in [NODE4.into(), NODE6.into()] {
        let error = seen(lab.client(), node).expect_err("nobody there");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}

/// What is published for a pod of the lab with 9000 to 8080.
fn as_published(pod: &Pod) -> [String; 2] {
    [
        format!("0.0.0.0 9000/tcp -> {} 8080", pod.ipv4()),
        format!(":: 9000/tcp -> {} 8080", pod.ipv6()),
    ]
}

fn web_in(pod: &Pod) -> Container {
    Container::http_server(8080).network(Network::Path(pod.path()))
}

/// A container in a pod with the hook in config.json, at these stages.
fn with_hooks(lab: &Lab, container: Container, stages: &[&str]) -> Container {
    let journal = state_dir(lab.node());
    stages.iter().fold(container, |container, stage| {
        let arguments = ["hook", stage, "--state-dir", journal.to_str().unwrap()];
        // A real bundle names no environment for its hooks, or one without PATH.
        container.hook(stage, Hook::new(program(), &arguments).env(&[]))
    })
}

/// podman in a lab's node, with this repository's hook configurations.
struct Node {
    podman: Podman,
    _hooks: Scratch,
}

impl Node {
    fn new(lab: &Lab, runtime: OciRuntime) -> Node {
        let hooks = Scratch::new("hooks");
        let journal = state_dir(lab.node());
        let arguments = ["--state-dir", journal.to_str().unwrap()];
        hook_configurations(hooks.path(), &program(), &arguments);
        let podman = Podman::in_node(lab.node().path(), runtime).hooks_dir(hooks.path());
        Node { podman, _hooks: hooks }
    }
}

#[test]
fn runc_publishes_at_either_stage_or_both_and_withdraws_at_the_end() {
    let lab = Lab::new();
    let (pod, runc) = (lab.pod("web"), Runc::in_node(lab.node().path()));
    for (id, stages) in [
        ("a", &["prestart", "poststop"][..]),
        ("b", &["createRuntime", "poststop"]),
        ("c", &["prestart", "createRuntime", "poststart", "poststop"]),
    ] {
        let web = with_hooks(&lab, web_in(&pod).annotation(PORTS, "9000:8080"), stages);
        runc.run(id, &web).expect_success();
        assert_eq!(published(lab.node()), as_published(&pod), "{stages:?}");
        assert!(list(lab.node()).iter().all(|row| row["owner"] == id));
        assert_answers(&lab);
        runc.remove(id).expect_success();
        assert_nothing_left(&lab);
    }
}

#[test]
fn runc_without_a_stage_in_the_arguments_follows_the_status() {
    let lab = Lab::new();
    let (pod, runc) = (lab.pod("web"), Runc::in_node(lab.node().path()));
    let journal = state_dir(lab.node());
    let hook = || Hook::new(program(), &["hook", "--state-dir", journal.to_str().unwrap()]);
    let web = web_in(&pod).annotation(KUBELET, KUBELET_9000);
    let web = ["prestart", "createRuntime", "poststop"]
        .iter()
        .fold(web, |web, stage| web.hook(stage, hook()));
    runc.run("web", &web).expect_success();
    assert_answers(&lab);
    runc.remove("web").expect_success();
    assert_nothing_left(&lab);
}

#[test]
fn podman_with_runc_publishes_in_a_given_namespace() {
    podman_publishes_in_a_given_namespace(OciRuntime::Runc);
}

#[test]
fn podman_with_crun_publishes_in_a_given_namespace() {
    podman_publishes_in_a_given_namespace(OciRuntime::Crun);
}

fn podman_publishes_in_a_given_namespace(runtime: OciRuntime) {
    let lab = Lab::new();
    let pod = lab.pod("web");
    let node = Node::new(&lab, runtime);
    for (name, key, value) in [("user", PORTS, "9000:8080"), ("kubelet", KUBELET, KUBELET_9000)] {
        node.podman.run(name, &web_in(&pod).annotation(key, value)).expect_success();
        assert_eq!(published(lab.node()), as_published(&pod));
        let id = node.podman.id(name).unwrap();
        assert!(list(lab.node()).iter().all(|row| row["owner"] == id.as_str()));
        assert_answers(&lab);
        node.podman.stop(name).expect_success();
        assert_nothing_left(&lab);
    }
}

#[test]
fn podmans_own_bridge_works_and_a_removal_withdraws() {
    let lab = Lab::new();
    let node = Node::new(&lab, OciRuntime::Runc);
    node.podman
        .run("web", &Container::http_server(8080).annotation(PORTS, "9000:8080"))
        .expect_success();
    assert_answers(&lab);
    // From the node, and from the container to itself.
    for address in [NODE4.into(), NODE6.into(), IpAddr::from([127, 0, 0, 1])] {
        seen(lab.node(), address).unwrap_or_else(|error| panic!("from the node: {error}"));
    }
    for address in [NODE4.to_string(), format!("[{NODE6}]")] {
        let url = format!("http://{address}:9000/");
        let got = node.podman.call(&["exec", "web", "wget", "-q", "-O", "-", &url]);
        assert_eq!(got.expect_success().output(), "hello", "from the container to {address}");
    }
    node.podman.remove("web").expect_success();
    assert_nothing_left(&lab);
}

#[test]
fn a_container_that_ends_by_itself_is_withdrawn() {
    let lab = Lab::new();
    let pod = lab.pod("web");
    let node = Node::new(&lab, OciRuntime::Runc);
    let short = Container::new(&["/bin/sleep", "1"]).network(Network::Path(pod.path()));
    node.podman.run("short", &short.annotation(PORTS, "9000:8080")).expect_success();
    assert!(wait_until(Duration::from_secs(10), || published(lab.node()).is_empty()));
    assert_nothing_left(&lab);
}

#[test]
fn a_container_that_is_started_again_is_published_again() {
    let lab = Lab::new();
    let node = Node::new(&lab, OciRuntime::Runc);
    let web = Container::http_server(8080).annotation(KUBELET, KUBELET_9000);
    node.podman.run("web", &web).expect_success();
    let id = node.podman.id("web").unwrap();
    assert_answers(&lab);
    node.podman.stop("web").expect_success();
    assert_nothing_left(&lab);
    node.podman.start("web").expect_success();
    assert_eq!(node.podman.id("web").unwrap(), id);
    assert_answers(&lab);
    node.podman.call(&["restart", "--time=0", "web"]).expect_success();
    assert_answers(&lab);
    assert!(list(lab.node()).iter().all(|row| row["owner"] == id.as_str()));
    node.podman.remove("web").expect_success();
    assert_nothing_left(&lab);
}

#[test]
fn both_annotations_on_one_container_publish_once() {
    let lab = Lab::new();
    let pod = lab.pod("web");
    let node = Node::new(&lab, OciRuntime::Runc);
    let web = web_in(&pod).annotation(PORTS, "9000:8080").annotation(KUBELET, KUBELET_9000);
    node.podman.run("web", &web).expect_success();
    assert_eq!(published(lab.node()), as_published(&pod));
    assert_answers(&lab);
    node.podman.remove("web").expect_success();
    assert_nothing_left(&lab);
}

#[test]
fn a_container_in_a_podman_pod_is_published() {
    let lab = Lab::new();
    let node = Node::new(&lab, OciRuntime::Runc);
    node.podman.call(&["pod", "create", "--name", "pod"]).expect_success();
    let web = Container::http_server(8080).annotation(KUBELET, KUBELET_9000);
    node.podman.run_with("web", &web, &["--pod", "pod"]).expect_success();
    assert_answers(&lab);
    node.podman.call(&["pod", "rm", "--force", "--time=0", "pod"]).expect_success();
    assert_nothing_left(&lab);
}

#[test]
fn kubelets_annotation_without_a_host_port_does_not_call_the_hook() {
    let lab = Lab::new();
    let pod = lab.pod("web");
    // A program that always fails, so that a call of the hook cannot go unnoticed.
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

/// What the error for a taken port must say: the port, the owner, and where it leads.
#[track_caller]
fn assert_names_the_owner(text: &str, owner: &str, endpoint: &str) {
    let line = text.lines().find(|line| line.contains("9000"));
    let line = line.unwrap_or_else(|| panic!("no word of the port: {text}"));
    for part in ["9000/tcp", owner, endpoint] {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
}

#[test]
fn runc_shows_whose_a_taken_port_is() {
    let lab = Lab::new();
    let (first, second) = (lab.pod("web"), lab.pod("late"));
    let runc = Runc::in_node(lab.node().path());
    let stages = ["createRuntime", "poststop"];
    let web = with_hooks(&lab, web_in(&first).annotation(PORTS, "9000:8080"), &stages);
    runc.run("first", &web).expect_success();
    let late = web_in(&second).annotation(PORTS, "8999:8080,9000:8080,9001:8080/udp");
    let failed = runc.run("second", &with_hooks(&lab, late, &stages)).expect_failure();
    assert_names_the_owner(&failed.stderr, "first", &format!("{}:8080", first.ipv4()));
    assert!(runc.state("second").is_none());
    assert_eq!(published(lab.node()), as_published(&first));
    assert_answers(&lab);
}

/// Starts a second container in the way of a first; what podman and the given file then say.
fn refused_under_podman(runtime: OciRuntime) -> (Finished, String, [String; 2]) {
    let lab = Lab::new();
    let (first, second) = (lab.pod("web"), lab.pod("late"));
    let node = Node::new(&lab, runtime);
    node.podman.run("first", &web_in(&first).annotation(KUBELET, KUBELET_9000)).expect_success();
    let file = Scratch::new("stderr");
    let stderr = file.path().join("hook");
    let late = web_in(&second)
        .annotation(PORTS, "8999:8080,9000:8080,9001:8080/udp")
        .annotation("run.oci.hooks.stderr", &stderr.to_string_lossy());
    let failed = node.podman.run("second", &late).expect_failure();
    assert_eq!(node.podman.status("second").as_deref(), Some("created"));
    assert_eq!(published(lab.node()), as_published(&first));
    // The loser's removal takes nothing from the winner.
    node.podman.remove("second").expect_success();
    assert_eq!(published(lab.node()), as_published(&first));
    assert_answers(&lab);
    let owner = [node.podman.id("first").unwrap(), format!("{}:8080", first.ipv4())];
    // Free again, the port goes to whoever asks next.
    node.podman.remove("first").expect_success();
    node.podman.run("third", &web_in(&second).annotation(PORTS, "9000:8080")).expect_success();
    assert_eq!(published(lab.node()), as_published(&second));
    (failed, fs::read_to_string(stderr).unwrap_or_default(), owner)
}

#[test]
fn podman_with_runc_shows_whose_a_taken_port_is() {
    let (failed, _, [owner, endpoint]) = refused_under_podman(OciRuntime::Runc);
    assert_names_the_owner(&failed.stderr, &owner, &endpoint);
}

#[test]
fn podman_with_crun_refuses_a_taken_port_and_tells_whose_it_is_in_the_file_that_it_was_given() {
    let (failed, file, [owner, endpoint]) = refused_under_podman(OciRuntime::Crun);
    assert_eq!(failed.code, Some(126));
    assert_names_the_owner(&file, &owner, &endpoint);
}

#[test]
fn a_host_network_container_starts_and_publishes_nothing() {
    let lab = Lab::new();
    let runc = Runc::in_node(lab.node().path());
    let node = Node::new(&lab, OciRuntime::Runc);
    let web = || Container::sleeper().network(Network::Host).annotation(KUBELET, KUBELET_9000);
    runc.run("runc", &with_hooks(&lab, web(), &["prestart", "poststop"])).expect_success();
    node.podman.run("podman", &web()).expect_success();
    assert_nothing_left(&lab);
    runc.remove("runc").expect_success();
    node.podman.remove("podman").expect_success();
}

/// Calls `make TARGET VARIABLES` for the program under test.
fn make(target: &str, variables: &[String]) {
    let mut make = Command::new("make");
    make.args(["--silent", "--directory", concat!(env!("CARGO_MANIFEST_DIR"), "/.."), target])
        .arg(format!("BINARY={}", program().display()))
        .args(variables)
        // Not a part of the make that runs the tests.
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL");
    run(&mut make, Duration::from_secs(20)).expect_success();
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let find = run(Command::new("find").arg(folder).args(["-type", "f"]), Duration::from_secs(5));
    let mut files: Vec<_> = find.stdout.lines().map(PathBuf::from).collect();
    files.sort();
    files
}

#[test]
fn make_install_stages_a_package_and_uninstall_takes_it_away() {
    let stage = Scratch::new("destdir");
    let variables = [format!("DESTDIR={}", stage.path().display()), "PREFIX=/usr".to_owned()];
    make("install", &variables);
    let installed = ["bin/hostport", "hostport-kubernetes.json", "hostport.json"];
    let [binary, kubernetes, user] = installed.map(|name| match name {
        "bin/hostport" => stage.path().join("usr").join(name),
        _ => stage.path().join("usr/share/containers/oci/hooks.d").join(name),
    });
    let units = ["hostport-restore@.service", "hostport-watch.service"]
        .map(|name| stage.path().join("usr/lib/systemd/system").join(name));
    let [restore, watch] = &units;
    let all = [&binary, restore, watch, &kubernetes, &user];
    assert_eq!(files_below(stage.path()), all.map(PathBuf::clone));
    for unit in &units {
        let text = fs::read_to_string(unit).unwrap();
        assert!(text.contains("ExecStart=/usr/bin/hostport "), "{text}");
    }
    for file in [kubernetes, user] {
        let hook: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(hook["hook"]["path"], "/usr/bin/hostport", "{file:?}");
    }
    run(Command::new(binary).arg("--version"), Duration::from_secs(5)).expect_success();
    make("uninstall", &variables);
    assert!(files_below(stage.path()).is_empty());
}

#[test]
fn what_make_install_installs_works_under_podman_as_it_is() {
    let lab = Lab::new();
    let (pod, root) = (lab.pod("web"), Scratch::new("prefix"));
    let hooks = root.path().join("hooks.d");
    let prefix = format!("PREFIX={}", root.path().join("local").display());
    make("install", &[prefix, format!("HOOKSDIR={}", hooks.display())]);
    let podman = Podman::in_node(lab.node().path(), OciRuntime::Runc).hooks_dir(hooks);
    podman.run("web", &web_in(&pod).annotation(KUBELET, KUBELET_9000)).expect_success();
    assert_answers(&lab);
    podman.stop("web").expect_success();
    assert_nothing_left(&lab);
}
