//! What `hostport list` and `hostport doctor` read while other programs change the ruleset.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hostport_nft::{
    Family, HostPort, HostPorts, Port, Protocol, SetReader, Settings, Snapshot, TableName,
};
use hostport_tests::hook::{Bundle, hostport, program, published, state_dir, two_containers};
use hostport_tests::lab::{Lab, NODE4, NODE6, tcp};
use hostport_tests::rounds::rounds;
use hostport_tests::runtime::{run, wait_until};
use hostport_tests::schema::assert_valid;
use hostport_trace::{Effect, Origin, Packet, Trace};
use rustix::fs::{FlockOperation, flock};

const SCHEMA: &str = include_str!("../../../docs/schemas/list.schema.json");

/// Reads a node with 300 host ports per family while its tables are replaced, and counts what it sees.
///
/// A restore that re-creates the tables replaces both in one transaction, and the new maps grow in the background.
/// An emulated machine gets fewer than these.
fn while_tables_are_replaced<T: Ord + Send>(
    times: usize,
    look: impl Fn(&Lab) -> T + Sync,
) -> BTreeMap<T, usize> {
    const RESTORERS: usize = 2;
    const LONGEST: Duration = Duration::from_secs(60);
    let lab = Lab::new();
    let web = lab.pod("web");
    Bundle::of(&web).annotation("io.hostport.ports", "8000-8299:8000-8299").start(lab.node());
    let at_work = AtomicUsize::new(RESTORERS);
    let begin = Instant::now();
    thread::scope(|scope| {
        for _ in 0..RESTORERS {
            scope.spawn(|| {
                let times = (0..times / RESTORERS).take_while(|_| begin.elapsed() < LONGEST);
                times.for_each(|_| drop(hostport(lab.node(), &["restore", "--anew"])));
                at_work.fetch_sub(1, Ordering::Relaxed);
            });
        }
        let mut seen = BTreeMap::new();
        while at_work.load(Ordering::Relaxed) > 0 {
            *seen.entry(look(&lab)).or_default() += 1;
        }
        seen
    })
}

#[test]
fn a_list_is_complete_while_the_tables_are_replaced() {
    let seen = while_tables_are_replaced(rounds(60, 3000), |lab| published(lab.node()).len());
    assert_eq!(
        seen.keys().collect::<Vec<_>>(),
        [&600],
        "lengths of lists, and how often: {seen:?}"
    );
}

/// What the doctor compares with the journal, and what it looks up in the sets of other tables: here hostport's own
/// table, seen from one with another name.
#[test]
fn the_doctor_reads_complete_tables_while_they_are_replaced() {
    let another: TableName = "another".parse().unwrap();
    let packet = |port: u16| Packet {
        origin: Origin::Outside,
        in_link: None,
        source: None,
        not_from: Vec::new(),
        host: HostPort {
            host_ip: NODE6.into(),
            port: Port::new(port).unwrap(),
            protocol: Protocol::Tcp,
        },
        endpoint: None,
        out_link: None,
    };
    let look = || {
        let mut host_ports = HostPorts::open(Settings::default()).unwrap();
        let snapshot = Snapshot::read().unwrap();
        let audits = Family::ALL.map(|family| {
            let audit = host_ports.audit(&snapshot, family).unwrap();
            (audit.ports.len(), audit.hairpins.len(), audit.strangers)
        });
        let mut sets = SetReader::open().unwrap();
        let mut trace = Trace::new(snapshot, another.clone(), move |set| sets.read(set));
        let mut translated = |port| {
            let verdicts = trace.before(&packet(port)).into_iter();
            verdicts.filter(|v| v.effect == Effect::Translates && v.certain).count()
        };
        (audits, (8000..8300).step_by(10).map(&mut translated).sum::<usize>(), translated(8300))
    };
    let seen = while_tables_are_replaced(rounds(100, 3000), |lab| lab.node().run(look));
    let whole = ([(300, 1, 0); 2], 30, 0);
    assert_eq!(seen.keys().collect::<Vec<_>>(), [&whole], "what, and how often: {seen:?}");
}

