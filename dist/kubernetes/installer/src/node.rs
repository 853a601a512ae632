//! Where each file goes on the node, and which files there are ours.

use std::fs;
use std::io;
use std::path::Path;

use crate::cli::Folders;
use crate::configuration::{self, Call, Configuration};
use crate::error::Error;
use crate::folder::Folder;
use crate::lock::Lock;

pub const HOSTPORT: &str = "hostport";
pub const PREVIOUS: &str = "hostport.previous";
pub const FILE: u32 = 0o644;
pub const EXECUTABLE: u32 = 0o755;

/// The node's folders, and the files that belong into them.
#[derive(Debug)]
pub struct Node {
    pub bin: Folder,
    pub program: Vec<u8>,
    /// The program as the node's runtimes name it.
    pub on_node: String,
    pub hooks: Option<Folder>,
    pub hook_configurations: Vec<Configuration>,
    pub containerd: Option<Folder>,
    pub containerd_files: Vec<Configuration>,
    /// The last field, so that it is dropped last.
    _lock: Option<Lock>,
}

impl Node {
    /// Opens the folders, and keeps other installers out until the end.
    pub fn open(folders: &Folders) -> Result<Self, Error> {
        let bin = open_bin(folders)?;
        let lock = Lock::take(&bin)?;
        Node::with(folders, bin, Some(lock))
    }

    /// Opens the folders to read them, without the lock: a probe does not wait.
    pub fn look(folders: &Folders) -> Result<Self, Error> {
        Node::with(folders, open_bin(folders)?, None)
    }

    fn with(folders: &Folders, bin: Folder, lock: Option<Lock>) -> Result<Self, Error> {
        let program = folders.files.join(HOSTPORT);
        let program = fs::read(&program).map_err(|_| Error::BadImage(program))?;
        let on_node = folders.bin_on_node.join(HOSTPORT).display().to_string();
        let read = |folder: &str| configuration::read(&folders.files.join(folder), &on_node);
        Ok(Node {
            bin,
            program,
            hooks: Folder::open(&folders.hooks)?,
            hook_configurations: read("oci-hooks.d")?,
            containerd: Folder::open(&folders.containerd)?,
            containerd_files: read("containerd")?,
            on_node,
            _lock: lock,
        })
    }

    /// Removes what a killed installer left behind.
    pub fn clear(&self) -> Result<(), Error> {
        self.bin.clear_trial()?;
        let folders = [Some(&self.bin), self.hooks.as_ref(), self.containerd.as_ref()];
        folders.into_iter().flatten().try_for_each(Folder::clear)
    }

    /// The configurations, each with its folder, in the order of installation.
    pub fn configurations(&self) -> impl DoubleEndedIterator<Item = (&Folder, &Configuration)> {
        let containerd = self.containerd.iter();
        let containerd = containerd.flat_map(|f| self.containerd_files.iter().map(move |c| (f, c)));
        let hooks = self.hooks.iter();
        let hooks = hooks.flat_map(|f| self.hook_configurations.iter().map(move |c| (f, c)));
        containerd.chain(hooks)
    }

    /// Refuses if a file to replace belongs to an operator or a package.
    pub fn refuse_others(&self) -> Result<(), Error> {
        for (folder, configuration) in self.configurations() {
            let name = &configuration.name;
            if self.is_anothers(folder, name)? {
                let present = folder.read(name)?.unwrap_or_default();
                let other = configuration::calls(&present).into_iter().next();
                return Err(Error::NotOurs {
                    path: folder.path(name),
                    names: other.map_or("no program".to_owned(), |call| call.program),
                    ours: self.on_node.clone(),
                });
            }
        }
        Ok(())
    }

    /// Whether there is a file of that name that calls another program.
    pub fn is_anothers(&self, folder: &Folder, name: &str) -> Result<bool, Error> {
        let present = folder.read(name)?;
        Ok(name.ends_with(".json") && present.is_some_and(|present| !self.calls_us(&present)))
    }

