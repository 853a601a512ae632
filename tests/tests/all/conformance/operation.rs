//! What is done to both kernels, at random.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hostport_nft::kernel::{Element, SetName};
use hostport_nft::{
    Claim, Conditions, Counter, Endpoint, Family, HostPort, Link, LinkName, Mapping, OwnerId, Port,
    Protocol, Settings,
};
use proptest::prelude::*;

/// How many operations a sequence has at most.
const STEPS: usize = 120;

/// What is done to both kernels. Numbers name things of which there are few, so that operations meet.
#[derive(Debug, Clone)]
pub enum Operation {
    Generation,
    Tables,
    Element(Family, SetName, Key),
    Elements(Family, SetName),
    Objects(Family),
    Commit(Rests, Vec<Part>),
    Publish {
        owner: u8,
        hosts: BTreeSet<u8>,
        pod: u8,
        settings: u8,
        takes: bool,
    },
    Withdraw {
        owner: u8,
        hosts: BTreeSet<u8>,
    },
    Restore {
        owner: u8,
        hosts: BTreeSet<u8>,
        settings: u8,
        recreate: bool,
    },
    Remove,
    /// Another program's `nft`.
    Nft(Nft),
    /// A datagram that the connection tracking sees, to a port of this host.
    Track(u16),
    Flows(Protocol, Option<u16>, bool),
    Forget(u16),
}

/// All sets of a table.
pub const SETS: [SetName; 8] = [
    SetName::Ports,
    SetName::Excluded,
    SetName::Kept,
    SetName::Restricted,
    SetName::Sources,
    SetName::Hairpin,
    SetName::SameLink,
    SetName::Masqueraded,
];

/// What a transaction rests on.
#[derive(Debug, Clone, Copy)]
pub enum Rests {
    Nothing,
    Present,
    Past,
}

#[derive(Debug, Clone)]
pub enum Part {
    NewTable(Family, u8),
    DeleteTable(Family),
    NewElement(Family, SetName, Thing),
    NewElements(Family, SetName, Vec<Thing>),
    DeleteElement(Family, SetName, Key),
    DeleteRange(Family, Key),
}

#[derive(Debug, Clone, Copy)]
pub enum Key {
    Right(u8),
    /// A byte too long.
    Long(u8),
}

/// An element to be.
#[derive(Debug, Clone, Copy)]
pub struct Thing {
    pub key: Key,
    pub data: u8,
    /// With a map's data in a set, or without it in a map.
    pub misfit: bool,
    pub comment: Option<u8>,
    pub counter: bool,
}

#[derive(Debug, Clone)]
pub enum Nft {
    CreateTable(Family, bool),
    DeleteTable(Family),
    FlushTable(Family),
    AddRule(Family),
    DeletePort(Family, u8),
    Elsewhere,
}

