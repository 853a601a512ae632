//! containerd's configuration, of which two lines in the runtime's table are changed, and hostport's base specification.
//! Each line that is added ends with a mark, and each that is taken out stays as a comment, so that the way back leaves
//! the file as it was.

use super::change::Content;
use super::hooks::PROGRAM;
use super::{Change, InstallError, Node, Plan};
use crate::diagnose::installation::{Runtime, Setting, containerd, toml};
use crate::request::policy::KUBELET_PORTS;

const SPEC: &str = include_str!("../../../dist/containerd/base-runtime-spec.json");
const ADDED: &str = " # by hostport install";
const TAKEN: &str = "# hostport install: ";
const RESTART: &str = "systemctl restart containerd";

/// Writes the specification, and then names it and kubelet's annotation in the runtime's table.
pub fn install(node: &Node) -> Result<Plan, InstallError> {
    node.check_program()?;
    let mut plan = Plan::default();
    if Runtime::Containerd.hindrance(&node.root).is_none() {
        return Ok(plan);
    }
    let path = node.below(containerd::CONFIG);
    let text = match Content::read(&path)? {
        Some(Content::File(text)) => text,
        Some(Content::Link(to)) => return Err(InstallError::link(&path, &to)),
        None => {
            let why = "it is not there: write one with: containerd config default > /etc/containerd/config.toml";
            return Err(InstallError::unclear(&path, why));
        }
    };
    let specification = SPEC.replace(PROGRAM, &node.program);
    let spec = node.below(containerd::SPEC);
    match Content::read(&spec)? {
        // Its options are the operator's.
        Some(Content::File(there)) if there.contains(&format!("\"{}\"", node.program)) => {}
        Some(_) => {
            let why = "it does not call hostport here: move it away";
            return Err(InstallError::unclear(&spec, why));
        }
        None => plan.changes.extend(Change::to(spec, Some(Content::File(specification)))?),
    }
    let runtime = containerd::default_runtime(&node.root);
    let new = edited(&text, &runtime).map_err(|why| {
        let why = format!("{why}; change it by hand (hostport doctor says how)");
        InstallError::unclear(&path, why)
    })?;
    plan.changes.extend(Change::of(path, text, new));
    plan.then.push(RESTART.to_owned());
    Ok(plan)
}

/// Takes the lines out, and then the specification away.
pub fn uninstall(node: &Node) -> Result<Plan, InstallError> {
    let mut plan = Plan::default();
    let path = node.below(containerd::CONFIG);
    let Some(Content::File(text)) = Content::read(&path)? else { return Ok(plan) };
    let restored = restored(&text);
    let names_it = |(_, values): &Setting| values.iter().any(|value| value == containerd::SPEC);
    let still_named = toml::settings(&restored).iter().any(names_it);
    plan.changes.extend(Change::of(path, text, restored));
    let spec = node.below(containerd::SPEC);
    let is_own = matches!(Content::read(&spec)?, Some(Content::File(there)) if there == SPEC.replace(PROGRAM, &node.program));
    if is_own && !still_named {
        plan.changes.extend(Change::to(spec, None)?);
    }
    plan.then.extend((!plan.changes.is_empty()).then(|| RESTART.to_owned()));
    Ok(plan)
}