    /// The names of the hook configurations on the node that call our program: those that hostport installed, judged by
    /// their name, and the operator's own.
    pub fn hooks_of_ours(&self) -> Result<(Vec<String>, Vec<String>), Error> {
        let mut found = (Vec::new(), Vec::new());
        let Some(hooks) = &self.hooks else { return Ok(found) };
        for name in hooks.names()?.into_iter().filter(|name| name.ends_with(".json")) {
            match hooks.read(&name) {
                Ok(Some(content)) if self.calls_us(&content) => {
                    if name.starts_with(HOSTPORT) {
                        found.0.push(name)
                    } else {
                        found.1.push(name)
                    }
                }
                Ok(_) | Err(Error::NotAFile(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Hostport's hook configurations on the node that are from another release: the image does not have them.
    pub fn stale(&self) -> Result<Vec<String>, Error> {
        let has = |name: &String| self.hook_configurations.iter().any(|c| c.name == *name);
        Ok(self.hooks_of_ours()?.0.into_iter().filter(|name| !has(name)).collect())
    }

    /// How runtimes will call the program once the image's configurations are installed.
    pub fn calls_to_come(&self) -> Vec<Call> {
        or_plain(self.distinct(self.configurations().map(|(_, c)| c.content.clone())))
    }

    /// How runtimes call the program now.
    pub fn calls_now(&self) -> Result<Vec<Call>, Error> {
        let mut contents = Vec::new();
        let (ours, operators) = self.hooks_of_ours()?;
        for folder in self.hooks.iter() {
            for name in ours.iter().chain(&operators) {
                contents.extend(folder.read(name)?);
            }
        }
        contents.extend(self.containerds()?);
        Ok(or_plain(self.distinct(contents.into_iter())))
    }

    /// How runtimes will go on to call the program whatever is installed: by an operator's configurations, and by the
    /// files that containerd read when it started.
    pub fn calls_that_stay(&self) -> Result<Vec<Call>, Error> {
        let mut contents = self.containerds()?;
        for folder in self.hooks.iter() {
            for name in self.hooks_of_ours()?.1 {
                contents.extend(folder.read(&name)?);
            }
        }
        Ok(self.distinct(contents.into_iter()))
    }

    /// The contents of containerd's files on the node.
    fn containerds(&self) -> Result<Vec<Vec<u8>>, Error> {
        let mut contents = Vec::new();
        for folder in self.containerd.iter() {
            for each in &self.containerd_files {
                contents.extend(folder.read(&each.name)?);
            }
        }
        Ok(contents)
    }

    fn distinct(&self, contents: impl Iterator<Item = Vec<u8>>) -> Vec<Call> {
        let mut found = Vec::new();
        for call in contents.flat_map(|content| configuration::calls(&content)) {
            if call.program == self.on_node && !found.contains(&call) {
                found.push(call);
            }
        }
        found
    }

    fn calls_us(&self, content: &[u8]) -> bool {
        configuration::calls(content).iter().any(|call| call.program == self.on_node)
    }
}

/// Where no folder is mounted, the node's maker has written configurations that this program cannot see.
fn or_plain(calls: Vec<Call>) -> Vec<Call> {
    if calls.is_empty() { vec![Call::plain()] } else { calls }
}

fn open_bin(folders: &Folders) -> Result<Folder, Error> {
    Folder::open(&folders.bin)?.ok_or_else(|| Error::NotMounted(folders.bin.clone(), "--bin"))
}

/// How many owners the node's journal has. None if it is not mounted.
pub fn owners(journal: &Path) -> io::Result<Option<usize>> {
    let entries = match fs::read_dir(journal) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    let mut count = 0;
    for entry in entries {
        // One file an owner, ID.json. Hidden files are not owners.
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        count += usize::from(name.ends_with(".json") && !name.starts_with('.'));
    }
    Ok(Some(count))
}
