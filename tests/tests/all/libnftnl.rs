//! libnftnl, the library that nft uses, parses every message that we send into the same objects.
//!
//! nft itself defines "the same": its program gets our text, and what it sends is parsed and compared with what we
//! send. strace records both on their way into the kernel.

use std::fs;
use std::path::Path;

use hostport_nft::{Family, HostPorts, Settings, Table};
use hostport_reference::{
    Capture, Message, Object, Verb, golden, golden_text, messages, messages_of_libnftnl,
};
use hostport_tests::hook::{Bundle, feed, program, state_dir};
use hostport_tests::lab::{Lab, Netns, Network, Pod, PodSpec};
use hostport_tests::runtime::Scratch;
use nftnl::{Batch, MsgType};

/// `linux/netlink.h`
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;

/// Runs a program in a node, and records what it sends.
fn run<T>(
    node: &Netns,
    (program, arguments): (&Path, &[&str]),
    input: &str,
    read: impl FnOnce(&Capture) -> T,
) -> T {
    let scratch = Scratch::new("strace");
    let capture = Capture::in_folder(scratch.path());
    feed(node, capture.command(program, arguments), input.as_bytes()).expect_success();
    read(&capture)
}

/// All nf_tables messages that a call of the hook sends: one list per system call.
fn hook(node: &Netns, options: &[&str], state: &str) -> Vec<Vec<Message>> {
    let journal = state_dir(node);
    let arguments = [&["hook", "--state-dir", journal.to_str().unwrap()], options].concat();
    let sent = run(node, (&program(), &arguments), state, Capture::sent);
    sent.iter().map(|bytes| messages(bytes)).filter(|messages| !messages.is_empty()).collect()
}

/// The changes that nft makes to apply a text. (What it reads before does not matter.)
fn nft(node: &Netns, text: &str) -> Vec<(Verb, Object)> {
    let nft = (Path::new("/usr/sbin/nft"), &["-f", "-"][..]);
    let sent = run(node, nft, text, Capture::transactions);
    changes(&sent.iter().map(|bytes| messages_of_libnftnl(bytes)).collect::<Vec<_>>())
}

/// The objects of transactions, each with its operation.
fn changes(calls: &[Vec<Message>]) -> Vec<(Verb, Object)> {
    calls
        .iter()
        .filter(|messages| messages[0].verb == Verb::Begin)
        .flatten()
        .flat_map(|message| message.objects.iter().map(|object| (message.verb, object.clone())))
        .collect()
}

