//! The ruleset: one table for each family, described once.
//!
//! [`Table`] is the description. Its `Display` is the ruleset as nft text; [`Table::messages`] is the
//! same as netlink messages. Comments say what each part is for.

use super::element::{Hairpin, Masqueraded, SameLink};
use super::host::{Kept, Restricted, Source};
use super::rule::{Field, Rule, Statement};
use super::set::{Contents, DataType, Set, SetName};
use crate::model::{Boot, Family, Hook, Published, Settings, TableName};

/// The table of one family, with everything in it.
///
/// ```
/// use hostport_nft::{Family, Settings, Table};
///
/// let table = Table::new(Family::Ip6, &Settings::default());
/// print!("{table}"); // what `nft --file` takes
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub(crate) family: Family,
    pub(crate) name: TableName,
    pub(crate) comment: String,
    pub(crate) sets: Vec<Set>,
    pub(crate) chains: Vec<Chain>,
}

/// The elements of a table, except for those that the settings give.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Elements {
    pub(crate) ports: Vec<Published>,
    pub(crate) kept: Vec<Kept>,
    pub(crate) restricted: Vec<Restricted>,
    pub(crate) sources: Vec<Source>,
    pub(crate) hairpin: Vec<Hairpin>,
    pub(crate) same_link: Vec<SameLink>,
    pub(crate) masqueraded: Vec<Masqueraded>,
}

/// A chain and its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    pub(crate) base: Option<Base>,
    pub(crate) rules: Vec<Rule>,
}

/// Where the kernel calls a base chain from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) kind: &'static str,
    pub(crate) hook: Hook,
    /// `enum nf_ip_hook_priorities` in `linux/netfilter_ipv4.h`: lower comes first.
    pub(crate) priority: i32,
    /// The name that nft has for the priority on that hook.
    pub(super) priority_name: &'static str,
}

const PUBLISH: &str = "publish";
const PREROUTING: &str = "prerouting";
const OUTPUT: &str = "output";

impl Table {
    /// The table with nothing published, and of no boot.
    ///
    /// ```
    /// # use hostport_nft::{Family, Settings, Table};
    /// let table = Table::new(Family::Ip, &Settings::default());
    /// assert!(table.to_string().contains("fib daddr type local goto publish"));
    /// ```
    pub fn new(family: Family, settings: &Settings) -> Self {
        Table::with(family, settings, None, Elements::default())
    }

    /// The table with mappings published, and the elements that belong to them.
    pub(crate) fn with(
        family: Family,
        settings: &Settings,
        boot: Option<&Boot>,
        elements: Elements,
    ) -> Self {
        Table {
            family,
            name: settings.table.clone(),
            comment: settings.comment(family, boot),
            sets: sets(family, settings, elements),
            chains: chains(family, settings),
        }
    }

    /// How many chains and sets the kernel counts in the table.
    pub(crate) fn uses(&self) -> u32 {
        (self.chains.len() + self.sets.len()) as u32
    }

    /// What the kernel counts for the chains that show whether all rules are present: a chain's own
    /// rules, and those of others that go to it.
    pub(crate) fn chain_uses(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let rules = || self.chains.iter().flat_map(|chain| &chain.rules);
        // The rules of prerouting and output go to `publish`, so they are counted there.
        let telling = self.chains.iter().filter(|chain| !matches!(chain.name, PREROUTING | OUTPUT));
        telling.map(move |chain| {
            let to_it = rules().filter(|rule| rule.0.contains(&Statement::Goto(chain.name)));
            (chain.name, (chain.rules.len() + to_it.count()) as u32)
        })
    }
}

