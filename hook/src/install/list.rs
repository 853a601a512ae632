//! A CNI list, of which one word is exchanged: the type of the plugin that publishes host ports.

use serde_json::{Map, Value};

use crate::cni::{Configuration, Operation};

/// portmap, whose place hostport takes.
pub const PORTMAP: &str = "portmap";
pub const HOSTPORT: &str = "hostport";

/// What a list has.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// The plugin that is asked for: the text with another one in its place.
    Exchanged(String),
    /// The other one already.
    Already,
    /// Neither.
    Nothing,
}

/// Puts one plugin in another's place; every other byte stays. An error says why that cannot be.
pub fn exchange(text: &str, from: &str, to: &str) -> Result<Found, String> {
    let names = |word: &str| text.contains(&format!("\"{word}\""));
    if !names(from) && !names(to) {
        return Ok(Found::Nothing);
    }
    let list: Value = serde_json::from_str(text).map_err(|error| format!("not JSON ({error})"))?;
    let plugins = list["plugins"].as_array().map(Vec::as_slice).unwrap_or_default();
    let places = |word: &str| -> Vec<usize> {
        let named = plugins.iter().enumerate().filter(|(_, plugin)| plugin["type"] == word);
        named.map(|(place, _)| place).collect()
    };
    let place = match (places(from).as_slice(), places(to).as_slice()) {
        ([], []) => return Ok(Found::Nothing),
        ([], [_]) => return Ok(Found::Already),
        ([place], []) => *place,
        _ => {
            return Err(format!(
                "it has more than one plugin {from} or {to}: leave the one that publishes host ports"
            ));
        }
    };
    let mut wanted = list.clone();
    wanted["plugins"][place]["type"] = to.into();
    if to == HOSTPORT {
        is_understood(&wanted, place)?;
    }
    // The right one among all strings of that text is the one whose exchange gives what is wanted.
    let word = format!("\"{from}\"");
    let exchanged = text.match_indices(&word).map(|(begin, _)| {
        let (before, rest) = text.split_at(begin);
        format!("{before}\"{to}\"{}", &rest[word.len()..])
    });
    let is_wanted = |text: &String| serde_json::from_str(text).is_ok_and(|it: Value| it == wanted);
    let mut exchanged = exchanged.filter(is_wanted);
    exchanged
        .next()
        .map(Found::Exchanged)
        .ok_or_else(|| format!("its plugin {from} is written with escapes: write it as \"{from}\""))
}

/// Whether hostport takes the keys of the plugin at a place.
fn is_understood(list: &Value, place: usize) -> Result<(), String> {
    let plugin = list["plugins"][place].as_object();
    let mut configuration: Map<String, Value> = plugin.cloned().unwrap_or_default();
    for key in ["name", "cniVersion"] {
        configuration.insert(key.to_owned(), list[key].clone());
    }
    let text = Value::Object(configuration).to_string();
    let read = Configuration::read(text.as_bytes(), Operation::Add);
    read.map(|_| ()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIST: &str = "{ \"name\":\"portmap\",\t\"cniVersion\": \"1.0.0\",\n \"plugins\" : [\n  {\"type\":\"bridge\", \"x\": \
        [\"portmap\", 1.50]},\n  {\"portmap\": \"portmap\", \"type\" :\"portmap\" , \"capabilities\":{\"portMappings\":true}}]}\r\n\n";

    #[test]
    fn only_the_type_of_the_plugin_is_exchanged() {
        let Found::Exchanged(there) = exchange(LIST, PORTMAP, HOSTPORT).unwrap() else { panic!() };
        let expected = LIST.replace("\"type\" :\"portmap\"", "\"type\" :\"hostport\"");
        assert_eq!(there, expected);
        assert_eq!(exchange(&there, PORTMAP, HOSTPORT), Ok(Found::Already));
        let back = exchange(&there, HOSTPORT, PORTMAP).unwrap();
        assert_eq!(back, Found::Exchanged(LIST.to_owned()));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let of = |plugins: &str| {
            let list = format!(r#"{{"name":"a","cniVersion":"1.0.0","plugins":[{plugins}]}}"#);
            exchange(&list, PORTMAP, HOSTPORT)
        };
        for (plugins, part) in [
            (r#"{"type":"portmap"},{"type":"portmap"}"#, "more than one"),
            (r#"{"type":"portmap"},{"type":"hostport"}"#, "more than one"),
            (r#"{"type":"port\u006dap","x":"portmap"}"#, "escapes"),
            (r#"{"type":"portmap","conditionsV4":["-s","10.0.0.0/8"]}"#, "conditionsV4"),
            (r#"{"type":"portmap","markMasqBit":40}"#, "markMasqBit"),
            (r#"{"type":"portmap"}"}"#, "not JSON"),
        ] {
            let why = of(plugins).unwrap_err();
            assert!(why.contains(part), "{plugins}: {why}");
        }
        assert_eq!(of(r#"{"type":"ptp","a":"portmap"}"#), Ok(Found::Nothing));
        assert_eq!(exchange(r#"{"type":"portmap"}"#, PORTMAP, HOSTPORT), Ok(Found::Nothing));
        let newer = r#"{"name":"a","cniVersion":"9.0.0","plugins":[{"type":"portmap"}]}"#;
        assert!(exchange(newer, PORTMAP, HOSTPORT).unwrap_err().contains("9.0.0"));
    }

    proptest! {
        #[test]
        fn there_and_back_is_the_same(
            before in "[ \n]{0,3}",
            others in prop::collection::vec(r#"\{"type": ?"(ptp|tuning)", "n": (1|1\.0|-0|1e3|"portmap"|"é\\u00e9")\}, ?"#, 0..4),
            keys in r#"("snat": (true|false), ?)?"#,
        ) {
            let list = format!(
                "{before}{{\"name\": \"n\", \"plugins\": [{}{{{keys}\"type\": \"portmap\"}}]}}",
                others.concat()
            );
            let Found::Exchanged(there) = exchange(&list, PORTMAP, HOSTPORT).unwrap() else { panic!() };
            prop_assert_eq!(there.len(), list.len() + 1);
            prop_assert_eq!(exchange(&there, HOSTPORT, PORTMAP), Ok(Found::Exchanged(list)));
        }

        #[test]
        fn nothing_is_too_odd(text in r#"(?s)[\[\]{}:,"a\\n é]{0,20}("portmap"|"type"|"plugins"){0,3}.{0,20}"#) {
            let _ = exchange(&text, PORTMAP, HOSTPORT);
        }
    }
}
