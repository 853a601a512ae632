//! What goes where on the node.

use std::fs;
use std::path::Path;

use crate::cli::Folders;
use crate::error::Error;
use crate::folder::Folder;

/// Where the files of the sources name the program.
const PROGRAM: &str = "/usr/local/bin/hostport";
pub const HOSTPORT: &str = "hostport";
pub const PREVIOUS: &str = "hostport.previous";
pub const FILE: u32 = 0o644;
pub const EXECUTABLE: u32 = 0o755;

/// A configuration to be installed.
#[derive(Debug)]
pub struct Configuration {
    pub name: String,
    pub content: Vec<u8>,
}

/// The node's folders, and what belongs into them.
#[derive(Debug)]
pub struct Node {
    pub bin: Folder,
    pub program: Vec<u8>,
    pub hooks: Option<Folder>,
    pub hook_configurations: Vec<Configuration>,
    pub containerd: Option<Folder>,
    pub containerd_files: Vec<Configuration>,
}

impl Node {
    /// Opens the folders, and keeps other installers out until the end.
    pub fn open(folders: &Folders) -> Result<Self, Error> {
        let bin = Folder::open(&folders.bin)?
            .ok_or_else(|| Error::NotMounted(folders.bin.clone(), "--bin"))?;
        bin.lock()?;
        let program = folders.files.join(HOSTPORT);
        let program = fs::read(&program).map_err(|_| Error::BadImage(program))?;
        let on_node = folders.bin_on_node.join(HOSTPORT);
        let configurations = |folder: &str| configurations(&folders.files.join(folder), &on_node);
        Ok(Node {
            bin,
            program,
            hooks: Folder::open(&folders.hooks)?,
            hook_configurations: configurations("oci-hooks.d")?,
            containerd: Folder::open(&folders.containerd)?,
            containerd_files: configurations("containerd")?,
        })
    }

    /// Removes what an installer that was killed has left.
    pub fn clear(&self) -> Result<(), Error> {
        let folders = [Some(&self.bin), self.hooks.as_ref(), self.containerd.as_ref()];
        folders.into_iter().flatten().try_for_each(Folder::clear)
    }

    /// The configurations with the folder that they belong into, in the order in which they come.
    pub fn configurations(&self) -> impl DoubleEndedIterator<Item = (&Folder, &Configuration)> {
        let containerd = self.containerd.iter();
        let containerd = containerd.flat_map(|f| self.containerd_files.iter().map(move |c| (f, c)));
        let hooks = self.hooks.iter();
        let hooks = hooks.flat_map(|f| self.hook_configurations.iter().map(move |c| (f, c)));
        containerd.chain(hooks)
    }
}

/// The files of a folder of the image, with the program's path on this node, sorted by name.
fn configurations(folder: &Path, on_node: &Path) -> Result<Vec<Configuration>, Error> {
    let bad = || Error::BadImage(folder.to_owned());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|_| bad())? {
        let path = entry.map_err(|_| bad())?.path();
        let text = fs::read_to_string(&path).map_err(|_| Error::BadImage(path.clone()))?;
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(bad)?.to_owned();
        let on_node = on_node.to_str().ok_or_else(bad)?;
        found.push(Configuration { name, content: text.replace(PROGRAM, on_node).into_bytes() });
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// How many owners the node's journal has; none where it is not mounted, so that nobody knows.
pub fn owners(journal: &Path) -> Option<usize> {
    let entries = fs::read_dir(journal).ok()?;
    // One file an owner, ID.json; hidden files are none.
    let is_owner = |name: &str| name.ends_with(".json") && !name.starts_with('.');
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Some(names.filter(|name| is_owner(name)).count())
}
