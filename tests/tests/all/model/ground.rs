//! The real node: processes as containers, calls of the hook, and what kernel and journal hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use hostport_tests::hook::{call, feed, hostport, journal_files, state_dir};
use hostport_tests::lab::{Lab, Pod, Sleeper};
use hostport_tests::oci::{self, Annotations};
use hostport_tests::runtime::{Finished, Scratch};
use oci_spec::runtime::LinuxNamespaceType;
use serde_json::{Value, json};

use super::operation::{Address, Ask, EXCLUDES, Life, PODS};
use super::world::{Container, Host, Port, Sandbox};

/// What `--exclude` may be given.
pub const EXCLUDE: [&[&str]; EXCLUDES] =
    [&[], &["10.96.0.0/12"], &["10.96.0.0/12", "fd00:96::/108"]];
const FAMILIES: [&str; 2] = ["ip", "ip6"];

/// A node with pods, used by one sequence after another.
pub struct Ground {
    pub lab: Lab,
    pub pods: Vec<Pod>,
    /// The tables with nothing in them, by family and choice of `--exclude`.
    skeletons: [Vec<Value>; 2],
}

/// The containers of one sequence.
pub struct Containers<'a> {
    ground: &'a Ground,
    scratch: Scratch,
    /// The init process, and the path of the network namespace, of each life.
    processes: BTreeMap<usize, Sleeper>,
    paths: BTreeMap<usize, PathBuf>,
}

/// What there is.
#[derive(Debug, Default)]
pub struct Found {
    pub tables: [Option<FoundTable>; 2],
    /// `hostport list`, by family.
    pub listed: [BTreeMap<Host, Port>; 2],
    /// The mappings of each file of the journal.
    pub journal: BTreeMap<String, BTreeMap<Host, (IpAddr, u16)>>,
}

/// A family's table as nft shows it.
#[derive(Debug)]
pub struct FoundTable {
    pub ports: BTreeMap<Host, Port>,
    pub hairpin: BTreeSet<IpAddr>,
    /// Those of its elements that say so.
    pub several: BTreeSet<IpAddr>,
    pub same_link: bool,
    /// The rest of it, without handles.
    pub skeleton: Value,
}

impl Ground {
    pub fn new() -> Ground {
        let lab = Lab::new();
        let pods = ["a", "b", "c"][..PODS].iter().map(|name| lab.pod(name)).collect();
        let mut ground = Ground { lab, pods, skeletons: [vec![], vec![]] };
        for exclude in 0..EXCLUDES {
            ground.clear();
            let mut containers = Containers::new(&ground);
            containers.begin_life(0, 0, Life::Namespace);
            let ask = Ask { address: Address::None, port: 0, to: 0, udp: false };
            let container = Container {
                id: "first".to_owned(),
                pod: 0,
                own: vec![ask],
                of_pod: vec![],
                sandbox: None,
                replace: false,
                running: true,
                life: 0,
            };
            containers.hook(&container, 0, exclude, Some("prestart")).expect_success();
            drop(containers);
            let tables = ground.look().tables.map(|table| table.expect("a table").skeleton);
            for (skeletons, skeleton) in ground.skeletons.iter_mut().zip(tables) {
                skeletons.push(skeleton);
            }
        }
        ground
    }

    /// As if nothing had ever been there.
    pub fn clear(&self) {
        self.lab.node().nft("flush ruleset");
        let _ = fs::remove_dir_all(state_dir(self.lab.node()));
    }

    pub fn skeleton(&self, family: usize, exclude: usize) -> &Value {
        &self.skeletons[family][exclude]
    }

