//! A kernel to run on, and its modules.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::Options;
use crate::debian::{self, SERIES, Series};
use crate::program::{at, decompressed, run};
use crate::{Wrong, image};

/// What a kernel needs to see its disks and to read the file systems on them, if it is not built in.
const BOOT_MODULES: [&str; 6] =
    ["virtio_pci", "virtio_blk", "ext4", "squashfs", "erofs", "overlay"];

/// A kernel to run on.
pub struct Kernel {
    /// What the user calls it.
    pub name: String,
    /// The bzImage.
    pub image: PathBuf,
    /// An image with its modules.
    pub modules: Option<PathBuf>,
    /// The modules that must be loaded first, in order: file name and content.
    pub boot_modules: Vec<(String, Vec<u8>)>,
}

/// The kernels that the user asks for.
pub fn of(options: &Options) -> Result<Vec<Kernel>, Wrong> {
    if let Some(image) = &options.kernel {
        let name = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let modules = options.modules.as_deref();
        return Ok(vec![Kernel::new(&name, image.clone(), modules, &options.cache())?]);
    }
    let chosen = chosen(&options.kernels)?;
    chosen.into_iter().map(|series| debian::fetch(series, &options.cache())).collect()
}

/// Debian's kernels by their names; without names, all of them.
pub fn chosen(names: &[String]) -> Result<Vec<&'static Series>, Wrong> {
    let find = |name: &String| {
        SERIES.iter().find(|series| series.name == name).ok_or_else(|| {
            let known = SERIES.map(|series| series.name).join(", ");
            format!("{name} is not among the kernels: {known}")
        })
    };
    match names {
        [] => Ok(SERIES.iter().collect()),
        names => names.iter().map(find).collect(),
    }
}

impl Kernel {
    /// A kernel with the folder that has its `lib/modules`.
    pub fn new(
        name: &str,
        image: PathBuf,
        base: Option<&Path>,
        cache: &Path,
    ) -> Result<Kernel, Wrong> {
        let release = release(&image)?;
        let mut kernel =
            Kernel { name: name.to_owned(), image, modules: None, boot_modules: Vec::new() };
        if let Some(base) = base {
            kernel.take_modules(&release, base, cache)?;
        }
        Ok(kernel)
    }

    fn take_modules(&mut self, release: &str, base: &Path, cache: &Path) -> Result<(), Wrong> {
        let folder = base.join("lib/modules");
        if !folder.join(release).join("kernel").is_dir() {
            let there = at(&folder, fs::read_dir(&folder))?.flatten();
            let names = there.map(|entry| entry.file_name().to_string_lossy().into_owned());
            return Err(format!(
                "{} is the kernel {release}, and {} has the modules of: {}",
                self.image.display(),
                folder.display(),
                names.collect::<Vec<_>>().join(", ")
            ));
        }
        // The dependencies between modules: Debian's packages leave this to the machine that installs them.
        if !folder.join(release).join("modules.dep").is_file() {
            run(Command::new("depmod").arg("--basedir").arg(base).arg(release))?;
        }
        for name in BOOT_MODULES {
            for file in needed(base, release, name) {
                let mut file_name = file.file_name().unwrap_or_default().to_string_lossy();
                if let Some((stem, _)) = file_name.split_once(".ko") {
                    file_name = format!("{stem}.ko").into();
                }
                if self.boot_modules.iter().all(|(present, _)| *present != file_name) {
                    self.boot_modules.push((file_name.into_owned(), decompressed(&file)?));
                }
            }
        }
        // One image for each state of the folder.
        let mut state = DefaultHasher::new();
        let index = folder.join(release).join("modules.dep");
        (base, at(&index, fs::read(&index))?).hash(&mut state);
        at(&index, fs::metadata(&index).and_then(|file| file.modified()))?.hash(&mut state);
        let folder_of_images = cache.join("modules");
        at(&folder_of_images, fs::create_dir_all(&folder_of_images))?;
        let image = folder_of_images.join(format!("{release}-{:016x}.img", state.finish()));
        if !image.is_file() {
            image::make(&folder, &image, 0)?;
        }
        self.modules = Some(image);
        Ok(())
    }
}

/// The release in the header of a bzImage: `kernel_version` of Documentation/arch/x86/boot.rst, at 0x20e, is two
/// bytes, little-endian, and holds the position of the text, counted from 0x200.
fn release(image: &Path) -> Result<String, Wrong> {
    let bytes = at(image, fs::read(image))?;
    let told = || {
        bytes.get(0x202..0x206).filter(|magic| magic == b"HdrS")?;
        let place = u16::from_le_bytes(bytes.get(0x20e..0x210)?.try_into().ok()?);
        let text = bytes.get(usize::from(place) + 0x200..)?;
        let end = text.iter().position(|byte| matches!(byte, b' ' | 0))?;
        String::from_utf8(text[..end].to_vec()).ok()
    };
    told().ok_or_else(|| format!("{} is no bzImage", image.display()))
}

/// The files of a module and of its dependencies, in the order to load them; none if it is built in or missing.
fn needed(base: &Path, release: &str, name: &str) -> Vec<PathBuf> {
    let mut modprobe = Command::new("modprobe");
    modprobe.args(["--show-depends", "--set-version", release, "--dirname"]).arg(base).arg(name);
    let shown = run(&mut modprobe).unwrap_or_default();
    let file = |line: &str| line.strip_prefix("insmod ").map(|path| PathBuf::from(path.trim()));
    shown.lines().filter_map(file).collect()
}
