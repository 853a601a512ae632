//! What the guest gets: an initramfs with its first process, and a disk with the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hostport_vm_tests::{FOLDER, INIT, PLAN, Plan, SUITE};

use crate::cache::Own;
use crate::cli::{Options, repository};
use crate::kernel::Kernel;
use crate::program::{at, run};
use crate::suite::Suite;
use crate::{Wrong, archive, image};

/// What the tests read of the checkout.
const DATA: [&str; 3] = ["tests", "oci-hooks.d", "dist"];

/// The archive with the first process, the plan and the modules that the guest needs first.
pub fn initramfs(options: &Options, kernel: &Kernel, plan: &Plan) -> Result<Vec<u8>, Wrong> {
    let read = |file: &Path| at(file, fs::read(file));
    // The kernel unpacks one archive after the other. Ours comes last, so its files win.
    let mut bytes = match &options.initramfs {
        Some(file) => read(file)?,
        None => Vec::new(),
    };
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    let plan = serde_json::to_vec(plan).map_err(|error| error.to_string())?;
    let mut entries = vec![
        archive::folder(FOLDER),
        archive::file(INIT, true, read(&options.guest())?),
        archive::file(PLAN, false, plan),
    ];
    for (name, content) in &kernel.boot_modules {
        entries.push(archive::file(&format!("{FOLDER}/{name}"), false, content.clone()));
    }
    bytes.extend(archive::pack(entries).map_err(|error| error.to_string())?);
    Ok(bytes)
}

/// Makes the disk with the test executable, its libraries and data, and the program under test.
pub fn tests_disk(options: &Options, suite: &Suite, own: &Own) -> Result<PathBuf, Wrong> {
    let folder = own.folder.join("tests");
    for part in ["lib", "repository"] {
        at(&folder, fs::create_dir_all(folder.join(part)))?;
    }
    let copy = |from: &Path, to: PathBuf| at(from, fs::copy(from, to)).map(drop);
    // Without debug information, a tenth of the size is left.
    let stripped = folder.join(SUITE);
    run(Command::new("strip").arg("--strip-debug").arg("-o").arg(&stripped).arg(&suite.file))?;
    for library in linked(&suite.file)? {
        let name = library.file_name().unwrap_or_default();
        copy(&library, folder.join("lib").join(name))?;
    }
    copy(&options.hostport(), folder.join("hostport"))?;
    for part in DATA {
        let from = repository().join(part);
        run(Command::new("cp").arg("-a").arg(from).arg(folder.join("repository")))?;
    }
    let disk = folder.with_extension("img");
    image::make(&folder, &disk, 0)?;
    at(&folder, fs::remove_dir_all(&folder))?;
    Ok(disk)
}

/// The libraries that an executable links, including the loader that starts it.
fn linked(executable: &Path) -> Result<Vec<PathBuf>, Wrong> {
    let text = run(Command::new("ldd").arg(executable))?;
    let path = |line: &str| {
        let line = line.split_once(" => ").map_or(line, |(_, path)| path);
        let path = line.trim().split(' ').next()?;
        path.starts_with('/').then(|| PathBuf::from(path))
    };
    Ok(text.lines().filter_map(path).collect())
}
