//! `make demo`: a host port for real, from a container's start to its end.
//!
//! The demo runs every command that it shows, in the network namespace of the machine whose prompt it shows, and
//! checks the result. The first result that is wrong ends it with status 1.

mod page;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use hostport_tests::hook::program;
use hostport_tests::lab::{CLIENT4, CLIENT6, Lab, NODE4, NODE6};
use hostport_tests::runtime::{Finished, OciRuntime, Podman, run, wait_until};
use page::Page;
use serde_json::Value;

/// What is not as it should be.
type Wrong = String;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The node on podman's bridge.
const BRIDGE: [&str; 2] = ["10.88.0.1", "fd00:88::1"];

const KEY: &str = "io.kubernetes.container.ports";
/// What kubelet writes for a container with `containerPort: 8080` and `hostPort: 9000`.
const PORTS: &str = r#"[{"name":"web","hostPort":9000,"containerPort":8080,"protocol":"TCP"}]"#;

const CLIENT: &str = "client$";
const NODE: &str = "node#";

fn main() -> ExitCode {
    if !rustix::process::geteuid().is_root() {
        eprintln!("demo: run this as root: it makes network namespaces and runs containers");
        return ExitCode::FAILURE;
    }
    match Demo::new().and_then(|demo| demo.show()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            eprintln!("\ndemo: this did not hold: {wrong}");
            ExitCode::FAILURE
        }
    }
}

struct Demo {
    page: Page,
    // Dropped before the lab: its containers are on the lab's node.
    podman: Podman,
    lab: Lab,
}

/// The container that has the port.
struct Running {
    id: String,
    ipv4: String,
    ipv6: String,
}

impl Demo {
    fn new() -> Result<Demo, Wrong> {
        let lab = Lab::new();
        let podman = Podman::in_node(lab.node().path(), OciRuntime::Runc);
        // The page of the container's web server: the client's address.
        let www = podman.folder().join("rootfs/www");
        fs::rename(www.join("cgi-bin/client"), www.join("cgi-bin/index.cgi"))
            .and_then(|()| fs::remove_file(www.join("index.html")))
            .map_err(|error| format!("the container has a page: {error}"))?;
        Ok(Demo { page: Page::new(), podman, lab })
    }

    fn show(&self) -> Result<(), Wrong> {
        self.introduce()?;
        self.install()?;
        let container = self.start()?;
        self.ask_from_everywhere()?;
        self.list(&container)?;
        self.refuse_another(&container)?;
        self.stop()
    }

    fn introduce(&self) -> Result<(), Wrong> {
        self.page.title("hostport: port 8080 of a container, published as port 9000 of its node");
        self.page.text(
            "Client, node and container are network namespaces; the packets between them are real.\n\
             \n\
             client                     node                          container \"web\"\n\
             192.0.2.2 ---------------- 192.0.2.1      10.88.0.1 ---- listens on 8080\n\
             2001:db8:1::2              2001:db8:1::1  fd00:88::1",
        );
        let versions = self.quietly(NODE, "podman --version; runc --version");
        let line = |start: &str| versions.stdout.lines().find(|line| line.starts_with(start));
        let (Some(podman), Some(runc)) = (line("podman"), line("runc")) else {
            return Err(format!("podman and runc are here\nInstead: {}", versions.stderr));
        };
        self.page.text(&format!("Container runtime: {podman}, {runc}"));
        Ok(())
    }

    fn install(&self) -> Result<(), Wrong> {
        let page = &self.page;
        page.step(
            "Install the program and its hook configurations, here into the demo's own folder.",
        );
        let folder = self.podman.folder().display();
        let line = format!("make install PREFIX={folder} \\\n    HOOKSDIR={folder}/oci-hooks.d");
        page.command("$", &line);
        let mut make = Command::new("sh");
        make.args(["-c", &line]).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        // It is not part of the make that runs the demo.
        make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env_remove("MFLAGS");
        let said = run(&mut make);
        page.check(said.success(), "installed", &said.stderr)?;
        let installed = fs::read(self.podman.folder().join("bin/hostport")).unwrap_or_default();
        let built = fs::read(program()).unwrap_or_default();
        page.holds(!built.is_empty() && installed == built, "what was built is installed", "")
    }