pub fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let family = || prop_oneof![4 => Just(Family::Ip), 1 => Just(Family::Ip6)];
    let set = || {
        prop_oneof![
            4 => Just(SetName::Ports),
            1 => Just(SetName::Kept),
            1 => Just(SetName::Restricted),
            1 => Just(SetName::Sources),
            1 => Just(SetName::Hairpin),
            1 => Just(SetName::SameLink),
            1 => Just(SetName::Masqueraded),
        ]
    };
    let read = || prop_oneof![4 => set(), 1 => Just(SetName::Excluded)];
    let key =
        || prop_oneof![20 => (0u8..4).prop_map(Key::Right), 1 => (0u8..4).prop_map(Key::Long)];
    let thing = move || {
        (key(), 0u8..2, prop::bool::weighted(0.03), prop::option::of(0u8..2), any::<bool>())
            .prop_map(|(key, data, misfit, comment, counter)| Thing {
                key,
                data,
                misfit,
                comment,
                counter,
            })
    };
    let part = prop_oneof![
        2 => (family(), 0u8..2).prop_map(|(family, settings)| Part::NewTable(family, settings)),
        1 => family().prop_map(Part::DeleteTable),
        6 => (family(), set(), thing()).prop_map(|(family, set, thing)| Part::NewElement(family, set, thing)),
        3 => (family(), set(), prop::collection::vec(thing(), 1..4))
            .prop_map(|(family, set, things)| Part::NewElements(family, set, things)),
        4 => (family(), set(), key()).prop_map(|(family, set, key)| Part::DeleteElement(family, set, key)),
        1 => (family(), key()).prop_map(|(family, key)| Part::DeleteRange(family, key)),
    ];
    let rests =
        prop_oneof![4 => Just(Rests::Nothing), 4 => Just(Rests::Present), 1 => Just(Rests::Past)];
    let nft = prop_oneof![
        (family(), any::<bool>()).prop_map(|(family, comment)| Nft::CreateTable(family, comment)),
        family().prop_map(Nft::DeleteTable),
        family().prop_map(Nft::FlushTable),
        family().prop_map(Nft::AddRule),
        (family(), 0u8..4).prop_map(|(family, host)| Nft::DeletePort(family, host)),
        Just(Nft::Elsewhere),
    ];
    let hosts = || prop::collection::btree_set(0u8..4, 0..4);
    let protocol = prop_oneof![3 => Just(Protocol::Udp), 1 => Just(Protocol::Tcp)];
    let ports = || 9000u16..9003;
    let operation = prop_oneof![
        8 => Just(Operation::Generation),
        10 => Just(Operation::Tables),
        15 => (family(), read(), key()).prop_map(|(family, set, key)| Operation::Element(family, set, key)),
        10 => (family(), read()).prop_map(|(family, set)| Operation::Elements(family, set)),
        4 => family().prop_map(Operation::Objects),
        25 => (rests, prop::collection::vec(part, 0..4))
            .prop_map(|(rests, parts)| Operation::Commit(rests, parts)),
        8 => (0u8..3, hosts(), 0u8..2, prop::bool::weighted(0.1), any::<bool>())
            .prop_map(|(owner, hosts, pod, other, takes)| {
                Operation::Publish { owner, hosts, pod, settings: other.into(), takes }
            }),
        5 => (0u8..3, hosts()).prop_map(|(owner, hosts)| Operation::Withdraw { owner, hosts }),
        3 => (0u8..3, hosts(), prop::bool::weighted(0.1), any::<bool>())
            .prop_map(|(owner, hosts, other, recreate)| {
                Operation::Restore { owner, hosts, settings: other.into(), recreate }
            }),
        1 => Just(Operation::Remove),
        2 => nft.prop_map(Operation::Nft),
        3 => ports().prop_map(Operation::Track),
        3 => (protocol, prop::option::of(ports()), any::<bool>())
            .prop_map(|(protocol, port, unanswered)| Operation::Flows(protocol, port, unanswered)),
        2 => ports().prop_map(Operation::Forget),
    ];
    prop::collection::vec(operation, 1..STEPS)
}

pub fn address(family: Family, last: u8) -> IpAddr {
    match family {
        Family::Ip => [192, 0, 2, last].into(),
        Family::Ip6 => [0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last)].into(),
    }
}

