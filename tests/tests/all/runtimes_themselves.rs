//! The runtimes work on this machine, and what they pass to their hooks. All of it needs root.

use hostport_tests::lab::Netns;
use hostport_tests::runtime::{
    Container, Hook, Network, OciRuntime, Podman, Recorder, Runc, Scratch, hook_configurations,
    run, wait_until,
};

/// The answer of a web server in this namespace, or reached from it.
fn get(netns: &Netns, url: &str) -> String {
    let mut answer = String::new();
    wait_until(|| {
        let mut wget = netns.command("busybox");
        let got = run(wget.args(["wget", "-q", "-O", "-", url]));
        answer = got.output().to_owned();
        got.success()
    });
    answer
}

/// A namespace as `/proc/PID/ns/net` shows it.
fn identity(netns: &Netns) -> String {
    format!("net:[{}]", netns.inode())
}

fn failing_hook() -> Hook {
    Hook::new("/bin/sh", &["-c", "echo 9000/tcp is taken >&2; exit 1"])
}

#[test]
fn runc_runs_a_server_in_a_given_namespace_and_its_hooks_in_the_nodes() {
    let (node, pod, recorder) = (Netns::new("node"), Netns::new("pod"), Recorder::new());
    let runc = Runc::in_node(node.path());
    let web = Container::http_server(8080)
        .annotation("io.hostport.ports", "9000:8080")
        .network(Network::Path(pod.path()))
        .hook("prestart", recorder.hook(&["prestart"]))
        .hook("createRuntime", recorder.hook(&["createRuntime"]))
        .hook("poststop", recorder.hook(&["poststop"]).env(&["ONLY=this"]));
    runc.run("web", &web).expect_success();
    assert!(runc.pid("web").is_some());
    assert_eq!(get(&pod, "http://127.0.0.1:8080/cgi-bin/client"), "127.0.0.1");
    assert_eq!(get(&pod, "http://[::1]:8080/cgi-bin/client"), "::1");
    runc.remove("web").expect_success();
    assert!(runc.state("web").is_none());

    let calls = recorder.calls();
    let seen: Vec<_> = calls.iter().map(|call| (call.args[0].as_str(), call.status())).collect();
    // As in the specification; crun writes "created" both times.
    assert_eq!(
        seen,
        [("prestart", "creating"), ("createRuntime", "creating"), ("poststop", "stopped")]
    );
    for call in &calls {
        assert_eq!(call.netns, identity(&node));
        assert_eq!(call.state["annotations"]["io.hostport.ports"], "9000:8080");
        assert_eq!(call.config()["process"]["args"][0], "/bin/httpd");
    }
    // The bundle at the start; at the end, the folder in which `runc delete` was called.
    assert_eq!(calls[0].cwd, runc.bundle("web"));
    assert!(calls[0].state["pid"].is_u64() && calls[1].state["pid"].is_u64());
    assert!(calls[2].state.get("pid").is_none());
    assert!(calls[2].env.iter().all(|entry| !entry.starts_with("PATH=")));
}

#[test]
fn runc_shows_what_a_failing_hook_wrote_and_calls_poststop() {
    let (node, recorder) = (Netns::new("node"), Recorder::new());
    let runc = Runc::in_node(node.path());
    let container = Container::sleeper()
        .hook("prestart", failing_hook())
        .hook("poststop", recorder.hook(&["poststop"]));
    let failed = runc.run("a", &container).expect_failure();
    assert_eq!(failed.code, Some(1));
    assert!(failed.stderr.contains("9000/tcp is taken"), "{failed:#?}");
    assert!(runc.state("a").is_none());
    assert_eq!(recorder.calls().len(), 1);
}

#[test]
fn a_hook_that_hangs_is_given_up() {
    let node = Netns::new("node");
    let runc = Runc::in_node(node.path());
    let hangs = Container::sleeper().hook("prestart", Hook::new("/bin/sleep", &["9"]).timeout(1));
    let failed = runc.run("a", &hangs).expect_failure();
    assert!(failed.stderr.contains("timeout"), "{failed:#?}");
}

#[test]
fn a_host_network_container_is_in_the_nodes_namespace() {
    let node = Netns::new("node");
    let runc = Runc::in_node(node.path());
    runc.run("a", &Container::http_server(8080).network(Network::Host)).expect_success();
    assert_eq!(get(&node, "http://127.0.0.1:8080/"), "hello");
}

#[test]
fn podman_calls_hooks_with_runc() {
    podman_calls_hooks(OciRuntime::Runc, "creating");
}

#[test]
fn podman_calls_hooks_with_crun() {
    podman_calls_hooks(OciRuntime::Crun, "created");
}

