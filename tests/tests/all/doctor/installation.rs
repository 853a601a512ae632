//! Whether the runtimes call hostport, and containers that ask for host ports in vain. podman's files are where a
//! distribution puts them, but only in the mounts that podman and the doctor see.

use std::path::Path;
use std::process::Command;

use hostport_tests::doctor::{Report, text};
use hostport_tests::hook::{feed, program, published, state_dir};
use hostport_tests::lab::Lab;
use hostport_tests::runtime::{Container, OciRuntime, Podman, hook_configurations};
use hostport_tests::web::assert_answers;

const PORTS: &str = "io.hostport.ports";

/// The doctor's report, with the journal of the lab.
#[track_caller]
fn doctor(lab: &Lab, podman: &Podman) -> Report {
    let journal = state_dir(lab.node());
    let arguments = ["doctor", "--json", "--state-dir", journal.to_str().unwrap()];
    Report::of(podman.call_program(&program(), &arguments))
}

/// FIELD 24 and 26: the configurations are in a folder that podman does not read.
#[test]
fn field_24_a_podman_that_does_not_read_the_hooks_and_its_container_are_found() {
    let lab = Lab::new();
    let podman = Podman::in_node(lab.node().path(), OciRuntime::Runc).installed();
    let arguments = ["--state-dir", state_dir(lab.node()).to_str().unwrap()].map(str::to_owned);
    let arguments = arguments.each_ref().map(String::as_str);
    let hooks = podman.folder().join("etc/oci/hooks.d");
    hook_configurations(&hooks, &program(), &arguments);
    podman
        .run("web", &Container::http_server(8080).annotation(PORTS, "9000:8080"))
        .expect_success();
    assert_eq!(published(lab.node()), [""; 0]);

    let report = doctor(&lab, &podman);
    assert_eq!(report.kinds(), ["runtime-hindered", "ports-unpublished"], "{report:#?}");
    let container = text(&report.only("ports-unpublished"));
    for part in [&podman.id("web").unwrap()[..12], "9000:8080/tcp", "does not call hostport"] {
        assert!(container.contains(part), "{container}");
    }
    let hindered = report.only("runtime-hindered");
    let said = text(&hindered);
    for part in ["podman", "/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d"] {
        assert!(said.contains(part), "{said}");
    }
    // Nobody is told to give it the annotation that it has.
    let journal = state_dir(lab.node());
    let arguments = ["explain", "9000", "--state-dir", journal.to_str().unwrap()];
    let explained = podman.call_program(&program(), &arguments).expect_failure().stdout;
    assert!(explained.contains("asks for 9000:8080/tcp"), "{explained}");
    assert!(!explained.contains("CONTAINERPORT"), "{explained}");
    // The fix can be followed.
    let fix = hindered["fix"].as_str().unwrap();
    podman.call_program(Path::new("sh"), &["-c", fix]).expect_success();
    podman.call(&["restart", "--time=0", "web"]).expect_success();
    assert_answers(&lab);
    let report = doctor(&lab, &podman);
    assert_eq!(report.kinds(), [""; 0], "{report:#?}");
    // A doctor that looks at another journal than the hooks' knows that it is published.
    lab.node().nft("flush ruleset");
    let elsewhere = lab.node().folder().join("elsewhere");
    let arguments = ["doctor", "--json", "--state-dir", elsewhere.to_str().unwrap()];
    let report = Report::of(podman.call_program(&program(), &arguments));
    assert!(!report.kinds().contains(&"ports-unpublished"), "{report:#?}");
}

/// FIELD 24: the configurations were moved away, or name a program that is not there.
#[test]
fn field_24_a_container_without_any_hook_is_found_and_one_on_the_hosts_network_is_not() {
    let lab = Lab::new();
    let podman = Podman::in_node(lab.node().path(), OciRuntime::Crun);
    let web = Container::http_server(8080).annotation(PORTS, "9000:8080");
    podman
        .run("host", &web.clone().network(hostport_tests::runtime::Network::Host))
        .expect_success();
    assert_eq!(doctor(&lab, &podman).kinds(), [""; 0]);
    podman.run("web", &web).expect_success();
    let report = doctor(&lab, &podman);
    assert_eq!(report.kinds(), ["ports-unpublished"], "{report:#?}");
    podman.remove("web").expect_success();
    assert_eq!(doctor(&lab, &podman).kinds(), [""; 0]);
}

/// CRI-O as its package leaves it, with hostport's files, and then as docs/runtimes.md says.
#[test]
fn field_36_a_crio_with_its_own_host_ports_or_without_watch_is_found() {
    let lab = Lab::new();
    let configurations = concat!(env!("CARGO_MANIFEST_DIR"), "/../oci-hooks.d");
    // The processes of other tests are not seen: watch may be among them.
    let report = |more: &str| {
        let node = format!(
            "mount -t tmpfs none /usr/share/containers && mkdir -p /usr/share/containers/oci/hooks.d &&
             cp {configurations}/*.json /usr/share/containers/oci/hooks.d &&
             mount -t tmpfs none /usr/local/bin && touch /usr/local/bin/crio &&
             cp \"$1\" /usr/local/bin/hostport && mount -t tmpfs none /etc && mkdir -p /etc/crio &&
             {{ {more}; }} && exec \"$@\""
        );
        let mut unshare = Command::new("/usr/bin/unshare");
        unshare.args(["--mount", "--pid", "--fork", "--mount-proc", "/bin/sh", "-c", &node, "sh"]);
        unshare.arg(program()).args(["doctor", "--json", "--state-dir"]);
        unshare.arg(state_dir(lab.node()));
        Report::of(feed(lab.node(), unshare, b""))
    };
    let off = "printf '[crio.runtime]\\ndisable_hostport_mapping = true\\n' > /etc/crio/crio.conf";
    let watch = "{ hostport watch --state-dir /etc/watched >/dev/null 2>&1 & }; sleep 1";
    let found = report("true");
    assert_eq!(found.kinds(), ["runtime-hindered", "ends-unwatched"], "{found:#?}");
    let said = text(&found.only("runtime-hindered"));
    assert!(said.contains("CRI-O publishes host ports itself"), "{said}");
    let unwatched = report(off);
    let said = text(&unwatched.only("ends-unwatched"));
    assert!(said.contains("systemctl enable --now hostport-watch.service"), "{said}");
    assert_eq!(report(&format!("{off}; {watch}")).kinds(), [""; 0]);
}