fn bytes_of(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

pub fn address_bytes(family: Family, last: u8) -> Vec<u8> {
    bytes_of(address(family, last))
}

pub fn host(family: Family, number: u8) -> HostPort {
    let port = Port::new(9000).unwrap();
    // One of them is the wildcard.
    let host_ip = if number == 2 { family.wildcard() } else { address(family, number + 1) };
    HostPort { host_ip, port, protocol: Protocol::Tcp }
}

/// The bytes of a key, as the table in the crate's documentation lays them out.
pub fn key_of(family: Family, set: SetName, key: Key) -> Vec<u8> {
    let (Key::Right(number) | Key::Long(number)) = key;
    let address = address_bytes(family, number + 1);
    let host_ip = bytes_of(host(family, number).host_ip);
    let host_port = [host_ip.as_slice(), &[0x23, 0x28, 0, 0, 6, 0, 0, 0]].concat();
    let mut bytes = match set {
        SetName::Ports => host_port,
        SetName::Hairpin => [address.as_slice(), &address].concat(),
        SetName::SameLink => [name(number); 2].concat(),
        SetName::Excluded | SetName::Listen | SetName::Masqueraded => address,
        SetName::Kept | SetName::Restricted => host_port,
        SetName::Sources => [host_port.as_slice(), &address_bytes(family, 16 * number)].concat(),
    };
    if matches!(key, Key::Long(_)) {
        bytes.push(0);
    }
    bytes
}

/// The name of a link, padded.
fn name(number: u8) -> [u8; 16] {
    let mut name = [0; 16];
    name[..3].copy_from_slice(&[b'b', b'r', b'0' + number]);
    name
}

/// The last key of a range in the set `sources`.
pub fn last_of(family: Family, key: Key) -> Vec<u8> {
    let mut last = key_of(family, SetName::Sources, key);
    let place = last.len() - if matches!(key, Key::Long(_)) { 2 } else { 1 };
    last[place] |= 15;
    last
}

pub fn element(family: Family, set: SetName, thing: Thing) -> Element {
    let mapped = (set == SetName::Ports) != thing.misfit;
    let pod = address_bytes(family, 100 + thing.data);
    let counter = Counter { packets: 5, bytes: 300 };
    Element {
        key: key_of(family, set, thing.key),
        last: (set == SetName::Sources).then(|| last_of(family, thing.key)),
        data: mapped.then(|| [pod.as_slice(), &[0x1f, 0x90, 0, 0]].concat()),
        comment: thing.comment.map(|number| format!("owner-{number}")),
        counter: (thing.counter && set == SetName::Ports).then_some(counter),
        ..Element::default()
    }
}

pub fn settings(number: u8) -> Settings {
    let exclude = if number == 0 { vec![] } else { vec!["10.96.0.0/12".parse().unwrap()] };
    Settings { exclude, ..Settings::default() }
}

pub fn owner(number: u8) -> OwnerId {
    format!("owner-{number}").parse().unwrap()
}

pub fn claims(number: u8, hosts: &BTreeSet<u8>, pod: u8) -> Vec<Claim> {
    let claim = |family, host_number: &u8| {
        let endpoint = Endpoint { ip: address(family, 100 + pod), port: Port::new(8080).unwrap() };
        let mapping = Mapping::new(host(family, *host_number), endpoint).unwrap();
        Claim { owner: owner(number), mapping }
    };
    // One of the four is in the other family.
    let family = |host: &u8| if *host == 3 { Family::Ip6 } else { Family::Ip };
    hosts.iter().map(|host| claim(family(host), host)).collect()
}

/// What a publication or restoration says besides its claims.
pub fn conditions(number: u8, hosts: &BTreeSet<u8>, pod: u8) -> Conditions {
    let name = LinkName::new("br3".as_ref()).unwrap();
    let link = |family| Link { family, name: name.clone(), bypasses: family == Family::Ip };
    let restricted = hosts.iter().filter(|host| *host % 3 == number % 3);
    let sources = restricted.map(|number| {
        let nets = ["10.1.0.0/16", "10.2.0.0/16", "10.1.2.0/24", "2001:db8::/32"];
        (host(Family::Ip, *number), nets.map(|net| net.parse().unwrap()).to_vec())
    });
    Conditions {
        links: Family::ALL.map(link).to_vec(),
        sources: sources.collect(),
        kept: [host(Family::Ip, 5), host(Family::Ip6, 5)].into(),
        masqueraded: (number == 1).then(|| address(Family::Ip, 100 + pod)).into_iter().collect(),
        ..Conditions::default()
    }
}
