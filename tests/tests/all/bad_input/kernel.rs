//! A kernel that refuses, because a permission or nf_tables is missing, and a table of another program.

use hostport_tests::hook::Bundle;

use super::ground::{Call, Ground};

fn without<'a>(call: Call<'a>, capability: &str) -> Call<'a> {
    call.through(&["/usr/bin/setpriv", "--bounding-set", &format!("-{capability}")])
}

#[test]
fn a_hook_without_privileges_names_the_missing_one() {
    let ground = Ground::new();
    let bundle = ground.asking("9000:8080");
    let nftables = ["not permitted to use nftables: run as root, with CAP_NET_ADMIN"];
    without(ground.prestart(&bundle), "net_admin").refused(&nftables);
    without(ground.poststop(&bundle), "net_admin").refused(&nftables);
    for command in ["list", "show"] {
        without(ground.hostport(&[command], ""), "net_admin").refused(&nftables);
    }
    let path = ground.pod.path();
    let namespace = ["no permission to enter", path.to_str().unwrap(), "CAP_SYS_ADMIN"];
    without(ground.prestart(&bundle), "sys_admin").refused(&namespace);
    without(ground.prestart(&bundle), "sys_admin,-net_admin").refused(&namespace);
    without(ground.poststop(&bundle), "sys_admin").ignored(&[]);
}

/// Calls the program under strace, which tampers with one system call.
fn tampered<'a>(call: Call<'a>, injection: &str) -> Call<'a> {
    let inject = format!("--inject={injection}");
    call.through(&["/usr/bin/strace", "-qq", "-o", "/dev/null", &inject])
}

/// How many sockets and messages the hook uses before it gets to nf_tables.
struct Order {
    /// The number of the netfilter socket.
    socket: usize,
    /// The number of the first message to nf_tables.
    request: usize,
    /// The number of the message with the transaction.
    batch: usize,
    /// The sequence number in that message.
    sequence: u32,
}

/// Counts them in a call that succeeds.
fn order(call: Call<'_>) -> Order {
    let trace = hostport_tests::runtime::Scratch::new("strace");
    let file = trace.path().join("trace");
    let calls = "--trace=socket,sendto";
    let strace = ["/usr/bin/strace", "-qq", calls, "-o", file.to_str().unwrap()];
    call.through(&strace).run().expect_success();
    let lines = std::fs::read_to_string(file).unwrap();
    let nth = |name: &str, wanted: &dyn Fn(&str) -> bool| {
        let mut calls = lines.lines().filter(|line| line.starts_with(name));
        calls.position(wanted).unwrap_or_else(|| panic!("no such {name}: {lines}")) + 1
    };
    let batch = |line: &str| line.contains("NFNL_MSG_BATCH_BEGIN");
    let begin = lines.lines().find(|line| batch(line)).unwrap();
    let sequence = begin.split("nlmsg_seq=").nth(1).and_then(|rest| rest.split(',').next());
    // The first message behind the socket.
    let before = lines.lines().take_while(|line| !line.contains("NETLINK_NETFILTER"));
    Order {
        socket: nth("socket(", &|line| line.contains("NETLINK_NETFILTER")),
        request: before.filter(|line| line.starts_with("sendto(")).count() + 1,
        batch: nth("sendto(", &batch),
        sequence: sequence.unwrap().parse().unwrap(),
    }
}

/// A container's hooks, each with the order of its system calls.
fn orders(ground: &Ground, bundle: &Bundle) -> [Order; 2] {
    [order(ground.prestart(bundle)), order(ground.poststop(bundle))]
}

#[test]
fn a_kernel_without_netfilter_netlink_is_reported() {
    let mut ground = Ground::new();
    let bundle = ground.asking("9000:8080");
    let [prestart, poststop] = orders(&ground, &bundle);
    ground.changed_on_purpose();
    let parts = ["Protocol not supported", "netfilter netlink", "load the module nfnetlink"];
    // musl tries a second time, without SOCK_CLOEXEC.
    let fails = |nth| format!("socket:error=EPROTONOSUPPORT:when={nth}..{}", nth + 1);
    tampered(ground.prestart(&bundle), &fails(prestart.socket)).refused(&parts);
    tampered(ground.poststop(&bundle), &fails(poststop.socket)).refused(&parts);
    for command in ["list", "show"] {
        tampered(ground.hostport(&[command], ""), &fails(1)).refused(&parts);
    }
    // The first socket is for links and addresses.
    tampered(ground.prestart(&bundle), &fails(1)).refused(&["NETLINK_ROUTE socket"]);
    let no_more_files = format!("socket:error=EMFILE:when={}", prestart.socket);
    tampered(ground.prestart(&bundle), &no_more_files).refused(&["os error 24", "ulimit"]);
}

/// The message goes to a subsystem of nfnetlink that does not exist, instead of nf_tables. The answer is the one of
/// a real kernel that has nfnetlink but not nf_tables (nfnetlink_rcv_msg: EINVAL; nfnetlink_rcv_batch: EOPNOTSUPP).
#[test]
fn a_kernel_without_nf_tables_is_reported() {
    let mut ground = Ground::new();
    let bundle = ground.asking("9000:8080");
    let [prestart, poststop] = orders(&ground, &bundle);
    ground.changed_on_purpose();
    let parts = ["this kernel has no nf_tables: load the module nf_tables"];
    // struct nlmsghdr on a little-endian machine: length (4), then message and subsystem:
    // NFT_MSG_GETTABLE with the table's name, NFT_MSG_GETGEN, NFT_MSG_GETSETELEM with the names of
    // table and map.
    let request = |header: &str, nth| format!("sendto:poke_enter=@arg2={header}:when={nth}");
    let (table, generation, dump) = ("24000000010f", "14000000100f", "300000000d0f");
    tampered(ground.prestart(&bundle), &request(table, prestart.request)).refused(&parts);
    tampered(ground.poststop(&bundle), &request(generation, poststop.request)).refused(&parts);
    tampered(ground.hostport(&["list"], ""), &request(generation, 1)).refused(&parts);
    tampered(ground.hostport(&["list"], ""), &request(dump, 2)).refused(&parts);
    tampered(ground.hostport(&["show"], ""), &request(table, 1)).refused(&parts);
    // struct nfgenmsg after the header of NFNL_MSG_BATCH_BEGIN: the subsystem is its last byte, and
    // NFNL_SUBSYS_NONE is one that the kernel knows and never has.
    let sequence = format!("{:08x}", prestart.sequence.to_be());
    let batch = request(&format!("1400000010000100{sequence}0000000000000000"), prestart.batch);
    tampered(ground.prestart(&bundle), &batch).refused(&parts);
}

#[test]
fn another_programs_table_with_our_name_is_left_alone() {
    for (family, content) in [
        ("ip", ""),
        ("ip6", ""),
        ("ip", "comment \"mine\"; map ports { type inet_service : ipv4_addr; }"),
        ("ip6", "set ports { type ipv6_addr; }\n chain publish { }"),
        ("ip", "comment \"hostport\"; chain prerouting { type nat hook prerouting priority 0; }"),
    ] {
        let mut ground = Ground::new();
        ground.node().nft(&format!("table {family} other-name {{ {content}\n }}"));
        ground.changed_on_purpose();
        let bundle = ground.asking("9000:8080");
        let flags = ["--table", "other-name"];
        let name = format!("table {family} other-name");
        let parts = [name.as_str(), "was not made by hostport", "nft delete table", "--table"];
        ground.prestart(&bundle).with_flags(&flags).refused(&parts);
        ground.poststop(&bundle).with_flags(&flags).ignored(&[]);
    }
}