    fn start(&self) -> Result<Running, Wrong> {
        let page = &self.page;
        page.step("Start a container with the annotation that kubelet writes for a hostPort.");
        page.text(&format!(
            "{KEY}\n    {PORTS}\n\n\
             podman has runc call hostport before the container's own program starts, as an OCI\n\
             hook. (podman before 5.0 reads this option as CSV, hence the doubled quotes.)"
        ));
        let said = self.at(NODE, &run_line("web"));
        page.output(&said.stdout);
        page.check(said.success(), "the container runs", &said.stderr)?;

        let inspected = self.podman.inspect("web").unwrap_or_default();
        let text = |pointer: &str| {
            let value = inspected.pointer(pointer).and_then(Value::as_str);
            value.map(str::to_owned).ok_or_else(|| format!("podman inspect tells {pointer}"))
        };
        let annotation = text(&format!("/Config/Annotations/{KEY}"))?;
        page.check(annotation == PORTS, "with kubelet's annotation, to the letter", &annotation)?;
        let runtime = text("/OCIRuntime")?;
        page.holds(runtime == "runc", "runc is its runtime", &runtime)?;
        let address = |key: &str| text(&format!("/NetworkSettings/Networks/podman/{key}"));
        let container = Running {
            id: text("/Id")?,
            ipv4: address("IPAddress")?,
            ipv6: address("GlobalIPv6Address")?,
        };
        page.text(&format!(
            "Its addresses on podman's bridge: {} and {}",
            container.ipv4, container.ipv6
        ));
        Ok(container)
    }

    fn ask_from_everywhere(&self) -> Result<(), Wrong> {
        let page = &self.page;
        page.step("Ask port 9000 from everywhere. The answer is the source address that the container saw.");
        // A web server that just started needs a moment, and so does a new IPv6 address.
        for address in [NODE4.into(), NODE6.into()] {
            let up = || self.quietly(CLIENT, &curl(address)).success();
            wait_until(up);
        }
        page.text("From outside: the client's own address is kept.");
        self.seen(CLIENT, &curl(NODE4.into()), CLIENT4)?;
        self.seen(CLIENT, &curl(NODE6.into()), CLIENT6)?;
        page.text("From the node, by an address of its own.");
        self.seen(NODE, &curl(NODE4.into()), NODE4)?;
        self.seen(NODE, &curl(NODE6.into()), NODE6)?;
        page.text("From the node, by 127.0.0.1: rewritten, since no reply could go there.");
        self.seen(NODE, &curl(Ipv4Addr::LOCALHOST.into()), BRIDGE[0])?;
        page.text("::1 cannot leave its node in IPv6: refused at once, nothing hangs.");
        self.refused(NODE, &curl(Ipv6Addr::LOCALHOST.into()))?;
        page.text(
            "From the container to itself: rewritten, so that the reply comes back by the node.",
        );
        self.seen(NODE, &format!("podman exec web wget -qO- {}", url(NODE4.into())), BRIDGE[0])?;
        self.seen(NODE, &format!("podman exec web wget -qO- {}", url(NODE6.into())), BRIDGE[1])
    }

    fn list(&self, container: &Running) -> Result<(), Wrong> {
        self.page.step("See what is published, and how many connections came.");
        let said = self.at(NODE, "hostport list");
        self.page.output(&said.stdout);
        self.check_list(container)
    }

    /// The container has port 9000 in both families, and there are no other host ports.
    fn check_list(&self, container: &Running) -> Result<(), Wrong> {
        let said = self.quietly(NODE, "hostport list --json");
        let rows: Vec<Value> = serde_json::from_str(&said.stdout).unwrap_or_default();
        let row = |row: &Value, host_ip: &str, container_ip: &str| {
            row["host_ip"] == host_ip
                && row["host_port"] == 9000
                && row["protocol"] == "tcp"
                && row["container_ip"] == container_ip
                && row["container_port"] == 8080
                && row["owner"] == container.id.as_str()
                // From outside, from the node, from the container.
                && row["connections"].as_u64() >= Some(3)
        };
        let right = match rows.as_slice() {
            [four, six] => row(four, "0.0.0.0", &container.ipv4) && row(six, "::", &container.ipv6),
            _ => false,
        };
        self.page.check(right, "port 9000 is this container's, in both families", &said.stdout)
    }

