//! Kernels without a module that the ruleset needs. These tests remove modules from the machine, so they run only
//! in a machine of their own: `make vm-test`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use hostport_tests::hook::{Bundle, hostport, published};
use hostport_tests::lab::{Families, Lab, Netns, Network, PodSpec};
use serde_json::{Value, json};

/// The modules of the IPv4 table, and of the IPv6 table where they differ.
const MODULES: [&str; 6] =
    ["nft_fib_ipv4", "nft_fib_ipv6", "nft_chain_nat", "nft_nat", "nft_masq", "nft_ct"];
/// A module of its own on Linux 5.10, and part of nf_tables on 6.1.
const COUNTER: &str = "nft_counter";

/// A module that cannot be loaded until this is dropped.
struct Barred(String);

impl Barred {
    fn new(module: &str) -> Barred {
        assert!(
            std::env::var_os("HOSTPORT_VM").is_some(),
            "this takes modules away from the machine: make vm-test runs it in one of its own"
        );
        let file = format!("/etc/modprobe.d/barred-{module}.conf");
        fs::create_dir_all("/etc/modprobe.d").unwrap();
        fs::write(&file, format!("install {module} /bin/false\n")).unwrap();
        // A namespace that is being removed may still use it.
        for _ in 0..100 {
            if !Path::new("/sys/module").join(module).exists() {
                return Barred(file);
            }
            let _ = Command::new("modprobe").args(["--remove", module]).output();
            sleep(Duration::from_millis(50));
        }
        panic!("{module} is in use");
    }
}

impl Drop for Barred {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn is_a_module_of_its_own(module: &str) -> bool {
    Command::new("modinfo").arg(module).output().expect("modinfo").status.success()
}

/// The hook fails with this line alone, and leaves nothing; with the module it succeeds.
fn assert_named(module: &str) {
    let lab = Lab::new();
    let families = if module == "nft_fib_ipv6" { Families::Ipv6 } else { Families::Ipv4 };
    let web = lab.add_pod(PodSpec::new("web").network(Network::Routed).families(families));
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080");
    let barred = Barred::new(module);
    let failed = bundle.prestart(lab.node(), &[]);
    assert_eq!(failed.code, Some(1), "{failed:#?}");
    let lines: Vec<&str> = failed.stderr.lines().collect();
    let [line] = lines[..] else { panic!("not one line: {failed:#?}") };
    let words = format!("the kernel lacks {module}");
    assert!(line.contains(&words) && line.contains(&format!("modprobe {module}")), "{line}");
    assert_doctor_names(lab.node(), module);
    assert_eq!(lab.node().nft_list(), "");
    drop(barred);
    bundle.start(lab.node());
    assert!(!published(lab.node()).is_empty());
    hostport(lab.node(), &["doctor"]).expect_success();
    hostport(lab.node(), &["gc"]).expect_success();
}

/// The doctor finds only this, and says how to load the module, as text and as JSON.
fn assert_doctor_names(node: &Netns, module: &str) {
    let fix = format!("modprobe --all {module}");
    let said = hostport(node, &["doctor"]);
    assert_eq!((said.code, said.stderr.as_str()), (Some(1), ""), "{said:#?}");
    assert!(said.stdout.starts_with("broken: ruleset-refused: the kernel refuses "), "{said:#?}");
    assert!(said.stdout.contains(&format!("    fix: {fix}\n")), "{said:#?}");
    let told = hostport(node, &["doctor", "--json"]);
    assert_eq!((told.code, told.stderr.as_str()), (Some(1), ""), "{told:#?}");
    let report: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(report["sound"], false);
    let of_refusals = |finding: &&Value| finding["kind"] == "container-refused";
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(findings.iter().filter(of_refusals).count(), 1, "{report:#}");
    assert!(findings.len() > 1, "{report:#}");
    for finding in findings.iter().filter(|finding| !of_refusals(finding)) {
        assert_eq!(
            (&finding["kind"], &finding["severity"], &finding["fix"]),
            (&json!("ruleset-refused"), &json!("broken"), &json!(fix)),
            "{report:#}"
        );
    }
}

#[test]
#[ignore = "takes modules away from the machine: make vm-test"]
fn a_module_that_the_kernel_lacks_is_named_in_one_line() {
    for module in MODULES {
        assert!(is_a_module_of_its_own(module), "{module} is built in, so it cannot be missing");
        assert_named(module);
    }
    // Where there is no such module, counters cannot be missing.
    if is_a_module_of_its_own(COUNTER) {
        assert_named(COUNTER);
    }
}