fn sets(family: Family, settings: &Settings, elements: Elements) -> Vec<Set> {
    let address = DataType::address(family);
    let set = |name, key, contents| Set {
        name,
        key,
        data: vec![],
        interval: false,
        counter: false,
        contents,
    };
    let host = || vec![address, DataType::InetService, DataType::InetProto];
    let mut sets = vec![
        // <hostIP, hostPort, protocol> -> the pod's endpoint.
        Set {
            data: vec![address, DataType::InetService],
            counter: true,
            ..set(SetName::Ports, host(), Contents::Ports(elements.ports))
        },
        // Local to the kernel, but not this host's own, or beyond what translation can do.
        Set {
            interval: true,
            ..set(SetName::Excluded, vec![address], Contents::Prefixes(settings.excluded(family)))
        },
        // A process of this host listens on exactly this address: the wildcard leaves it alone.
        set(SetName::Kept, host(), Contents::Kept(elements.kept)),
        // Host ports that only some sources may reach, and these sources.
        set(SetName::Restricted, host(), Contents::Restricted(elements.restricted)),
        Set {
            interval: true,
            ..set(
                SetName::Sources,
                [host(), vec![address]].concat(),
                Contents::Sources(elements.sources),
            )
        },
        // A pod that reaches itself through a host port needs its source rewritten.
        set(SetName::Hairpin, vec![address, address], Contents::Hairpin(elements.hairpin)),
        // Links on which a reply would bypass the host.
        set(
            SetName::SameLink,
            vec![DataType::Ifname, DataType::Ifname],
            Contents::SameLink(elements.same_link),
        ),
        // Endpoints whose replies to others would bypass the host, or for which masquerading was asked.
        set(SetName::Masqueraded, vec![address], Contents::Masqueraded(elements.masqueraded)),
    ];
    if let Some(prefixes) = settings.listened(family) {
        let contents = Contents::Prefixes(prefixes);
        sets.push(Set { interval: true, ..set(SetName::Listen, vec![address], contents) });
    }
    sets
}

fn chains(family: Family, settings: &Settings) -> Vec<Chain> {
    use Statement::*;

    let key = |address: Field| vec![address, Field::Dport, Field::L4proto];
    let dnat = |address| Rule(vec![Dnat { family, fields: key(address), map: SetName::Ports }]);
    let restricted = |address| {
        let source = vec![address, Field::Dport, Field::CtProtocol, Field::Saddr(family)];
        let restricted = Lookup { fields: key(address), set: SetName::Restricted };
        Rule(vec![restricted, NoLookup { fields: source, set: SetName::Sources }, Drop])
    };
    let base =
        |kind, hook, priority, priority_name| Some(Base { kind, hook, priority, priority_name });
    // Without the gate, a mapping could capture traffic that the host only forwards.
    let local_only = || vec![Rule(vec![LocalDestination, Goto(PUBLISH)])];
    let masquerade = |matches: Vec<Statement>| {
        let mut statements = vec![OnlyDestinationTranslated];
        statements.extend(matches);
        statements.push(Masquerade);
        Rule(statements)
    };

    let mut postrouting = vec![
        masquerade(vec![Lookup {
            fields: vec![Field::Saddr(family), Field::Daddr(family)],
            set: SetName::Hairpin,
        }]),
        masquerade(vec![Lookup {
            fields: vec![Field::Iifname, Field::Oifname],
            set: SetName::SameLink,
        }]),
        masquerade(vec![Lookup { fields: vec![Field::Daddr(family)], set: SetName::Masqueraded }]),
    ];
    if family == Family::Ip && settings.localhost {
        postrouting.push(masquerade(vec![
            NotLoopbackLink(Field::Oif),
            LoopbackAddress(Field::Saddr(family)),
        ]));
    }

    let mut publish = vec![
        Rule(vec![Lookup { fields: vec![Field::Daddr(family)], set: SetName::Excluded }, Return]),
        restricted(Field::Daddr(family)),
        dnat(Field::Daddr(family)),
        Rule(vec![Lookup { fields: key(Field::Daddr(family)), set: SetName::Kept }, Return]),
    ];
    if !settings.listen.is_empty() {
        let not_covered = NoLookup { fields: vec![Field::Daddr(family)], set: SetName::Listen };
        publish.push(Rule(vec![not_covered, Return]));
    }
    publish.extend([restricted(Field::Wildcard(family)), dnat(Field::Wildcard(family))]);
    let mut chains = vec![
        Chain { name: PUBLISH, base: None, rules: publish },
        Chain {
            name: PREROUTING,
            // Behind the chains of others at dstnat, in whichever order they were made: services stay theirs.
            base: base("nat", Hook::Prerouting, -90, "dstnat + 10"),
            rules: local_only(),
        },
        Chain { name: OUTPUT, base: base("nat", Hook::Output, -90, "-90"), rules: local_only() },
        Chain {
            name: "postrouting",
            base: base("nat", Hook::Postrouting, 100, "srcnat"),
            rules: postrouting,
        },
    ];
    if family == Family::Ip {
        // route_localnet lets a neighbour reach services bound to 127.0.0.1 (CVE-2020-8558). The
        // guard stays when localhost is switched off: links may still have the setting.
        chains.push(Chain {
            name: "guard",
            base: base("filter", Hook::Prerouting, -300, "raw"),
            rules: vec![Rule(vec![
                NotLoopbackLink(Field::Iif),
                LoopbackAddress(Field::Daddr(family)),
                Counter,
                Drop,
            ])],
        });
    }
    chains
}
