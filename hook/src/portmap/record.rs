//! A runtime's record of one attachment: what libcni writes to /var/lib/cni/results (`cachedInfo` in libcni/api.go).

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::base64;
use crate::cni::{CniError, Code, Environment};
use crate::output::escape::excerpt;

/// An attachment whose list names portmap, and that has ports: as portmap was called for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The environment of the call.
    pub environment: Environment,
    /// What it had on standard input.
    pub configuration: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Form {
    kind: String,
    container_id: String,
    config: String,
    if_name: String,
    network_name: String,
    netns: Option<String>,
    cni_args: Option<Vec<(String, String)>>,
    capability_args: Option<CapabilityArgs>,
    result: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct CapabilityArgs {
    port_mappings: Option<Value>,
}

/// The one kind of records that there is; before it, a file held the result alone.
const KIND: &str = "cniCacheV1";

impl Record {
    /// Reads a file. None if it has no ports of portmap's.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &[u8]) -> Result<Option<Self>, CniError> {
        let unreadable = |what: &str| CniError::new(Code::Decoding, what);
        let form: Form = serde_json::from_slice(text).map_err(|error| {
            let error = excerpt(&error.to_string(), 200);
            unreadable(&format!("not a record of libcni ({error})"))
        })?;
        if form.kind != KIND {
            return Err(unreadable(&format!("not a record of the kind {KIND}")));
        }
        let ports = form.capability_args.unwrap_or_default().port_mappings;
        let Some(ports) = ports.filter(has_any) else {
            return Ok(None);
        };
        let list = base64::decode(&form.config)
            .and_then(|list| serde_json::from_slice::<Map<String, Value>>(&list).ok())
            .ok_or_else(|| unreadable("its config is not a configuration of CNI in base64"))?;
        let Some(mut plugin) = portmap(&list) else { return Ok(None) };
        let version = list.get("cniVersion").cloned();
        // Older versions of libcni name the namespace in the result alone.
        let sandbox = form.result.as_ref().and_then(|result| sandbox(result, &form.if_name));
        plugin.extend([
            ("name".to_owned(), form.network_name.into()),
            ("cniVersion".to_owned(), version.unwrap_or_default()),
            ("runtimeConfig".to_owned(), json!({ "portMappings": ports })),
            ("prevResult".to_owned(), form.result.unwrap_or_default()),
        ]);
        // Without a namespace, nothing could show that the pod lives.
        let namespace = form.netns.or(sandbox).filter(|path| !path.is_empty());
        let namespace = namespace.ok_or_else(|| unreadable("it names no network namespace"))?;
        let arguments = form.cni_args.unwrap_or_default();
        let arguments: Vec<String> =
            arguments.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let environment = Environment::read(|variable| {
            Some(match variable {
                "CNI_COMMAND" => "ADD".to_owned(),
                "CNI_CONTAINERID" => form.container_id.clone(),
                "CNI_IFNAME" => form.if_name.clone(),
                "CNI_NETNS" => namespace.clone(),
                "CNI_ARGS" => arguments.join(";"),
                _ => return None,
            })
        })?;
        let configuration = Value::Object(plugin).to_string().into_bytes();
        Ok(Some(Record { environment, configuration }))
    }
}

/// The namespace of an interface, as a result names it.
fn sandbox(result: &Value, interface: &str) -> Option<String> {
    let mut interfaces = result["interfaces"].as_array()?.iter();
    let of_pod = |it: &&Value| it["name"] == interface && it["sandbox"] != "";
    interfaces.find(of_pod)?["sandbox"].as_str().map(str::to_owned)
}

/// Whether a record's attachment names a plugin. What is no record says nothing.
pub fn is_called_by(text: &[u8], plugin: &str) -> bool {
    let names = |text: &[u8]| -> Option<bool> {
        let form: Form = serde_json::from_slice(text).ok()?;
        let list: Value = serde_json::from_slice(&base64::decode(&form.config)?).ok()?;
        let all = list["plugins"].as_array().map(Vec::as_slice).unwrap_or_default();
        Some(all.iter().any(|there| there["type"] == plugin))
    };
    names(text).unwrap_or_default()
}

/// Whatever is there but no list is left to its reader to refuse.
fn has_any(ports: &Value) -> bool {
    !ports.is_null() && ports.as_array().is_none_or(|ports| !ports.is_empty())
}

