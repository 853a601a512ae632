//! Docker: a container on docker0 whose port 9100 it publishes, and its forward policy, which drops.

use std::process::Command;

use hostport_tests::lab::{Families, NODE4, Pod, PodSpec, Protocol, Server, tcp};

use super::ground::{Ground, IPTABLES, Iptables, ORDERS, who};

const RULES: &str = "*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 8080 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 9100 -j DNAT --to-destination 172.17.0.2:8080
COMMIT
*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 8080 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
";

/// Docker's bridge with a container on it, and its rules.
fn docker(ground: &Ground, iptables: Iptables) -> (Pod, [Server; 2]) {
    let container = ground.lab.add_pod(PodSpec::new("docker").families(Families::None));
    let node = ground.node();
    node.ip(&format!(
        "link add docker0 type bridge
         link set docker0 up
         address add 172.17.0.1/16 dev docker0
         link add vethdocker type veth peer name eth1 netns {}
         link set vethdocker master docker0 up",
        container.path().file_name().unwrap().to_str().unwrap()
    ));
    container.ip(
        "link set eth1 up\naddress add 172.17.0.2/16 dev eth1\nroute add default via 172.17.0.1",
    );
    node.wait_until_ready(&["docker0", "vethdocker"]);
    iptables.restore(node, false, RULES);
    let servers = container.serve(8080);
    (container, servers)
}

#[test]
fn field_16_docker_drops_unknown_traffic_until_its_users_chain_accepts_it() {
    for iptables in IPTABLES {
        for order in ORDERS {
            let mut container = None;
            let ground = Ground::begin(order, |ground| container = Some(docker(ground, iptables)));
            let docker_is_reached = || {
                assert_eq!(who(ground.lab.client(), Protocol::Tcp, (NODE4.into(), 9100)), "docker");
            };
            docker_is_reached();
            assert!(tcp(ground.lab.client(), (NODE4, 9000)).is_err(), "{iptables:?} {order:?}");
            let findings = ground.findings();
            if iptables == Iptables::Nft {
                assert_eq!(findings[0]["kind"], "forward-drop", "{findings:#?}");
                assert_eq!(findings[0]["severity"], "broken");
                let fix = findings[0]["fix"].as_str().unwrap();
                assert!(fix.starts_with("iptables -I DOCKER-USER "), "{fix}");
                let mut words = fix.split(' ');
                let mut command =
                    Command::new(words.next().unwrap().replace("iptables", "iptables-nft"));
                let done = ground.node().run(|| command.args(words).status().unwrap());
                assert!(done.success(), "{fix}");
            } else {
                // As in docs/neighbours.md: a chain that Docker leaves to the operator.
                let rule = "-I DOCKER-USER -m conntrack --ctstate DNAT -j ACCEPT";
                iptables.call(ground.node(), false, rule);
            }
            // dockerd writes its jumps again, and leaves what is in DOCKER-USER.
            for rule in ["-F FORWARD", "-A FORWARD -j DOCKER-USER", "-A FORWARD -j DOCKER"] {
                iptables.call(ground.node(), false, rule);
            }
            let answers = "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
            iptables.call(ground.node(), false, answers);
            ground.assert_web_is_reached();
            docker_is_reached();
            ground.assert_sound();
            ground.bundle.stop(ground.node());
            ground.assert_web_is_gone();
            docker_is_reached();
        }
    }
}
