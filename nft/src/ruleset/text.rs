//! The ruleset as nft text.

use std::fmt;

use ipnet::IpNet;

use super::element::{Hairpin, Masqueraded, SameLink};
use super::host::{Kept, Restricted, Source};
use super::rule::{Field, Rule, Statement};
use super::set::{Contents, DataType, Set, SetName};
use super::table::{Base, Chain, Table};
use crate::model::{Counter, HostPort, OwnerId, Published};

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

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\t{} {} {{", self.kind(), self.name)?;
        write!(f, "\t\ttype {}", DataType::joined_name(&self.key))?;
        if !self.data.is_empty() {
            write!(f, " : {}", DataType::joined_name(&self.data))?;
        }
        writeln!(f)?;
        if self.interval {
            writeln!(f, "\t\tflags interval")?;
        }
        if self.counter {
            writeln!(f, "\t\tcounter")?;
        }
        let elements = self.contents.texts();
        if !elements.is_empty() {
            writeln!(f, "\t\telements = {{ {} }}", elements.join(",\n\t\t\t     "))?;
        }
        writeln!(f, "\t}}")
    }
}

/// nft writes a prefix that is a single address without its length.
fn prefix_text(prefix: &IpNet) -> String {
    if prefix.prefix_len() == prefix.max_prefix_len() {
        prefix.addr().to_string()
    } else {
        prefix.to_string()
    }
}

impl Contents {
    fn texts(&self) -> Vec<String> {
        match self {
            Contents::Ports(ports) => ports.iter().map(Published::to_string).collect(),
            Contents::Prefixes(prefixes) => prefixes.iter().map(prefix_text).collect(),
            Contents::Kept(kept) => kept.iter().map(|Kept(host)| key(*host)).collect(),
            Contents::Restricted(hosts) => hosts.iter().map(Restricted::to_string).collect(),
            Contents::Sources(sources) => sources.iter().map(Source::to_string).collect(),
            Contents::Hairpin(pods) => pods.iter().map(Hairpin::to_string).collect(),
            Contents::SameLink(links) => links.iter().map(SameLink::to_string).collect(),
            Contents::Masqueraded(pods) => pods.iter().map(Masqueraded::to_string).collect(),
        }
    }
}

/// A host port as the key of a set.
fn key(host: HostPort) -> String {
    format!("{} . {} . {}", host.host_ip, host.port, host.protocol)
}

fn write_comment(f: &mut fmt::Formatter<'_>, comment: Option<&str>) -> fmt::Result {
    comment.map_or(Ok(()), |comment| write!(f, " comment \"{comment}\""))
}

impl fmt::Display for Restricted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&key(self.host))?;
        write_comment(f, self.owner.as_ref().map(OwnerId::as_str))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} . {}", key(self.host), prefix_text(&self.net))?;
        write_comment(f, self.owner.as_ref().map(OwnerId::as_str))
    }
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = self.mapping.endpoint();
        f.write_str(&key(self.mapping.host()))?;
        if self.counter != Counter::default() {
            write!(f, " counter packets {} bytes {}", self.counter.packets, self.counter.bytes)?;
        }
        write_comment(f, self.owner.as_ref().map(OwnerId::as_str))?;
        write!(f, " : {} . {}", endpoint.ip, endpoint.port)
    }
}

impl fmt::Display for Hairpin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} . {}", self.pod, self.pod)?;
        write_comment(f, self.owner.comment())
    }
}

impl fmt::Display for Masqueraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.pod)?;
        write_comment(f, self.owner.comment())
    }
}

impl fmt::Display for SameLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{0}\" . \"{0}\"", self.0)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::Saddr(family) => write!(f, "{family} saddr"),
            Field::Daddr(family) => write!(f, "{family} daddr"),
            Field::Wildcard(family) => write!(f, "{family} daddr & {}", family.wildcard()),
            Field::Dport => f.write_str("th dport"),
            Field::L4proto => f.write_str("meta l4proto"),
            Field::CtProtocol => f.write_str("ct protocol"),
            Field::Iif => f.write_str("iif"),
            Field::Oif => f.write_str("oif"),
            Field::Iifname => f.write_str("iifname"),
            Field::Oifname => f.write_str("oifname"),
        }
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Statement::LocalDestination => f.write_str("fib daddr type local"),
            Statement::Lookup { fields, set } => write!(f, "{} @{set}", joined(fields)),
            Statement::NoLookup { fields, set } => write!(f, "{} != @{set}", joined(fields)),
            Statement::OnlyDestinationTranslated => {
                f.write_str("ct status & (snat | dnat) == dnat")
            }
            Statement::NotLoopbackLink(link) => write!(f, "{link} != \"lo\""),
            Statement::LoopbackAddress(address) => write!(f, "{address} 127.0.0.0/8"),
            Statement::Dnat { family, fields, map } => {
                write!(f, "dnat {family} to {} map @{map}", joined(fields))
            }
            Statement::Masquerade => f.write_str("masquerade"),
            Statement::Counter => f.write_str("counter"),
            Statement::Drop => f.write_str("drop"),
            Statement::Return => f.write_str("return"),
            Statement::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

/// nft's concatenation: the values with ` . ` between them.
fn joined<T: ToString>(values: &[T]) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(" . ")
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: Vec<_> = self.0.iter().map(Statement::to_string).collect();
        f.write_str(&text.join(" "))
    }
}
