//! A bundle's config.json: its annotations, and the network namespace it asks for.
//!
//! Nothing else of it is read, so nothing else of it can keep a container from starting.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::Deserialize;
use thiserror::Error;

use super::json::{from_json, only_strings};
use crate::output::escape::{self, excerpt};

/// The largest config.json that is read, in bytes. Real ones have some tens of kilobytes.
pub const MAX_CONFIG: usize = 16 * 1024 * 1024;

/// What a config.json says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The annotations, as far as they are strings.
    pub annotations: BTreeMap<String, String>,
    /// The network namespace that the container runs in.
    pub network: ConfigNamespace,
}

/// A network namespace, as config.json names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigNamespace {
    /// The host's, or rather the runtime's: config.json has no network namespace.
    Host,
    /// A new one, which the runtime makes for this container.
    Own,
    /// An existing one, usually the pod's.
    Path(PathBuf),
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default, deserialize_with = "only_strings")]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    linux: Option<RawLinux>,
}

#[derive(Deserialize)]
struct RawLinux {
    // The defaults are for a list in a struct's place, too, which must not keep a container from starting.
    #[serde(default)]
    namespaces: Option<Vec<RawNamespace>>,
}

#[derive(Deserialize)]
struct RawNamespace {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    path: Option<PathBuf>,
}

impl Raw {
    /// Whether the paths of namespaces are as they were written: see [`from_json`].
    fn is_text(&self) -> bool {
        let namespaces = self.linux.iter().flat_map(|linux| linux.namespaces.iter().flatten());
        let mut paths = namespaces.filter_map(|namespace| namespace.path.as_ref());
        !paths.any(|path| path.to_string_lossy().contains('\u{fffd}'))
    }
}

impl Config {
    /// Reads the config.json of a bundle.
    ///
    /// Whatever stands there instead of a regular file is refused at once: a FIFO without a writer
    /// would hold the container's start for ever.
    ///
    /// # Errors
    /// [`ConfigError`], which names the file.
    pub fn load(bundle: &Path) -> Result<Self, ConfigError> {
        let path = bundle.join("config.json");
        let fail = |problem| ConfigError { path: path.clone(), problem };
        let bytes = read_regular_file(&path).map_err(fail)?;
        Config::parse(&bytes).map_err(fail)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ConfigProblem> {
        // serde takes a list for a struct, field by field. A config.json is not a list.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(ConfigProblem::NotAnObject);
        }
        let raw: Raw = from_json(bytes, Raw::is_text)
            .map_err(|error| ConfigProblem::Json(excerpt(&error.to_string(), 100)))?;
        let namespaces = raw.linux.and_then(|linux| linux.namespaces).unwrap_or_default();
        let network = namespaces
            .into_iter()
            .find(|namespace| namespace.kind.as_deref() == Some("network"))
            .map_or(ConfigNamespace::Host, |namespace| {
                let path = namespace.path.filter(|path| !path.as_os_str().is_empty());
                path.map_or(ConfigNamespace::Own, ConfigNamespace::Path)
            });
        Ok(Config { annotations: raw.annotations, network })
    }
}

/// A whole file of a runtime, which may be as large as a config.json.
pub(super) fn read_regular_file(path: &Path) -> Result<Vec<u8>, ConfigProblem> {
    // Without O_NONBLOCK, opening a FIFO waits for its other end.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&fd)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(ConfigProblem::NotAFile);
    }
    // Room for all of it and the end, so that it is read at once.
    let size = usize::try_from(stat.st_size).unwrap_or_default();
    let mut bytes = Vec::with_capacity(size.min(MAX_CONFIG) + 1);
    while bytes.len() <= MAX_CONFIG {
        bytes.reserve(1);
        match rustix::io::read(&fd, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => return Ok(bytes),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ConfigProblem::TooLarge)
}

/// A bundle whose config.json cannot be read.
#[derive(Debug, Error)]
#[error("{}: {problem}", escape::path(path))]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, and what to do.
    pub problem: ConfigProblem,
}

