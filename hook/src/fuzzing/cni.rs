//! A network's configuration on standard input, with the result of the plugins before.

use serde_json::Value;

use crate::cni::{CniError, Configuration, Operation};
use crate::fuzzing::annotations::assert_one_container_port_each;
use crate::fuzzing::message::assert_one_line;
use crate::request::annotations::MAX_PORTS;

const OPERATIONS: [Operation; 6] = [
    Operation::Add,
    Operation::Del,
    Operation::Check,
    Operation::Gc,
    Operation::Status,
    Operation::Version,
];

/// What a runtime, or anybody, writes there.
pub fn cni(data: &[u8]) {
    for operation in OPERATIONS {
        match Configuration::read(data, operation) {
            Err(error) => assert_sound(&error),
            Ok(configuration) => check(&configuration),
        }
    }
}

fn check(configuration: &Configuration<'_>) {
    match configuration.requests() {
        Err(error) => assert_sound(&error),
        Ok(requests) => {
            assert!(requests.len() <= MAX_PORTS);
            assert_one_container_port_each(&requests);
            let sound = configuration.sound_requests();
            assert!(requests.iter().all(|request| sound.contains(request)));
        }
    }
    let Some(previous) = configuration.previous else { return };
    match previous.endpoints("eth0") {
        Err(error) => assert_sound(&error),
        Ok(endpoints) => {
            let families = endpoints.iter().filter(|ip| ip.is_ipv4()).count();
            assert!(families <= 1 && endpoints.len() - families <= 1, "{endpoints:?}");
        }
    }
    match previous.passed_on(configuration.version) {
        Err(error) => assert_sound(&error),
        Ok(text) => {
            let passed: Value = serde_json::from_str(&text).expect("it was read before");
            assert!(passed["cniVersion"].is_string(), "{text}");
        }
    }
}

/// Runtimes read it, and people.
fn assert_sound(error: &CniError) {
    assert_one_line(&error);
    let text: Value = serde_json::from_str(&error.to_json("1.0.0")).expect("an error is JSON");
    assert_eq!(text["msg"], error.message.as_str());
}
