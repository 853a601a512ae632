//! `hostport watch`: what another program removes comes back at once.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hostport_tests::hook::{Bundle, journal_files, program, published, state_dir};
use hostport_tests::lab::{Client, ClientError, Lab, NODE4, tcp};
use hostport_tests::runtime::{copy_program, wait_until};

/// A watcher, ended when dropped.
pub struct Watcher(Child);

impl Watcher {
    pub fn start(lab: &Lab) -> Watcher {
        let state_dir = state_dir(lab.node());
        let child = lab.node().run(|| {
            Command::new(program())
                .args(["watch", "--log-level", "off", "--state-dir"])
                .arg(state_dir)
                .stdin(Stdio::null())
                .spawn()
                .unwrap()
        });
        Watcher(child)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn after_a_flush_of_a_thousand_ports_a_client_is_served_again() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8999);
    let ports = "8000-8999:8000-8999";
    Bundle::of(&web).annotation("io.hostport.ports", ports).start(lab.node());
    let _watcher = Watcher::start(&lab);
    let client = Client::new(lab.client()).timeout(Duration::from_millis(100));
    let served = || client.tcp((NODE4, 8999)).is_ok_and(|answer| answer.server == "web");
    assert!(wait_until(served));
    for damage in ["flush ruleset", "flush map ip hostport ports", "delete table ip hostport"] {
        lab.node().nft(damage);
        let begin = Instant::now();
        assert!(wait_until(served), "{damage}");
        let took = begin.elapsed();
        // And no further loss.
        for _ in 0..20 {
            assert!(served(), "{damage}: lost again after {took:?}");
        }
        assert_eq!(published(lab.node()).len(), 2000);
    }
}

#[test]
fn hooks_come_and_go_under_watch_undisturbed() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let bundles: Vec<_> = (0..20)
        .map(|n| Bundle::of(&web).annotation("io.hostport.ports", &format!("{}:80", 9000 + n)))
        .collect();
    let _watcher = Watcher::start(&lab);
    for _ in 0..5 {
        bundles.iter().for_each(|bundle| drop(bundle.start(lab.node())));
        assert_eq!(published(lab.node()).len(), 40);
        bundles.iter().for_each(|bundle| drop(bundle.stop(lab.node())));
        assert_eq!(published(lab.node()), [""; 0]);
    }
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(published(lab.node()), [""; 0], "nothing that was withdrawn comes back");
}

#[test]
fn its_own_restores_do_not_alarm_it_whatever_its_name() {
    let lab = Lab::new();
    let web = lab.pod("web");
    Bundle::of(&web).annotation("io.hostport.ports", "9000:8080").start(lab.node());
    let renamed = lab.node().folder().join("another-name");
    copy_program(&program(), &renamed);
    let log = std::fs::File::create(lab.node().folder().join("log")).unwrap();
    let state_dir = state_dir(lab.node());
    let child = lab.node().run(|| {
        Command::new(&renamed).args(["watch", "--state-dir"]).arg(state_dir).stderr(log).spawn()
    });
    let _watcher = Watcher(child.unwrap());
    let log = || std::fs::read_to_string(lab.node().folder().join("log")).unwrap();
    assert!(wait_until(|| log().contains("watching")));
    lab.node().nft("flush ruleset");
    assert!(wait_until(|| published(lab.node()).len() == 2));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(log().matches("removed host ports").count(), 1, "{}", log());
}

#[test]
fn the_ports_of_containers_that_end_without_a_poststop_are_closed() {
    let lab = Lab::new();
    let (node, web) = (lab.node(), lab.pod("web"));
    let _servers = web.serve(8080);
    let ask = |number: u16| tcp(lab.client(), (NODE4, 9000 + number));
    let start = |bundle: Bundle, number: u16| {
        bundle.annotation("io.hostport.ports", &format!("{}:8080", 9000 + number)).start(node)
    };
    // One ended before watch begins, one is there then, others come later. One goes with its pod.
    let inits = [(); 3].map(|()| web.sleeper());
    let of = |number: usize| Bundle::of_process(inits[number].pid());
    let ends_at_once = |number: u16| {
        let init = web.sleeper();
        start(Bundle::of_process(init.pid()), number);
    };
    ends_at_once(4);
    start(of(0), 0);
    let _watcher = Watcher::start(&lab);
    assert!(wait_until(|| ask(4) == Err(ClientError::Refused)));
    start(of(1), 1);
    start(of(2), 2);
    let pod = lab.pod("pod");
    start(Bundle::of(&pod), 3);
    assert_eq!(published(node).len(), 2 * 4);
    let [first, second, _living] = inits;
    drop((first, second, pod));
    assert!(wait_until(|| published(node).len() == 2), "{:?}", published(node));
    assert_eq!([0, 1, 3].map(ask), [(); 3].map(|()| Err(ClientError::Refused)));
    assert_eq!(ask(2).unwrap().server, "web");
    assert!(wait_until(|| journal_files(node).len() == 1), "{:?}", journal_files(node));
    // The journal is created again: containers that come then are waited for too.
    std::fs::remove_dir_all(state_dir(node)).unwrap();
    assert!(wait_until(|| state_dir(node).exists()));
    ends_at_once(5);
    assert!(wait_until(|| ask(5) == Err(ClientError::Refused)));
}

