//! What is kept of containers that could not start, and where it is shown.

use std::fs;
use std::time::{Duration, SystemTime};

use hostport_tests::doctor::{Report, doctor, text};
use hostport_tests::hook::{Bundle, hostport, state_dir};
use hostport_tests::lab::{Lab, Netns};
use hostport_tests::stage::{Act, Stage};

const PORTS: &str = "io.hostport.ports";
const KIND: &str = "container-refused";

/// The files that keep refusals, with their sizes.
fn kept(node: &Netns) -> Vec<u64> {
    let files = fs::read_dir(state_dir(node).join("refusals")).into_iter().flatten();
    files.map(|file| file.unwrap().metadata().unwrap().len()).collect()
}

/// What the doctor says of refusals.
#[track_caller]
fn refusals(node: &Netns) -> Vec<String> {
    let Report { findings, .. } = doctor(node);
    findings.iter().filter(|finding| finding["kind"] == KIND).map(text).collect()
}

/// Lets the runtime have written config.json some time before its last call.
fn age(bundle: &Bundle) {
    let config = fs::File::options().write(true).open(bundle.folder().join("config.json"));
    config.unwrap().set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
}

#[test]
fn field_25_a_refusal_is_shown_by_doctor_and_explain_until_the_container_has_its_port() {
    let lab = Lab::new();
    let node = lab.node();
    let [first, second] = ["first", "second"].map(|name| lab.pod(name));
    let _servers = first.serve(8080);
    let first = Bundle::of(&first)
        .annotation(PORTS, "9000:8080")
        .annotation("io.kubernetes.pod.name", "web")
        .annotation("io.kubernetes.pod.namespace", "default")
        .annotation("io.kubernetes.container.name", "c1");
    first.start(node);
    assert!(!state_dir(node).join("refusals").exists(), "a publication keeps nothing");
    let second = Bundle::of(&second)
        .annotation(PORTS, "9000-9001:8080-8081")
        .annotation("io.kubernetes.container.name", "c2");
    let error = second.prestart(node, &[]).expect_failure().stderr;
    let why = "host port 0.0.0.0:9000/tcp is taken by default/web (container c1) [";
    assert!(error.contains(why) && error.trim_end().lines().count() == 1, "{error}");
    age(&second);

    let [said] = &refusals(node)[..] else { panic!("one refusal") };
    let called = format!("c2 [{}] could not start at 20", &second.id()[..12]);
    for part in [&called[..], why, "9000-9001/tcp", "do what that error says"] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    // The packet reaches its container, and another one is named; nobody has the next port.
    let explained = hostport(node, &["explain", "9000"]).expect_success().stdout;
    assert!(explained.contains("Reachable") && explained.contains(&called), "{explained}");
    let explained = hostport(node, &["explain", "9001"]).expect_failure().stdout;
    let in_the_way = "In the way: the container that asks for this port could not start";
    assert!(explained.contains(in_the_way) && explained.contains(why), "{explained}");
    for other in ["9002", "9000/udp"] {
        assert!(!hostport(node, &["explain", other]).stdout.contains(&called), "{other}");
    }

    first.stop(node);
    let [said] = &refusals(node)[..] else { panic!("the container has not started since") };
    assert!(said.contains("nobody has its host ports now"), "{said}");
    second.start(node);
    assert_eq!(refusals(node), [""; 0]);
    assert!(!hostport(node, &["explain", "9001"]).stdout.contains("could not start"));
    // Its end makes it no problem again.
    second.stop(node);
    assert_eq!(refusals(node), [""; 0]);
}

#[test]
fn field_25_what_cannot_be_read_is_shown_where_nobody_has_the_port() {
    let lab = Lab::new();
    let (node, web) = (lab.node(), lab.pod("web"));
    let bundle = Bundle::of(&web).annotation(PORTS, "9000:http\u{1b}[2J");
    bundle.prestart(node, &[]).expect_failure();
    age(&bundle);
    let [said] = &refusals(node)[..] else { panic!("one refusal") };
    assert!(said.contains("annotation io.hostport.ports") && !said.contains('\u{1b}'), "{said}");
    let explained = hostport(node, &["explain", "9000"]).expect_failure().stdout;
    assert!(explained.contains("no container has this port"), "{explained}");
    let json = hostport(node, &["explain", "9000", "--json"]).stdout;
    assert!(json.contains(KIND) && json.contains("cannot be read"), "{json}");
}

