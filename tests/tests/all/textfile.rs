//! Metrics in a file, for node_exporter's textfile collector.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::process::Command;

use hostport_tests::hook::{hostport, program, state_dir};
use hostport_tests::lab::Lab;
use hostport_tests::runtime::run;

#[test]
fn a_file_of_metrics_is_replaced_at_once() {
    let lab = Lab::new();
    let folder = lab.node().folder().join("collector");
    fs::create_dir(&folder).unwrap();
    let file = folder.join("hostport.prom");
    let output = file.to_str().unwrap();
    fs::write(&file, "old").unwrap();
    let open = fs::File::open(&file).unwrap();
    let said = hostport(lab.node(), &["metrics", "--output", output]).expect_success();
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("", ""));
    let there = fs::read_to_string(&file).unwrap();
    assert_eq!(there, hostport(lab.node(), &["metrics"]).expect_success().stdout);
    assert_eq!(
        io::read_to_string(open).unwrap(),
        "old",
        "who was reading goes on with the old one"
    );
    let names = || fs::read_dir(&folder).unwrap().count();
    assert_eq!(names(), 1, "nothing else is left");
    let long = folder.join("x".repeat(300));
    for (wrong, why) in [
        ("/nowhere/hostport.prom", "a folder that exists"),
        (folder.to_str().unwrap(), "not a regular file"),
        ("/", "not a regular file"),
        (long.to_str().unwrap(), "choose a shorter name"),
    ] {
        let said = hostport(lab.node(), &["metrics", "--output", wrong]).expect_failure();
        assert!(said.stderr.contains(wrong) && said.stderr.contains(why), "{said:#?}");
        assert_eq!(said.stderr.lines().count(), 1, "{said:#?}");
    }
    assert_eq!((names(), fs::read_to_string(&file).unwrap()), (1, there));
}

#[test]
fn a_file_that_is_not_regular_is_left_alone() {
    let lab = Lab::new();
    let folder = lab.node().folder().join("collector");
    fs::create_dir(&folder).unwrap();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (device, pipe, to_device) = (path("device"), path("pipe"), path("to-device"));
    for arguments in [["mknod", &device, "c", "1", "3"].as_slice(), &["mknod", &pipe, "p"]] {
        let status = Command::new(arguments[0]).args(&arguments[1..]).status().unwrap();
        assert!(status.success(), "{arguments:?}");
    }
    symlink(&device, &to_device).unwrap();
    let to_nothing = path("to-nothing");
    symlink(path("nothing"), &to_nothing).unwrap();
    for wrong in [&device, &pipe, &to_device, &to_nothing] {
        let said = hostport(lab.node(), &["metrics", "--output", wrong]).expect_failure();
        assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{said:#?}");
        assert!(said.stderr.contains(wrong.as_str()), "{said:#?}");
        assert_eq!(said.stderr.lines().count(), 1, "{said:#?}");
    }
    let kind = |path: &str| fs::symlink_metadata(path).unwrap().file_type();
    assert!(kind(&device).is_char_device() && kind(&pipe).is_fifo());
    assert!(kind(&to_device).is_symlink() && kind(&to_nothing).is_symlink());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 4, "nothing else is left");
}

#[test]
fn a_link_stays_and_what_it_leads_to_is_replaced() {
    let lab = Lab::new();
    let folder = lab.node().folder();
    let (file, link) = (folder.join("there.prom"), folder.join("link.prom"));
    fs::write(&file, "old").unwrap();
    symlink("there.prom", &link).unwrap();
    hostport(lab.node(), &["metrics", "--output", link.to_str().unwrap()]).expect_success();
    let printed = hostport(lab.node(), &["metrics", "--output", "-"]).expect_success().stdout;
    assert!(link.is_symlink() && printed.contains("hostport_ports_missing 0"), "{printed}");
    assert_eq!(fs::read_to_string(&file).unwrap(), printed);
}

#[test]
fn a_file_that_a_killed_process_with_the_same_id_left_is_not_in_the_way() {
    let lab = Lab::new();
    let folder = lab.node().folder();
    let script = "echo left > .hostport.$$.new && exec \"$0\" metrics --output hostport.prom --state-dir \"$1\"";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(program()).arg(state_dir(lab.node())).current_dir(&folder);
    lab.node().run(|| run(&mut command)).expect_success();
    let text = fs::read_to_string(folder.join("hostport.prom")).unwrap();
    assert!(text.contains("hostport_ports_missing 0"), "{text}");
    let names = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name());
    assert_eq!(names.filter(|name| name.to_string_lossy().ends_with(".new")).count(), 0);
}