fn podman_calls_hooks(runtime: OciRuntime, status_at_prestart: &str) {
    let (node, recorder) = (Netns::new("node"), Recorder::new());
    let pod = Netns::new("pod");
    let hooks = recorder.hooks_dir(&["prestart", "poststop"]);
    let podman = Podman::in_node(node.path(), runtime).hooks_dir(hooks);
    let web = Container::http_server(8080)
        .annotation("io.hostport.ports", "9000:8080")
        .network(Network::Path(pod.path()));
    podman.run("web", &web).expect_success();
    assert_eq!(get(&pod, "http://127.0.0.1:8080/cgi-bin/client"), "127.0.0.1");
    assert_eq!(podman.status("web").as_deref(), Some("running"));
    let (id, pid) = (podman.id("web").unwrap(), podman.pid("web").unwrap());
    podman.stop("web").expect_success();
    assert!(wait_until(|| recorder.calls().len() == 2));
    podman.remove("web").expect_success();

    let calls = recorder.calls();
    let [prestart, poststop] = calls.as_slice() else { panic!("two calls: {calls:#?}") };
    assert_eq!(prestart.status(), status_at_prestart);
    assert_eq!(prestart.state["pid"], pid);
    assert_eq!(prestart.state["annotations"]["io.container.manager"], "libpod");
    assert_eq!(prestart.caller, comm(runtime));
    // podman keeps poststop out of config.json and calls it itself, with the annotations that it was given and not
    // those that it adds, and with an empty environment.
    assert_eq!((poststop.status(), poststop.caller.as_str()), ("stopped", "podman"));
    assert!(poststop.state.get("pid").is_none());
    assert!(poststop.state["annotations"].get("io.container.manager").is_none());
    assert_eq!(poststop.config()["annotations"]["io.container.manager"], "libpod");
    assert!(poststop.env.is_empty(), "{:?}", poststop.env);
    for call in &calls {
        assert_eq!(call.state["id"], id.as_str());
        assert_eq!(call.state["annotations"]["io.hostport.ports"], "9000:8080");
        assert_eq!(call.netns, identity(&node));
    }
}

/// The runtime as `/proc/PID/comm` names it.
fn comm(runtime: OciRuntime) -> &'static str {
    match runtime {
        OciRuntime::Runc => "runc",
        OciRuntime::Crun => "crun",
    }
}

#[test]
fn podmans_own_bridge_works_in_the_node() {
    let node = Netns::new("node");
    let podman = Podman::in_node(node.path(), OciRuntime::Runc);
    podman.run("web", &Container::http_server(8080)).expect_success();
    let settings = podman.inspect("web").unwrap()["NetworkSettings"]["Networks"]["podman"].clone();
    let [four, six] = ["IPAddress", "GlobalIPv6Address"].map(|key| settings[key].as_str().unwrap());
    assert_eq!(get(&node, &format!("http://{four}:8080/cgi-bin/client")), "10.88.0.1");
    assert_eq!(get(&node, &format!("http://[{six}]:8080/cgi-bin/client")), "fd00:88::1");
}

#[test]
fn containers_of_a_podman_pod_share_a_namespace() {
    let (node, recorder) = (Netns::new("node"), Recorder::new());
    let hooks = recorder.hooks_dir(&["prestart"]);
    let podman = Podman::in_node(node.path(), OciRuntime::Runc).hooks_dir(hooks);
    podman.call(&["pod", "create", "--name", "pod"]).expect_success();
    for name in ["one", "two"] {
        podman.run_with(name, &Container::sleeper(), &["--pod", "pod"]).expect_success();
    }
    let calls = recorder.calls();
    let [infra, one, two] = calls.as_slice() else { panic!("three calls: {calls:#?}") };
    for call in [one, two] {
        assert_eq!(call.state["annotations"]["io.kubernetes.cri-o.SandboxID"], infra.state["id"]);
    }
}

#[test]
fn podman_shows_what_a_failing_hook_wrote_under_runc_but_not_under_crun() {
    let scratch = Scratch::new("failing");
    let hook = Hook::new("/bin/sh", &["-c", "echo 9000/tcp is taken >&2; exit 1"]);
    let configuration = hook.always(&["prestart"]);
    std::fs::write(scratch.path().join("fail.json"), configuration.to_string()).unwrap();
    let said = |runtime, container: &Container| {
        let node = Netns::new("node");
        let podman = Podman::in_node(node.path(), runtime).hooks_dir(scratch.path());
        let failed = podman.run("a", container).expect_failure();
        assert_eq!((failed.code, podman.status("a").as_deref()), (Some(126), Some("created")));
        failed.stderr
    };
    let sleeper = Container::sleeper();
    assert!(said(OciRuntime::Runc, &sleeper).contains("9000/tcp is taken"));
    assert!(!said(OciRuntime::Crun, &sleeper).contains("9000/tcp is taken"));
    let file = scratch.path().join("stderr");
    let sleeper = sleeper.annotation("run.oci.hooks.stderr", &file.to_string_lossy());
    said(OciRuntime::Crun, &sleeper);
    assert_eq!(std::fs::read_to_string(file).unwrap(), "9000/tcp is taken\n");
}

