//! rustables, an implementation of nf_tables that shares no code with ours, reads our tables and chains from the
//! kernel.
//!
//! It goes no further: it has no map data, and rejects the 32-bit registers of a joined key. nft checks the policy
//! of chains (`tests/golden`): rustables 0.9 reads a drop as an accept.

use std::fs;

use hostport_tests::hook::Bundle;
use hostport_tests::lab::Lab;
use rustables::ChainType::{Filter, Nat};
use rustables::HookClass::{Out, PostRouting, PreRouting};
use rustables::ProtocolFamily::{Ipv4, Ipv6};
use rustables::{Chain, ChainPolicy, ChainType, Hook, HookClass, ProtocolFamily, Table};
use rustables::{list_chains_for_table, list_tables};

/// What rustables finds in a node's namespace after a call of the hook.
fn read_back() -> (Vec<Table>, Vec<Chain>) {
    let lab = Lab::new();
    let web = lab.pod("web");
    Bundle::of(&web).annotation("io.hostport.ports", "9000:8080").start(lab.node());
    lab.node().run(|| {
        let tables = list_tables().expect("tables that rustables can read");
        // The two tables have the same name, and rustables selects their chains by it alone.
        let chains = list_chains_for_table(&tables[0]).expect("chains that rustables can read");
        (tables, chains)
    })
}

/// Our table as rustables would describe it. (The family of an object is private, but compared.)
fn table(family: ProtocolFamily) -> Table {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    // NFTNL_UDATA_TABLE_COMMENT, the length with the final NUL, the text.
    let comment = format!("\x00\x20hostport schema 2 boot {}\0", &boot[..8]).into_bytes();
    Table::new(family).with_name("hostport").with_flags(0u32).with_userdata(comment)
}

/// A base chain as rustables would describe it.
fn base(family: ProtocolFamily, name: &str, kind: ChainType, hook: HookClass, at: i32) -> Chain {
    Chain::new(&table(family))
        .with_name(name)
        .with_type(kind)
        .with_hook(Hook::new(hook, at))
        .with_policy(ChainPolicy::Accept)
        .with_flags(NFT_CHAIN_BASE)
}

/// NFT_CHAIN_BASE of `linux/netfilter/nf_tables.h`, which the kernel adds in its answers.
const NFT_CHAIN_BASE: u32 = 1;

#[test]
fn rustables_reads_our_two_tables_with_their_comments() {
    let (tables, _) = read_back();
    assert_eq!(tables, [Ipv4, Ipv6].map(table));
}

#[test]
fn rustables_reads_our_base_chains() {
    let (_, chains) = read_back();
    let chains: Vec<_> = chains.into_iter().filter(|chain| chain.get_hook().is_some()).collect();
    assert_eq!(
        chains,
        [
            base(Ipv4, "prerouting", Nat, PreRouting, -90),
            base(Ipv4, "output", Nat, Out, -90),
            base(Ipv4, "postrouting", Nat, PostRouting, 100),
            base(Ipv4, "guard", Filter, PreRouting, -300),
            base(Ipv6, "prerouting", Nat, PreRouting, -90),
            base(Ipv6, "output", Nat, Out, -90),
            base(Ipv6, "postrouting", Nat, PostRouting, 100),
        ]
    );
}

#[test]
fn rustables_reads_our_other_chain_as_one_without_a_hook() {
    let (_, chains) = read_back();
    let chains: Vec<_> = chains.into_iter().filter(|chain| chain.get_hook().is_none()).collect();
    let publish = |family| Chain::new(&table(family)).with_name("publish");
    assert_eq!(chains, [Ipv4, Ipv6].map(publish));
}
