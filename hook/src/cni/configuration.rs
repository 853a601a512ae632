//! The network's configuration, as standard input has it, with the keys of portmap that it takes the place of.

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};
use std::path::PathBuf;

use hostport_nft::{Settings, TableName};

use super::VERSIONS;
use super::environment::Operation;
use super::error::{CniError, Code};
use super::members::members;
use super::previous::Previous;
use crate::output::escape::{excerpt, quote};
use crate::request::annotations::{self, AnnotationError, Asked, PortRequest, Problem};

/// What is read of a configuration.
#[derive(Debug, Clone)]
pub struct Configuration<'a> {
    /// Its version, one of [`VERSIONS`].
    pub version: &'static str,
    /// The network's name.
    pub network: String,
    /// The result of the plugins before this one.
    pub previous: Option<Previous<'a>>,
    /// What the operator chose.
    pub options: Options,
    /// The attachments that are valid, for GC; none if that is not known.
    pub valid: Option<Vec<Attachments>>,
    ports: &'a str,
}

/// What the operator can choose.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// How the tables are to be; none leaves them as they are.
    pub exclude: Vec<IpNet>,
    /// The node's addresses that ports without a host IP are published on.
    pub listen: Vec<IpNet>,
    /// Sources may be rewritten where answers would miss the node.
    pub snat: bool,
    /// Masquerade all clients.
    pub masquerade: bool,
    /// Take host ports over from living containers.
    pub replace: bool,
    /// The tables' name.
    pub table: TableName,
    /// The journal's folder, if it is not the usual one.
    pub state_dir: Option<PathBuf>,
}

impl Options {
    /// How the tables are to be, where the configuration says so.
    pub fn settings(&self) -> Option<Settings> {
        let Options { exclude, listen, table, .. } = self;
        let settings = Settings {
            table: table.clone(),
            exclude: exclude.clone(),
            listen: listen.clone(),
            ..Settings::default()
        };
        (!exclude.is_empty() || !listen.is_empty()).then_some(settings)
    }
}

/// An attachment of a list for GC.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Attachments {
    /// The container.
    #[serde(default, rename = "containerID")]
    pub container_id: String,
    /// The interface.
    #[serde(default, rename = "ifname")]
    pub interface: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Form {
    cni_version: Option<String>,
    name: Option<String>,
    backend: Option<String>,
    snat: Option<bool>,
    masq_all: Option<bool>,
    mark_masq_bit: Option<i64>,
    external_set_mark_chain: Option<String>,
    #[serde(rename = "conditionsV4")]
    conditions_v4: Option<Vec<String>>,
    #[serde(rename = "conditionsV6")]
    conditions_v6: Option<Vec<String>>,
    on_conflict: Option<String>,
    exclude: Option<Vec<String>>,
    listen: Option<Vec<String>>,
    table: Option<String>,
    state_dir: Option<PathBuf>,
    #[serde(rename = "cni.dev/valid-attachments", default, deserialize_with = "present")]
    valid: Option<Option<Vec<Attachments>>>,
    #[serde(rename = "cni.dev/attachments", default, deserialize_with = "present")]
    valid_formerly: Option<Option<Vec<Attachments>>>,
}

/// null is present, and not the same as nothing.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(json: D) -> Result<Option<T>, D::Error> {
    T::deserialize(json).map(Some)
}

impl<'a> Configuration<'a> {
    /// Reads a configuration for an operation.
    ///
    /// # Errors
    /// [`Code::Decoding`], [`Code::Version`], [`Code::Configuration`] or [`Code::Unsupported`].
    pub fn read(text: &'a [u8], operation: Operation) -> Result<Self, CniError> {
        // serde takes a list for a struct, field by field.
        if text.trim_ascii_start().first() != Some(&b'{') {
            let what = "standard input has no network configuration: expected a JSON object";
            return Err(CniError::new(Code::Decoding, what));
        }
        let unreadable = |what: String| {
            let what = format!("cannot read the network configuration: {}", excerpt(&what, 200));
            CniError::new(Code::Decoding, what)
        };
        let form: Form =
            serde_json::from_slice(text).map_err(|error| unreadable(error.to_string()))?;
        let text = str::from_utf8(text).map_err(|error| unreadable(error.to_string()))?;
        let all = members(text).unwrap_or_default();
        let ports = match all.get("runtimeConfig") {
            None | Some(&"null") => None,
            Some(config) => members(config)
                .ok_or_else(|| unreadable("runtimeConfig is not an object".to_owned()))?
                .remove("portMappings"),
        };
        let version = version(form.cni_version.as_deref(), operation)?;
        let network = form.name.clone().unwrap_or_default();
        if network.is_empty() && operation != Operation::Version {
            return Err(CniError::new(
                Code::Configuration,
                "the network configuration has no name",
            ));
        }
        let options = form.options()?;
        Ok(Configuration {
            version,
            network,
            previous: all.get("prevResult").and_then(|text| Previous::new(text)),
            options,
            valid: form.valid.or(form.valid_formerly).map(Option::unwrap_or_default),
            ports: ports.unwrap_or("null"),
        })
    }

