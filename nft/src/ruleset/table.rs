//! The ruleset: one table for each family, described once.
//!
//! [`Table`] is the description. Its `Display` is the ruleset as nft text; [`Table::messages`] is the
//! same as netlink messages. What each part is for stands beside it.

use std::fmt;

use crate::Family;
use crate::model::settings::{Settings, TableName};
use crate::ruleset::rule::{Field, Rule, Statement};
use crate::ruleset::set::{Contents, DataType, Hairpin, Published, SameLink, Set};
use crate::wire::message::Message;

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

/// What is in a table besides its skeleton.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Elements {
    pub(crate) ports: Vec<Published>,
    pub(crate) hairpin: Vec<Hairpin>,
    pub(crate) same_link: Vec<SameLink>,
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
    priority_name: &'static str,
}

/// `enum nf_inet_hooks` in `linux/netfilter.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    Prerouting,
    Output,
    Postrouting,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hook::Prerouting => "prerouting",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        })
    }
}

pub(crate) const PORTS: &str = "ports";
pub(crate) const EXCLUDED: &str = "excluded";
pub(crate) const HAIRPIN: &str = "hairpin";
pub(crate) const SAME_LINK: &str = "same_link";
const PUBLISH: &str = "publish";
const PREROUTING: &str = "prerouting";
const OUTPUT: &str = "output";

impl Table {
    /// The table with nothing published.
    ///
    /// ```
    /// # use hostport_nft::{Family, Settings, Table};
    /// let table = Table::new(Family::Ip, &Settings::default());
    /// assert!(table.to_string().contains("fib daddr type local goto publish"));
    /// ```
    pub fn new(family: Family, settings: &Settings) -> Self {
        Table::with(family, settings, Elements::default())
    }

    /// The table with mappings published, and the elements that belong to them.
    pub(crate) fn with(family: Family, settings: &Settings, elements: Elements) -> Self {
        Table {
            family,
            name: settings.table.clone(),
            comment: settings.comment(family),
            sets: sets(family, settings, elements),
            chains: chains(family, settings.localhost),
        }
    }

    /// How many chains and sets the kernel counts in the table.
    pub(crate) fn uses(&self) -> u32 {
        (self.chains.len() + self.sets.len()) as u32
    }

    /// What the kernel counts for the chains that tell whether all rules are there: a chain's own
    /// rules, and those of others that go to it.
    pub(crate) fn chain_uses(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let rules = || self.chains.iter().flat_map(|chain| &chain.rules);
        // The rules of prerouting and output go to `publish`, and so count there.
        let telling = self.chains.iter().filter(|chain| !matches!(chain.name, PREROUTING | OUTPUT));
        telling.map(move |chain| {
            let to_it = rules().filter(|rule| rule.0.contains(&Statement::Goto(chain.name)));
            (chain.name, (chain.rules.len() + to_it.count()) as u32)
        })
    }

    /// The messages that create the table, in order; none of them may be left out.
    ///
    /// The first one fails with EEXIST where the table exists.
    ///
    /// ```
    /// # use hostport_nft::{Family, Settings, Table};
    /// let table = Table::new(Family::Ip, &Settings::default());
    /// // One for the table, four for its sets, five for its chains, and one for each rule.
    /// assert_eq!(table.messages().len(), 1 + 4 + 5 + 9);
    /// ```
    pub fn messages(&self) -> Vec<Message> {
        let mut messages = vec![Message::new_table(self)];
        for (index, set) in self.sets.iter().enumerate() {
            messages.push(Message::new_set(self, set, index as u32 + 1));
        }
        messages.extend(self.chains.iter().map(|chain| Message::new_chain(self, chain)));
        for chain in &self.chains {
            messages.extend(chain.rules.iter().map(|rule| Message::new_rule(self, chain, rule)));
        }
        for set in &self.sets {
            let elements = set.contents.elements();
            messages.extend(Message::new_elements(self.family, &self.name, set.name, elements));
        }
        messages
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
    vec![
        // <hostIP, hostPort, protocol> -> the pod's endpoint.
        Set {
            data: vec![address, DataType::InetService],
            counter: true,
            ..set(
                PORTS,
                vec![address, DataType::InetService, DataType::InetProto],
                Contents::Ports(elements.ports),
            )
        },
        // Local to the kernel, but not this host's own, or beyond what translation can do.
        Set {
            interval: true,
            ..set(EXCLUDED, vec![address], Contents::Excluded(settings.excluded(family)))
        },
        // A pod that reaches itself through a host port needs its source rewritten.
        set(HAIRPIN, vec![address, address], Contents::Hairpin(elements.hairpin)),
        // Links on which a reply would bypass the host.
        set(
            SAME_LINK,
            vec![DataType::IfaceIndex, DataType::IfaceIndex],
            Contents::SameLink(elements.same_link),
        ),
    ]
}

fn chains(family: Family, localhost: bool) -> Vec<Chain> {
    use Statement::*;

    let key = |address: Field| vec![address, Field::Dport, Field::L4proto];
    let dnat = |address| Rule(vec![Dnat { family, fields: key(address), map: PORTS }]);
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
            set: HAIRPIN,
        }]),
        masquerade(vec![Lookup { fields: vec![Field::Iif, Field::Oif], set: SAME_LINK }]),
    ];
    if family == Family::Ip && localhost {
        postrouting.push(masquerade(vec![
            NotLoopbackLink(Field::Oif),
            LoopbackAddress(Field::Saddr(family)),
        ]));
    }

    let mut chains = vec![
        Chain {
            name: PUBLISH,
            base: None,
            rules: vec![
                Rule(vec![Lookup { fields: vec![Field::Daddr(family)], set: EXCLUDED }, Return]),
                dnat(Field::Daddr(family)),
                dnat(Field::Wildcard(family)),
            ],
        },
        Chain {
            name: PREROUTING,
            base: base("nat", Hook::Prerouting, -100, "dstnat"),
            rules: local_only(),
        },
        Chain { name: OUTPUT, base: base("nat", Hook::Output, -100, "-100"), rules: local_only() },
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

/// The table as nft text, which `nft -f` takes.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {} {{", self.family, self.name)?;
        writeln!(f, "\tcomment \"{}\"", self.comment)?;
        for set in &self.sets {
            write!(f, "\n{set}")?;
        }
        for chain in &self.chains {
            write!(f, "\n{chain}")?;
        }
        writeln!(f, "}}")
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tchain {} {{", self.name)?;
        if let Some(Base { kind, hook, priority_name, .. }) = &self.base {
            writeln!(f, "\t\ttype {kind} hook {hook} priority {priority_name}; policy accept;")?;
        }
        for rule in &self.rules {
            writeln!(f, "\t\t{rule}")?;
        }
        writeln!(f, "\t}}")
    }
}
