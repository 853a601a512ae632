//! Packages of any Debian release, fetched by apt from the mirror that this machine uses.
//!
//! apt runs with a configuration of its own: it neither reads nor changes what is installed on this machine, and it
//! verifies each file with Debian's archive key.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::Wrong;
use crate::program::{at, run};

/// The keys of all releases, of the package debian-archive-keyring.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// How old a list of packages may be.
const AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The archive that a release's packages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archive {
    /// The main archive.
    Main,
    /// The archive of security updates, whose lists are short.
    Security,
}

/// apt for one release.
pub struct Apt {
    configuration: PathBuf,
}

impl Apt {
    /// apt with the lists of one release of Debian, such as `sid` or `bullseye-security`.
    pub fn of(cache: &Path, archive: Archive, release: &str) -> Result<Apt, Wrong> {
        let folder = cache.join("apt").join(release);
        for part in ["lists/partial", "archives/partial", "none"] {
            at(&folder, fs::create_dir_all(folder.join(part)))?;
        }
        let mirror = mirror(archive)?;
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            at(&path, fs::write(&path, text)).map(|()| path)
        };
        write("status", String::new())?;
        write(
            "sources.list",
            format!("deb [arch=amd64 signed-by={KEYS}] {mirror} {release} main\n"),
        )?;
        let folder_text = folder.display();
        let configuration = write(
            "apt.conf",
            format!(
                "Dir::State \"{folder_text}\";\nDir::State::status \"{folder_text}/status\";\n\
                 Dir::Cache \"{folder_text}\";\n\
                 Dir::Etc::sourcelist \"{folder_text}/sources.list\";\n\
                 Dir::Etc::sourceparts \"{folder_text}/none\";\n\
                 APT::Architecture \"amd64\";\nAPT::Sandbox::User \"root\";\n\
                 Acquire::Languages \"none\";\nAcquire::Retries \"3\";\n\
                 Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n"
            ),
        )?;
        let apt = Apt { configuration };
        let stamp = folder.join("updated");
        let age = fs::metadata(&stamp).and_then(|file| file.modified());
        if !age.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age < AGE)) {
            run(apt.command("apt-get").args(["-q", "--error-on=any", "update"]))?;
            at(&stamp, fs::write(&stamp, ""))?;
        }
        Ok(apt)
    }

    /// A package and its dependencies, by name.
    pub fn closure(&self, package: &str) -> Result<Vec<String>, Wrong> {
        closure(&mut self.command("apt-cache"), &[package])
    }

    /// The version of a package that would be fetched.
    pub fn version(&self, package: &str) -> Result<String, Wrong> {
        let shown = run(self.command("apt-cache").args(["show", "--no-all-versions", package]))?;
        let version = shown.lines().find_map(|line| line.strip_prefix("Version: "));
        version.map(str::to_owned).ok_or_else(|| format!("{package} has no version"))
    }

    /// Fetches a package and unpacks it into a folder.
    pub fn unpack(&self, package: &str, folder: &Path) -> Result<(), Wrong> {
        let download = folder.join("download");
        at(&download, fs::create_dir_all(&download))?;
        run(self.command("apt-get").args(["-q", "download", package]).current_dir(&download))?;
        for file in at(&download, fs::read_dir(&download))?.flatten() {
            run(Command::new("dpkg-deb").arg("--extract").arg(file.path()).arg(folder))?;
        }
        at(&download, fs::remove_dir_all(&download))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.configuration).env("LC_ALL", "C");
        command
    }
}

/// Packages and their dependencies, by name; `<virtual>` ones are left out.
pub fn closure(apt_cache: &mut Command, packages: &[&str]) -> Result<Vec<String>, Wrong> {
    const ONLY_DEPENDS: [&str; 8] = [
        "depends",
        "--recurse",
        "--no-recommends",
        "--no-suggests",
        "--no-conflicts",
        "--no-breaks",
        "--no-replaces",
        "--no-enhances",
    ];
    let text = run(apt_cache.args(ONLY_DEPENDS).args(packages))?;
    let name = |line: &&str| !line.starts_with([' ', '|', '<']) && !line.is_empty();
    Ok(text.lines().filter(name).map(str::to_owned).collect())
}

/// The address that this machine gets Debian's packages from.
fn mirror(archive: Archive) -> Result<String, Wrong> {
    let targets = run(Command::new("apt-get").args([
        "indextargets",
        "--no-release-info",
        "--format",
        "$(REPO_URI) $(RELEASE)",
        "Created-By: Packages",
    ]))?;
    let secure = archive == Archive::Security;
    let found = targets.lines().filter_map(|line| line.split_once(' ')).find(|(uri, release)| {
        let path = uri.trim_end_matches('/');
        let name = if secure { "/debian-security" } else { "/debian" };
        path.ends_with(name) && release.ends_with("-security") == secure
    });
    found.map(|(uri, _)| uri.to_owned()).ok_or_else(|| {
        let which = if secure { "Debian's security updates" } else { "Debian's packages" };
        format!("apt has no source of {which} on this machine: run this on Debian, or use --kernel")
    })
}
