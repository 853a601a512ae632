//! A bundle's config.json.

use serde_json::{Value, json};

use crate::fuzzing::message::assert_one_line;
use crate::oci::bundle::{Config, ConfigError, ConfigNamespace};

/// The file's bytes.
pub fn config(data: &[u8]) {
    match Config::parse(data) {
        Err(problem) => {
            assert_one_line(&ConfigError { path: "/run/bundle/config.json".into(), problem });
        }
        Ok(config) => {
            let again = Config::parse(written(&config).to_string().as_bytes());
            assert_eq!(again.expect("it was read before"), config);
            let id = "me".parse().expect("it is an owner's ID");
            crate::fuzzing::policy::check(&id, &config.annotations);
        }
    }
    unused_fields_change_nothing(data);
}

fn written(config: &Config) -> Value {
    let namespaces = match &config.network {
        ConfigNamespace::Host => json!([]),
        ConfigNamespace::Own => json!([{"type": "network"}]),
        ConfigNamespace::Path(path) => json!([{"type": "network", "path": path}]),
    };
    json!({"annotations": config.annotations, "linux": {"namespaces": namespaces}})
}

/// Whatever else a config.json has, it must not keep a container from starting.
fn unused_fields_change_nothing(data: &[u8]) {
    let Ok(all @ Value::Object(_)) = serde_json::from_slice::<Value>(data) else { return };
    let used = json!({
        "annotations": all.get("annotations"),
        "linux": {"namespaces": all.get("linux").and_then(|linux| linux.get("namespaces"))},
    });
    if let Ok(config) = Config::parse(used.to_string().as_bytes())
        && all.get("linux").is_none_or(|linux| linux.is_object() || linux.is_null())
    {
        let all = Config::parse(all.to_string().as_bytes());
        assert_eq!(all.expect("the other fields do not matter"), config);
    }
}
