//! Runs one sequence on the node and in the model at the same time.

use std::collections::BTreeSet;
use std::fs;

use hostport_tests::hook::{hostport, state_dir};
use hostport_tests::runtime::Finished;

use super::ground::{Containers, Ground};
use super::operation::{Ask, Damage, Life, Operation};
use super::world::{Answer, Container, Port, Sandbox, Table, World, distinct};

/// Runs a sequence. The error holds the first step after which node and model differ, and the difference.
pub fn play(ground: &Ground, sequence: &[Operation]) -> Result<(), (usize, String)> {
    ground.clear();
    let ips = ground.pods.iter().map(|pod| [pod.ipv4().into(), pod.ipv6().into()]).collect();
    let mut player = Player { ground, containers: Containers::new(ground), world: World::new(ips) };
    for (number, operation) in sequence.iter().enumerate() {
        let before = player.world.clone();
        let checked =
            player.step(operation).and_then(|()| player.world.check(ground, &ground.look()));
        checked
            .map_err(|error| (number, format!("{operation:?}: {error}\nbefore it: {before:?}")))?;
    }
    Ok(())
}

struct Player<'a> {
    ground: &'a Ground,
    containers: Containers<'a>,
    world: World,
}

impl Player<'_> {
    fn step(&mut self, operation: &Operation) -> Result<(), String> {
        self.world.claimed.clear();
        match operation {
            Operation::Start { pod, life, asks, replace, exclude } => {
                self.start(*pod, *life, distinct(asks, &[]), *replace, *exclude)
            }
            Operation::StartSandbox { pod, annotation } => {
                let of_pod = distinct(annotation, &[]);
                let index = self.add(*pod, vec![], of_pod, Some(Sandbox::Itself), false);
                let life = self.world.containers[index].life;
                self.containers.begin_life(life, *pod, Life::Process);
                self.containers.begin_life(life, *pod, Life::Namespace);
                self.publish(index, 0, "createRuntime")
            }
            Operation::StartMember { sandbox, own, carries, replace, exclude } => {
                let is_sandbox = |c: &Container| c.running && c.sandbox == Some(Sandbox::Itself);
                let Some(sandbox) = self.choose(*sandbox, is_sandbox) else { return Ok(()) };
                let Container { pod, of_pod, .. } = self.world.containers[sandbox].clone();
                let of_pod = if *carries { of_pod } else { vec![] };
                let own = distinct(own, &of_pod);
                let index = self.add(pod, own, of_pod, Some(Sandbox::Of(sandbox)), *replace);
                let life = self.world.containers[index].life;
                self.containers.begin_life(life, pod, Life::Process);
                self.publish(index, *exclude, "createRuntime")
            }
            Operation::Restart { of, pod, asks, exclude } => {
                let ended = |c: &Container| !c.running && c.sandbox.is_none();
                let Some(index) = self.choose(*of, ended) else { return Ok(()) };
                let life = self.world.begin_life();
                let container = &mut self.world.containers[index];
                (container.pod, container.own) = (*pod, distinct(asks, &[]));
                (container.running, container.life) = (true, life);
                self.containers.begin_life(life, *pod, Life::Process);
                self.publish(index, *exclude, "prestart")
            }
            Operation::Again { of, stage, exclude } => {
                let sandboxes = self.world.containers.clone();
                let running = |c: &Container| match c.sandbox {
                    Some(Sandbox::Of(sandbox)) => c.running && sandboxes[sandbox].running,
                    _ => c.running,
                };
                let Some(index) = self.choose(*of, running) else { return Ok(()) };
                self.publish(index, *exclude, ["prestart", "createRuntime", "poststart"][*stage])
            }
            Operation::Crash { of } => {
                self.choose(*of, |c| c.running).into_iter().for_each(|index| self.end(index));
                Ok(())
            }
            Operation::Stop { of } => {
                let Some(index) = self.choose(*of, |c| c.running) else { return Ok(()) };
                self.end(index);
                self.poststop(index)
            }
            Operation::LatePoststop { of } => {
                let Some(index) = self.choose(*of, |c| !c.running) else { return Ok(()) };
                self.poststop(index)
            }
            Operation::Forget { of } => self.forget(*of),
            Operation::Nft(damage) => {
                self.damage(*damage);
                Ok(())
            }
            Operation::Restore if self.world.refuses_to_restore() => {
                let said = hostport(self.ground.lab.node(), &["restore"]);
                let why = "the journal has no entry, but the kernel has";
                said_so(said.code == Some(1) && said.stderr.contains(why), why, &said)
            }
            Operation::Restore => {
                let restored = self.world.restore();
                let said = self.call(&["restore"])?;
                let end = format!(
                    "{} restored, {} removed, {} were right\n",
                    restored.added, restored.removed, restored.kept
                );
                said_so(said.stdout.ends_with(&end), &end, &said)
            }
            Operation::Gc { dry_run } => {
                let dead = self.world.collect(*dry_run);
                let said = self.call(if *dry_run { &["gc", "--dry-run"] } else { &["gc"] })?;
                let end = format!("{dead} dead container{}\n", if dead == 1 { "" } else { "s" });
                let unknown = said.stdout.lines().filter(|line| line.starts_with("kept ")).count();
                said_so(said.stdout.ends_with(&end), &end, &said)?;
                said_so(unknown == self.world.unknown(), "another number of unknown ports", &said)
            }
        }
    }

    fn start(
        &mut self,
        pod: usize,
        life: Life,
        asks: Vec<Ask>,
        replace: bool,
        exclude: usize,
    ) -> Result<(), String> {
        let index = self.add(pod, asks, vec![], None, replace);
        self.containers.begin_life(self.world.containers[index].life, pod, life);
        self.publish(index, exclude, "prestart")
    }

    fn add(
        &mut self,
        pod: usize,
        own: Vec<Ask>,
        of_pod: Vec<Ask>,
        sandbox: Option<Sandbox>,
        replace: bool,
    ) -> usize {
        let life = self.world.begin_life();
        let index = self.world.containers.len();
        let id = super::id_of(index);
        let running = true;
        let container = Container { id, pod, own, of_pod, sandbox, replace, running, life };
        self.world.containers.push(container);
        index
    }

    fn choose(&self, number: usize, among: impl Fn(&Container) -> bool) -> Option<usize> {
        let all = self.world.containers.iter().enumerate();
        let some: Vec<usize> = all.filter(|(_, c)| among(c)).map(|(index, _)| index).collect();
        some.get(number % some.len().max(1)).copied()
    }

    fn end(&mut self, index: usize) {
        self.world.end(index);
        self.containers.end_life(self.world.containers[index].life);
    }

    fn sandbox_life(&self, container: &Container) -> usize {
        match container.sandbox {
            Some(Sandbox::Of(sandbox)) => self.world.containers[sandbox].life,
            _ => container.life,
        }
    }

    fn publish(&mut self, index: usize, exclude: usize, stage: &str) -> Result<(), String> {
        let answer = self.world.publish(index, exclude);
        let container = self.world.containers[index].clone();
        let sandbox = self.sandbox_life(&container);
        let said = self.containers.hook(&container, sandbox, exclude, Some(stage));
        let conflicts = match answer {
            Answer::Done => return said_so(said.success(), "success", &said),
            Answer::Refused(conflicts) => conflicts,
        };
        // A container whose hook fails does not start.
        self.end(index);
        said_so(said.code == Some(1), "exit status 1", &said)?;
        let names = |((ip, port, protocol), present, known): &(_, Port, bool)| {
            let host = format!("{}/{protocol} ", std::net::SocketAddr::new(*ip, *port));
            let endpoint = std::net::SocketAddr::from(present.endpoint).to_string();
            let owner = present.owner.as_deref().unwrap_or("without an owner");
            let parts = [host.as_str(), &endpoint, owner];
            parts.iter().all(|part| said.stderr.contains(part))
                && said.stderr.contains("nft delete element") != *known
        };
        let named = conflicts.iter().any(names);
        said_so(named, &format!("one of {conflicts:?}"), &said)
    }

    fn poststop(&mut self, index: usize) -> Result<(), String> {
        self.world.withdraw(index);
        let container = self.world.containers[index].clone();
        let sandbox = self.sandbox_life(&container);
        let said = self.containers.hook(&container, sandbox, 0, None);
        said_so(said.success(), "success", &said)
    }

    fn call(&self, arguments: &[&str]) -> Result<Finished, String> {
        let said = hostport(self.ground.lab.node(), arguments);
        said_so(said.success(), "success", &said)?;
        Ok(said)
    }

    fn forget(&mut self, of: usize) -> Result<(), String> {
        let owners: Vec<String> = self.world.journal.keys().cloned().collect();
        let Some(owner) = owners.get(of % owners.len().max(1)) else { return Ok(()) };
        let entry = self.world.journal.remove(owner).unwrap();
        self.world.forgotten.extend(&entry.ips);
        for table in self.world.kernel.iter_mut().flatten() {
            table.may_linger.extend(&entry.ips);
            // If it comes back elsewhere, not all of its former ports are known.
            table.may_lack.extend(&entry.ips);
        }
        fs::remove_file(state_dir(self.ground.lab.node()).join(format!("{owner}.json"))).unwrap();
        Ok(())
    }

    fn damage(&mut self, damage: Damage) {
        if let Some(script) = self.script(damage) {
            self.ground.lab.node().nft(&script);
        }
    }

    /// What somebody types to nft, after the model has been changed.
    fn script(&mut self, damage: Damage) -> Option<String> {
        const NAMES: [&str; 2] = ["ip", "ip6"];
        let tables = &mut self.world.kernel;
        match damage {
            Damage::FlushRuleset => {
                *tables = [None, None];
                Some("flush ruleset".to_owned())
            }
            Damage::DeleteTable(family) => {
                tables[family].take()?;
                Some(format!("delete table {} hostport", NAMES[family]))
            }
            Damage::FlushMap(family) => {
                let table = tables[family].as_mut()?;
                let ports = std::mem::take(&mut table.ports);
                table.may_linger.extend(ports.values().map(|port| port.endpoint.0));
                Some(format!("flush map {} hostport ports", NAMES[family]))
            }
            Damage::FlushTable(family) => {
                tables[family].as_mut()?.whole = false;
                Some(format!("flush table {} hostport", NAMES[family]))
            }
            Damage::DeletePort(number) => {
                let count = tables.iter().flatten().map(|table| table.ports.len()).sum::<usize>();
                let mut left = number % count.max(1);
                for (table, family) in tables.iter_mut().zip(NAMES) {
                    let Some(table) = table else { continue };
                    if let Some(host) = table.ports.keys().nth(left).copied() {
                        let port = table.ports.remove(&host).unwrap();
                        table.may_linger.insert(port.endpoint.0);
                        let (ip, number, protocol) = host;
                        let element = format!("{{ {ip} . {number} . {protocol} }}");
                        return Some(format!("delete element {family} hostport ports {element}"));
                    }
                    left -= table.ports.len();
                }
                None
            }
            Damage::DeleteHairpin(number) => {
                for (table, family) in tables.iter_mut().zip(NAMES) {
                    let Some(table) = table else { continue };
                    let ips: BTreeSet<_> = table.ports.values().map(|p| p.endpoint.0).collect();
                    let there: Vec<_> = ips.difference(&table.may_lack).copied().collect();
                    if let Some(ip) = there.get(number % there.len().max(1)) {
                        table.may_lack.insert(*ip);
                        return Some(format!(
                            "delete element {family} hostport hairpin {{ {ip} . {ip} }}"
                        ));
                    }
                }
                None
            }
            Damage::AddPort(family, port, owned) => {
                let table = tables[family].as_mut()?;
                let (any, ip): (std::net::IpAddr, std::net::IpAddr) = match family {
                    0 => ([0; 4].into(), [10, 85, 0, 99].into()),
                    _ => ([0u8; 16].into(), "2001:db8:85::99".parse().unwrap()),
                };
                let host = (any, 9000 + port, "tcp");
                if table.ports.contains_key(&host) {
                    return None;
                }
                let owner = owned.then(|| "stranger".to_owned());
                table.ports.insert(host, Port { endpoint: (ip, 80), owner });
                table.may_lack.insert(ip);
                let comment = if owned { " comment \"stranger\"" } else { "" };
                let element = format!("{any} . {} . tcp{comment} : {ip} . 80", 9000 + port);
                Some(format!("add element {} hostport ports {{ {element} }}", NAMES[family]))
            }
            Damage::OldSchema(family, bare) => {
                let table = tables[family].as_mut()?;
                table.whole = false;
                if bare {
                    let ips = table.ports.values().map(|port| port.endpoint.0).collect();
                    *table = Table {
                        same_link: false,
                        may_lack: ips,
                        may_linger: BTreeSet::new(),
                        ..table.clone()
                    };
                }
                let shown = hostport(self.ground.lab.node(), &["show"]).expect_success().stdout;
                let mut texts = shown.split("\n\ntable ip6");
                let text = match family {
                    0 => texts.next()?.to_owned(),
                    _ => format!("table ip6{}", texts.nth(1)?),
                };
                let old = text.replace("hostport schema 2", "hostport schema 0");
                let old = match old.split_once("\n\tset excluded") {
                    Some((map, _)) if bare => format!("{map}}}"),
                    _ => old,
                };
                Some(format!("delete table {} hostport\n{old}", NAMES[family]))
            }
        }
    }
}

fn said_so(right: bool, expected: &str, said: &Finished) -> Result<(), String> {
    if right { Ok(()) } else { Err(format!("expected {expected}, and got {said:#?}")) }
}
