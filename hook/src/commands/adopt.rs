//! `hostport adopt`: what portmap has published, without draining the node.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::mem::take;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hostport_nft::{Family, Gather, HostPort, HostPorts, Mapping, Published, Settings, Snapshot};

use super::cni::{AddError, no_previous, own_namespace, publish_requests};
use crate::admission::AdmissionError;
use crate::cni::{CniError, Code, Configuration, Operation};
use crate::commands::{CommandError, print};
use crate::context::Context;
use crate::journal::{JournalSnapshot, Liveness, Proc};
use crate::network::container::{Pod, PodError};
use crate::network::namespace::{self, NetworkNamespace};
use crate::output::{count, escape, several};
use crate::portmap::{Record, Rules};
use crate::reconcile;
use crate::request::annotations::resolve;
use crate::request::names::Called;

/// What the caller asked for.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// Only look what would change.
    pub dry_run: bool,
    /// Remove portmap's rules as well.
    pub remove: bool,
}

/// Publishes what is recorded and alive; prints a line for each host port, and a summary.
pub fn run(folder: &Path, how: How, context: &Context) -> Result<ExitCode, CommandError> {
    let settings = Settings { table: context.table.clone(), ..Settings::default() };
    let host_ports = HostPorts::open(settings)?;
    let mut adoption = Adoption {
        context,
        how,
        host_ports,
        adopted: BTreeMap::new(),
        text: String::new(),
        present: 0,
        failed: 0,
    };
    for path in files(folder)? {
        let name = escape::path(path.file_name().map(Path::new).unwrap_or(&path));
        let record = fs::read(&path).map_err(|error| CniError::new(Code::Io, error));
        let done = match record.and_then(|text| Record::read(&text)) {
            Ok(Some(record)) => adoption.adopt(&record),
            Ok(None) => continue,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = done {
            adoption.fails(&format!("{name}: {error}"));
        }
        adoption.print()?;
    }
    let (done, adopted) = (adoption.did("adopted", "would adopt"), adoption.adopted.len());
    let (present, failed) = (adoption.present, adoption.failed);
    print(&format!(
        "{done} {}, {present} were published already, {failed} failed\n",
        count(adopted, "host port")
    ))?;
    match how.remove {
        true => adoption.remove()?,
        false => adoption.say_how_to_go_on()?,
    }
    Ok(if adoption.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The files of a folder, the oldest first: of two pods that ask for one port, portmap's older one has it.
fn files(folder: &Path) -> Result<Vec<PathBuf>, CommandError> {
    let failed = |error| CommandError::Records { folder: folder.to_owned(), error };
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // One that is gone by now belonged to a pod that is gone.
        let Ok(file) = entry.metadata() else { continue };
        if file.is_file() && file.len() <= LARGEST {
            files.insert((file.modified().map_err(failed)?, entry.path()));
        }
    }
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

/// The largest record that is read, in bytes.
const LARGEST: u64 = 8 * 1024 * 1024;

struct Adoption<'a> {
    context: &'a Context,
    how: How,
    host_ports: HostPorts,
    /// What is to be printed.
    text: String,
    /// What was adopted, or would be.
    adopted: BTreeMap<HostPort, Mapping>,
    /// How many host ports were published already.
    present: usize,
    /// How many host ports or records could not be adopted.
    failed: usize,
}

impl Adoption<'_> {
    fn did<'a>(&self, done: &'a str, would: &'a str) -> &'a str {
        if self.how.dry_run { would } else { done }
    }

    fn print(&mut self) -> Result<(), CommandError> {
        print(&take(&mut self.text))
    }

    fn fails(&mut self, why: &str) {
        self.failed += 1;
        self.text.push_str(&format!("not adopted: {why}\n"));
    }

    fn get(&mut self, host: HostPort) -> Result<Option<Published>, AddError> {
        Ok(self.host_ports.get(host).map_err(reconcile::Error::from)?)
    }

    fn adopt(&mut self, record: &Record) -> Result<(), AddError> {
        use namespace::Error::{Gone, NotANetworkNamespace};
        let Record { environment, configuration } = record;
        let configuration = Configuration::read(configuration, Operation::Add)?;
        let mut requests = configuration.requests()?;
        let owner = environment.owner()?;
        let called = Called(&owner, &environment.names);
        let path = environment.namespace.as_deref().unwrap_or(Path::new(""));
        let namespace = match NetworkNamespace::open(path) {
            // The runtime's records outlive a reboot.
            Err(Gone(_) | NotANetworkNamespace(_)) => {
                let path = escape::path(path);
                self.text.push_str(&format!(
                    "left out {called}: its network namespace {path} is gone\n"
                ));
                return Ok(());
            }
            namespace => namespace.map_err(PodError::from).map_err(AdmissionError::from)?,
        };
        let previous = configuration.previous.ok_or_else(no_previous)?;
        let endpoints = previous.endpoints(&environment.interface)?;
        // By another process's number, the path may lead into another pod by now.
        let pod = Pod::find(namespace, &[], &endpoints).map_err(AdmissionError::from)?;
        let mut pod = pod.ok_or_else(|| own_namespace(path))?;
        pod.keep_only(&endpoints);
        let endpoints = pod.addresses();
        if endpoints.is_empty() {
            let path = escape::path(path);
            self.text.push_str(&format!("left out {called}: {path} has none of its addresses\n"));
            return Ok(());
        }
        // As portmap does.
        let has = |host: HostPort| endpoints.iter().any(|ip| Family::of(*ip) == host.family());
        requests.retain(|request| request.host_ports().any(has));
        let (mappings, _) = resolve(&requests, &endpoints).map_err(AdmissionError::from)?;
        let mut new = Vec::new();
        for mapping in mappings {
            let there = self.get(mapping.host())?;
            let is_own = |there: &Published| {
                there.mapping == mapping && there.owner.as_ref() == Some(&owner)
            };
            match there.as_ref().is_some_and(is_own) {
                true => self.present += 1,
                false if self.how.dry_run => self.would_adopt(mapping, there, called),
                false => new.push(mapping),
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let mut taken = Vec::new();
        let mut leaves_out = |error: &reconcile::Error| {
            taken.push(error.to_string());
            true
        };
        let context = self.context;
        publish_requests(
            environment,
            &configuration,
            context,
            &requests,
            endpoints,
            &mut leaves_out,
        )?;
        for why in taken {
            self.fails(&format!("{why}; asked for by {called}"));
        }
        for mapping in new {
            // Otherwise it was named, or another interface of the container has it.
            if self.get(mapping.host())?.is_some_and(|there| there.mapping == mapping) {
                self.text.push_str(&format!("adopted {mapping} of {called}\n"));
                self.adopted.insert(mapping.host(), mapping);
            }
        }
        Ok(())
    }

    fn would_adopt(&mut self, mapping: Mapping, there: Option<Published>, called: Called<'_>) {
        let host = mapping.host();
        let is_dead = |there: &Published| {
            let entries = JournalSnapshot::of_owners(&self.context.state_dir, &there.owner);
            entries.first().is_some_and(|entry| Proc.is_dead(entry))
        };
        let kept = there.filter(|there| !is_dead(there)).map(|there| there.mapping);
        match kept.or_else(|| self.adopted.get(&host).copied()) {
            Some(by) => self.fails(&format!(
                "host port {host} leads to {} by then; asked for by {called}",
                by.endpoint()
            )),
            None => {
                self.adopted.insert(host, mapping);
                self.text.push_str(&format!("would adopt {mapping} of {called}\n"));
            }
        }
    }

    /// Removes portmap's rules, unless that would close a port.
    fn remove(&mut self) -> Result<(), CommandError> {
        let (mut rules, mut left) = (Rules::default(), Vec::new());
        Snapshot::delete(|snapshot| {
            rules = Rules::of(snapshot);
            // Read between the ruleset and its change, so that both are of one moment.
            let published = self.host_ports.list()?.into_iter().map(|there| there.mapping);
            let later = self.adopted.values().filter(|_| self.how.dry_run).copied();
            let published: BTreeSet<Mapping> = published.chain(later).gather();
            left = rules.strange.clone();
            let missing = rules.mappings.iter().filter(|mapping| !published.contains(mapping));
            left.extend(missing.map(Mapping::to_string));
            Ok::<_, hostport_nft::Error>(match left.is_empty() && !self.how.dry_run {
                true => rules.all.clone(),
                false => Vec::new(),
            })
        })?;
        if !left.is_empty() {
            let left = several(left);
            self.fails(&format!("portmap's rules stay, all of them, because of {left}"));
            return self.print();
        }
        if rules.all.is_empty() {
            return print(&legacy().unwrap_or_else(|| "portmap has no rules here\n".to_owned()));
        }
        let (removed, ports) = (self.did("removed", "would remove"), rules.mappings.len());
        print(&format!("{removed} portmap's rules for {}\n", count(ports, "host port")))
    }

    fn say_how_to_go_on(&self) -> Result<(), CommandError> {
        if Rules::of(&Snapshot::read()?).all.is_empty() && legacy().is_none() {
            return Ok(());
        }
        print(
            "portmap's rules are there, and come first; once the node's CNI list names hostport: \
             hostport adopt --remove\n",
        )
    }
}

/// How to remove the rules of iptables-legacy, where it has a table for portmap's: nf_tables does not see them.
fn legacy() -> Option<String> {
    let commands = [("ip", "iptables"), ("ip6", "ip6tables")].map(|(family, program)| {
        let tables = fs::read_to_string(format!("/proc/net/{family}_tables_names"));
        let has_nat = tables.is_ok_and(|tables| tables.lines().any(|table| table == "nat"));
        has_nat.then(|| format!(
            "{program}-legacy-save --counters --table nat | grep -v -e CNI-HOSTPORT- -e CNI-DN- | \
             {program}-legacy-restore --counters\n"
        ))
    });
    let commands: String = commands.into_iter().flatten().collect();
    (!commands.is_empty()).then(|| {
        format!("iptables-legacy may have rules of portmap; remove them with:\n{commands}")
    })
}
