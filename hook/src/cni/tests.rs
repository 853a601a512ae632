//! What must hold of any configuration.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{Configuration, Environment, Operation};
use crate::request::annotations::PortRequest;

fn requests(ports: &str) -> Vec<PortRequest> {
    let text = format!(
        r#"{{"cniVersion":"1.0.0","name":"pods","runtimeConfig":{{"portMappings":{ports}}}}}"#
    );
    let configuration = Configuration::read(text.as_bytes(), Operation::Add).unwrap();
    configuration.requests().unwrap()
}

/// A key with some of its letters in the other case.
fn in_some_case(key: &'static str) -> impl Strategy<Value = String> {
    prop::collection::vec(any::<bool>(), key.len()).prop_map(|upper| {
        let letter = |(letter, upper): (char, bool)| match upper {
            true => letter.to_ascii_uppercase(),
            false => letter.to_ascii_lowercase(),
        };
        key.chars().zip(upper).map(letter).collect()
    })
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("\\PC{0,8}", inner, 0..4)
                .prop_map(|map| Value::Object(Map::from_iter(map))),
        ]
    })
}

proptest! {
    #[test]
    fn keys_of_a_port_may_be_in_any_case_and_the_last_of_two_counts(
        host in in_some_case("hostPort"),
        container in in_some_case("containerPort"),
        protocol in in_some_case("protocol"),
        ip in in_some_case("hostIP"),
    ) {
        let ports = format!(
            r#"[{{"hostPort":1,"{host}":9000,"{container}":8080,"{protocol}":"udp","{ip}":"192.0.2.1"}}]"#
        );
        let expected = r#"[{"hostPort":9000,"containerPort":8080,"protocol":"UDP","hostIP":"192.0.2.1"}]"#;
        prop_assert_eq!(requests(&ports), requests(expected));
    }

    #[test]
    fn a_result_passes_as_it_came_whatever_else_is_in_it(more in any_json(), spaces in "[ \n\t]{0,4}") {
        let result = format!(r#"{{{spaces}"cniVersion" :{spaces}"1.0.0","more":{more}{spaces}}}"#);
        let text = format!(r#"{{"cniVersion":"1.0.0","name":"pods","prevResult":{result},"more":{more}}}"#);
        let configuration = Configuration::read(text.as_bytes(), Operation::Add).unwrap();
        let previous = configuration.previous.unwrap();
        prop_assert_eq!(previous.passed_on("1.0.0").unwrap(), result);
        prop_assert!(previous.endpoints("eth0").unwrap().is_empty());
    }

    #[test]
    fn a_result_without_a_version_gets_one_and_keeps_the_rest(more in any_json()) {
        let text = json!({ "name": "pods", "prevResult": { "more": more } }).to_string();
        let configuration = Configuration::read(text.as_bytes(), Operation::Add).unwrap();
        let passed = configuration.previous.unwrap().passed_on(configuration.version).unwrap();
        let passed: Value = serde_json::from_str(&passed).unwrap();
        prop_assert_eq!(passed, json!({ "cniVersion": "0.1.0", "more": more }));
    }

    #[test]
    fn an_attachment_has_an_owner_that_no_other_has(
        ids in ["[a-z0-9]{1,8}|[a-z]{120,140}", "[a-z0-9]{1,8}|[a-z]{120,140}"],
        interfaces in ["eth0|[a-z0-9é@+]{1,8}", "eth0|[a-z0-9é@+]{1,8}"],
    ) {
        let owner = |id: &str, interface: &str| {
            let variable = |name: &str| Some(match name {
                "CNI_COMMAND" => "ADD",
                "CNI_CONTAINERID" => id,
                "CNI_IFNAME" => interface,
                "CNI_NETNS" => "/run/netns/a",
                _ => return None,
            }.to_owned());
            Environment::read(variable).and_then(|environment| environment.owner())
        };
        // An interface's name has at most 15 bytes.
        let [one, other] = [0, 1].map(|at| owner(&ids[at], &interfaces[at]));
        if let (Ok(one), Ok(other)) = (one, other) {
            let same = ids[0] == ids[1] && interfaces[0] == interfaces[1];
            prop_assert_eq!(one == other, same);
        }
    }
}