    /// The host ports that are asked for, each once.
    ///
    /// # Errors
    /// [`Code::Configuration`], for the first that cannot be; [`Code::Decoding`], if it is no list of them.
    pub fn requests(&self) -> Result<Vec<PortRequest>, CniError> {
        let wrong = |error: AnnotationError| CniError::new(Code::Configuration, error.place());
        let (mut requests, mut asked) = (Vec::new(), Asked::default());
        for request in self.each()? {
            let request = request.map_err(wrong)?;
            match asked.insert(PORTS, request) {
                Ok(true) => requests.push(request),
                Ok(false) => {}
                Err((host, _)) => {
                    let item = request.to_string();
                    return Err(wrong(AnnotationError::text(
                        PORTS,
                        &item,
                        Problem::Duplicate(host),
                    )));
                }
            }
        }
        Ok(requests)
    }

    /// Those that can be.
    pub fn sound_requests(&self) -> Vec<PortRequest> {
        self.each().unwrap_or_default().into_iter().flatten().collect()
    }

    fn each(&self) -> Result<Vec<Result<PortRequest, AnnotationError>>, CniError> {
        annotations::parse_each(PORTS, self.ports)
            .map_err(|error| CniError::new(Code::Decoding, error.place()))
    }
}

/// Where the ports stand.
const PORTS: &str = "runtimeConfig.portMappings";

fn version(text: Option<&str>, operation: Operation) -> Result<&'static str, CniError> {
    let text = text.filter(|text| !text.is_empty()).unwrap_or("0.1.0");
    let place = |version: &str| VERSIONS.iter().position(|known| *known == version);
    let too_old = |first: &str| place(text) < place(first);
    let needs = match operation {
        Operation::Check => Some("0.4.0"),
        Operation::Gc | Operation::Status => Some("1.1.0"),
        Operation::Add | Operation::Del | Operation::Version => None,
    };
    match VERSIONS.into_iter().find(|known| *known == text) {
        None => Err(CniError::new(
            Code::Version,
            format!(
                "cniVersion {} is not supported: use {}",
                quote(&excerpt(text, 20)),
                VERSIONS.join(", ")
            ),
        )),
        Some(_) if needs.is_some_and(too_old) => Err(CniError::new(
            Code::Version,
            format!(
                "{operation:?} needs cniVersion {} or later, and the configuration has {text}",
                needs.unwrap_or_default()
            ),
        )),
        Some(version) => Ok(version),
    }
}

impl Form {
    fn options(&self) -> Result<Options, CniError> {
        let wrong =
            |key: &str, what: &str| CniError::new(Code::Configuration, format!("{key}: {what}"));
        if let Some(other) =
            self.backend.as_deref().filter(|b| !["iptables", "nftables"].contains(b))
        {
            let what = format!(
                "{} is not iptables or nftables (hostport has one way for both)",
                quote(other)
            );
            return Err(wrong("backend", &what));
        }
        if self.mark_masq_bit.is_some() && self.external_set_mark_chain.is_some() {
            return Err(wrong(
                "markMasqBit and externalSetMarkChain",
                "only one of them may be set",
            ));
        }
        if self.mark_masq_bit.is_some_and(|bit| !(0..=31).contains(&bit)) {
            return Err(wrong("markMasqBit", "must be 0 to 31"));
        }
        let replace = match self.on_conflict.as_deref() {
            None | Some("refuse") => false,
            Some("replace") => true,
            Some(other) => {
                return Err(wrong(
                    "onConflict",
                    &format!("{} is not refuse or replace", quote(other)),
                ));
            }
        };
        let mut exclude = networks("exclude", self.exclude.as_deref())?;
        exclude.extend(condition("conditionsV4", self.conditions_v4.as_deref())?);
        exclude.extend(condition("conditionsV6", self.conditions_v6.as_deref())?);
        let table = self.table.as_deref().map(str::parse).transpose();
        Ok(Options {
            exclude,
            listen: networks("listen", self.listen.as_deref())?,
            snat: self.snat.unwrap_or(true),
            masquerade: self.masq_all.unwrap_or_default(),
            replace,
            table: table.map_err(|error| wrong("table", &format!("{error}")))?.unwrap_or_default(),
            state_dir: self.state_dir.clone(),
        })
    }
}

fn networks(key: &str, texts: Option<&[String]>) -> Result<Vec<IpNet>, CniError> {
    let net = |text: &String| {
        let net =
            text.parse::<IpNet>().or_else(|_| text.parse().map(|ip: std::net::IpAddr| ip.into()));
        net.map_err(|_| {
            let what =
                format!("{key}: {} is not an address or a network", quote(&excerpt(text, 100)));
            CniError::new(Code::Configuration, what)
        })
    };
    texts.unwrap_or_default().iter().map(net).collect()
}

/// Of portmap's conditions, which are words of iptables or nft, the one that excludes a destination.
fn condition(key: &str, words: Option<&[String]>) -> Result<Vec<IpNet>, CniError> {
    let words: Vec<&str> = words.unwrap_or_default().iter().map(String::as_str).collect();
    let net = match words.as_slice() {
        [] => return Ok(Vec::new()),
        ["!", "-d" | "--dst" | "--destination", net] => net,
        ["ip" | "ip6", "daddr", "!=", net] => net,
        words => {
            let words = quote(&excerpt(&words.join(" "), 200));
            return Err(CniError::new(
                Code::Unsupported,
                format!("{key}: {words} is not supported; `! -d NETWORK` is, and the key exclude"),
            ));
        }
    };
    networks(key, Some(&[(*net).to_owned()]))
}
