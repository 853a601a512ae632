//! A node with two pods: `web`, which hostport publishes on 9000, and `shop`, to which another program leads in its
//! own way.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use hostport_tests::hook::{Bundle, hostport};
use hostport_tests::lab::{
    CLIENT4, CLIENT6, Client, ClientError, Lab, NODE4, NODE6, Netns, Pod, PodSpec, Protocol, Server,
};
use hostport_tests::runtime::{Scratch, run};
use serde_json::Value;

pub const BOTH: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// Which of the two comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    TheyFirst,
    WeFirst,
}

pub const ORDERS: [Order; 2] = [Order::TheyFirst, Order::WeFirst];

pub struct Ground {
    pub lab: Lab,
    pub web: Pod,
    pub shop: Pod,
    pub bundle: Bundle,
    _servers: [Server; 4],
}

impl Ground {
    pub fn new() -> Ground {
        Ground::of(PodSpec::new("web"))
    }

    pub fn of(web: PodSpec) -> Ground {
        let lab = Lab::new();
        let (web, shop) = (lab.add_pod(web), lab.pod("shop"));
        let ([a, b], [c, d]) = (web.serve(8080), shop.serve(8080));
        let ports = "9000:8080/tcp,9000:8080/udp";
        let bundle = Bundle::of(&web).annotation("io.hostport.ports", ports);
        Ground { lab, web, shop, bundle, _servers: [a, b, c, d] }
    }

    /// Starts the other program and our hook, one after the other.
    pub fn begin(order: Order, neighbour: impl FnOnce(&Ground)) -> Ground {
        let ground = Ground::new();
        ground.begin_in(order, neighbour);
        ground
    }

    pub fn begin_in(&self, order: Order, neighbour: impl FnOnce(&Ground)) {
        if order == Order::WeFirst {
            self.bundle.start(self.node());
            neighbour(self);
        } else {
            neighbour(self);
            self.bundle.start(self.node());
        }
    }

    pub fn node(&self) -> &Netns {
        self.lab.node()
    }

    /// The host port leads to `web` from everywhere, and `web` sees the client's own address.
    #[track_caller]
    pub fn assert_web_is_reached(&self) {
        for protocol in BOTH {
            for (to, client) in
                [(IpAddr::from(NODE4), IpAddr::from(CLIENT4)), (NODE6.into(), CLIENT6.into())]
            {
                let answer = ask(self.lab.client(), protocol, (to, 9000)).unwrap();
                assert_eq!((answer.0.as_str(), answer.1), ("web", client), "{protocol:?} {to}");
                assert_eq!(who(self.node(), protocol, (to, 9000)), "web");
                assert_eq!(who(&self.web, protocol, (to, 9000)), "web", "from itself");
                assert_eq!(who(&self.shop, protocol, (to, 9000)), "web", "from a neighbour");
            }
            assert_eq!(who(self.node(), protocol, ([127, 0, 0, 1].into(), 9000)), "web");
        }
    }

    #[track_caller]
    pub fn assert_web_is_gone(&self) {
        for protocol in BOTH {
            for to in [IpAddr::from(NODE4), NODE6.into()] {
                let refused = ask(self.lab.client(), protocol, (to, 9000));
                assert_eq!(refused, Err(ClientError::Refused), "{protocol:?} {to}");
            }
        }
    }

    /// The doctor's findings, without the warning that rules of iptables-legacy cannot be seen.
    pub fn findings(&self) -> Vec<Value> {
        let said = hostport(self.node(), &["doctor", "--json"]).stdout;
        let report: Value = serde_json::from_str(&said).unwrap();
        let mut findings = report["findings"].as_array().unwrap().clone();
        findings.retain(|finding| finding["kind"] != "iptables-legacy");
        findings
    }

    #[track_caller]
    pub fn assert_sound(&self) {
        assert_eq!(self.findings(), [Value::Null; 0]);
    }
}

/// Asks once, and returns the server's name and the address that it sees.
pub fn ask(
    from: &Netns,
    protocol: Protocol,
    to: impl Into<SocketAddr>,
) -> Result<(String, IpAddr), ClientError> {
    let client = Client::new(from).timeout(Duration::from_secs(1));
    client.ask(protocol, to.into()).map(|answer| (answer.server, answer.peer))
}

#[track_caller]
pub fn who(from: &Netns, protocol: Protocol, to: (IpAddr, u16)) -> String {
    let answer = ask(from, protocol, to);
    answer.unwrap_or_else(|error| panic!("{protocol:?} to {to:?}: {error:?}")).0
}

/// `iptables-nft` or `iptables-legacy`: two ways into the kernel with the same syntax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Iptables {
    Nft,
    Legacy,
}

pub const IPTABLES: [Iptables; 2] = [Iptables::Nft, Iptables::Legacy];

impl Iptables {
    fn suffix(self) -> &'static str {
        match self {
            Iptables::Nft => "nft",
            Iptables::Legacy => "legacy",
        }
    }

    /// Loads rules as the real programs do: without removing the rules of others.
    #[track_caller]
    pub fn restore(self, node: &Netns, ipv6: bool, rules: &str) {
        let scratch = Scratch::new("rules");
        let file = scratch.path().join("rules");
        fs::write(&file, rules).unwrap();
        let mut command = Command::new(format!("{}-{}-restore", program(ipv6), self.suffix()));
        node.run(|| run(command.arg("--noflush").arg(&file))).expect_success();
    }

    /// `iptables WORDS`.
    #[track_caller]
    pub fn call(self, node: &Netns, ipv6: bool, words: &str) -> String {
        let mut command = Command::new(format!("{}-{}", program(ipv6), self.suffix()));
        node.run(|| run(command.args(words.split(' ')))).expect_success().stdout
    }
}

fn program(ipv6: bool) -> &'static str {
    if ipv6 { "ip6tables" } else { "iptables" }
}
