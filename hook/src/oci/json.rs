//! Reading JSON leniently: what is not used must not keep a container from starting.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use hostport_nft::Gather;
use serde::de::{
    Deserialize, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

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
    let all = Option::<BTreeMap<String, Text>>::deserialize(deserializer)?;
    let strings = all.unwrap_or_default().into_iter();
    Ok(strings.filter_map(|(key, Text(text))| Some((key, text?))).gather())
}

/// A JSON value's text, if it is a string. Anything else is read over and not kept.
struct Text(Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Text, E> {
        Ok(Text(Some(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Text, E> {
        Ok(Text(Some(text)))
    }

    fn visit_unit<E>(self) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Text, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Text, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }
}
