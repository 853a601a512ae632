//! Standard input that is not a container's state.

use hostport_tests::hook::published;
use serde_json::json;

use super::ground::{Ground, state_with, write_config};

/// The same without a stage: the state's status decides then, and it is read later.
const STAGES: [&[&str]; 3] = [&["prestart"], &["poststop"], &[]];

#[test]
fn bytes_that_are_not_a_state_are_refused() {
    let ground = Ground::new();
    let bundle = ground.asking("9000:8080");
    let whole = bundle.state("created").to_string();
    let fifty_megabytes = whole.replacen('{', &format!("{{\"x\":\"{}\",", "x".repeat(50 << 20)), 1);
    let invalid = "is not whole, valid JSON";
    let no_object = "is not a JSON object";
    for (input, expected) in [
        (b"".to_vec(), "no OCI state on standard input"),
        (b" \n\t".to_vec(), "no OCI state on standard input"),
        (whole[..whole.len() / 2].into(), invalid),
        (whole.replace(':', "=").into(), invalid),
        (fifty_megabytes.into(), "more than 16777216 bytes"),
        (vec![b' '; 50 << 20], "more than 16777216 bytes"),
        (b"[]".to_vec(), no_object),
        (b"null".to_vec(), no_object),
        (b"\0\0\0\0".to_vec(), no_object),
        (b"\x1b[31mid\x07".to_vec(), no_object),
        (format!("\u{feff}{whole}").into(), no_object),
        ("{\"a\":".repeat(100_000).into(), invalid),
        (b"{\"id\":\"\xff\xfe\",\"bundle\":\"/\"}".to_vec(), invalid),
        (b"{\"id\":1e999,\"bundle\":\"/\"}".to_vec(), invalid),
        (whole.replacen('{', "{\"id\":\"twice\",", 1).into(), "duplicate field `id`"),
        (format!("{whole}{whole}").into(), invalid),
    ] {
        for stage in STAGES {
            ground.hook(stage, input.as_slice()).refused(&[expected, "standard input"]);
        }
    }
}

#[test]
fn standard_input_that_cannot_be_read_is_reported() {
    let ground = Ground::new();
    for stage in STAGES {
        ground.hook(stage, "").without_input().refused(&["no OCI state on standard input"]);
        ground.hook(stage, "").reading("/dev/null").refused(&["no OCI state on standard input"]);
        ground.hook(stage, "").reading("/").refused(&["standard input", "directory", "pipe in"]);
        ground.hook(stage, "").reading("/dev/zero").refused(&["more than 16777216 bytes"]);
    }
}

#[test]
fn a_field_of_the_state_that_is_missing_or_wrong_is_named() {
    let ground = Ground::new();
    let bundle = ground.asking("9000:8080");
    let escape = "\u{1b}[31m\u{7}\n\u{202e}\0";
    for (field, value, expected) in [
        ("id", None, "no id"),
        ("id", Some(json!(null)), "no id"),
        ("id", Some(json!("")), "no id"),
        ("id", Some(json!(7)), "id 7: the runtime must write a string"),
        ("id", Some(json!({"a": [escape]})), "id {\"a\":"),
        ("bundle", None, "no bundle"),
        ("bundle", Some(json!("")), "no bundle"),
        ("bundle", Some(json!(["/"])), "bundle [\"/\"]: the runtime must write a string"),
        ("status", Some(json!(7)), "status 7: the runtime must write a string"),
        ("pid", Some(json!("4242")), "pid \"4242\": the runtime must write a process ID"),
        ("pid", Some(json!(escape)), "pid \"\\u001b[31m"),
        ("pid", Some(json!(-1)), "pid -1"),
        ("pid", Some(json!(4242.5)), "pid 4242.5"),
        ("pid", Some(json!(1e300)), "pid 1e+300"),
        ("pid", Some(json!(1u64 << 32)), "pid 4294967296"),
        ("pid", Some(json!("9".repeat(1 << 20))), "pid \"999"),
        ("annotations", Some(json!([])), "invalid type: sequence"),
    ] {
        let input = state_with(&bundle, field, value);
        for stage in STAGES {
            ground.hook(stage, input.as_str()).refused(&[expected, "the OCI state"]);
        }
    }
}