/// Compares by kind, since nft groups objects differently: tables, sets, chains and rules must have the same order,
/// elements any order.
#[track_caller]
fn assert_same(ours: Vec<(Verb, Object)>, theirs: Vec<(Verb, Object)>) {
    assert!(!ours.is_empty());
    for kind in ["table", "set", "chain", "rule", "element"] {
        let [ours, theirs] = [&ours, &theirs].map(|objects| {
            let mut objects: Vec<_> = objects
                .iter()
                .filter(|(_, object)| object.kind == kind)
                .filter_map(|(verb, object)| Some((*verb, essence(object.clone())?)))
                .collect();
            if kind == "element" {
                objects.sort();
            }
            objects
        });
        let text = |objects: &[(Verb, Object)]| {
            let lines = objects.iter().map(|(verb, object)| format!("{verb:?} {object}"));
            let text = lines.collect::<Vec<_>>().join("\n");
            // nft turns the protocol's one byte into big endian before it looks it up in a set of ranges: a loop
            // over pairs of bytes (nft_byteorder_eval), so over none.
            text.lines().filter(|line| !is_empty_loop(line)).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(text(&ours), text(&theirs), "{kind}: what we send, and what nft sends");
    }
}

fn is_empty_loop(line: &str) -> bool {
    line.trim_start().starts_with("[ byteorder ") && line.ends_with(", 2, 1) ]")
}

/// What may differ between two senders of the same ruleset.
fn essence(object: Object) -> Option<Object> {
    match object.kind {
        // nft begins a set of intervals with an end at the first address, for the gap before it. The kernel assumes
        // this gap anyway, and nft lists both in the same way.
        "element" if is_first_end(&object) => None,
        // nft marks an interval that reaches the last address, and so has no end, as open. Only nft reads the mark,
        // and it lists, finds and deletes our intervals without it.
        "element"
            if object.attributes.get("userdata").is_some_and(|data| data == INTERVAL_OPEN) =>
        {
            Some(object.without(&["userdata"]))
        }
        // Flags 0 are the same as none.
        "table" if object.attributes.get("flags").is_some_and(|flags| flags == "0") => {
            Some(object.without(&["flags"]))
        }
        // The number only distinguishes the sets of one batch. nft also records the byte order of its types (user
        // data) for itself, and gives the number of elements as a hint.
        "set" => Some(object.without(&["id", "userdata", "size"])),
        _ => Some(object),
    }
}

/// NFTNL_UDATA_SET_ELEM_FLAGS (1), 4 bytes, NFTNL_UDATA_SET_ELEM_F_INTERVAL_OPEN in the host's order.
#[cfg(target_endian = "little")]
const INTERVAL_OPEN: &str = "010401000000";
#[cfg(target_endian = "big")]
const INTERVAL_OPEN: &str = "010400000001";

fn is_first_end(element: &Object) -> bool {
    let flags = element.attributes.get("flags").map(String::as_str);
    flags == Some("1") && element.attributes["key"].chars().all(|digit| digit == '0')
}

/// Our messages for a table, encoded and read by libnftnl.
fn encoded(table: &Table) -> Vec<(Verb, Object)> {
    let messages_of = |bytes: Vec<u8>| messages(&bytes);
    table
        .messages()
        .iter()
        .flat_map(|message| messages_of(message.encode(7)))
        .flat_map(|message| message.objects.into_iter().map(move |object| (message.verb, object)))
        .collect()
}

fn settings(exclude: &[&str]) -> Settings {
    let exclude = exclude.iter().map(|prefix| prefix.parse().unwrap()).collect();
    Settings { exclude, ..Settings::default() }
}

#[test]
fn a_table_is_what_nft_makes_of_its_text() {
    let lab = Lab::new();
    for settings in [
        Settings::default(),
        Settings { localhost: false, ..Settings::default() },
        Settings { table: "another-name".parse().unwrap(), ..Settings::default() },
        settings(&["10.96.0.0/12", "192.0.2.64/26", "192.0.2.128/25", "fd00::/108"]),
        settings(&["0.0.0.0/8", "240.0.0.0/4", "::/96", "ff00::/8"]),
        settings(&["0.0.0.0/0", "::/0"]),
    ] {
        for family in Family::ALL {
            let table = Table::new(family, &settings);
            assert_same(encoded(&table), nft(lab.node(), &table.to_string()));
            lab.node().nft("flush ruleset");
        }
    }
}

/// A lab with a pod that is not on a bridge.
fn lab_and_pod() -> (Lab, Pod) {
    let lab = Lab::new();
    let web = lab.add_pod(PodSpec::new("web").network(Network::Routed));
    (lab, web)
}

const PORTS: &str = "9000:8080,192.0.2.1:9001:53/udp,[2001:db8:1::1]:9002:5000/sctp";

/// A container that asks for ports in both families and all protocols, and the state that a runtime
/// sends to its hook.
fn container(pod: &Netns, id: &str, ports: &str) -> Bundle {
    let bundle = Bundle::of(pod).named(id).annotation("io.hostport.ports", ports);
    std::fs::write(bundle.folder().join("config.json"), bundle.config().to_string()).unwrap();
    bundle
}

#[test]
fn a_table_with_published_ports_is_what_nft_makes_of_its_text() {
    let (lab, web) = lab_and_pod();
    let neighbour = lab.pod("neighbour"); // on the bridge, and so in the set same_link
    container(&web, "5e0f", PORTS).start(lab.node());
    container(&neighbour, "77ab", "9003:8080").start(lab.node());
    let tables = lab.node().run(|| HostPorts::open(Settings::default()).unwrap().tables().unwrap());
    lab.node().nft("flush ruleset");
    for table in tables {
        assert_same(encoded(&table), nft(lab.node(), &table.to_string()));
    }
}

#[test]
fn the_first_publication_is_what_nft_makes_of_its_text() {
    let (lab, web) = lab_and_pod();
    let bundle = container(&web, "5e0f", PORTS);
    let calls = hook(lab.node(), &[], &bundle.state("created").to_string());
    let tables = lab.node().run(|| HostPorts::open(Settings::default()).unwrap().tables().unwrap());
    let text: String = tables.iter().map(Table::to_string).collect();
    lab.node().nft("flush ruleset");
    assert_same(changes(&calls), nft(lab.node(), &text));
}

#[test]
fn a_further_publication_is_what_nft_sends_for_its_elements() {
    let (lab, web) = lab_and_pod();
    container(&web, "5e0f", PORTS).start(lab.node());
    let other = lab.add_pod(PodSpec::new("other").network(Network::Routed));
    let bundle = container(&other, "77ab", "192.0.2.1:9005:53/udp,[::]:9006:80");
    let calls = hook(lab.node(), &[], &bundle.state("created").to_string());
    bundle.stop(lab.node());
    let theirs = nft(
        lab.node(),
        "add element ip hostport hairpin { 10.86.0.12 . 10.86.0.12 comment \"77ab\" }
         add element ip6 hostport hairpin { 2001:db8:86::12 . 2001:db8:86::12 comment \"77ab\" }
         add element ip hostport ports { 192.0.2.1 . 9005 . udp comment \"77ab\" : 10.86.0.12 . 53 }
         add element ip6 hostport ports { :: . 9006 . tcp comment \"77ab\" : 2001:db8:86::12 . 80 }
        ",
    );
    assert_same(changes(&calls), theirs);
}

#[test]
fn a_withdrawal_is_what_nft_sends_to_delete_the_elements() {
    let (lab, web) = lab_and_pod();
    let bundle = container(&web, "5e0f", PORTS);
    bundle.start(lab.node());
    let calls = hook(lab.node(), &[], &bundle.state("stopped").to_string());
    bundle.start(lab.node());
    let theirs = nft(
        lab.node(),
        "delete element ip hostport hairpin { 10.86.0.11 . 10.86.0.11 }
         delete element ip6 hostport hairpin { 2001:db8:86::11 . 2001:db8:86::11 }
         delete element ip hostport ports { 0.0.0.0 . 9000 . tcp }
         delete element ip hostport ports { 192.0.2.1 . 9001 . udp }
         delete element ip6 hostport ports { :: . 9000 . tcp }
         delete element ip6 hostport ports { 2001:db8:1::1 . 9002 . sctp }
        ",
    );
    assert_same(changes(&calls), theirs);
}

#[test]
fn a_change_of_the_settings_is_what_nft_sends_to_replace_the_table() {
    let (lab, web) = lab_and_pod();
    container(&web, "5e0f", "0.0.0.0:9000:8080").start(lab.node());
    let other = lab.add_pod(PodSpec::new("other").network(Network::Routed));
    let bundle = container(&other, "77ab", "0.0.0.0:9001:8080");
    let options = ["--exclude", "10.96.0.0/12"];
    let calls = hook(lab.node(), &options, &bundle.state("created").to_string());
    let settings = settings(&["10.96.0.0/12"]);
    let [table, _] =
        lab.node().run(|| HostPorts::open(settings).unwrap().tables().unwrap().try_into().unwrap());
    let theirs = nft(lab.node(), &format!("delete table ip hostport\n{table}"));
    assert_same(changes(&calls), theirs);
}

#[test]
fn list_and_show_change_nothing_and_ask_what_libnftnl_understands() {
    let (lab, web) = lab_and_pod();
    container(&web, "5e0f", PORTS).start(lab.node());
    let journal = state_dir(lab.node()).display().to_string();
    for command in [&["list", "--state-dir", &journal][..], &["show"]] {
        let sent = run(lab.node(), (&program(), command), "", Capture::sent);
        let asked: Vec<_> = sent.iter().flat_map(|bytes| messages(bytes)).collect();
        assert!(!asked.is_empty());
        assert!(asked.iter().all(|message| message.verb == Verb::Get), "{asked:#?}");
    }
}

#[test]
fn the_whole_life_of_a_container_is_as_it_was_reviewed() {
    let (lab, web) = lab_and_pod();
    let bundle = container(&web, "5e0f", "9000:8080");
    let mut text = String::new();
    for status in ["created", "created", "stopped"] {
        text += &format!("# {status}\n");
        for call in hook(lab.node(), &[], &bundle.state(status).to_string()) {
            text += "send\n";
            for message in call {
                text += &format!("{:?}{}\n", message.verb, flags(message.flags));
                for object in message.objects {
                    text += &format!("  {}\n", object.to_string().replace('\n', "\n  "));
                }
            }
        }
    }
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let boot = hex(&format!(" boot {}", &boot[..8]));
    golden("container.messages", &text.replace(&boot, &hex(" boot 5f0c9a31")));
}

/// The flags of a netlink header; the meaning of a request's first bits depends on its verb.
fn flags(flags: u16) -> String {
    let names = [
        (NLM_F_ACK, " ack"),
        (0x100, " root"), // NLM_F_ROOT, half of NLM_F_DUMP
        (NLM_F_EXCL, " excl"),
        (0x400, " create"),
        (0x800, " append"),
    ];
    assert_eq!(flags & NLM_F_REQUEST, NLM_F_REQUEST);
    names.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect()
}

#[test]
fn every_new_host_port_is_exclusive_and_only_the_last_message_is_acknowledged() {
    let (lab, web) = lab_and_pod();
    let bundle = container(&web, "5e0f", PORTS);
    let calls = hook(lab.node(), &[], &bundle.state("created").to_string());
    let [batch] = calls.iter().filter(|call| call[0].verb == Verb::Begin).collect::<Vec<_>>()[..]
    else {
        panic!("a publication is one transaction: {calls:#?}");
    };
    let [begin, changes @ .., end] = &batch[..] else { panic!("a batch has edges") };
    assert_eq!((begin.verb, end.verb), (Verb::Begin, Verb::End));
    let mut acknowledged = changes.iter().map(|message| message.flags & NLM_F_ACK != 0);
    assert_eq!(acknowledged.rposition(|ack| !ack), Some(changes.len() - 2));
    let ports = changes.iter().filter(|message| message.objects[0].path.ends_with(" ports"));
    let ports: Vec<_> = ports.filter(|message| message.objects[0].kind == "element").collect();
    assert_eq!(ports.len(), 4);
    for message in ports {
        assert_eq!(message.objects.len(), 1, "the error's sequence number names the port");
        assert_eq!(message.flags & NLM_F_EXCL, NLM_F_EXCL);
    }
}

/// Sends a batch of our messages with mnl, like nftnl's own examples.
fn send(node: &Netns, tables: &[Table], kind: MsgType, only_first: bool) {
    let mut batch = Batch::new();
    for table in tables {
        let mut messages = table.messages();
        if only_first {
            messages.truncate(1);
        } else if matches!(kind, MsgType::Del) {
            messages.reverse();
        }
        messages.iter().for_each(|message| batch.add(message, kind));
    }
    let batch = batch.finalize();
    // The kernel applies it while it is sent; nft shows the result.
    node.run(|| mnl::Socket::new(mnl::Bus::Netfilter).unwrap().send_all(&batch).unwrap());
}

#[test]
fn an_nftnl_batch_with_our_messages_makes_and_removes_the_golden_ruleset() {
    let lab = Lab::new();
    let tables = Family::ALL.map(|family| Table::new(family, &Settings::default()));
    for only_first in [true, false] {
        send(lab.node(), &tables, MsgType::Add, false);
        // nft lists all tables without an empty line between them, which the golden file has.
        assert_eq!(
            lab.node().nft_list(),
            golden_text("empty.nft")
                .replace("}\n\ntable", "}\ntable")
                .replace(" boot 5f0c9a31", "")
        );
        // Deleting the tables is enough; so is deleting everything, in reverse order.
        send(lab.node(), &tables, MsgType::Del, only_first);
        assert_eq!(lab.node().nft_list(), "");
    }
}
