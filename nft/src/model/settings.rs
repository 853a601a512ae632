//! What an operator can choose about the ruleset.

use std::fmt;
use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use fnv::FnvHasher;
use ipnet::{IpNet, Ipv4Net};
use thiserror::Error;

use super::boot::Boot;
use super::family::Family;

/// The name of both tables: a letter, then letters, digits, `_` or `-`; at most 64 characters.
///
/// The kernel takes nearly anything (NFT_TABLE_MAXNAMELEN is 256); this is what nft's own grammar
/// takes without quotes, so that an operator can type it.
///
/// ```
/// use hostport_nft::TableName;
///
/// assert_eq!(TableName::default().to_string(), "hostport");
/// assert_eq!("edge-2".parse::<TableName>()?.as_str(), "edge-2");
/// # Ok::<(), hostport_nft::InvalidTableName>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName(String);

impl TableName {
    /// The name as text.
    ///
    /// ```
    /// # use hostport_nft::TableName;
    /// assert_eq!(TableName::default().as_str(), "hostport");
    /// ```
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TableName {
    fn default() -> Self {
        TableName("hostport".to_owned())
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TableName {
    type Err = InvalidTableName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = text.len() <= 64
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if valid { Ok(TableName(text.to_owned())) } else { Err(InvalidTableName) }
    }
}

/// Text that cannot name a table.
///
/// ```
/// use hostport_nft::{InvalidTableName, TableName};
///
/// assert_eq!("no spaces".parse::<TableName>(), Err(InvalidTableName));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a table name is a letter, then letters, digits, _ or -, at most 64 characters")]
pub struct InvalidTableName;

/// The settings of a ruleset. Two rulesets with equal settings are equal.
///
/// ```
/// use hostport_nft::{Family, Settings, Table};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let settings = Settings { exclude: vec!["10.96.0.0/12".parse()?], ..Settings::default() };
/// assert!(settings.is_excluded("10.96.0.1".parse()?));
/// // What nft would show of it.
/// let text = Table::new(Family::Ip, &settings).to_string();
/// assert!(text.starts_with("table ip hostport {") && text.contains("10.96.0.0/12"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The name of the table, in both families.
    pub table: TableName,
    /// Destinations that keep their own service although they are local: Kubernetes' service ranges
    /// where kube-proxy runs in IPVS mode.
    pub exclude: Vec<IpNet>,
    /// Whether 127.0.0.0/8 on the node leads to host ports too.
    pub localhost: bool,
    /// The node's addresses that wildcards cover; empty for all of them.
    pub listen: Vec<IpNet>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            table: TableName::default(),
            exclude: Vec::new(),
            localhost: true,
            listen: Vec::new(),
        }
    }
}

impl Settings {
    /// Whether a host port on this address would never be looked up.
    ///
    /// ```
    /// # use hostport_nft::Settings;
    /// // IPv6 has no route_localnet, so nothing can be published there.
    /// assert!(Settings::default().is_excluded("::1".parse()?));
    /// assert!(!Settings::default().is_excluded("127.0.0.1".parse()?));
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    pub fn is_excluded(&self, host_ip: IpAddr) -> bool {
        self.excluded(Family::of(host_ip)).iter().any(|net| net.contains(&host_ip))
    }