    pub fn look(&self) -> Found {
        let node = self.lab.node();
        let mut nft = Command::new("/usr/sbin/nft");
        nft.args(["-j", "list", "ruleset"]);
        let text = feed(node, nft, b"").expect_success().stdout;
        let ruleset: Value = serde_json::from_str(&text).unwrap();
        let mut found =
            Found { tables: FAMILIES.map(|name| table(&ruleset, name)), ..Found::default() };
        let rows = hostport(node, &["list", "--json"]).expect_success().stdout;
        for row in serde_json::from_str::<Vec<Value>>(&rows).unwrap() {
            let (host, endpoint) = mapping(&row);
            let port = Port { endpoint, owner: row["owner"].as_str().map(str::to_owned) };
            found.listed[super::world::family(host.0)].insert(host, port);
        }
        for (name, path) in journal_files(node) {
            let owner = name.strip_suffix(".json").unwrap_or_else(|| panic!("{name} is left over"));
            let entry: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            let mappings = entry["mappings"].as_array().unwrap().iter().map(mapping).collect();
            found.journal.insert(owner.to_owned(), mappings);
        }
        found
    }
}

impl<'a> Containers<'a> {
    pub fn new(ground: &'a Ground) -> Containers<'a> {
        let scratch = Scratch::new("model");
        Containers { ground, scratch, processes: BTreeMap::new(), paths: BTreeMap::new() }
    }

    /// Starts what a container lives by: a process in its pod, or the path of the pod's namespace.
    pub fn begin_life(&mut self, life: usize, pod: usize, by: Life) {
        let pod = &self.ground.pods[pod];
        if by == Life::Process {
            self.processes.insert(life, pod.sleeper());
        } else {
            let path = self.scratch.path().join(format!("netns-{life}"));
            symlink(pod.path(), &path).unwrap();
            self.paths.insert(life, path);
        }
    }

    pub fn end_life(&mut self, life: usize) {
        self.processes.remove(&life);
        if let Some(path) = self.paths.remove(&life) {
            fs::remove_file(path).unwrap();
        }
    }

    /// Calls the hook for a container; `sandbox` is the life of its sandbox, or its own.
    pub fn hook(
        &self,
        container: &Container,
        sandbox: usize,
        exclude: usize,
        stage: Option<&str>,
    ) -> Finished {
        let annotations = annotations(container, &self.sandbox_id(container));
        let path = self.paths.get(&sandbox).map(PathBuf::as_path);
        let namespace = oci::namespace(LinuxNamespaceType::Network, path);
        let bundle = self.scratch.folder(&container.id);
        let spec = oci::spec(&["server".to_owned()], vec![namespace], &annotations);
        spec.save(bundle.join("config.json")).unwrap();
        let status = if stage.is_some() { "created" } else { "stopped" };
        let pid = self.processes.get(&container.life).map(Sleeper::pid);
        let state = oci::state(&container.id, status, pid, &bundle, &annotations);
        let mut arguments = vec![stage.unwrap_or("poststop"), "--allow-pod-annotation"];
        for net in EXCLUDE[exclude] {
            arguments.extend(["--exclude", net]);
        }
        call(self.ground.lab.node(), &arguments, oci::to_json(&state).to_string().as_bytes())
    }

    fn sandbox_id(&self, container: &Container) -> String {
        match container.sandbox {
            Some(Sandbox::Of(index)) => super::id_of(index),
            _ => container.id.clone(),
        }
    }
}

fn annotations(container: &Container, sandbox: &str) -> Annotations {
    let mut annotations = Annotations::new();
    let mut add = |key: &str, value: &str| annotations.insert(key.to_owned(), value.to_owned());
    if container.replace {
        add("io.hostport.on-conflict", "replace");
    }
    let Some(part) = &container.sandbox else {
        add("io.hostport.ports", &text(&container.own));
        return annotations;
    };
    let kind = match part {
        Sandbox::Itself => "sandbox",
        Sandbox::Of(_) => "container",
    };
    add("io.container.manager", "cri-o");
    add("io.kubernetes.cri-o.ContainerType", kind);
    add("io.kubernetes.cri-o.SandboxID", sandbox);
    add("io.hostport.ports", &text(&container.of_pod));
    add("io.kubernetes.container.ports", &list(&container.own));
    annotations
}

fn host_ip(ask: &Ask) -> Option<IpAddr> {
    match ask.address {
        Address::None => None,
        _ => Some(super::world::hosts(ask)[0].0),
    }
}

fn text(asks: &[Ask]) -> String {
    let item = |ask: &Ask| {
        let ip = match host_ip(ask) {
            None => String::new(),
            Some(IpAddr::V4(ip)) => format!("{ip}:"),
            Some(IpAddr::V6(ip)) => format!("[{ip}]:"),
        };
        let protocol = if ask.udp { "/udp" } else { "" };
        format!("{ip}{}:{}{protocol}", 9000 + ask.port, 8080 + ask.to)
    };
    asks.iter().map(item).collect::<Vec<_>>().join(",")
}

fn list(asks: &[Ask]) -> String {
    let item = |ask: &Ask| {
        json!({
            "hostPort": 9000 + ask.port, "containerPort": 8080 + ask.to,
            "protocol": if ask.udp { "UDP" } else { "TCP" },
            "hostIP": host_ip(ask).map(|ip| ip.to_string()).unwrap_or_default(),
        })
    };
    Value::from(asks.iter().map(item).collect::<Vec<_>>()).to_string()
}

fn protocol(name: &Value) -> &'static str {
    if name == "udp" { "udp" } else { "tcp" }
}