#[test]
fn an_id_that_cannot_own_a_port_is_refused() {
    let ground = Ground::new();
    let bundle = ground.asking("9000:8080");
    let long = "x".repeat(500);
    let just_too_long = "x".repeat(126);
    let wide = "\u{e0001}".repeat(500);
    for (id, shown) in [
        ("a/b", "\"a/b\""),
        ("../../etc/passwd", "\"../../etc/passwd\""),
        (".", "\".\""),
        ("-rf", "\"-rf\""),
        ("a b", "\"a b\""),
        ("a\0", "\"a\\0\""),
        ("\u{1b}[31m\u{7}\r\n", "\"\\u{1b}[31m\\u{7}\\r\\n\""),
        ("\u{202e}é", "\"\\u{202e}é\""),
        (&long, "xxxx…\" is not a container ID: use 1 to 125 characters"),
        (&just_too_long, "xxxx…\" is not a container ID: use 1 to 125 characters"),
        (&wide, "\\u{e0001}…"),
    ] {
        let input = state_with(&bundle, "id", Some(json!(id)));
        for stage in STAGES {
            ground.hook(stage, input.as_str()).refused(&[shown, "is not a container ID: use 1 to"]);
        }
    }
    let longest = ground.asking("9000:8080").named(&"x".repeat(125));
    ground.prestart(&longest).run().expect_success();
    assert!(ground.node().nft_list().contains(longest.id()));
    ground.poststop(&longest).run().expect_success();
    assert!(!ground.node().nft_list().contains(longest.id()));
}

#[test]
fn a_status_without_a_stage_is_refused_unless_a_stage_is_named() {
    let ground = Ground::new();
    let bundle = ground.bundle();
    for (status, shown) in [
        (json!("paused"), "\"paused\""),
        (json!("CREATED"), "\"CREATED\""),
        (json!("\u{1b}[2J\n"), "\"\\u{1b}[2J\\n\""),
        (json!("x".repeat(100_000)), "…\""),
        (json!(""), "status"),
        (json!(null), "status"),
    ] {
        let input = state_with(&bundle, "status", Some(status.clone()));
        ground.hook(&[], input.as_str()).refused(&[shown, "hostport hook poststop"]);
        write_config(&bundle, bundle.config().to_string());
        ground.hook(&["prestart"], input.as_str()).ignored(&[]);
    }
}

#[test]
fn what_the_hook_does_not_use_in_a_state_may_be_anything() {
    let ground = Ground::new();
    let bundle = ground.bundle();
    write_config(&bundle, bundle.config().to_string());
    let whole = bundle.state("created").to_string();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let huge = format!("\"{}\"", "x".repeat(2 << 20));
    for value in [deep.as_str(), &huge, "-1.5e999", "\"\\ud800\"", "\"\\u001b\u{202e}\"", "null"] {
        let input = whole.replacen('{', &format!("{{\"unused\":{value},\"unused\":{value},"), 1);
        ground.hook(&["prestart"], input).ignored(&[]);
    }
    // Also annotations of other programs.
    for value in [deep.as_str(), &huge, "7", "null", "{\"a\":[{}]}", "\"\\u001b\\u0000\""] {
        let annotations = format!("\"annotations\":{{\"other\":{value}}}");
        let input = whole.replacen("\"annotations\":{}", &annotations, 1);
        assert_ne!(input, whole);
        ground.hook(&["prestart"], input).ignored(&[]);
    }
}

#[test]
fn invalid_text_in_an_unused_annotation_stops_no_container() {
    let ground = Ground::new();
    let bundle = ground.asking("9000:8080").annotation("other", "TEXT");
    // The state repeats the annotations of config.json.
    let config = bundle.config().to_string();
    let (before, after) = config.split_once("TEXT").unwrap();
    write_config(&bundle, [before.as_bytes(), b"\xff", after.as_bytes()].concat());
    let with = |status: &str, text: &[u8]| {
        let state = bundle.state(status).to_string();
        let (before, after) = state.split_once("TEXT").unwrap();
        [before.as_bytes(), text, after.as_bytes()].concat()
    };
    let published = || published(ground.node()).len();
    let before = published();
    ground.hook(&["prestart"], with("created", b"\xff\xfe")).run().expect_success();
    assert_eq!(published(), before + 2);
    ground.hook(&["poststop"], with("stopped", b"\xc3\x28")).run().expect_success();
    assert_eq!(published(), before);
}

#[test]
fn a_value_that_is_used_must_be_text() {
    let ground = Ground::new();
    let bundle = ground.asking("TEXT");
    let (config, state) = (bundle.config().to_string(), bundle.state("created").to_string());
    let (before, after) = config.split_once("TEXT").unwrap();
    write_config(&bundle, [before.as_bytes(), b"9000:\xff", after.as_bytes()].concat());
    ground.hook(&["prestart"], state.as_str()).refused(&["annotation io.hostport.ports"]);
    for wrong in
        [&b"{\"id\":\"w\xff\",\"bundle\":\"/\"}"[..], b"{\"id\":\"w\",\"bundle\":\"/\xff\"}"]
    {
        ground.hook(&["prestart"], wrong).refused(&["is not whole, valid JSON"]);
    }
}
