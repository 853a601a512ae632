//! The name of a link.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The name of a link, as `ip link` shows it: at most 15 bytes (IFNAMSIZ in `linux/if.h`), which need not be UTF-8.
///
/// ```
/// use hostport_nft::LinkName;
///
/// let name = LinkName::new("cni0".as_ref()).ok_or("not the name of a link")?;
/// assert_eq!(name.to_string(), "cni0");
/// assert!(LinkName::new("a-name-that-is-too-long".as_ref()).is_none());
/// # Ok::<(), &str>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkName(OsString);

impl LinkName {
    /// The name, if it can be one.
    pub fn new(name: &OsStr) -> Option<Self> {
        let bytes = name.as_bytes();
        let valid = (1..16).contains(&bytes.len()) && !bytes.contains(&0);
        valid.then(|| LinkName(name.to_owned()))
    }

    /// The name as the system has it.
    pub fn as_os_str(&self) -> &OsStr {
        &self.0
    }

    /// Padded with zeros, as the kernel compares it.
    pub(crate) fn padded(&self) -> [u8; 16] {
        let mut padded = [0; 16];
        padded.iter_mut().zip(self.0.as_bytes()).for_each(|(place, byte)| *place = *byte);
        padded
    }

    pub(crate) fn from_padded(padded: &[u8; 16]) -> Option<Self> {
        let end = padded.iter().position(|byte| *byte == 0)?;
        let (name, padding) = padded.split_at(end);
        let zero = padding.iter().all(|byte| *byte == 0);
        LinkName::new(&OsString::from_vec(name.to_vec())).filter(|_| zero)
    }
}

/// Bytes that are not printable are escaped.
impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_bytes().escape_ascii().fmt(f)
    }
}