/// A mapping as `hostport list --json` and the journal write it.
fn mapping(row: &Value) -> (Host, (IpAddr, u16)) {
    let ip = |key: &str| row[key].as_str().unwrap().parse().unwrap();
    let port = |key: &str| row[key].as_u64().unwrap() as u16;
    let host = (ip("host_ip"), port("host_port"), protocol(&row["protocol"]));
    (host, (ip("container_ip"), port("container_port")))
}

/// A family's table in nft's list of objects.
fn table(ruleset: &Value, family: &str) -> Option<FoundTable> {
    let mut objects: Vec<Value> = ruleset["nftables"].as_array()?.clone();
    objects.retain(|object| object.as_object().unwrap().values().all(|o| o["family"] == family));
    if objects.is_empty() {
        return None;
    }
    let mut elements: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for object in &mut objects {
        for body in object.as_object_mut().unwrap().values_mut() {
            let body = body.as_object_mut().unwrap();
            body.remove("handle");
            let name = body.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            if ["ports", "hairpin", "same_link"].contains(&name.as_str())
                && let Some(Value::Array(list)) = body.remove("elem")
            {
                elements.insert(name, list);
            }
        }
    }
    let mut of = |name| elements.remove(name).unwrap_or_default();
    let first = |element: &Value| key(element)[0].as_str().unwrap().parse().unwrap();
    let hairpin = of("hairpin");
    let several = |element: &&Value| element["elem"]["comment"] == "several containers";
    Some(FoundTable {
        ports: of("ports").iter().map(port).collect(),
        several: hairpin.iter().filter(several).map(first).collect(),
        hairpin: hairpin.iter().map(first).collect(),
        same_link: of("same_link").iter().any(|pair| key(pair) == json!(["br0", "br0"])),
        skeleton: objects.into(),
    })
}

/// The key of an element, which nft wraps where there is more to say of it.
fn key(element: &Value) -> Value {
    let bare = element.get("elem").map_or(element, |element| &element["val"]);
    bare["concat"].clone()
}

fn port(element: &Value) -> (Host, Port) {
    let (host, endpoint) = (key(&element[0]), &element[1]["concat"]);
    let ip = |value: &Value| value.as_str().unwrap().parse().unwrap();
    let number = |value: &Value| value.as_u64().unwrap() as u16;
    let port = Port {
        endpoint: (ip(&endpoint[0]), number(&endpoint[1])),
        owner: element[0]["elem"]["comment"].as_str().map(str::to_owned),
    };
    ((ip(&host[0]), number(&host[1]), protocol(&host[2])), port)
}
