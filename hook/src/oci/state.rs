//! The OCI state of a container, which a runtime writes to its hooks' standard input.
//!
//! Runtime specification, "State": ociVersion, id, status, pid, bundle, annotations. Only what is
//! used here is read, and as little as possible is demanded of it: a runtime with an idea of its own
//! about another field must not keep a container from starting.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;

use hostport_nft::{InvalidOwner, OwnerId};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::bundle::MAX_CONFIG;
use super::json::{from_json, only_strings};
use crate::output::escape::excerpt;

/// The largest state that is read, in bytes. Real ones have a few kilobytes, but a state repeats the
/// annotations of config.json: what a runtime took there must not fail here.
pub const MAX_STATE: usize = MAX_CONFIG;
/// What most real ones have at most, in bytes: read at once.
const USUAL_STATE: usize = 8 * 1024;

/// What a container's state says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The container's ID, which owns the ports.
    pub id: OwnerId,
    /// Where the container is in its life: `creating`, `created`, `running`, `stopped`, or what the runtime
    /// makes of it; empty where it is missing.
    pub status: String,
    /// The container's init process; none after it has ended.
    pub pid: Option<i32>,
    /// The folder that holds config.json.
    pub bundle: PathBuf,
    /// The annotations of config.json, as far as they are strings.
    pub annotations: BTreeMap<String, String>,
}

/// The fields as they come. What is not listed is skipped, whatever it is.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Raw {
    id: Value,
    status: Value,
    pid: Value,
    bundle: Value,
    #[serde(deserialize_with = "only_strings")]
    annotations: BTreeMap<String, String>,
}

