//! docs/schemas: from the types that the program serializes, and what is promised beyond a type.
//!
//! show.schema.json is not among them: that form is nft's own (libnftables-json(5)), and no type of ours is
//! serialized into it. A test holds the program's output to it.

use hostport_hook::schema;
use serde_json::{Value, json};

use crate::pages::Page;

/// A value at a place in a schema, by its JSON pointer.
type Promise = (&'static str, Value);

/// The schemas as they should be now.
pub fn pages() -> [Page; 3] {
    [
        page("doctor", schema::doctor().to_value(), doctor()),
        page("explain", schema::explain().to_value(), explain()),
        page("list", schema::list().to_value(), list()),
    ]
}

fn doctor() -> Vec<Promise> {
    vec![
        (
            "/description",
            json!(
                "What on this host keeps host ports from working. Fields and kinds may be added; these \
                 keep their names and types."
            ),
        ),
        ("/$defs/Finding/properties/what/minLength", json!(1)),
        ("/$defs/Finding/properties/fix/minLength", json!(1)),
    ]
}

fn explain() -> Vec<Promise> {
    vec![
        (
            "/description",
            json!(
                "What happens to a packet for a port. Fields, steps and kinds may be added; these keep \
                 their names and types."
            ),
        ),
        ("/properties/port/minimum", json!(1)),
        ("/properties/protocol/enum", protocols()),
        ("/properties/steps/minItems", json!(1)),
        ("/properties/conclusion/minLength", json!(1)),
        (
            "/$defs/StepReport/properties/hook/enum",
            json!(["prerouting", "output", "routing", "forward", "postrouting", "container"]),
        ),
        ("/$defs/StepReport/properties/what/minLength", json!(1)),
        ("/$defs/Obstacle/properties/kind/pattern", json!("^[a-z0-9]+(-[a-z0-9]+)*$")),
        (
            "/$defs/Obstacle/properties/kind/description",
            json!(
                "A kind of hostport doctor, or one of no-way-back, loopback-from-outside, not-published, \
                 wrong-protocol, other-address, other-family, not-routed, entrance-down, link-local, \
                 loopback-source, endpoint-unanswered, answered-elsewhere, address-kept."
            ),
        ),
        ("/$defs/Obstacle/properties/plain/minLength", json!(1)),
        ("/$defs/Obstacle/properties/what/minLength", json!(1)),
        ("/$defs/Obstacle/properties/fix/minLength", json!(1)),
    ]
}

fn list() -> Vec<Promise> {
    vec![
        (
            "/description",
            json!(
                "What is published, sorted by address, port and protocol. Fields may be added; these keep \
                 their names and types."
            ),
        ),
        ("/$defs/Object/properties/host_port/minimum", json!(1)),
        ("/$defs/Object/properties/container_port/minimum", json!(1)),
        ("/$defs/Object/properties/protocol/enum", protocols()),
        // Both with --wide, and neither without it.
        ("/$defs/Object/dependentRequired", json!({"pod": ["since_ms"], "since_ms": ["pod"]})),
    ]
}

fn protocols() -> Value {
    json!(["tcp", "udp", "sctp"])
}

fn page(command: &str, mut schema: Value, promises: Vec<Promise>) -> Page {
    unwrap_lines(&mut schema);
    schema["title"] = json!(format!("hostport {command} --json"));
    for (place, value) in promises {
        promise(&mut schema, place, value);
    }
    Page {
        path: format!("docs/schemas/{command}.schema.json"),
        text: format!("{schema:#}\n"),
        target: "reference",
    }
}

/// # Panics
///
/// If there is no such place: the type has changed, and what was promised of it has to follow.
fn promise(schema: &mut Value, place: &str, value: Value) {
    let (object, key) = place.rsplit_once('/').expect("a JSON pointer");
    let object = schema.pointer_mut(object).and_then(Value::as_object_mut);
    object.unwrap_or_else(|| panic!("no {place} in the schema")).insert(key.to_owned(), value);
}

/// A doc comment's lines as one.
fn unwrap_lines(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(text) if key == "description" => *text = text.replace('\n', " "),
                    other => unwrap_lines(other),
                }
            }
        }
        Value::Array(array) => array.iter_mut().for_each(unwrap_lines),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic = "no /$defs/Nothing/minimum"]
    fn a_promise_of_what_a_type_no_longer_has_is_noticed() {
        promise(&mut json!({"$defs": {}}), "/$defs/Nothing/minimum", json!(1));
    }

    #[test]
    fn a_description_is_one_line() {
        let mut schema = json!({"items": [{"description": "one\ntwo"}]});
        unwrap_lines(&mut schema);
        assert_eq!(schema, json!({"items": [{"description": "one two"}]}));
    }
}
