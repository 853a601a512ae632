//! The names that podman gives containers. No annotation has them, but the lists of its storage do: `containers.json`,
//! and for `--rm` since podman 4.4 `volatile-containers.json` (newContainerStore in github.com/containers/storage).
//! A bundle is `FOLDER/ID/userdata`, and the lists are in that folder. Read for people, never at a publication.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hostport_nft::OwnerId;
use serde::Deserialize;

use super::bundle::read_regular_file;
use crate::journal::Entry;
use crate::request::Names;
use crate::request::names::is_name;

const LISTS: [&str; 2] = ["containers.json", "volatile-containers.json"];

/// The lists that were read, by their folder.
#[derive(Debug, Default)]
pub struct PodmanNames(BTreeMap<PathBuf, BTreeMap<String, String>>);

#[derive(Deserialize)]
struct Listed {
    id: String,
    names: Option<Vec<String>>,
}

impl PodmanNames {
    /// Adds the container's name to an entry without names.
    pub fn complete(&mut self, entry: &mut Entry) {
        self.add(&entry.owner, &entry.bundle, &mut entry.names);
    }

    /// Adds a container's name where none is known.
    pub fn add(&mut self, owner: &OwnerId, bundle: &Path, to: &mut Names) {
        if let Some(folder) = folder(bundle, owner).filter(|_| to.is_none()) {
            let names = self.0.entry(folder.to_owned()).or_insert_with(|| read(folder));
            to.container = names.get(owner.as_str()).cloned();
        }
    }
}

fn folder<'a>(bundle: &'a Path, owner: &OwnerId) -> Option<&'a Path> {
    let own = bundle.parent().filter(|_| bundle.ends_with("userdata"))?;
    own.parent().filter(|_| own.ends_with(owner.as_str()))
}

fn read(folder: &Path) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for list in LISTS {
        let text = read_regular_file(&folder.join(list)).unwrap_or_default();
        let listed: Vec<Listed> = serde_json::from_slice(&text).unwrap_or_default();
        let name = |listed: Listed| Some((listed.id, listed.names?.into_iter().next()?));
        names.extend(listed.into_iter().filter_map(name).filter(|(_, name)| is_name(name)));
    }
    names
}
