//! The OCI state on standard input.

use serde_json::{Value, json};

use crate::fuzzing::message::assert_one_line;
use crate::oci::state::{State, StateError};

const USED: [&str; 5] = ["id", "status", "pid", "bundle", "annotations"];

/// What a runtime, or anybody, writes there.
pub fn state(data: &[u8]) {
    match State::read(data) {
        Err(error) => assert_one_line(&error),
        Ok(state) => {
            assert!(state.pid.is_none_or(|pid| pid > 0));
            assert!(!state.bundle.as_os_str().is_empty());
            assert_eq!(read(&written(&state)).expect("it was read before"), state);
            crate::fuzzing::policy::check(&state.id, &state.annotations);
        }
    }
    unused_fields_change_nothing(data);
}

fn read(value: &Value) -> Result<State, StateError> {
    State::read(value.to_string().as_bytes())
}

fn written(state: &State) -> Value {
    json!({
        "ociVersion": "1.2.0",
        "id": state.id.as_str(),
        "status": state.status,
        "pid": state.pid.unwrap_or_default(),
        "bundle": state.bundle,
        "annotations": state.annotations,
    })
}

/// A runtime with an idea of its own about another field must not keep a container from starting.
fn unused_fields_change_nothing(data: &[u8]) {
    let Ok(Value::Object(all)) = serde_json::from_slice(data) else { return };
    let mut used = all.clone();
    used.retain(|key, _| USED.contains(&key.as_str()));
    match (read(&Value::Object(all)), read(&Value::Object(used))) {
        (Ok(all), Ok(used)) => assert_eq!(all, used),
        (Err(_), Err(_)) => {}
        (all, used) => panic!("an unused field matters: {all:?}, without it {used:?}"),
    }
}