/// A configuration with the two settings in the table of a runtime. An error says why that cannot be.
fn edited(text: &str, runtime: &str) -> Result<String, String> {
    if ["\r", "\"\"\"", "'''"].iter().any(|odd| text.contains(odd)) {
        return Err("it has lines in a form that is not understood".to_owned());
    }
    let before = toml::settings(text);
    let version = before.iter().find(|(key, _)| key == "version");
    let of_version = |version| match version {
        "2" => Some("io.containerd.grpc.v1.cri"),
        "3" => Some("io.containerd.cri.v1.runtime"),
        _ => None,
    };
    let plugin = version.and_then(|(_, values)| of_version(values.first()?.as_str()));
    let plugin = plugin.ok_or("its version is not 2 or 3")?;
    let table = format!("plugins.{plugin}.containerd.runtimes.{runtime}");
    let is_above = |(key, _): &Setting| {
        table
            .strip_prefix(key.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    if before.iter().any(is_above) {
        return Err("it has tables in a form that is not understood".to_owned());
    }
    let wanted = [
        ("base_runtime_spec", vec![containerd::SPEC.to_owned()]),
        ("container_annotations", with_annotation(&before, &table)),
    ];
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let header = |line: &String| toml::header(line).as_deref() == Some(&table);
    match lines.iter().position(header) {
        Some(begin) => {
            for (key, values) in &wanted {
                let name = format!("{table}.{key}");
                let there = before.iter().find(|(there, _)| *there == name).map(|(_, there)| there);
                if there == Some(values) {
                    continue;
                }
                let is_empty = |there: &Vec<String>| there.iter().all(String::is_empty);
                if *key == "base_runtime_spec" && !there.is_none_or(is_empty) {
                    return Err(format!("the runtime {runtime} has a {key} already"));
                }
                let is_it = |line: &String| {
                    toml::settings(line).first().is_some_and(|(there, _)| there == key)
                };
                let body = lines.iter().skip(begin + 1);
                let place = body.take_while(|line| toml::header(line).is_none()).position(is_it);
                let place = place.map(|place| begin + 1 + place);
                let is_whole = |line: &String| {
                    let count = |bracket| line.matches(bracket).count();
                    count('[') == count(']')
                };
                if place.and_then(|place| lines.get(place)).is_some_and(|line| !is_whole(line)) {
                    return Err(format!("its {key} is more than a line, which is not understood"));
                }
                if let Some(there) = place.and_then(|place| lines.get_mut(place)) {
                    there.insert_str(0, TAKEN);
                }
                lines.insert(place.unwrap_or(begin) + 1, line(key, values));
            }
        }
        // What is there by dotted keys cannot be a table again.
        None if before.iter().any(|(key, _)| key.starts_with(&format!("{table}."))) => {
            return Err(format!("its table of the runtime {runtime} is not understood"));
        }
        None if runtime == "runc" => {
            let quoted = table.replacen(plugin, &format!("\"{plugin}\""), 1);
            lines.push(format!("[{quoted}]{ADDED}"));
            lines.push(line("runtime_type", &["io.containerd.runc.v2".to_owned()]));
            lines.extend(wanted.iter().map(|(key, values)| line(key, values)));
        }
        None => return Err(format!("it has no table of the runtime {runtime}")),
    }
    let new = lines.join("\n") + "\n";
    // Whatever was misunderstood shows in the settings.
    let others = |text: &str| {
        let mut all = toml::settings(text);
        all.retain(|(key, _)| {
            !["base_runtime_spec", "container_annotations", "runtime_type"]
                .iter()
                .any(|own| *key == format!("{table}.{own}"))
        });
        all
    };
    let after = toml::settings(&new);
    let is_set = |(key, values): &(&str, Vec<String>)| {
        let name = format!("{table}.{key}");
        after.iter().filter(|(key, _)| *key == name).map(|(_, there)| there).eq([values])
    };
    match others(text) == others(&new) && wanted.iter().all(is_set) {
        true => Ok(new),
        false => Err(format!("its table of the runtime {runtime} is not understood")),
    }
}

/// What the runtime's table passes on to containers, with kubelet's annotation.
fn with_annotation(settings: &[Setting], table: &str) -> Vec<String> {
    let name = format!("{table}.container_annotations");
    let there = settings.iter().find(|(key, _)| *key == name);
    let mut all = there.map(|(_, values)| values.clone()).unwrap_or_default();
    if !all.iter().any(|name| name == KUBELET_PORTS) {
        all.push(KUBELET_PORTS.to_owned());
    }
    all
}

fn line(key: &str, values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| format!("\"{value}\"")).collect();
    match key {
        "container_annotations" => format!("  {key} = [{}]{ADDED}", values.join(", ")),
        _ => format!("  {key} = {}{ADDED}", values.concat()),
    }
}

/// A configuration as it was.
fn restored(text: &str) -> String {
    let kept = text.split_inclusive('\n').filter(|line| !line.trim_end().ends_with(ADDED));
    kept.map(|line| line.strip_prefix(TAKEN).unwrap_or(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str = "version = 2\n[plugins]\n  [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n    \
        base_runtime_spec = \"\"\n    container_annotations = []\n    \
        [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\n      SystemdCgroup = true\n";

    fn set(text: &str) -> Vec<Setting> {
        let mut all = toml::settings(&edited(text, "runc").unwrap());
        all.retain(|(key, _)| key.contains("runtimes.runc."));
        all.iter_mut().for_each(|(key, _)| *key = key.rsplit_once('.').unwrap().1.to_owned());
        all
    }

    #[test]
    fn both_settings_get_into_the_table_and_go_again() {
        let spec = ("base_runtime_spec".to_owned(), vec![containerd::SPEC.to_owned()]);
        let of = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            ("container_annotations".to_owned(), names)
        };
        let systemd = ("SystemdCgroup".to_owned(), vec!["true".to_owned()]);
        assert_eq!(set(V2), [spec.clone(), of(&[KUBELET_PORTS]), systemd]);
        let bare = "version = 3 # newest\nimports = []\n";
        let kind = ("runtime_type".to_owned(), vec!["io.containerd.runc.v2".to_owned()]);
        assert_eq!(set(bare), [kind, spec.clone(), of(&[KUBELET_PORTS])]);
        let others = "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\n\
            \tcontainer_annotations = ['a.b/*', \"c\"] # ours\n";
        assert_eq!(set(others), [spec, of(&["a.b/*", "c", KUBELET_PORTS])]);
        // What an operator has begun by hand is completed.
        let begun = V2.replace("spec = \"\"", &format!("spec = \"{}\"", containerd::SPEC));
        assert_eq!(set(&begun), set(V2));
        for text in [V2, bare, others, &begun] {
            assert_eq!(restored(&edited(text, "runc").unwrap()), text);
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let table = "[plugins.\"io.containerd.grpc.v1.cri\".containerd";
        for (text, part) in [
            ("[plugins]\n".to_owned(), "version"),
            (V2.replace("= 2", "= 1"), "version"),
            (V2.replace("spec = \"\"", "spec = \"/x.json\""), "has a base_runtime_spec already"),
            (V2.replace("= []", "= [\n  \"a\"\n]"), "not understood"),
            (V2.replace("= []", "= [\n]"), "not understood"),
            (V2.replace("= []", "= '''a'''"), "not understood"),
            (format!("version = 2\n{table}]\nruntimes = {{ runc = {{}} }}\n"), "not understood"),
            (format!("version = 2\n{table}.runtimes]\nrunc = {{}}\n"), "not understood"),
            (
                format!("version = 2\n{table}.runtimes]\nrunc.runtime_type = \"x\"\n"),
                "not understood",
            ),
            (V2.replace('\n', "\r\n"), "not understood"),
        ] {
            let why = edited(&text, "runc").unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
        let why = edited(V2, "kata").unwrap_err();
        assert!(why.contains("no table of the runtime kata"), "{why}");
    }
}
