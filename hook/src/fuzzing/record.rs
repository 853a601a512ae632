//! libcni's record of an attachment, which `hostport adopt` and `hostport uninstall` read.

use serde_json::Value;

use crate::cni::{Configuration, Operation};
use crate::fuzzing::message::assert_one_line;
use crate::portmap::{Record, is_called_by};

/// What is in a file of its folder.
pub fn record(data: &[u8]) {
    is_called_by(data, "hostport");
    match Record::read(data) {
        Err(error) => assert_one_line(&error),
        Ok(None) => {}
        Ok(Some(Record { environment, configuration })) => {
            // Never anything else, and never without a namespace that shows whether it lives.
            let plugin: Value = serde_json::from_slice(&configuration).expect("it was read before");
            assert_eq!(plugin["type"], "portmap");
            assert!(environment.namespace.is_some());
            if let Err(error) = Configuration::read(&configuration, Operation::Add) {
                assert_one_line(&error);
            }
        }
    }
}
