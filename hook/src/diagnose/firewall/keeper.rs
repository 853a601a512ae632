//! The programs that keep a table or chain: what another changes there is refused, or gone when they write it again.

use hostport_trace::{Cause, Hook, Trace, Verdict};

use crate::network::process;

/// How to give hostport a port that a rule of another program has.
pub const TAKE_OUT: &str = "take the port out of that rule";

/// Who keeps the rules that a packet meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeper {
    Firewalld,
    Docker,
    KubeProxy,
    Netavark,
    /// A process that owns the table (`flags owner`), in words.
    Owner(String),
}

impl Keeper {
    /// Known by the table, its owner, or the chain that the rule is in.
    pub fn of(verdict: &Verdict, rules: &Trace) -> Option<Self> {
        match verdict.table.split_once(' ')?.1 {
            "firewalld" | PANIC => return Some(Keeper::Firewalld),
            "docker-bridges" => return Some(Keeper::Docker),
            "kube-proxy" => return Some(Keeper::KubeProxy),
            "netavark" => return Some(Keeper::Netavark),
            _ => {}
        }
        if let Some(port) = rules.owner(&verdict.table) {
            return Some(match process::of_netlink_port(port) {
                Some((_, name)) if name == "firewalld" => Keeper::Firewalld,
                Some((pid, name)) => Keeper::Owner(format!("the process {pid} ({name})")),
                None => Keeper::Owner("the program that owns it".to_owned()),
            });
        }
        let Cause::Rule { chain, .. } = &verdict.cause else { return None };
        let prefixes = [
            ("DOCKER", Keeper::Docker),
            ("KUBE-", Keeper::KubeProxy),
            ("NETAVARK", Keeper::Netavark),
        ];
        let known = prefixes.into_iter().find(|(prefix, _)| chain.starts_with(prefix));
        known.map(|(_, keeper)| keeper)
    }

    fn name(&self) -> &str {
        match self {
            Keeper::Firewalld => "firewalld",
            Keeper::Docker => "dockerd",
            Keeper::KubeProxy => "kube-proxy",
            Keeper::Netavark => "netavark",
            Keeper::Owner(process) => process,
        }
    }

    /// How to let packets through that its table drops; `what` says which.
    pub fn let_through(&self, verdict: &Verdict, what: &str) -> String {
        match self {
            Keeper::Firewalld if verdict.table.ends_with(PANIC) => {
                "firewall-cmd --panic-off".to_owned()
            }
            // Without that setting, it accepts what is translated.
            Keeper::Firewalld if verdict.hook == Hook::Forward => {
                "set StrictForwardPorts=no in /etc/firewalld/firewalld.conf, and run: firewall-cmd --reload"
                    .to_owned()
            }
            Keeper::Firewalld => format!(
                "accept {what} there by firewall-cmd, since firewalld removes the rules of others: \
                 firewall-cmd --list-all-zones; firewall-cmd --list-all-policies"
            ),
            Keeper::Docker => format!(
                "start dockerd with --bridge-accept-fwmark=MARK, and set that mark on {what} in a chain of your own \
                 that runs earlier: dockerd removes the rules of others from its table"
            ),
            Keeper::KubeProxy | Keeper::Netavark => format!(
                "change what the rule is made from, such as the Kubernetes service or the container network: {} \
                 removes the rules of others from its table",
                self.name()
            ),
            Keeper::Owner(process) => format!(
                "configure {process} to accept {what}: it owns the table, and only it can change it"
            ),
        }
    }

    /// How to give hostport a port that one of its rules has.
    pub fn take_out(&self) -> &'static str {
        match self {
            Keeper::KubeProxy => "give the Kubernetes service another port",
            Keeper::Docker => "start the Docker container without that port (docker ps)",
            Keeper::Netavark => "start the podman container without that port (podman ps)",
            Keeper::Firewalld => "remove the forwarding of that port",
            Keeper::Owner(_) => TAKE_OUT,
        }
    }

    /// How to be rid of a rule; `instead` says what to do there.
    pub fn without(&self, instead: &str) -> String {
        match self {
            Keeper::Firewalld => {
                format!("{instead} by firewall-cmd: firewalld writes its rules again")
            }
            Keeper::Docker | Keeper::KubeProxy | Keeper::Netavark => {
                format!("{instead}: {} writes the rule again if it is deleted", self.name())
            }
            Keeper::Owner(process) => {
                format!("{instead}: {process} owns the table, and only it can change it")
            }
        }
    }
}

/// firewalld's table for the panic mode.
const PANIC: &str = "firewalld_policy_drop";
