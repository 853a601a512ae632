//! A look at this host, repeated while what it finds may pass by itself.

use std::thread;
use std::time::Duration;

use hostport_nft::{SetReader, Snapshot};
use hostport_trace::Trace;

use crate::context::Context;
use crate::diagnose::checks::{self, listeners};
use crate::diagnose::error::DiagnoseError;
use crate::diagnose::firewall;
use crate::diagnose::{Finding, Inventory, Scope};
use crate::network::rtnetlink::{self, Socket};

/// How often the host is looked at, and how long to wait in between.
const LOOKS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(200);

/// What was read, what was asked about, and what was found.
pub struct Examination {
    pub inventory: Inventory,
    pub scope: Scope,
    pub findings: Vec<Finding>,
    /// The ruleset, to ask about packets.
    pub rules: Trace,
    /// The kernel, to ask about routes.
    pub socket: Socket,
}

impl Examination {
    /// Finds what is wrong with what `ask` asks about; also returns what else `ask` says.
    ///
    /// What is found may be a hook's work under way: then the host is looked at again.
    pub fn of<T>(
        context: &Context,
        ask: impl Fn(&Inventory, &mut Socket) -> Result<(Scope, T), rtnetlink::Error>,
    ) -> Result<(Self, T), DiagnoseError> {
        let mut looks = 0;
        loop {
            let snapshot = Snapshot::read()?;
            let mut socket = Socket::open()?;
            let inventory = Inventory::gather(context, &snapshot, &mut socket)?;
            let (scope, asked) = ask(&inventory, &mut socket)?;
            let mut findings = checks::find(&inventory, &scope);
            looks += 1;
            if looks < LOOKS && findings.iter().any(|finding| finding.kind.meaning().may_pass) {
                thread::sleep(PAUSE);
                continue;
            }
            let mut sets = SetReader::open()?;
            let mut rules = Trace::new(snapshot, context.table.clone(), move |set| sets.read(set));
            // What takes long for many host ports and rules, and does not pass.
            findings.extend(firewall::find(&mut rules, &inventory, &scope));
            findings.extend(listeners::find(&inventory, &scope));
            return Ok((Examination { inventory, scope, findings, rules, socket }, asked));
        }
    }
}

/// All findings about every host port, in the order of their kinds.
pub fn every_port(context: &Context) -> Result<Vec<Finding>, DiagnoseError> {
    let ask = |inventory: &_, socket: &mut _| Ok((Scope::of(None, inventory, socket)?, ()));
    let mut findings = match Examination::of(context, ask) {
        Err(DiagnoseError::Ruleset(hostport_nft::Error::NoNfTables)) => {
            vec![checks::without_nf_tables()]
        }
        examined => examined?.0.findings,
    };
    findings.sort_by_key(|finding| finding.kind);
    Ok(findings)
}