    /// Whether wildcards cover this address.
    ///
    /// ```
    /// # use hostport_nft::Settings;
    /// let listen = vec!["192.0.2.1/32".parse()?];
    /// let settings = Settings { listen, ..Settings::default() };
    /// assert!(settings.covers("192.0.2.1".parse()?) && !settings.covers("192.0.2.2".parse()?));
    /// assert!(Settings::default().covers("192.0.2.2".parse()?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn covers(&self, host_ip: IpAddr) -> bool {
        self.listen.is_empty() || self.listen.iter().any(|net| net.contains(&host_ip))
    }

    /// The prefixes of the set `excluded`, sorted, none inside another.
    ///
    /// Besides the operator's these are the destinations that translation cannot serve: ::1 always,
    /// since IPv6 has no `route_localnet`, and 127.0.0.0/8 where localhost is switched off. A
    /// connection to them is refused at once instead of hanging.
    pub(crate) fn excluded(&self, family: Family) -> Vec<IpNet> {
        let unreachable = match family {
            Family::Ip6 => Some(IpNet::from(IpAddr::from(Ipv6Addr::LOCALHOST))),
            Family::Ip if self.localhost => None,
            Family::Ip => Ipv4Net::new(Ipv4Addr::new(127, 0, 0, 0), 8).ok().map(IpNet::V4),
        };
        fewest(self.exclude.iter().copied().chain(unreachable), family)
    }

    /// The prefixes of the set `listen`; none if wildcards cover all addresses.
    pub(crate) fn listened(&self, family: Family) -> Option<Vec<IpNet>> {
        (!self.listen.is_empty()).then(|| fewest(self.listen.iter().copied(), family))
    }

    /// The comment that marks a table as ours, of this schema, of a boot and with these settings.
    ///
    /// `hostport schema 2 boot 5f0c9a31` for the default settings; others add a fingerprint of what they change.
    pub(crate) fn comment(&self, family: Family, boot: Option<&Boot>) -> String {
        let boot = boot.map(|boot| format!(" boot {boot}")).unwrap_or_default();
        let excluded = self.excluded(family);
        let localhost = self.localhost || family == Family::Ip6;
        let listened = self.listened(family);
        let usual = localhost && listened.is_none();
        if usual && excluded == Settings::default().excluded(family) {
            return format!("hostport schema {SCHEMA}{boot}");
        }
        // Unlike the standard library's hashers, it is the same in every build.
        let mut hash = FnvHasher::default();
        for prefix in &excluded {
            hash.write(prefix.to_string().as_bytes());
            hash.write(b",");
        }
        hash.write(&[u8::from(localhost)]);
        for prefix in listened.iter().flatten() {
            hash.write(prefix.to_string().as_bytes());
            hash.write(b",");
        }
        hash.write(if listened.is_some() { b"listen" } else { b"" });
        format!("hostport schema {SCHEMA}{boot} settings {:016x}", hash.finish())
    }
}

/// The fewest prefixes that cover those of a family, sorted.
fn fewest(prefixes: impl Iterator<Item = IpNet>, family: Family) -> Vec<IpNet> {
    let of_family = prefixes.filter(|net| Family::of(net.addr()) == family);
    let prefixes: Vec<IpNet> = of_family.map(|net| net.trunc()).collect();
    // Usually there is at most one.
    if prefixes.len() < 2 { prefixes } else { IpNet::aggregate(&prefixes) }
}

/// The version of the ruleset's form. A table of another version is replaced.
const SCHEMA: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn excluding(prefixes: &[&str]) -> Settings {
        Settings {
            exclude: prefixes.iter().map(|text| text.parse().unwrap()).collect(),
            ..Settings::default()
        }
    }

    #[test]
    fn the_default_comment_is_the_schema_and_the_boot() {
        let boot = Boot::parse("5f0c9a31-0c0a-4b0e-8a3d-6a1f0c9a3100");
        for family in Family::ALL {
            let settings = Settings::default();
            assert_eq!(settings.comment(family, boot.as_ref()), "hostport schema 2 boot 5f0c9a31");
            assert_eq!(settings.comment(family, None), "hostport schema 2");
        }
    }

    #[test]
    fn the_comment_changes_with_the_settings_of_its_own_family_only() {
        let settings = excluding(&["10.96.0.0/12"]);
        assert_ne!(settings.comment(Family::Ip, None), "hostport schema 2");
        assert_eq!(settings.comment(Family::Ip6, None), "hostport schema 2");
        let silent = Settings { localhost: false, ..Settings::default() };
        assert_ne!(silent.comment(Family::Ip, None), "hostport schema 2");
        assert_ne!(silent.comment(Family::Ip, None), settings.comment(Family::Ip, None));
    }

    #[test]
    fn order_and_overlap_of_excluded_prefixes_do_not_matter() {
        let one = excluding(&["10.96.0.0/12", "192.0.2.7/24"]);
        let other = excluding(&["192.0.2.0/25", "192.0.2.128/25", "10.96.0.0/12", "10.97.0.0/16"]);
        assert_eq!(one.excluded(Family::Ip), other.excluded(Family::Ip));
        assert_eq!(one.comment(Family::Ip, None), other.comment(Family::Ip, None));
    }

    #[test]
    fn a_table_name_is_what_nft_takes_without_quotes() {
        for good in ["hostport", "a", "A-b_9"] {
            assert!(good.parse::<TableName>().is_ok(), "{good}");
        }
        let long = "x".repeat(65);
        for bad in ["", "9a", "a b", "a;b", "a\n", "-a", "é", long.as_str()] {
            assert!(bad.parse::<TableName>().is_err(), "{bad}");
        }
    }
}
