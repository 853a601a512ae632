//! The members of a JSON object, each with its value as it stands there: what is passed on must not change.
//!
//! serde_json's own `RawValue` would do, but its feature makes every `Value` read a certain object as something else.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// The members of an object; of two with one key the last. None if the text is no object.
pub fn members(text: &str) -> Option<BTreeMap<String, &str>> {
    let mut rest = text.trim_start().strip_prefix('{')?.trim_start();
    let mut members = BTreeMap::new();
    if rest.starts_with('}') {
        return Some(members);
    }
    loop {
        let (key, behind_key) = first::<String>(rest)?;
        let value = behind_key.trim_start().strip_prefix(':')?.trim_start();
        let (_, behind_value) = first::<IgnoredAny>(value)?;
        members.insert(key, value.get(..value.len() - behind_value.len())?);
        let behind_value = behind_value.trim_start();
        match behind_value.strip_prefix(',') {
            Some(next) => rest = next.trim_start(),
            None => return behind_value.starts_with('}').then_some(members),
        }
    }
}

/// The first value of a text, and what comes behind it.
fn first<'a, T: Deserialize<'a>>(text: &'a str) -> Option<(T, &'a str)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<T>();
    let value = values.next()?.ok()?;
    Some((value, text.get(values.byte_offset()..)?))
}
