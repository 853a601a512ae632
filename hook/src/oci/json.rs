//! Reading JSON leniently: what is not used must not keep a container from starting.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error};
use serde_json::value::RawValue;

/// Reads JSON whose text may not be UTF-8, as runtimes in C pass it on: wrong bytes become U+FFFD. `is_sound`
/// refuses the result if a text that matters contains U+FFFD.
///
/// # Errors
/// Those of serde_json, about the text as it is.
pub fn from_json<T: DeserializeOwned>(
    bytes: &[u8],
    is_sound: impl FnOnce(&T) -> bool,
) -> Result<T, serde_json::Error> {
    serde_json::from_slice(bytes).or_else(|error| match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(_) => Err(error),
        Cow::Owned(text) => serde_json::from_str(&text).ok().filter(is_sound).ok_or(error),
    })
}

/// Reads a JSON object of annotations and keeps the values that are strings.
///
/// OCI wants strings. What is not one cannot be a port annotation, and must not keep a container
/// from starting, however deep or long it is.
pub fn only_strings<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let all = Option::<BTreeMap<String, Box<RawValue>>>::deserialize(deserializer)?;
    let strings = all.into_iter().flatten().filter(|(_, value)| value.get().starts_with('"'));
    let read = |(key, text): (_, Box<RawValue>)| Ok((key, serde_json::from_str(text.get())?));
    strings.map(read).collect::<Result<_, serde_json::Error>>().map_err(D::Error::custom)
}