#[test]
fn field_25_the_next_container_of_a_pod_overtakes_the_refusal_of_the_last() {
    let lab = Lab::new();
    let (node, web, other) = (lab.node(), lab.pod("web"), lab.pod("other"));
    let first = Bundle::of(&other).annotation(PORTS, "9000:8080");
    first.start(node);
    let kubelets = r#"[{"name":"web","hostPort":9000,"containerPort":8080,"protocol":"TCP"}]"#;
    let of_pod = |attempt: &str| {
        Bundle::of(&web)
            .named(attempt)
            .annotation("io.kubernetes.container.ports", kubelets)
            .annotation("io.kubernetes.cri.container-type", "container")
            .annotation("io.kubernetes.cri.sandbox-id", "4bf92f3577b34da6")
    };
    for attempt in ["web-0", "web-1", "web-2"] {
        of_pod(attempt).prestart(node, &[]).expect_failure();
    }
    // The runtime has removed them and their bundles.
    assert_eq!((kept(node).len(), refusals(node).len()), (1, 1));
    first.stop(node);
    of_pod("web-3").start(node);
    assert_eq!(refusals(node), [""; 0]);
}

#[test]
fn field_25_no_author_fills_the_disk_or_hides_the_refusals_of_others() {
    let lab = Lab::new();
    let (node, web) = (lab.node(), lab.pod("web"));
    let other = Bundle::of(&web).annotation(PORTS, "9000:http");
    other.prestart(node, &[]).expect_failure();
    age(&other);
    let long = "x".repeat(100_000);
    for nth in 0..80 {
        let ports = format!("{}:8080,{long}", 9001 + nth);
        let loops = Bundle::of(&web)
            .annotation(PORTS, &ports)
            .annotation("io.kubernetes.pod.name", &long)
            .annotation("io.kubernetes.container.name", &"n".repeat(253))
            .annotation("io.kubernetes.cri-o.SandboxID", "4bf92f3577b34da6");
        loops.prestart(node, &[]).expect_failure();
    }
    let sizes = kept(node);
    assert!(sizes.len() <= 5 && sizes.iter().all(|size| *size < 16 * 1024), "{sizes:?}");
    assert!(refusals(node).iter().any(|said| said.contains(other.id())));
    for nth in 0..80 {
        let alone = Bundle::of(&web).annotation(PORTS, &format!("{nth}:http"));
        alone.prestart(node, &[]).expect_failure();
    }
    assert_eq!(kept(node).len(), 64);
}

#[test]
fn field_25_a_refusal_that_cannot_be_kept_is_said_all_the_same() {
    let lab = Lab::new();
    let (node, web) = (lab.node(), lab.pod("web"));
    fs::create_dir_all(state_dir(node)).unwrap();
    hostport_tests::runtime::run(
        std::process::Command::new("chmod").arg("0700").arg(state_dir(node)),
    );
    fs::write(state_dir(node).join("refusals"), "a file").unwrap();
    let bundle = Bundle::of(&web).annotation(PORTS, "9000:http");
    let error = bundle.prestart(node, &[]).expect_failure().stderr;
    assert!(error.starts_with("hostport: annotation ") && error.lines().count() == 1, "{error}");
    assert_eq!(refusals(node), [""; 0]);
    bundle.annotation(PORTS, "9000:8080").start(node);
}

#[test]
fn field_25_a_publication_that_succeeds_makes_no_call_for_refusals() {
    let stage = Stage::new();
    for act in [Act::FirstPublish, Act::Publish, Act::TakeOver, Act::Withdraw] {
        let mut scene = stage.prepare(act);
        let (_, calls) = scene.call.trace(stage.node());
        assert!(!calls.iter().any(|call| call.text.contains("refusals")), "{act:?}");
        stage.clear(&mut scene, "after a call");
    }
}

/// The pod's container has started since, and was removed; or the pod never started.
#[test]
fn field_25_a_refusal_ends_with_its_pod() {
    let lab = Lab::new();
    let (node, web, other) = (lab.node(), lab.pod("web"), lab.pod("other"));
    let first = Bundle::of(&other).annotation(PORTS, "9000:8080");
    first.start(node);
    let of_pod = |attempt: &str| {
        Bundle::of(&web)
            .named(attempt)
            .annotation(PORTS, "9000:8080")
            .annotation("io.kubernetes.cri-o.SandboxID", "4bf92f3577b34da6")
    };
    of_pod("web-0").prestart(node, &[]).expect_failure();
    assert_eq!(refusals(node).len(), 1);
    first.stop(node);
    let second = of_pod("web-1");
    second.start(node);
    second.stop(node);
    drop(web);
    assert_eq!(refusals(node), [""; 0]);
}