#[test]
fn a_journal_that_is_replaced_is_followed_and_an_error_that_repeats_is_logged_once() {
    let lab = Lab::new();
    let (node, web) = (lab.node(), lab.pod("web"));
    let init = web.sleeper();
    let bundle = Bundle::of_process(init.pid()).annotation("io.hostport.ports", "9000:8080");
    bundle.start(node);
    let journal = state_dir(node);
    let away = journal.with_file_name("away");
    let log = std::fs::File::create(node.folder().join("log")).unwrap();
    let mut watch = Command::new(program());
    watch.args(["watch", "--state-dir"]).arg(&journal).stdin(Stdio::null()).stderr(log);
    let _watcher = Watcher(node.run(|| watch.spawn().unwrap()));
    let log = || std::fs::read_to_string(node.folder().join("log")).unwrap();
    assert!(wait_until(|| log().contains("watching")));
    std::fs::rename(&journal, &away).unwrap();
    std::fs::write(&journal, "").unwrap();
    let problem = "must be a folder";
    assert!(wait_until(|| log().contains(problem)));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(log().matches(problem).count(), 1, "{}", log());
    std::fs::remove_file(&journal).unwrap();
    std::fs::rename(&away, &journal).unwrap();
    drop(init);
    assert!(wait_until(|| published(node).is_empty()), "{}", log());
}

#[test]
fn it_waits_for_as_many_containers_as_it_can_be_allowed_to() {
    let lab = Lab::new();
    let mut watch = Command::new("prlimit");
    watch.arg("--nofile=32:4000").arg(program()).args(["watch", "--log-level", "off"]);
    watch.arg("--state-dir").arg(state_dir(lab.node())).stdin(Stdio::null());
    let watcher = Watcher(lab.node().run(|| watch.spawn().unwrap()));
    let limits = format!("/proc/{}/limits", watcher.0.id());
    let is_raised = || {
        let limits = std::fs::read_to_string(&limits).unwrap();
        let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        files.split_whitespace().filter(|word| *word == "4000").count() == 2
    };
    assert!(wait_until(is_raised));
}

#[test]
fn more_containers_than_it_may_open_files_for_are_looked_at_again_and_again() {
    let lab = Lab::new();
    let (node, web) = (lab.node(), lab.pod("web"));
    let mut watch = Command::new("prlimit");
    watch.arg("--nofile=32").arg(program()).args(["watch", "--log-level", "off", "--state-dir"]);
    watch.arg(state_dir(node)).stdin(Stdio::null());
    let _watcher = Watcher(node.run(|| watch.spawn().unwrap()));
    let inits: Vec<_> = (0..40).map(|_| web.sleeper()).collect();
    for (number, init) in inits.iter().enumerate() {
        let ports = format!("{}:8080", 9000 + number);
        Bundle::of_process(init.pid()).annotation("io.hostport.ports", &ports).start(node);
    }
    assert_eq!(published(node).len(), 2 * inits.len());
    drop(inits);
    assert!(wait_until(|| published(node).is_empty()), "{:?}", published(node));
}

#[test]
fn it_ends_cleanly_on_sigterm() {
    let lab = Lab::new();
    let mut watcher = Watcher::start(&lab);
    std::thread::sleep(Duration::from_millis(200));
    let pid = rustix::process::Pid::from_raw(watcher.0.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let mut code = None;
    assert!(wait_until(|| {
        code = watcher.0.try_wait().unwrap();
        code.is_some()
    }));
    assert_eq!(code.unwrap().code(), Some(0));
}