#[test]
fn a_list_is_narrowed_by_owner_port_and_protocol() {
    let lab = Lab::new();
    let pods = ["named", "other"].map(|name| lab.pod(name));
    let [named, _other] = two_containers(&pods, &lab);
    let lines = |arguments: &[&str]| {
        let listed = hostport(lab.node(), &[&["list"], arguments].concat()).expect_success();
        listed.stdout.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines(&[]).len(), 7);
    let json = hostport(lab.node(), &["list", "--json"]).expect_success().stdout;
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_valid(SCHEMA, &rows);
    assert_eq!(rows.as_array().map(Vec::len), Some(7));
    let own = lines(&["--owner", named.id()]);
    let short = &named.id()[..12];
    assert!(own.len() == 4 && own.iter().all(|line| line.ends_with(short)), "{own:?}");
    assert_eq!(lines(&["--port", "9000"]).len(), 3);
    assert_eq!(lines(&["--port", "9001-9100"]).len(), 4);
    assert_eq!(lines(&["--protocol", "udp", "--port", "9000-9100"]).len(), 2);
    assert_eq!(lines(&["--port", "9002"]).len(), 0);
    for wrong in [["--port", "0"], ["--port", "9-1"], ["--protocol", "icmp"], ["--watch", "0"]] {
        let refused = hostport(lab.node(), &["list", wrong[0], wrong[1]]);
        assert_eq!(refused.code, Some(2), "{wrong:?}: {}", refused.stderr);
    }
}

#[test]
fn field_35_names_stand_beside_ids_in_a_list_and_filters_find_them() {
    let lab = Lab::new();
    let names: [&[(&str, &str)]; 4] = [
        &[
            ("io.kubernetes.pod.name", "web-0"),
            ("io.kubernetes.pod.namespace", "shop"),
            ("io.kubernetes.container.name", "app"),
        ],
        &[
            ("io.kubernetes.cri.sandbox-name", "db-0"),
            ("io.kubernetes.cri.sandbox-namespace", "shop"),
            ("io.kubernetes.cri.container-name", "postgres"),
        ],
        &[("io.kubernetes.pod.name", "web-0"), ("io.kubernetes.pod.namespace", "default")],
        &[],
    ];
    let mut ids = Vec::new();
    for (nth, names) in names.into_iter().enumerate() {
        let pod = lab.pod(&format!("pod{nth}"));
        let bundle = Bundle::of(&pod)
            .named(&format!("{nth:01x}{}", "0".repeat(63)))
            .annotation("io.hostport.ports", &format!("192.0.2.1:{}:8080", 9000 + nth));
        let bundle = names.iter().fold(bundle, |bundle, (key, name)| bundle.annotation(key, name));
        bundle.start(lab.node());
        ids.push(bundle.id().to_owned());
    }
    let lines = |arguments: &[&str]| {
        let listed = hostport(lab.node(), &[&["list"], arguments].concat()).expect_success();
        listed.stdout.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>()
    };
    let all = lines(&[]);
    assert!(all[0].ends_with("CONNECTIONS  NAME                  OWNER"), "{all:#?}");
    for (line, name) in
        all[1..].iter().zip(["shop/web-0 (app)", "shop/db-0 (postgres)", "default/web-0", "-"])
    {
        assert!(line.contains(&format!("  {name}  ")), "{all:#?}");
    }
    assert!(all[1].ends_with(&format!(" {}", &ids[0][..12])), "{all:#?}");
    assert!(all[4].ends_with(&format!(" {}", ids[3])), "an ID alone is whole: {all:#?}");
    for (arguments, ports) in [
        (&["--owner", "web"][..], &[9000, 9002][..]),
        (&["--owner", "postgres"], &[9001]),
        (&["--owner", "shop/web-0"], &[9000]),
        (&["--owner", &ids[3][..12]], &[9003]),
        (&["--owner", "eb-0"], &[]),
        (&["--pod", "web-0"], &[9000, 9002]),
        (&["--pod", "web"], &[]),
        (&["--namespace", "shop"], &[9000, 9001]),
        (&["--namespace", "shop", "--pod", "web-0"], &[9000]),
        (&["--namespace", "shop", "--owner", "web"], &[9000]),
    ] {
        let json =
            hostport(lab.node(), &[&["list", "--json"], arguments].concat()).expect_success();
        let rows: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        assert_valid(SCHEMA, &rows);
        let found: Vec<u64> =
            rows.as_array().unwrap().iter().map(|row| row["host_port"].as_u64().unwrap()).collect();
        assert_eq!(found, ports, "{arguments:?}");
        assert_eq!(lines(&[arguments, &["--wide"]].concat()).len(), ports.len() + 1);
    }
    let json = hostport(lab.node(), &["list", "--json"]).expect_success().stdout;
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    let of = |row: usize| {
        ["pod_namespace", "pod_name", "container_name"].map(|key| rows[row][key].as_str())
    };
    assert_eq!(of(0), [Some("shop"), Some("web-0"), Some("app")]);
    assert_eq!((of(2), of(3)), ([Some("default"), Some("web-0"), None], [None; 3]));
    assert_eq!(rows[0]["owner"], ids[0], "as it was");
}