    fn refuse_another(&self, first: &Running) -> Result<(), Wrong> {
        let page = &self.page;
        page.step("A second container that asks for the same port does not start, and learns why.");
        let said = self.at(NODE, &run_line("late"));
        page.error(&said.stderr);
        page.check(!said.success(), "it did not start", &said.stdout)?;
        let owner = format!("web [{}]", first.id.get(..12).unwrap_or(&first.id));
        for name in ["9000/tcp", &owner, &format!("{}:8080", first.ipv4)] {
            let what = format!("the error names {name}");
            page.holds(said.stderr.contains(name), &what, &said.stderr)?;
        }
        page.check(true, "the error names the port, its owner and the owner's endpoint", "")?;
        page.text("The first one is as it was.");
        self.seen(CLIENT, &curl(NODE4.into()), CLIENT4)?;
        self.check_list(first)
    }

    fn stop(&self) -> Result<(), Wrong> {
        let page = &self.page;
        page.step("Stop the container: nothing of it is left.");
        let said = self.at(NODE, "podman stop --time 0 web");
        page.check(said.success(), "stopped", &said.stderr)?;
        let said = self.at(NODE, "hostport list");
        page.output(&said.stdout);
        let rows = self.quietly(NODE, "hostport list --json");
        page.check(rows.output() == "[]", "nothing is published", &rows.stdout)?;
        for family in ["ip", "ip6"] {
            let said = self.at(NODE, &format!("nft list map {family} hostport ports"));
            page.output(&said.stdout);
            let empty = said.success() && !said.stdout.contains("elements");
            page.check(
                empty,
                "the kernel's map is empty",
                &format!("{}{}", said.stdout, said.stderr),
            )?;
        }
        page.text("The port is free again.");
        self.refused(CLIENT, &curl(NODE4.into()))?;
        self.refused(CLIENT, &curl(NODE6.into()))?;
        page.text("");
        page.title(&format!("All as it should be: {} checks held.", page.checks()));
        Ok(())
    }

    /// A request that the container answers, and the source address that it must see.
    fn seen(&self, at: &str, line: &str, source: impl ToString) -> Result<(), Wrong> {
        let said = self.quietly(at, line);
        let answer = if said.success() { said.output() } else { said.stderr.trim() };
        self.page.answer(at, line, answer, &source.to_string())
    }

    /// A request that must be refused at once.
    fn refused(&self, at: &str, line: &str) -> Result<(), Wrong> {
        let start = Instant::now();
        let said = self.quietly(at, line);
        // curl's status for a connection that could not be made; one without any answer ends with another.
        let answer = match said.code {
            Some(7) if start.elapsed() < Duration::from_secs(1) => "refused",
            Some(7) => "refused, but late",
            _ => said.output(),
        };
        self.page.answer(at, line, answer, "refused")
    }

    /// Shows a command and runs it.
    fn at(&self, place: &str, line: &str) -> Finished {
        self.page.command(place, line);
        self.quietly(place, line)
    }

    /// Runs a command on the machine that its prompt shows.
    fn quietly(&self, place: &str, line: &str) -> Finished {
        let netns = if place == CLIENT { self.lab.client() } else { self.lab.node() };
        let folder = self.podman.folder();
        let mut command = netns.command("sh");
        command.args(["-c", line]).current_dir(folder).env_clear();
        command.env("PATH", format!("{}/bin:{PATH}", folder.display()));
        command.envs(self.podman.environment());
        run(&mut command)
    }
}

/// Starts a web server on 8080 with kubelet's annotation.
fn run_line(name: &str) -> String {
    let ports = PORTS.replace('"', "\"\"");
    format!(
        "podman --hooks-dir oci-hooks.d run --detach --name {name} \\\n\
         \x20   --annotation '\"{KEY}={ports}\"' \\\n\
         \x20   --rootfs $PWD/rootfs httpd -f -h /www -p 8080"
    )
}

fn url(address: IpAddr) -> String {
    match address {
        IpAddr::V4(ip) => format!("http://{ip}:9000/"),
        IpAddr::V6(ip) => format!("http://[{ip}]:9000/"),
    }
}

fn curl(address: IpAddr) -> String {
    format!("curl -sS {}", url(address))
}
