//! The image's configurations, and which program a configuration on the node calls.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::error::Error;

/// The program's path in the files of the sources.
const PROGRAM: &str = "/usr/local/bin/hostport";

/// A configuration to install.
#[derive(Debug)]
pub struct Configuration {
    pub name: String,
    pub content: Vec<u8>,
}

/// How a configuration has a runtime call a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub program: String,
    pub arguments: Vec<String>,
}

impl Call {
    /// The call in the configurations that are shipped. Its program is empty, since nothing compares it.
    pub fn plain() -> Call {
        Call { program: String::new(), arguments: ["hostport", "hook"].map(str::to_owned).into() }
    }
}

/// The calls in a file: the one of a hook configuration, or those of all hooks of a runtime specification. Empty if
/// the file is neither.
pub fn calls(content: &[u8]) -> Vec<Call> {
    let Ok(json) = serde_json::from_slice::<Value>(content) else { return Vec::new() };
    let stages = json["hooks"].as_object().into_iter().flat_map(|stages| stages.values());
    let hooks = stages.filter_map(Value::as_array).flatten();
    let hooks = json.get("hook").into_iter().chain(hooks);
    hooks
        .filter_map(|hook| {
            let arguments = hook["args"].as_array().into_iter().flatten();
            Some(Call {
                program: hook["path"].as_str()?.to_owned(),
                arguments: arguments.filter_map(|word| Some(word.as_str()?.to_owned())).collect(),
            })
        })
        .collect()
}

/// The files of a folder of the image, with the program's path on this node, sorted by name.
///
/// A ConfigMap mounted in the folder's place holds links to its files, which are in a hidden folder.
pub fn read(folder: &Path, program: &str) -> Result<Vec<Configuration>, Error> {
    let bad = || Error::BadImage(folder.to_owned());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|_| bad())? {
        let path = entry.map_err(|_| bad())?.path();
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(bad)?.to_owned();
        if name.starts_with('.') {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(|_| Error::BadImage(path.clone()))?;
        let content = text.replace(PROGRAM, program).into_bytes();
        // Otherwise the next installation would not recognise it as ours. A runtime would stumble over broken JSON.
        if name.ends_with(".json") && !calls(&content).iter().any(|call| call.program == program) {
            return Err(Error::CallsAnother { path, program: PROGRAM });
        }
        found.push(Configuration { name, content });
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}