/// portmap's own part of a list, or of a configuration that is no list, if it gets the ports.
fn portmap(list: &Map<String, Value>) -> Option<Map<String, Value>> {
    let plugins = list.get("plugins").and_then(Value::as_array);
    let mut all = plugins.into_iter().flatten().filter_map(Value::as_object).chain([list]);
    let gets_ports = |plugin: &&Map<String, Value>| {
        let capabilities = plugin.get("capabilities");
        plugin.get("type").and_then(Value::as_str) == Some("portmap")
            && capabilities
                .is_some_and(|able| able.get("portMappings").and_then(Value::as_bool) == Some(true))
    };
    all.find(gets_ports).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::{Configuration, Operation};
    use proptest::prelude::*;

    /// `{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"ptp"},{"type":"portmap","snat":false,
    /// "capabilities":{"portMappings":true}}]}`
    const LIST: &str = "eyJjbmlWZXJzaW9uIjoiMS4wLjAiLCJuYW1lIjoicG9kcyIsInBsdWdpbnMiOlt7InR5cGUiOiJwdHAifSx7InR5cGUiOi\
        Jwb3J0bWFwIiwic25hdCI6ZmFsc2UsImNhcGFiaWxpdGllcyI6eyJwb3J0TWFwcGluZ3MiOnRydWV9fV19";

    fn record() -> Value {
        json!({
            "kind": "cniCacheV1", "containerId": "5e0f", "config": LIST, "ifName": "eth0",
            "networkName": "pods", "netns": "/run/netns/web",
            "cniArgs": [["K8S_POD_NAMESPACE", "shop"], ["K8S_POD_NAME", "web-0"]],
            "capabilityArgs": { "portMappings": [{ "hostPort": 9000, "containerPort": 8080, "protocol": "tcp" }] },
            "result": { "cniVersion": "1.0.0", "ips": [{ "address": "10.88.0.2/24" }] },
        })
    }

    fn read(record: &Value) -> Result<Option<Record>, CniError> {
        Record::read(record.to_string().as_bytes())
    }

    #[test]
    fn a_record_is_the_call_that_portmap_had() {
        let record = read(&record()).unwrap().unwrap();
        assert_eq!(record.environment.owner().unwrap().as_str(), "5e0f");
        assert_eq!(record.environment.names.pod.as_ref().unwrap().name, "web-0");
        let configuration = Configuration::read(&record.configuration, Operation::Add).unwrap();
        assert_eq!(configuration.network, "pods");
        assert!(!configuration.options.snat);
        assert_eq!(configuration.requests().unwrap().len(), 1);
        let endpoints = configuration.previous.unwrap().endpoints("eth0").unwrap();
        assert_eq!(endpoints, ["10.88.0.2".parse::<std::net::IpAddr>().unwrap()]);
    }

    #[test]
    fn what_has_no_ports_of_portmap_is_left_out() {
        let with = |key: &str, value: Value| {
            let mut record = record();
            record[key] = value;
            read(&record)
        };
        for none in [Value::Null, json!({}), json!({ "portMappings": [] })] {
            assert_eq!(with("capabilityArgs", none), Ok(None));
        }
        // `{"type":"hostport"}`
        assert_eq!(with("config", json!("eyJ0eXBlIjoiaG9zdHBvcnQifQ==")), Ok(None));
        assert!(with("kind", json!("other")).is_err());
        assert!(with("config", json!("{}")).is_err());
        let error = with("netns", Value::Null).unwrap_err();
        assert!(error.message.contains("names no network namespace"), "{error}");
        let error = with("containerId", json!("../x")).unwrap_err();
        assert!(error.message.contains("CNI_CONTAINERID"), "{error}");
    }

    #[test]
    fn an_older_record_has_its_namespace_in_the_result() {
        let mut record = record();
        record["netns"].take();
        record["result"]["interfaces"] = json!([
            { "name": "cni0" }, { "name": "eth0", "sandbox": "" },
            { "name": "eth0", "sandbox": "/run/netns/b" }, { "name": "eth1", "sandbox": "/run/netns/c" },
        ]);
        let read = read(&record).unwrap().unwrap();
        assert_eq!(read.environment.namespace.unwrap().to_str(), Some("/run/netns/b"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Record::read(&bytes);
        }

        #[test]
        fn any_values_are_a_record_or_an_error(
            key in prop::sample::select(vec!["config", "netns", "cniArgs", "capabilityArgs", "result", "ifName"]),
            text in ".{0,80}", number in any::<i64>(), kind in 0..5,
        ) {
            let mut record = record();
            record[key] = match kind {
                0 => json!(text),
                1 => json!(number),
                2 => json!([[text.as_str(), text.as_str()]]),
                3 => json!({ "portMappings": { "hostPort": number }, "ips": [text.as_str()] }),
                _ => json!({ "portMappings": [{ "HostPort": number, "containerPort": text.as_str() }] }),
            };
            if let Ok(Some(record)) = read(&record)
                && let Ok(configuration) = Configuration::read(&record.configuration, Operation::Add)
            {
                let _ = configuration.requests();
                let _ = configuration.previous.map(|previous| previous.endpoints("eth0"));
            }
        }

        #[test]
        fn any_text_is_base64_or_not(text in "[A-Za-z0-9+/=]{0,40}|.{0,40}") {
            let _ = base64::decode(&text);
        }
    }
}
