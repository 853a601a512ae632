//! A node's CNI lists, and the folders where runtimes look for plugins.

use std::fs;
use std::path::{Path, PathBuf};

use super::change::Content;
use super::list::{Found, HOSTPORT, PORTMAP, exchange};
use super::{Change, InstallError, Node, Plan, is_program};
use crate::diagnose::installation::{PLUGINS, files, is_list, missing_plugin};
use crate::output::{count, escape, several};
use crate::portmap;

/// What Debian's package has there, which removes it itself.
const OF_THE_PACKAGE: (&str, &str) = ("/usr/lib/cni", "/usr/bin/hostport");

/// Where a runtime looks, on the node.
#[derive(Debug)]
pub struct Folders {
    pub lists: PathBuf,
    /// Those of plugins, if they are not the usual ones.
    pub plugins: Vec<PathBuf>,
}

impl Folders {
    fn plugins(&self) -> Vec<&Path> {
        match self.plugins.as_slice() {
            [] => PLUGINS.map(Path::new).into(),
            given => given.iter().map(PathBuf::as_path).collect(),
        }
    }

    /// Those that have a plugin.
    fn plugins_with(&self, node: &Node, plugin: &str) -> Vec<&Path> {
        let mut all = self.plugins();
        all.retain(|folder| {
            let path = node.below(folder).join(plugin);
            // Below another root, an absolute link leads elsewhere.
            path.exists() || node.root.as_os_str() != "/" && path.is_symlink()
        });
        all
    }
}

/// Links the program to where portmap is, and then puts it in portmap's place in each list.
pub fn install(node: &Node, folders: &Folders) -> Result<Plan, InstallError> {
    node.check_program()?;
    let Exchange { lists, already } = exchanged(node, folders, PORTMAP, HOSTPORT)?;
    if lists.is_empty() && !already {
        return Err(InstallError::NoList(node.below(&folders.lists)));
    }
    let mut plugins = folders.plugins_with(node, PORTMAP);
    if plugins.is_empty() {
        plugins = folders.plugins_with(node, HOSTPORT);
        plugins.extend(missing_plugin(&node.root).map(|(_, folder)| Path::new(folder)));
    }
    if plugins.is_empty() {
        return Err(no_plugins(folders));
    }
    let mut plan = Plan::default();
    for folder in plugins {
        let path = node.below(folder).join(HOSTPORT);
        let there = match fs::read_link(&path) {
            Ok(to) => node.below(folder.join(to)),
            Err(_) => path.clone(),
        };
        // It may be a copy of the program.
        if !is_program(&there) {
            if there.exists() {
                return Err(InstallError::unclear(&path, "it is no program: move it away"));
            }
            let link = Content::Link(node.program.clone().into());
            plan.changes.extend(Change::to(path, Some(link))?);
        }
    }
    if !lists.is_empty() {
        plan.then.push(
            "pods that run keep portmap's host ports; to take them over: hostport adopt --remove"
                .to_owned(),
        );
    }
    plan.changes.extend(lists);
    Ok(plan)
}

/// Puts portmap back into each list, and then removes the links, unless a pod's end may need them.
pub fn uninstall(node: &Node, folders: &Folders, results: &Path) -> Result<Plan, InstallError> {
    let Exchange { lists, .. } = exchanged(node, folders, HOSTPORT, PORTMAP)?;
    if !lists.is_empty() && folders.plugins_with(node, PORTMAP).is_empty() {
        return Err(no_plugins(folders));
    }
    let mut plan = Plan::default();
    if !lists.is_empty() {
        plan.then.push(
            "host ports of running pods stay published; those of ended ones go with: hostport gc"
                .to_owned(),
        );
    }
    plan.changes = lists;
    let needed = files(&node.below(results), "")
        .into_iter()
        .filter(|file| fs::read(file).is_ok_and(|text| portmap::is_called_by(&text, HOSTPORT)));
    let needed = needed.count();
    for folder in folders.plugins() {
        let path = node.below(folder).join(HOSTPORT);
        let Ok(to) = fs::read_link(&path) else { continue };
        if (folder, to.as_path()) == (Path::new(OF_THE_PACKAGE.0), Path::new(OF_THE_PACKAGE.1)) {
            continue;
        }
        if to != Path::new(&node.program) {
            plan.then.push(format!(
                "{} stays, since it leads to {}: name the program with --program to remove it",
                escape::path(&path),
                escape::path(&to)
            ));
            continue;
        }
        match needed {
            0 => plan.changes.extend(Change::to(path, None)?),
            pods => plan.then.push(format!(
                "{} stays, since the runtime may call it for the end of {}: uninstall again later",
                escape::path(&path),
                count(pods, "attachment")
            )),
        }
    }
    Ok(plan)
}

fn no_plugins(folders: &Folders) -> InstallError {
    let all = folders.plugins();
    InstallError::NoPlugins(several(all.iter().map(|folder| escape::path(folder))))
}

struct Exchange {
    /// The lists to change.
    lists: Vec<Change>,
    /// Whether one has the plugin already.
    already: bool,
}

fn exchanged(
    node: &Node,
    folders: &Folders,
    from: &str,
    to: &str,
) -> Result<Exchange, InstallError> {
    let mut exchanged = Exchange { lists: Vec::new(), already: false };
    for path in files(&node.below(&folders.lists), "") {
        // What is no file, and a link that leads nowhere, is no list.
        if !is_list(&path) || !path.is_file() {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(InstallError::io("read", &path))?;
        match exchange(&text, from, to).map_err(|why| InstallError::unclear(&path, why))? {
            Found::Nothing => {}
            Found::Already => exchanged.already = true,
            Found::Exchanged(new) => {
                if let Ok(to) = fs::read_link(&path) {
                    return Err(InstallError::link(&path, &to));
                }
                exchanged.lists.extend(Change::of(path, text, new));
            }
        }
    }
    Ok(exchanged)
}
