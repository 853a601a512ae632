//! Runs the library's examples.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use hostport_tests::lab::{Lab, NODE4, tcp};
use hostport_tests::runtime::{run_within, wait_until};

/// The folder of the examples, built.
fn examples() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        // With the features of `make test`, which has built them already.
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--locked", "--examples", "--profile=test"]);
        build.args(["--features", "hostport-nft/nftnl"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        run_within(Duration::from_secs(300), &mut build).expect_success();
        let tests = std::env::current_exe().unwrap();
        tests.ancestors().nth(2).unwrap().join("examples")
    })
}

fn start(lab: &Lab, name: &str, arguments: &[&str]) -> Child {
    let program = examples().join(name);
    lab.node().run(|| {
        Command::new(program).args(arguments).stdout(Stdio::piped()).spawn().expect("an example")
    })
}

fn line(child: &mut Child) -> String {
    let mut text = String::new();
    // Reads byte by byte, so that it does not read the next line too.
    let mut reader = BufReader::with_capacity(1, child.stdout.as_mut().unwrap());
    reader.read_line(&mut text).unwrap();
    text.trim_end().to_owned()
}

#[test]
fn publish_publishes_and_withdraws() {
    let lab = Lab::new();
    let pod = lab.pod("web");
    let _server = pod.serve(8080);
    let mut child = start(&lab, "publish", &[]);
    assert_eq!(line(&mut child), "published: 0.0.0.0:9000/tcp -> 10.85.0.11:8080");
    assert!(child.wait().unwrap().success());
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
    let mut child = start(&lab, "publish", &["--withdraw"]);
    assert!(line(&mut child).starts_with("withdrawn: 0.0.0.0:9000/tcp"));
    assert!(child.wait().unwrap().success());
    assert!(tcp(lab.client(), (NODE4, 9000)).is_err());
}

#[test]
fn process_has_its_port_while_it_runs() {
    examples();
    let lab = Lab::new();
    let pod = lab.pod("web");
    let _server = pod.serve(8080);
    let mut process = pod.run(|| Command::new("sleep").arg("60").spawn().unwrap());
    let pid = process.id().to_string();
    let mut child = start(&lab, "process", &[&pid, "9000", "8080"]);
    let said = line(&mut child);
    assert_eq!(said, format!("0.0.0.0:9000/tcp leads to 10.85.0.11:8080 while process {pid} runs"));
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!(line(&mut child), "0.0.0.0:9000/tcp is withdrawn");
    assert!(child.wait().unwrap().success());
    assert!(tcp(lab.client(), (NODE4, 9000)).is_err());
    assert!(!lab.node().nft_list().contains("10.85.0.11"), "{}", lab.node().nft_list());
}

#[test]
fn watch_names_the_program_that_removed_something() {
    let lab = Lab::new();
    let mut child = start(&lab, "publish", &[]);
    assert!(child.wait().unwrap().success());
    let mut child = start(&lab, "watch", &["1"]);
    assert_eq!(line(&mut child), "listening");
    lab.node().nft("flush ruleset");
    assert_eq!(line(&mut child), "nft removed something of ours");
    assert!(wait_until(|| child.try_wait().unwrap().is_some()));
}

#[test]
fn nftnl_batch_makes_our_table_next_to_its_own() {
    let lab = Lab::new();
    let mut child = start(&lab, "nftnl_batch", &[]);
    assert!(line(&mut child).starts_with("sent "));
    let out = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
    assert!(child.wait().unwrap().success());
    let list = lab.node().nft_list();
    assert!(list.contains("table ip own {") && list.contains("table ip hostport {"), "{list}");
    assert!(out.starts_with("the kernel took the batch; "), "{out}");
    assert!(out.contains("chain publish"), "{out}");
}

#[test]
fn nftnl_batch_reports_a_batch_that_the_kernel_refuses() {
    let lab = Lab::new();
    // A chain with our table's name and another hook cannot be extended.
    lab.node().nft("add table ip hostport");
    lab.node().nft("add chain ip hostport prerouting { type filter hook input priority 0; }");
    let mut child = start(&lab, "nftnl_batch", &[]);
    assert!(!child.wait().unwrap().success());
    let list = lab.node().nft_list();
    assert!(!list.contains("table ip own"), "{list}");
}
