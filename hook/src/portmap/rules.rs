//! portmap's rules in nf_tables: those of its backend iptables where iptables is iptables-nft, and those of its
//! backend nftables (plugins/meta/portmap of containernetworking/plugins).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hostport_nft::object::{ExpressionObject, NfFamily, ObjectId, RuleObject};
use hostport_nft::{Endpoint, Family, Foreign, HostPort, Mapping, Port, Protocol, Snapshot};
use hostport_trace::dnat;

/// The table of the backend nftables.
const TABLE: &str = "cni_hostport";
/// The chains of the backend iptables, in the table `nat`. Versions before 0.8 had those with an S for the source.
const CHAINS: [&str; 3] = ["CNI-HOSTPORT-", "CNI-DN-", "CNI-SN-"];

/// What portmap has in a ruleset.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// The host ports that they translate.
    pub mappings: BTreeSet<Mapping>,
    /// Rules that translate what is not understood, each as `CHAIN handle N`.
    pub strange: Vec<String>,
    /// All of it, with the rules that lead to it.
    pub all: Vec<Foreign>,
}

impl Rules {
    /// Finds them.
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut rules = Rules::default();
        for family in Family::ALL {
            rules.add(snapshot, family);
        }
        rules
    }

    fn add(&mut self, snapshot: &Snapshot, family: Family) {
        let of = NfFamily::from(family);
        if snapshot.tables.contains_key(&(of, TABLE.to_owned())) {
            self.all.push(Foreign::Table(of, TABLE.to_owned()));
        }
        let is_own = |table: &str, chain: &str| {
            table == TABLE
                || table == "nat" && CHAINS.iter().any(|beginning| chain.starts_with(beginning))
        };
        for (id, chain) in snapshot.chains.iter().filter(|(id, _)| id.family == of) {
            if !is_own(&id.table, &id.name) {
                let leads_there = |rule: &&RuleObject| {
                    // NFTA_IMMEDIATE_DATA.
                    let immediate = rule.expressions.iter().filter(|one| one.name == "immediate");
                    let mut chains = immediate.filter_map(|one| one.verdict(2)?.chain);
                    chains.any(|to| is_own(&id.table, &to))
                };
                let rules = chain.rules.iter().filter(leads_there);
                self.all.extend(rules.map(|rule| Foreign::Rule(id.clone(), rule.handle)));
                continue;
            }
            if id.table != TABLE {
                self.all.push(Foreign::Chain(id.clone()));
            }
            chain.rules.iter().for_each(|rule| self.add_rule(family, id, rule));
        }
    }

    fn add_rule(&mut self, family: Family, chain: &ObjectId, rule: &RuleObject) {
        let mut translation = Translation::of(family);
        rule.expressions.iter().for_each(|expression| translation.read(expression));
        if translation.translates {
            match translation.mapping() {
                Some(mapping) => {
                    self.mappings.insert(mapping);
                }
                None => self.strange.push(format!("{} handle {}", chain.name, rule.handle)),
            }
        }
    }
}

/// A rule, as far as it is read.
struct Translation {
    family: Family,
    registers: BTreeMap<u32, Loaded>,
    protocol: Option<Protocol>,
    host_ip: IpAddr,
    port: Option<Port>,
    endpoint: Option<Endpoint>,
    /// It asks for more than what a mapping has.
    is_strange: bool,
    translates: bool,
}

/// What a register holds.
enum Loaded {
    Protocol,
    Destination,
    Port,
    Value(Vec<u8>),
    Other,
}

impl Translation {
    fn of(family: Family) -> Self {
        Translation {
            family,
            registers: BTreeMap::new(),
            protocol: None,
            host_ip: family.wildcard(),
            port: None,
            endpoint: None,
            is_strange: false,
            translates: false,
        }
    }

