//! A node's CNI list, in which `hostport install cni` changes one word.

use serde_json::Value;

use crate::fuzzing::message::assert_one_line;
use crate::install::list::{Found, HOSTPORT, PORTMAP, exchange};

/// What is in a file of its folder.
pub fn list(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match exchange(text, PORTMAP, HOSTPORT) {
        Err(why) => assert_one_line(&why),
        Ok(Found::Exchanged(there)) => {
            assert_eq!(there.len(), text.len() + 1);
            assert_eq!(exchange(&there, PORTMAP, HOSTPORT), Ok(Found::Already));
            assert_eq!(exchange(&there, HOSTPORT, PORTMAP), Ok(Found::Exchanged(text.to_owned())));
            let plugins = |text: &str| {
                let list: Value = serde_json::from_str(text).expect("it was read before");
                list["plugins"].as_array().expect("it has plugins").len()
            };
            assert_eq!(plugins(&there), plugins(text));
        }
        Ok(Found::Already | Found::Nothing) => {}
    }
}