#[test]
fn podman_leaves_poststop_out_for_a_container_that_never_started() {
    let (node, recorder) = (Netns::new("node"), Recorder::new());
    let hooks = recorder.hooks_dir(&["prestart", "poststop"]);
    let podman = Podman::in_node(node.path(), OciRuntime::Runc).hooks_dir(hooks);
    let missing = Container::new(&["/bin/missing"]).network(Network::Own);
    podman.run("a", &missing).expect_failure();
    podman.remove("a").expect_success();
    let seen: Vec<_> = recorder.calls().iter().map(|call| call.status().to_owned()).collect();
    assert_eq!(seen, ["creating"]);
}

/// Annotation, value, and how often podman must call the hook at prestart and poststart.
const CASES: &[(&str, &str, usize)] = &[
    ("io.hostport.ports", "9000:8080", 2),
    ("io.hostport.ports", "9000:8080,9001:8081", 2),
    ("io.hostport.ports", "[{\"hostPort\":9000,\"containerPort\":8080}]", 2),
    // It is the hook that says what is wrong with the name.
    ("io.hostport.portss", "9000:8080", 2),
    ("io.hostports", "9000:8080", 0),
    ("x.io.hostport.ports", "9000:8080", 0),
    ("io-hostport-ports", "9000:8080", 0),
    (K8S, "[{\"name\":\"web\",\"hostPort\":9000,\"containerPort\":8080,\"protocol\":\"TCP\"}]", 1),
    (K8S, "[{\"containerPort\":1},{\"hostPort\" : 53,\"containerPort\":53}]", 1),
    (K8S, "[{\"name\":\"web\",\"containerPort\":8080,\"protocol\":\"TCP\"}]", 0),
    (K8S, "[{\"name\":\"web\",\"hostPort\":0,\"containerPort\":8080,\"protocol\":\"TCP\"}]", 0),
    (K8S, "[]", 0),
    ("io.kubernetes.container.hash", "{\"hostPort\":9000}", 0),
];

const K8S: &str = "io.kubernetes.container.ports";

#[test]
fn hook_configurations_fire_where_a_host_port_is_asked_for_and_nowhere_else() {
    let (node, pod, recorder) = (Netns::new("node"), Netns::new("pod"), Recorder::new());
    let scratch = Scratch::new("configurations");
    hook_configurations(scratch.path(), &recorder.program(), &[]);
    let podman = Podman::in_node(node.path(), OciRuntime::Runc).hooks_dir(scratch.path());
    for (index, (key, value, expected)) in CASES.iter().enumerate() {
        let before = recorder.calls().len();
        let name = format!("c{index}");
        let container =
            Container::sleeper().network(Network::Path(pod.path())).annotation(key, value);
        podman.run(&name, &container).expect_success();
        let calls = recorder.calls();
        assert_eq!(calls.len() - before, *expected, "prestart and poststart, {key}={value}");
        assert!(calls[before..].iter().all(|call| call.state["annotations"][key] == *value));
        podman.remove(&name).expect_success();
        let with_poststop = expected + usize::from(*expected > 0);
        assert_eq!(recorder.calls().len() - before, with_poststop, "all, {key}={value}");
    }
}

#[test]
fn both_configurations_matching_call_the_hook_twice_at_each_stage() {
    let (node, pod, recorder) = (Netns::new("node"), Netns::new("pod"), Recorder::new());
    let scratch = Scratch::new("configurations");
    hook_configurations(scratch.path(), &recorder.program(), &["--more"]);
    let podman = Podman::in_node(node.path(), OciRuntime::Runc).hooks_dir(scratch.path());
    let container = Container::sleeper()
        .network(Network::Path(pod.path()))
        .annotation("io.hostport.ports", "9000:8080")
        .annotation(K8S, "[{\"hostPort\":9000,\"containerPort\":8080}]");
    podman.run("a", &container).expect_success();
    podman.remove("a").expect_success();
    let calls = recorder.calls();
    // One of them at poststart too.
    assert_eq!(calls.len(), 5);
    assert!(calls.iter().all(|call| call.args == ["hook", "--more"]));
}
