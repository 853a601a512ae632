//! Where and with what something was measured.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::bench::Bench;

/// Names and values, in the order of a page.
pub fn describe(bench: &Bench) -> Vec<(&'static str, String)> {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of_cpus = |key| {
        cpus.lines()
            .filter(move |line| line.starts_with(key))
            .filter_map(|line| Some(line.split_once(": ")?.1.trim()))
    };
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0u64);
    let hypervisor = of_cpus("flags").any(|flags| flags.split(' ').any(|f| f == "hypervisor"));
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let package = |name| format!("{} (Debian sid)", bench.packages.version(name));
    vec![
        ("Date", said(Path::new("date"), &["-u", "+%Y-%m-%d"])),
        (
            "Machine",
            format!(
                "{} × {}, {} GiB of memory{}",
                of_cpus("processor").count(),
                of_cpus("model name").next().unwrap_or("unknown processor"),
                kib.div_ceil(1024 * 1024),
                if hypervisor { ", virtual" } else { "" },
            ),
        ),
        ("Kernel", said(Path::new("uname"), &["-srm"])),
        ("Load when it began", load.split(' ').next().unwrap_or_default().to_owned()),
        ("hostport", said(&bench.programs.hostport, &["--version"])),
        ("nft", said(&bench.programs.nft, &["--version"])),
        ("iptables", said(Path::new("iptables"), &["--version"])),
        ("portmap", package("containernetworking-plugins")),
        ("netavark", package("netavark")),
        ("Compiler", said(Path::new("rustc"), &["--version"])),
    ]
}

fn said(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |error| format!("unknown ({error})"),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
