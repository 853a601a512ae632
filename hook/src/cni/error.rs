//! Errors as the specification writes them (section 3, "Error").

use serde::Serialize;
use thiserror::Error;

use super::VERSIONS;

/// What kind of error it is, for the runtime: the specification's numbers, and those of its library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The configuration's version is not supported.
    Version = 1,
    /// A field of the configuration is not supported.
    Unsupported = 2,
    /// A variable of the environment is missing or wrong.
    Environment = 4,
    /// Standard input cannot be read.
    Io = 5,
    /// The configuration is not the JSON that is expected.
    Decoding = 6,
    /// The configuration asks for what cannot be.
    Configuration = 7,
    /// The network namespace is the caller's own.
    Namespace = 8,
    /// It may work later.
    TryAgain = 11,
    /// The plugin cannot work on this node.
    NotAvailable = 50,
    /// Anything else.
    Other = 999,
}

/// Why a call fails.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct CniError {
    /// What kind it is.
    pub code: Code,
    /// What is wrong, and what to do.
    pub message: String,
}

impl CniError {
    /// An error of a kind.
    pub fn new(code: Code, message: impl ToString) -> Self {
        CniError { code, message: message.to_string() }
    }

    /// The text for standard output; `version` is the configuration's.
    pub fn to_json(&self, version: &str) -> String {
        #[derive(Serialize)]
        struct Form<'a> {
            #[serde(rename = "cniVersion")]
            version: &'a str,
            code: u32,
            msg: &'a str,
        }
        // Runtimes read no error of a version that they do not know.
        let version = VERSIONS.into_iter().find(|known| *known == version).unwrap_or("1.0.0");
        let form = Form { version, code: self.code as u32, msg: &self.message };
        // Text and numbers alone cannot fail to become JSON.
        serde_json::to_string(&form).unwrap_or_default()
    }
}