#[test]
fn a_wide_list_names_the_pod_and_its_age_and_prints_no_control_characters() {
    let lab = Lab::new();
    let pods = ["named", "other"].map(|name| lab.pod(name));
    let [named, _other] = two_containers(&pods, &lab);
    let wide = hostport(lab.node(), &["list", "--wide"]).expect_success().stdout;
    assert!(!wide.contains('\u{1b}'), "{wide:?}");
    let line = wide.lines().find(|line| line.contains("shop/web-0")).unwrap();
    let cells: Vec<&str> = line.split_whitespace().collect();
    let [.., age, pod, owner] = &cells[..] else { panic!("{wide}") };
    assert!(age.ends_with('s'), "{wide}");
    assert_eq!((*pod, *owner), ("shop/web-0", &named.id()[..12]));
    assert!(wide.contains(r"  shop/\u{1b}[2J web  "), "{wide}");
    let json = hostport(lab.node(), &["list", "--wide", "--json"]).expect_success().stdout;
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_valid(SCHEMA, &rows);
    assert_eq!(rows[0]["pod"], "shop/web-0");
    assert!(rows[0]["since_ms"].as_u64().unwrap() > 1_700_000_000_000);
}

#[test]
fn a_watched_list_shows_the_rate_and_ends_when_its_reader_is_gone() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    Bundle::of(&web).annotation("io.hostport.ports", "9000:8080").start(lab.node());
    let mut command = Command::new(program());
    command.args(["list", "--wide", "--watch", "1", "--state-dir"]).arg(state_dir(lab.node()));
    command.stdout(Stdio::piped());
    let mut watching = lab.node().run(|| command.spawn()).unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut next = || lines.find_map(|line| line.ok().filter(|line| line.contains(" 9000 ")));
    assert!(next().unwrap().contains("  -  "), "no rate at first");
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
    // IPv6 first, or IPv4 first: four lines are two refreshes.
    let told: Vec<String> = (0..4).filter_map(|_| next()).collect();
    assert!(told.iter().any(|line| line.contains("  1.0  ")), "{told:?}");
    drop(lines);
    assert!(wait_until(|| watching.try_wait().unwrap().is_some()));
    assert!(watching.wait().unwrap().success());
}

#[test]
fn a_watched_list_goes_on_when_the_journal_is_locked_and_ends_at_once_without_a_reader() {
    let lab = Lab::new();
    let web = lab.pod("web");
    Bundle::of(&web).annotation("io.hostport.ports", "9000:8080").start(lab.node());
    let log = lab.node().folder().join("log");
    let mut command = Command::new(program());
    command.args(["list", "--wide", "--watch", "1", "--state-dir"]).arg(state_dir(lab.node()));
    command.stdout(Stdio::piped()).stderr(fs::File::create(&log).unwrap());
    let mut watching = lab.node().run(|| command.spawn()).unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut next = || lines.find_map(|line| line.ok().filter(|line| line.contains(" 9000 ")));
    assert!(next().is_some() && next().is_some());
    let folder = fs::File::open(state_dir(lab.node())).unwrap();
    flock(&folder, FlockOperation::LockExclusive).unwrap();
    let told = || fs::read_to_string(&log).unwrap().contains("locked for 2 seconds");
    assert!(wait_until(told));
    drop(folder);
    // More than the earlier output that a pipe may hold.
    assert!((0..6).all(|_| next().is_some()), "it goes on");
    drop(lines);
    assert!(wait_until(|| watching.try_wait().unwrap().is_some()));

    let mut command = Command::new(program());
    command.args(["list", "--watch", "600", "--state-dir"]).arg(state_dir(lab.node()));
    let mut watching = lab.node().run(|| command.stdout(Stdio::piped()).spawn()).unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("HOST IP"));
    drop(lines);
    assert!(wait_until(|| watching.try_wait().unwrap().is_some()));
    assert!(watching.wait().unwrap().success());
}