    fn read(&mut self, expression: &ExpressionObject) {
        // NFT_META_L4PROTO; NFT_PAYLOAD_NETWORK_HEADER and NFT_PAYLOAD_TRANSPORT_HEADER.
        const L4PROTO: Option<u32> = Some(16);
        const NETWORK: Option<u32> = Some(1);
        const TRANSPORT: Option<u32> = Some(2);
        let (first, second) = (expression.number(1), expression.number(2));
        let loaded = match (expression.name.as_str(), self.family) {
            ("meta", _) if second == L4PROTO => Loaded::Protocol,
            // NFTA_PAYLOAD_BASE, _OFFSET and _LEN.
            ("payload", family) => {
                match (second, expression.number(3), expression.number(4), family) {
                    (NETWORK, Some(9), Some(1), Family::Ip) => Loaded::Protocol,
                    (NETWORK, Some(16), Some(4), Family::Ip) => Loaded::Destination,
                    (NETWORK, Some(24), Some(16), Family::Ip6) => Loaded::Destination,
                    (TRANSPORT, Some(2), Some(2), _) => Loaded::Port,
                    _ => Loaded::Other,
                }
            }
            ("immediate", _) => Loaded::Value(expression.value(2).unwrap_or_default().to_vec()),
            ("counter", _) => return,
            ("cmp", _) => return self.compare(expression),
            ("match", _) => return self.matches(expression),
            ("target", _) if expression.text(1).as_deref() == Some("DNAT") => {
                self.translates = true;
                if let Some((address, Some(port))) = dnat(expression) {
                    self.endpoint = endpoint(self.family, address, port);
                }
                return;
            }
            // NFTA_NAT_TYPE: NFT_NAT_DNAT; NFTA_NAT_REG_ADDR_MIN and NFTA_NAT_REG_PROTO_MIN.
            ("nat", _) if first == Some(1) => {
                self.translates = true;
                if let (Some(address), Some(port)) =
                    (self.value(expression.number(3)), self.value(expression.number(5)))
                    && let Some(port) = port.first_chunk()
                {
                    self.endpoint = endpoint(self.family, address, u16::from_be_bytes(*port));
                }
                return;
            }
            _ => Loaded::Other,
        };
        if let Some(register) = first {
            self.registers.insert(register, loaded);
        }
    }

    fn value(&self, register: Option<u32>) -> Option<&[u8]> {
        match self.registers.get(&register?)? {
            Loaded::Value(value) => Some(value),
            _ => None,
        }
    }

    /// NFTA_CMP_SREG, NFTA_CMP_OP (NFT_CMP_EQ is 0) and NFTA_CMP_DATA.
    fn compare(&mut self, expression: &ExpressionObject) {
        let loaded = expression.number(1).and_then(|register| self.registers.get(&register));
        let value = expression.value(3).filter(|_| expression.number(2) == Some(0));
        match (loaded, value) {
            (Some(Loaded::Protocol), Some([number])) => {
                self.protocol = Protocol::from_number(*number);
            }
            (Some(Loaded::Port), Some([high, low])) => {
                self.port = Port::new(u16::from_be_bytes([*high, *low]));
            }
            (Some(Loaded::Destination), Some(ip)) => match address(self.family, ip) {
                Some(ip) => self.host_ip = ip,
                None => self.is_strange = true,
            },
            _ => self.is_strange = true,
        }
    }

    /// The matches of iptables before 1.8.8 for ports: `struct xt_tcp` and `struct xt_udp` begin with the first and the
    /// last source and destination port, in host byte order.
    fn matches(&mut self, expression: &ExpressionObject) {
        let info = expression.bytes(3).unwrap_or_default();
        match (expression.text(1).as_deref(), info) {
            (Some("comment"), _) => {}
            (Some("tcp" | "udp"), [0, 0, 0xff, 0xff, a, b, c, d, ..]) if [a, b] == [c, d] => {
                self.port = Port::new(u16::from_ne_bytes([*a, *b]));
            }
            _ => self.is_strange = true,
        }
    }

    fn mapping(&self) -> Option<Mapping> {
        let host = HostPort { host_ip: self.host_ip, port: self.port?, protocol: self.protocol? };
        Mapping::new(host, self.endpoint?).ok().filter(|_| !self.is_strange)
    }
}

/// The beginning of what may be longer.
fn address(family: Family, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        Family::Ip => bytes.first_chunk::<4>().map(|ip| Ipv4Addr::from(*ip).into()),
        Family::Ip6 => bytes.first_chunk::<16>().map(|ip| Ipv6Addr::from(*ip).into()),
    }
}

fn endpoint(family: Family, ip: &[u8], port: u16) -> Option<Endpoint> {
    Some(Endpoint { ip: address(family, ip)?, port: Port::new(port)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_expressions_are_read(
            steps in prop::collection::vec((0usize..7, prop::collection::vec(any::<u8>(), 0..60)), 0..8),
        ) {
            let names = ["meta", "payload", "immediate", "cmp", "match", "target", "nat"];
            let mut translation = Translation::of(Family::Ip6);
            for (name, data) in steps {
                translation.read(&ExpressionObject { name: names[name].to_owned(), data });
            }
            let _ = translation.mapping();
        }
    }
}
