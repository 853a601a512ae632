//! The owner of a mapping: an ID that fits into an element's comment and into a file name.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use super::port::shorten;

/// The owner of a mapping: a container's ID, which the element carries as its comment.
///
/// 1 to 125 characters of `A-Z a-z 0-9 _ . + -`, the first one a letter, a digit or `_`: what OCI
/// runtimes take as a container ID, what fits into nft's comment of 128 bytes (NFTNL_UDATA_COMMENT_MAXLEN
/// in libnftnl), and what is safe as a file name.
///
/// ```
/// use hostport_nft::OwnerId;
///
/// let owner: OwnerId = "6460c9198718413e".parse()?;
/// assert_eq!(owner.as_str(), "6460c9198718413e");
/// assert!("no spaces".parse::<OwnerId>().is_err());
/// # Ok::<(), hostport_nft::InvalidOwner>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(Arc<str>);

impl OwnerId {
    /// The longest ID, in bytes.
    ///
    /// ```
    /// # use hostport_nft::OwnerId;
    /// assert!("a".repeat(OwnerId::MAX_LEN).parse::<OwnerId>().is_ok());
    /// assert!("a".repeat(OwnerId::MAX_LEN + 1).parse::<OwnerId>().is_err());
    /// ```
    pub const MAX_LEN: usize = 125;

    /// The ID as text.
    ///
    /// ```
    /// # use hostport_nft::OwnerId;
    /// assert_eq!("5e0f".parse::<OwnerId>()?.as_str(), "5e0f");
    /// # Ok::<(), hostport_nft::InvalidOwner>(())
    /// ```
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for OwnerId {
    type Err = InvalidOwner;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.+-".contains(&byte);
        let first = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let valid = text.len() <= Self::MAX_LEN
            && text.bytes().next().is_some_and(first)
            && text.bytes().all(allowed);
        valid.then(|| OwnerId(text.into())).ok_or_else(|| InvalidOwner(shorten(text)))
    }
}

/// Text that is not an owner's ID.
///
/// ```
/// use hostport_nft::{InvalidOwner, OwnerId};
///
/// let refused: InvalidOwner = "../journal".parse::<OwnerId>().unwrap_err();
/// assert!(refused.to_string().starts_with("\"../journal\" is not a container ID"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{0:?} is not a container ID: use 1 to {max} characters of A-Z a-z 0-9 _ . + -, \
     beginning with a letter, a digit or _",
    max = OwnerId::MAX_LEN
)]
pub struct InvalidOwner(String);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_error_quotes_no_more_than_a_line() {
        let error = "x/".repeat(1000).parse::<OwnerId>().unwrap_err().to_string();
        assert!(error.len() < 250, "{error}");
    }

    proptest! {
        #[test]
        fn an_owner_is_taken_exactly_when_it_is_safe(text in "\\PC{0,140}|[A-Za-z0-9_.+-]{0,140}") {
            let safe = !text.is_empty() && text.len() <= 125
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.+-".contains(c))
                && !text.starts_with(['.', '+', '-']);
            prop_assert_eq!(text.parse::<OwnerId>().is_ok(), safe);
        }
    }
}