/// What a command writes to a terminal with 80 columns and 24 rows.
fn on_a_terminal(lab: &Lab, arguments: &str) -> String {
    let program = program();
    let folder = state_dir(lab.node());
    let call = format!(
        "stty cols 80 rows 24; timeout --preserve-status --signal INT 3 {} list {arguments} --state-dir {}",
        program.display(),
        folder.display()
    );
    let mut command = Command::new("script");
    command.args(["--quiet", "--command", &call, "/dev/null"]).env("TERM", "xterm");
    let said = lab.node().run(|| run(command.env_remove("NO_COLOR")));
    ["\x1b[1m", "\x1b[90m", "\x1b[0m", "\r"]
        .iter()
        .fold(said.stdout, |text, code| text.replace(code, ""))
}

#[test]
fn a_watched_list_keeps_its_heading_on_a_terminal_and_no_name_widens_it() {
    let lab = Lab::new();
    let pods = ["many", "long"].map(|name| lab.pod(name));
    let many = Bundle::of(&pods[0]).annotation("io.hostport.ports", "8000-8039:8000-8039");
    many.start(lab.node());
    let name = format!("\u{5e9}\u{202e}{}", "x".repeat(200));
    let long = Bundle::of(&pods[1])
        .annotation("io.hostport.ports", "7000:8080")
        .annotation("io.kubernetes.cri.sandbox-namespace", &"n".repeat(253))
        .annotation("io.kubernetes.cri.sandbox-name", &name);
    long.prestart(lab.node(), &["--allow-pod-annotation"]).expect_success();

    let shown = on_a_terminal(&lab, "--wide --watch 1");
    let frames: Vec<&str> = shown.split("\x1b[H\x1b[2J").skip(1).collect();
    assert!(!frames.is_empty(), "{shown:?}");
    for frame in frames {
        let lines: Vec<&str> = frame.lines().collect();
        assert!(lines.len() <= 23 && lines.len() > 20, "{} rows: {frame}", lines.len());
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{frame}");
        assert!(lines[0].starts_with("HOST IP"), "{frame}");
    }
    // Once, a terminal shows the whole line, and the beginning of the ID, which --owner accepts.
    let shown = on_a_terminal(&lab, "--port 7000");
    let short = &long.id()[..12];
    assert_eq!(shown.lines().filter(|line| line.ends_with(&format!("  {short}"))).count(), 2);
    let listed = |arguments: &[&str]| hostport(lab.node(), arguments).expect_success().stdout;
    let whole = listed(&["list", "--wide"]);
    let ids = |length| {
        whole
            .lines()
            .skip(1)
            .filter(|line| line.rsplit(' ').next().unwrap().len() == length)
            .count()
    };
    assert_eq!((ids(64), ids(12)), (80, 2), "{whole}");
    // 64 of them are the ID.
    assert!(whole.lines().all(|line| line.len() <= 200 && line.is_ascii() || line.contains('…')));
    assert!(whole.lines().all(|line| line.chars().count() <= 200), "{whole}");
    let json = listed(&["list", "--json", "--wide", "--port", "7000"]);
    assert!(json.contains(long.id()) && json.contains(&"x".repeat(200)), "{json}");
}

#[test]
fn a_wide_list_marks_the_owners_that_have_ended() {
    let lab = Lab::new();
    let (node, web, old) = (lab.node(), lab.pod("web"), lab.pod("old"));
    let init = old.sleeper();
    let dead = Bundle::of_process(init.pid()).annotation("io.hostport.ports", "9001:8080");
    dead.start(node);
    Bundle::of(&web).annotation("io.hostport.ports", "9000:8080").start(node);
    drop(init);
    let listed = |arguments: &[&str]| hostport(node, arguments).expect_success().stdout;
    for line in listed(&["list", "--wide"]).lines().skip(1) {
        assert_eq!(line.contains("has ended"), line.contains(" 9001 "), "{line}");
    }
    let rows: serde_json::Value =
        serde_json::from_str(&listed(&["list", "--wide", "--json"])).unwrap();
    assert_valid(SCHEMA, &rows);
    for row in rows.as_array().unwrap() {
        assert_eq!(row["owner_dead"], row["host_port"] == 9001, "{row}");
    }
    assert!(!listed(&["list", "--json"]).contains("owner_dead"));
}
