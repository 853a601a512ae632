//! CRI-O's way: a map as hostport has, written by the program nft and searched by its listing.
//!
//! CRI-O (`internal/hostport/hostport_nftables.go`) adds a pod's elements with `nft -f -`, in one
//! transaction with the whole skeleton, and on removal lists both maps and the hairpin set as JSON,
//! looks for the pod's elements by their comments, and deletes these with another `nft -f -`. It has a
//! lock, so there is one at a time. The daemon's own work in Go is not there: this is its nft calls
//! and the reading of what they print, for IPv4 alone. That is in its favour.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Action, Call, Container, Pair, Peer, Published};
use crate::measure::Footprint;
use crate::node::Node;

/// The lock that CRI-O's only process has.
#[derive(Default)]
pub struct Crio {
    nft: PathBuf,
    lock: Arc<Mutex<()>>,
}

impl Crio {
    /// With this nft.
    pub fn new(nft: &Path) -> Crio {
        Crio { nft: nft.to_owned(), ..Crio::default() }
    }
}

/// The maps and the set that it lists, in its order.
const LISTED: [[&str; 2]; 3] = [["map", "hostports"], ["map", "hostipports"], ["set", "hairpins"]];

impl Peer for Crio {
    fn name(&self) -> &'static str {
        "CRI-O's way"
    }

    fn prepare(&self, container: &Container) -> Pair {
        let owner = container.id.as_str();
        let pod = container.addresses[0];
        let mut add = String::from(SKELETON);
        for (host, inside) in &container.ports {
            add += &format!(
                "add element ip crio-hostports hostports {{ tcp . {host} comment \"{owner}\" : {pod} . {inside} }}\n"
            );
        }
        add += &format!(
            "add element ip crio-hostports hairpins {{ {pod} . {pod} comment \"{owner}\" }}\n"
        );
        let nft = || Call::new(&self.nft, container.folder());
        let lists = LISTED.map(|[kind, name]| {
            nft().arguments(["--json", "list", kind, "ip", "crio-hostports", name])
        });
        let lock = || Arc::clone(&self.lock);
        let add = Add { lock: lock(), call: nft().arguments(["-f", "-"]).input(&add) };
        let owner = owner.to_owned();
        let delete = nft().arguments(["-f", "-"]);
        let remove = Remove { lock: lock(), lists, delete, owner };
        Pair { add: Box::new(add), remove: Box::new(remove) }
    }

    fn fill(&self, node: &Node, ports: &[Published]) {
        node.netns().nft(&ruleset(ports));
    }

    fn count(&self, rules: &str) -> usize {
        rules.lines().filter(|line| line.contains("tcp . ") && line.contains(" : ")).count()
    }
}

struct Add {
    lock: Arc<Mutex<()>>,
    call: Call,
}

impl Action for Add {
    fn run(&self) -> Result<Duration, String> {
        let start = Instant::now();
        let _one_at_a_time = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.call.run()?;
        Ok(start.elapsed())
    }

    fn footprint(&self) -> Footprint {
        self.call.footprint()
    }

    fn transactions(&self) -> usize {
        self.call.transactions()
    }
}

struct Remove {
    lock: Arc<Mutex<()>>,
    lists: [Call; LISTED.len()],
    delete: Call,
    owner: String,
}

impl Remove {
    /// The commands that delete what is the pod's.
    fn deletions(&self) -> String {
        let mut deletions = String::new();
        for ([_, name], list) in LISTED.iter().zip(&self.lists) {
            let listed: Value = serde_json::from_str(&list.output()).expect("nft prints JSON");
            for element in elements(&listed) {
                // A map's element is a pair of a key and a value.
                let key = element.get(0).unwrap_or(element);
                if key["elem"]["comment"] == self.owner.as_str() {
                    let fields = key["elem"]["val"]["concat"].as_array().expect("a joined key");
                    let fields: Vec<String> = fields.iter().map(field).collect();
                    let key = fields.join(" . ");
                    deletions += &format!("delete element ip crio-hostports {name} {{ {key} }}\n");
                }
            }
        }
        deletions
    }
}