/// What is wrong with a config.json, and what to do.
#[derive(Debug, Error)]
#[allow(missing_docs)] // The messages say it.
pub enum ConfigProblem {
    #[error("{0}: the state's bundle must be a folder with a config.json that the hook may read")]
    Io(#[from] Errno),
    #[error("not a regular file: put the bundle's config.json there")]
    NotAFile,
    #[error("more than {MAX_CONFIG} bytes: put the bundle's config.json there")]
    TooLarge,
    #[error("not a JSON object: put the bundle's config.json there")]
    NotAnObject,
    #[error("not a valid config.json ({0}): correct it as the OCI runtime specification says")]
    Json(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs::File;
    use std::time::{Duration, Instant};

    /// A bundle of its own in the temporary folder, gone after the test.
    struct Bundle(PathBuf);

    impl Bundle {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("hostport-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Bundle(path)
        }

        fn file(&self) -> PathBuf {
            self.0.join("config.json")
        }

        fn error(&self) -> String {
            let error = Config::load(&self.0).unwrap_err().to_string();
            assert!(error.contains("config.json: "), "{error}");
            assert!(!error.chars().any(char::is_control) && error.len() < 400, "{error:?}");
            error
        }
    }

    impl Drop for Bundle {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn network(json: &str) -> ConfigNamespace {
        Config::parse(json.as_bytes()).unwrap().network
    }

    #[test]
    fn the_network_namespace_is_the_hosts_its_own_or_a_path() {
        for (namespaces, expected) in [
            ("[]", ConfigNamespace::Host),
            ("null", ConfigNamespace::Host),
            (r#"[{"type":"pid"}]"#, ConfigNamespace::Host),
            (r#"[{"type":"pid","path":"/x"},{"type":"network"}]"#, ConfigNamespace::Own),
            (r#"[{"type":"network","path":""}]"#, ConfigNamespace::Own),
            (r#"[{"type":"network","path":null}]"#, ConfigNamespace::Own),
            (r#"[{"type":"network","path":"/n"}]"#, ConfigNamespace::Path("/n".into())),
        ] {
            assert_eq!(network(&format!(r#"{{"linux":{{"namespaces":{namespaces}}}}}"#)), expected);
        }
        assert_eq!(network("{}"), ConfigNamespace::Host);
        assert_eq!(network(r#"{"linux":[]}"#), ConfigNamespace::Host);
        assert_eq!(network(r#"{"linux":{"namespaces":[[]]}}"#), ConfigNamespace::Host);
        assert_eq!(network(r#"{"linux":null}"#), ConfigNamespace::Host);
    }

    #[test]
    fn bytes_that_are_no_text_matter_in_the_way_to_a_namespace_alone() {
        let parse = |path: &[u8], other: &[u8]| {
            let parts: [&[u8]; 5] = [
                b"{\"annotations\":{\"a\":\"",
                other,
                b"\"},\"linux\":{\"namespaces\":[{\"type\":\"network\",\"path\":\"",
                path,
                b"\"}]}}",
            ];
            Config::parse(&parts.concat())
        };
        let network = parse(b"/n", b"\xff").unwrap().network;
        assert_eq!(network, ConfigNamespace::Path("/n".into()));
        assert!(matches!(parse(b"/n\xff", b"x"), Err(ConfigProblem::Json(_))));
    }

    #[test]
    fn a_bundle_is_loaded() {
        let bundle = Bundle::new("load");
        std::fs::write(bundle.file(), r#"{"annotations":{"a":"b","c":1},"root":7}"#).unwrap();
        let config = Config::load(&bundle.0).unwrap();
        assert_eq!(config.annotations, BTreeMap::from([("a".into(), "b".into())]));
        assert_eq!(config.network, ConfigNamespace::Host);
    }

    #[test]
    fn a_missing_config_names_the_file_and_the_bundle() {
        let error = Bundle::new("missing").error();
        assert!(error.contains("No such file") && error.contains("bundle must be"), "{error}");
    }

    #[test]
    fn an_unreadable_config_is_said_so() {
        // Root may read anything but a folder, and a loop of links.
        let bundle = Bundle::new("unreadable");
        std::os::unix::fs::symlink("config.json", bundle.file()).unwrap();
        assert!(bundle.error().contains("bundle must be"));
    }

    #[test]
    fn a_fifo_or_a_folder_is_refused_without_waiting() {
        let start = Instant::now();
        let bundle = Bundle::new("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, bundle.file(), Mode::RUSR).unwrap();
        assert!(bundle.error().contains("not a regular file"));
        let bundle = Bundle::new("folder");
        std::fs::create_dir(bundle.file()).unwrap();
        assert!(bundle.error().contains("not a regular file"));
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_config_that_is_too_large_or_not_json_is_refused() {
        let bundle = Bundle::new("bad");
        File::create(bundle.file()).unwrap().set_len(MAX_CONFIG as u64 + 1).unwrap();
        assert!(bundle.error().contains("more than 16777216 bytes"));
        for (text, expected) in [
            ("", "not a JSON object"),
            ("[{}]", "not a JSON object"),
            (r#"{"linux":{"#, "not a valid config.json"),
            (r#"{"linux":{"namespaces":"x\u0007"}}"#, "not a valid config.json"),
        ] {
            std::fs::write(bundle.file(), text).unwrap();
            assert!(bundle.error().contains(expected), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = Config::parse(&bytes);
        }

        #[test]
        fn extra_fields_of_any_type_are_skipped(
            name in "[a-z]{1,8}X", value in crate::request::annotations::tests::any_json()
        ) {
            let json = format!(
                r#"{{"{name}":{value},"linux":{{"{name}":{value},"namespaces":[
                    {{"{name}":{value},"type":"network"}}]}},"process":{value}}}"#
            );
            prop_assert_eq!(network(&json), ConfigNamespace::Own);
        }
    }
}
