//! A bundle whose config.json cannot be read.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use hostport_tests::hook::Bundle;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::json;

use super::ground::{Ground, PORTS, state_with, write_config};

/// A root user without these capabilities cannot read files that are closed to others.
const NO_OVERRIDE: [&str; 3] =
    ["/usr/bin/setpriv", "--bounding-set", "-dac_override,-dac_read_search"];

/// Refused at prestart, and at poststop unless the state holds enough.
fn assert_refused(ground: &Ground, bundle: &Bundle, problem: &str) {
    let file = bundle.folder().join("config.json");
    let parts = [file.to_str().unwrap(), problem];
    let created = bundle.state("created").to_string();
    let stopped = bundle.state("stopped").to_string();
    ground.hook(&["prestart"], created.as_str()).refused(&parts);
    ground.hook(&[], created).refused(&parts);
    ground.hook(&["poststop"], stopped.as_str()).ignored(&[parts[0], problem, "WARN"]);
    let bare = state_with(bundle, "annotations", None);
    ground.hook(&["prestart"], bare.as_str()).refused(&parts);
    ground.hook(&["poststop"], bare).refused(&parts);
}

/// Puts something in the place of config.json.
type Make = fn(&Path);

#[test]
fn a_config_that_is_no_file_is_refused_without_waiting_for_it() {
    let ground = Ground::new();
    let remedy = "the state's bundle must be a folder with a config.json";
    let other = "not a regular file: put the bundle's config.json there";
    let cases: [(&str, Make); 7] = [
        (remedy, |_| ()),
        (remedy, |file| symlink("config.json", file).unwrap()),
        (remedy, |file| symlink("nothing", file).unwrap()),
        (other, |file| fs::create_dir(file).unwrap()),
        (other, |file| mknodat(CWD, file, FileType::Fifo, Mode::RUSR, 0).unwrap()),
        (other, |file| symlink("/dev/zero", file).unwrap()),
        ("os error 5", |file| symlink("/proc/self/mem", file).unwrap()),
    ];
    for (problem, make) in cases {
        let bundle = ground.asking("9000:8080");
        make(&bundle.folder().join("config.json"));
        assert_refused(&ground, &bundle, problem);
    }
}

#[test]
fn a_config_that_the_hook_may_not_read_is_refused() {
    let ground = Ground::new();
    let bundle = ground.asking("9000:8080");
    let file = bundle.folder().join("config.json");
    write_config(&bundle, bundle.config().to_string());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    let input = bundle.state("created").to_string();
    ground.hook(&["prestart"], input).through(&NO_OVERRIDE).refused(&[
        file.to_str().unwrap(),
        "Permission denied",
        "that the hook may read",
    ]);
}

#[test]
fn a_config_with_the_wrong_content_is_refused() {
    let ground = Ground::new();
    let bundle = ground.asking("9000:8080");
    let whole = bundle.config().to_string();
    let huge = whole.replacen('{', &format!("{{\"x\":\"{}\",", "x".repeat(20 << 20)), 1);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let no_object = "not a JSON object: put the bundle's config.json there";
    let invalid = "not a valid config.json";
    let twice = |field: &str| whole.replacen('{', &format!("{{\"{field}\":{{}},"), 1);
    for (content, problem) in [
        (b"".to_vec(), no_object),
        (b"[]".to_vec(), no_object),
        (vec![0; 4096], no_object),
        (format!("\u{feff}{whole}").into(), no_object),
        (huge.into(), "more than 16777216 bytes"),
        (whole[..whole.len() - 1].into(), invalid),
        (format!("{whole}}}").into(), invalid),
        ("{\"a\":".repeat(100_000).into(), invalid),
        (twice("annotations").into(), "duplicate field `annotations`"),
        (twice("linux").into(), "duplicate field `linux`"),
        (b"{\"annotations\":{\"io.hostport.ports\":\"\\ud800\"}}".to_vec(), invalid),
        (b"{\"annotations\":[]}".to_vec(), invalid),
        (format!("{{\"linux\":{deep}}}").into(), invalid),
        (format!("{{\"linux\":{{\"namespaces\":[{{\"type\":{deep}}}]}}}}").into(), invalid),
        (b"{\"linux\":{\"namespaces\":\"\\u001b[31m\\u202e\\u0000\\n\"}}".to_vec(), invalid),
    ] {
        write_config(&bundle, content);
        assert_refused(&ground, &bundle, problem);
    }
}

#[test]
fn a_bundle_that_is_no_folder_is_named() {
    let ground = Ground::new();
    let bundle = ground.asking("9000:8080");
    write_config(&bundle, bundle.config().to_string());
    let file = bundle.folder().join("config.json");
    let long = "/x".repeat(450_000);
    let wide = "/\u{e0001}".repeat(400);
    for (path, shown) in [
        ("/nowhere/bundle", "/nowhere/bundle/config.json"),
        ("relative/bundle", "relative/bundle/config.json"),
        (file.to_str().unwrap(), "Not a directory"),
        ("/tmp/\u{1b}[31m\u{202e}\n", "/tmp/\\u{1b}[31m\\u{202e}\\n/config.json"),
        ("/tmp/\0", "/tmp/\\0/config.json"),
        (&long, "/x/x/x/x"),
        (&wide, "/\\u{e0001}/\\u{e0001}"),
    ] {
        let input = state_with(&bundle, "bundle", Some(json!(path)));
        let parts = [shown, "the state's bundle must be a folder with a config.json"];
        ground.hook(&["prestart"], input.as_str()).refused(&parts);
        ground.hook(&["poststop"], input.as_str()).ignored(&parts);
    }
}

#[test]
fn what_the_hook_does_not_use_in_a_config_may_be_anything() {
    let ground = Ground::new();
    let bundle = ground.asking("abc");
    let whole = bundle.config().to_string();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let input = bundle.state("created").to_string();
    let read_to_its_annotation = |config: Vec<u8>| {
        write_config(&bundle, config);
        ground.hook(&["prestart"], input.as_str()).refused(&[PORTS, "\"abc\""]);
    };
    for value in [deep.as_bytes(), b"\"\xff\xfe\"", b"\"\\ud800\"", b"-1.5e999", b"null"] {
        let mut config = b"{\"unused\":".to_vec();
        config.extend(value);
        config.extend(whole.replacen('{', ",", 1).as_bytes());
        read_to_its_annotation(config);
    }
    for value in [deep.as_str(), "7", "null", "{\"a\":[{}]}", "\"\\u001b\\u0000\""] {
        let annotations = format!("\"annotations\":{{\"other\":{value},");
        read_to_its_annotation(whole.replacen("\"annotations\":{", &annotations, 1).into());
    }
    // If an annotation is there twice, the last one counts, as for the runtimes.
    let twice = format!("\"annotations\":{{\"{PORTS}\":\"9000:8080\",");
    read_to_its_annotation(whole.replacen("\"annotations\":{", &twice, 1).into());
}