fn elements(listed: &Value) -> &[Value] {
    let objects = listed["nftables"].as_array().map_or(&[][..], Vec::as_slice);
    let listed = objects.iter().find_map(|object| object.get("map").or_else(|| object.get("set")));
    listed.and_then(|set| set["elem"].as_array()).map_or(&[], Vec::as_slice)
}

fn field(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Action for Remove {
    fn run(&self) -> Result<Duration, String> {
        let start = Instant::now();
        let _one_at_a_time = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let deletions = self.deletions();
        if deletions.is_empty() {
            return Err(format!("nothing of {} is there", self.owner));
        }
        self.delete.clone().input(&deletions).run()?;
        Ok(start.elapsed())
    }

    fn transactions(&self) -> usize {
        self.delete.clone().input(&self.deletions()).transactions()
    }

    /// One after the other.
    fn footprint(&self) -> Footprint {
        let lists = self.lists.iter().map(Action::footprint);
        let delete = self.delete.clone().input(&self.deletions()).footprint();
        lists.fold(delete, |sum, list| Footprint {
            system_calls: sum.system_calls + list.system_calls,
            processes: sum.processes + list.processes,
            peak: sum.peak.max(list.peak),
            own: sum.own.max(list.own),
        })
    }
}

/// The whole table with these ports. IPv4 alone.
fn ruleset(ports: &[Published]) -> String {
    use std::fmt::Write;
    let (mut hostports, mut hairpins) = (String::new(), String::new());
    for owned in ports.chunk_by(|one, other| one.owner == other.owner) {
        let (owner, pod) = (&owned[0].owner, owned[0].pod[0]);
        for port in owned {
            let (host, inside) = (port.host_port, port.container_port);
            writeln!(hostports, "tcp . {host} comment \"{owner}\" : {pod} . {inside},").unwrap();
        }
        writeln!(hairpins, "{pod} . {pod} comment \"{owner}\",").unwrap();
    }
    if ports.is_empty() {
        return SKELETON.to_owned();
    }
    format!(
        "{SKELETON}add element ip crio-hostports hostports {{ {hostports} }}
         add element ip crio-hostports hairpins {{ {hairpins} }}\n"
    )
}

/// What it writes each time: the table, its maps, and its chains emptied and filled again.
const SKELETON: &str = r#"
add table ip crio-hostports { comment "HostPort rules created by CRI-O" ; }
add map ip crio-hostports hostports { type inet_proto . inet_service : ipv4_addr . inet_service ; comment "hostports on all local IPs (protocol . hostPort -> podIP . podPort)" ; }
add map ip crio-hostports hostipports { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service ; comment "hostports on specific IPs (hostIP . protocol . hostPort -> podIP . podPort)" ; }
add chain ip crio-hostports hostports
flush chain ip crio-hostports hostports
add rule ip crio-hostports hostports dnat ip addr . port to ip daddr . meta l4proto . th dport map @hostipports
add rule ip crio-hostports hostports dnat ip addr . port to meta l4proto . th dport map @hostports
add chain ip crio-hostports prerouting { type nat hook prerouting priority -100 ; }
flush chain ip crio-hostports prerouting
add rule ip crio-hostports prerouting fib daddr type local goto hostports
add chain ip crio-hostports output { type nat hook output priority -100 ; }
flush chain ip crio-hostports output
add rule ip crio-hostports output fib daddr type local goto hostports
add chain ip crio-hostports masquerading { type nat hook postrouting priority 100 ; }
flush chain ip crio-hostports masquerading
add set ip crio-hostports hairpins { type ipv4_addr . ipv4_addr ; comment "hostport hairpin connections" ; }
add rule ip crio-hostports masquerading ct status & ( dnat | snat ) == dnat ip saddr . ip daddr @hairpins masquerade
"#;
