//! The JSON schemas of what the program prints, from the types that it serializes: `cargo xtask schemas`.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

use crate::commands::{doctor, explain, list};

/// Of `hostport doctor --json`.
pub fn doctor() -> Schema {
    of::<doctor::render::Report>()
}

/// Of `hostport explain --json`.
pub fn explain() -> Schema {
    of::<explain::render::Report>()
}

/// Of `hostport list --json`.
pub fn list() -> Schema {
    of::<Vec<list::row::Object>>()
}

fn of<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>()
}
