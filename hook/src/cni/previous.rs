//! The result of the plugins before this one, which has the pod's addresses.

use std::net::IpAddr;

use hostport_nft::Family;
use ipnet::IpNet;
use serde::Deserialize;

use super::error::{CniError, Code};
use crate::output::escape::{excerpt, quote};

/// `prevResult`, as it came.
#[derive(Debug, Clone, Copy)]
pub struct Previous<'a> {
    text: &'a str,
}

#[derive(Deserialize)]
struct Form {
    #[serde(default, rename = "cniVersion")]
    version: Option<String>,
    #[serde(default)]
    interfaces: Option<Vec<Interface>>,
    #[serde(default)]
    ips: Option<Vec<Address>>,
    // Up to version 0.2.0.
    #[serde(default)]
    ip4: Option<OldAddress>,
    #[serde(default)]
    ip6: Option<OldAddress>,
}

#[derive(Deserialize)]
struct Interface {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    sandbox: Option<String>,
}

#[derive(Deserialize)]
struct Address {
    #[serde(default)]
    address: Option<String>,
    #[serde(default)]
    interface: Option<i64>,
}

#[derive(Deserialize)]
struct OldAddress {
    #[serde(default)]
    ip: Option<String>,
}

impl<'a> Previous<'a> {
    /// None for null.
    pub fn new(text: &'a str) -> Option<Self> {
        Some(text).filter(|text| *text != "null").map(|text| Previous { text })
    }

    /// The pod's address in each family: the first that the result does not give to another interface.
    ///
    /// # Errors
    /// [`Code::Decoding`] if it is not a result, or one of its addresses is none.
    pub fn endpoints(&self, interface: &str) -> Result<Vec<IpAddr>, CniError> {
        let form = self.form()?;
        let interfaces = form.interfaces.unwrap_or_default();
        let is_its = |address: &&Address| {
            let named = address.interface.and_then(|at| interfaces.get(usize::try_from(at).ok()?));
            named.is_none_or(|named| {
                named.name.as_deref() == Some(interface)
                    && named.sandbox.as_deref().is_some_and(|sandbox| !sandbox.is_empty())
            })
        };
        let ips = form.ips.unwrap_or_default();
        let texts = ips.iter().filter(is_its).map(|address| address.address.as_deref());
        let old = [&form.ip4, &form.ip6].into_iter().flatten().map(|old| old.ip.as_deref());
        let mut endpoints: Vec<IpAddr> = Vec::new();
        for text in texts.chain(old) {
            let ip = address(text.unwrap_or_default())?;
            if !endpoints.iter().any(|other| Family::of(*other) == Family::of(ip)) {
                endpoints.push(ip);
            }
        }
        endpoints.sort();
        Ok(endpoints)
    }

    /// The text for standard output: as it came, with the configuration's version where it has none.
    ///
    /// # Errors
    /// [`Code::Decoding`] if it is not a result.
    pub fn passed_on(&self, version: &str) -> Result<String, CniError> {
        if self.form()?.version.is_some_and(|version| !version.is_empty()) {
            return Ok(self.text.to_owned());
        }
        let rest = self.text.trim_start_matches('{').trim_start();
        let comma = if rest.starts_with('}') { "" } else { "," };
        Ok(format!("{{\"cniVersion\":\"{version}\"{comma}{rest}"))
    }

    fn form(&self) -> Result<Form, CniError> {
        let unreadable =
            |what: String| CniError::new(Code::Decoding, format!("cannot read prevResult: {what}"));
        // serde takes a list for a struct, field by field.
        if !self.text.starts_with('{') {
            return Err(unreadable("not a JSON object".to_owned()));
        }
        serde_json::from_str(self.text)
            .map_err(|error| unreadable(excerpt(&error.to_string(), 200)))
    }
}

/// An address with its prefix, or alone.
fn address(text: &str) -> Result<IpAddr, CniError> {
    let ip = text.parse::<IpNet>().map(|net| net.addr()).or_else(|_| text.parse::<IpAddr>());
    ip.map(|ip| ip.to_canonical()).map_err(|_| {
        let text = quote(&excerpt(text, 100));
        CniError::new(Code::Decoding, format!("prevResult has the address {text}, which is none"))
    })
}