impl State {
    /// Reads the state from a hook's standard input, at most [`MAX_STATE`] bytes of it.
    ///
    /// # Errors
    /// [`StateError`] if there is none, if it is too large, or if it is not a container's state.
    pub fn read(reader: impl Read) -> Result<Self, StateError> {
        let mut bytes = Vec::with_capacity(USUAL_STATE);
        let limit = MAX_STATE as u64 + 1;
        reader.take(limit).read_to_end(&mut bytes).map_err(StateError::Read)?;
        if bytes.len() > MAX_STATE {
            return Err(StateError::TooLarge);
        }
        State::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Result<Self, StateError> {
        let bytes = bytes.trim_ascii();
        if bytes.is_empty() {
            return Err(StateError::Empty);
        }
        // serde takes a list for a struct, field by field. A state is not a list.
        if bytes.first() != Some(&b'{') {
            return Err(StateError::NotAnObject);
        }
        let is_text = |value: &Value| !value.as_str().unwrap_or_default().contains('\u{fffd}');
        let raw: Raw = from_json(bytes, |raw: &Raw| is_text(&raw.id) && is_text(&raw.bundle))
            .map_err(|error| StateError::Json(excerpt(&error.to_string(), 100)))?;
        let status = match raw.status {
            Value::Null => String::new(),
            Value::String(text) => text,
            other => return Err(wrong("status", &other, "a string")),
        };
        Ok(State {
            id: text("id", &raw.id)?.parse()?,
            status,
            pid: pid(&raw.pid)?,
            bundle: PathBuf::from(text("bundle", &raw.bundle)?),
            annotations: raw.annotations,
        })
    }
}

fn text<'a>(field: &'static str, value: &'a Value) -> Result<&'a str, StateError> {
    match value {
        Value::Null => Err(StateError::Missing(field)),
        Value::String(text) if text.is_empty() => Err(StateError::Missing(field)),
        Value::String(text) => Ok(text),
        _ => Err(wrong(field, value, "a string")),
    }
}

/// Linux process IDs are positive and fit in an i32; a stopped container has 0 or none.
fn pid(value: &Value) -> Result<Option<i32>, StateError> {
    let number = match value {
        Value::Null => Some(0),
        _ => value.as_i64().and_then(|number| i32::try_from(number).ok()),
    };
    match number {
        Some(0) => Ok(None),
        Some(pid @ 1..) => Ok(Some(pid)),
        _ => Err(wrong("pid", value, "a process ID")),
    }
}

fn wrong(field: &'static str, value: &Value, expected: &'static str) -> StateError {
    StateError::Field { field, value: excerpt(&value.to_string(), 40), expected }
}

/// Standard input that is not a container's state.
#[derive(Debug, Error)]
#[allow(missing_docs)] // The messages say it.
pub enum StateError {
    #[error(
        "no OCI state on standard input: container runtimes write it there; \
         by hand, pipe in the output of `runc state ID`"
    )]
    Empty,
    #[error(
        "the OCI state on standard input has more than {MAX_STATE} bytes: pipe in a container's state"
    )]
    TooLarge,
    #[error("the OCI state cannot be read from standard input: {0}: pipe in a container's state")]
    Read(io::Error),
    #[error("the OCI state on standard input is not a JSON object: pipe in a container's state")]
    NotAnObject,
    #[error(
        "the OCI state on standard input is not whole, valid JSON ({0}): pipe in a container's state"
    )]
    Json(String),
    #[error("the OCI state on standard input has no {0}: the runtime must write it")]
    Missing(&'static str),
    #[error(
        "the OCI state on standard input has the {field} {value}: the runtime must write {expected}"
    )]
    Field { field: &'static str, value: String, expected: &'static str },
    #[error("the OCI state on standard input has a bad id: {0}")]
    Id(#[from] InvalidOwner),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(json: &str) -> Result<State, StateError> {
        State::read(json.as_bytes())
    }

    fn error(json: &str) -> String {
        read(json).unwrap_err().to_string()
    }

    #[test]
    fn a_created_container_is_read_whole() {
        let state = read(
            r#"{"ociVersion":"1.0.2","id":"web","status":"created","pid":4242,
                "bundle":"/run/web","annotations":{"a":"b"}}"#,
        )
        .unwrap();
        assert_eq!(state.id.as_str(), "web");
        assert_eq!(state.status, "created");
        assert_eq!(state.pid, Some(4242));
        assert_eq!(state.bundle, PathBuf::from("/run/web"));
        assert_eq!(state.annotations["a"], "b");
    }

    #[test]
    fn a_stopped_container_has_no_pid() {
        for pid in ["", r#""pid":0,"#, r#""pid":null,"#] {
            let json = format!(r#"{{{pid}"id":"web","status":"stopped","bundle":"/b"}}"#);
            let state = read(&json).unwrap();
            assert_eq!((state.pid, state.status.as_str()), (None, "stopped"), "{json}");
        }
    }

    #[test]
    fn a_missing_or_unknown_status_is_kept_for_the_caller_to_judge() {
        for missing in ["", r#""status":null,"#, r#""status":"","#] {
            let state = read(&format!(r#"{{{missing}"id":"web","bundle":"/b"}}"#)).unwrap();
            assert_eq!(state.status, "", "{missing}");
        }
        let state = read(r#"{"id":"web","bundle":"/b","status":"paused"}"#).unwrap();
        assert_eq!(state.status, "paused");
    }

    #[test]
    fn annotations_that_are_missing_null_or_not_strings_are_no_error() {
        for annotations in ["null", "{}", r#"{"a":1,"b":[{}],"c":null}"#] {
            let json = format!(r#"{{"id":"w","bundle":"/b","annotations":{annotations}}}"#);
            assert!(read(&json).unwrap().annotations.is_empty(), "{json}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_matter_in_id_and_bundle_alone() {
        let bytes = |id: &[u8], bundle: &[u8], other: &[u8]| {
            let parts: [&[u8]; 7] = [
                b"{\"id\":\"",
                id,
                b"\",\"bundle\":\"",
                bundle,
                b"\",\"annotations\":{\"a\":\"b\",\"other\":\"",
                other,
                b"\"}}",
            ];
            State::read(&parts.concat()[..])
        };
        let state = bytes(b"web", b"/b", b"\xff\xfe").unwrap();
        assert_eq!((state.id.as_str(), state.annotations["a"].as_str()), ("web", "b"));
        assert!(matches!(bytes(b"w\xff", b"/b", b"x"), Err(StateError::Json(_))));
        assert!(matches!(bytes(b"web", b"/\xff", b"x"), Err(StateError::Json(_))));
    }

    #[test]
    fn no_state_on_stdin_is_said_so() {
        for nothing in ["", "  \n"] {
            assert!(error(nothing).starts_with("no OCI state on standard input"), "{nothing:?}");
        }
    }

    #[test]
    fn half_a_json_is_refused() {
        let whole = r#"{"id":"web","status":"created","bundle":"/b","annotations":{"a":"b"}}"#;
        for end in 1..whole.len() {
            assert!(error(&whole[..end]).contains("not whole, valid JSON"), "{}", &whole[..end]);
        }
    }

    #[test]
    fn fifty_megabytes_are_refused_after_sixteen() {
        struct Endless(usize);
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += buffer.len();
                buffer.fill(b' ');
                Ok(buffer.len())
            }
        }
        let mut stdin = Endless(0);
        let error = State::read(&mut stdin).unwrap_err().to_string();
        assert!(error.contains("more than 16777216 bytes"), "{error}");
        assert!(stdin.0 <= 2 * MAX_STATE, "{} bytes were read", stdin.0);
    }

    #[test]
    fn wrong_types_in_used_fields_are_named_on_one_line() {
        for (json, expected) in [
            (r#"["1.0.2","web"]"#, "not a JSON object"),
            (r#"{"bundle":"/b"}"#, "has no id"),
            (r#"{"id":7,"bundle":"/b"}"#, "has the id 7:"),
            (r#"{"id":"web"}"#, "has no bundle"),
            (r#"{"id":"web","bundle":""}"#, "has no bundle"),
            (r#"{"id":"web","bundle":"/b","pid":"x\u0000\n"}"#, "has the pid"),
            (r#"{"id":"web","bundle":"/b","pid":-4}"#, "has the pid -4:"),
            (r#"{"id":"web","bundle":"/b","pid":4294967296}"#, "has the pid"),
            (r#"{"id":"web","bundle":"/b","status":{}}"#, "has the status"),
            (r#"{"id":"web","bundle":"/b","annotations":[]}"#, "not whole, valid JSON"),
        ] {
            let error = error(json);
            assert!(error.contains(expected), "{json}: {error}");
            assert!(!error.chars().any(char::is_control) && error.len() < 300, "{error:?}");
        }
    }

    #[test]
    fn an_id_with_a_slash_or_of_500_characters_is_refused() {
        for id in ["../etc", "a/b", "", ".", &"x".repeat(500)] {
            let error = error(&format!(r#"{{"id":"{id}","bundle":"/b"}}"#));
            assert!(error.contains("id") && error.len() < 300, "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = State::read(bytes.as_slice());
        }

        #[test]
        fn near_states_do_not_make_it_panic(text in r#"[\{\}\[\]",:0-9a-z \\]{0,80}"#) {
            let _ = read(&format!(r#"{{"id":"a","bundle":"/b",{text}}}"#));
        }

        #[test]
        fn extra_fields_of_any_type_are_skipped(
            name in "[a-z]{1,8}X", value in crate::request::annotations::tests::any_json()
        ) {
            let json = format!(r#"{{"{name}":{value},"id":"a","bundle":"/b","pid":3}}"#);
            prop_assert_eq!(read(&json).unwrap().pid, Some(3));
        }
    }
}
