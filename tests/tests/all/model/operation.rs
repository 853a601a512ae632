//! What can happen on a node: the words of the model's sequences.

use proptest::collection::vec;
use proptest::prelude::*;

/// One event. Numbers choose among the things that exist at that time, modulo their count; if there is none,
/// nothing happens.
#[derive(Clone, Debug)]
pub enum Operation {
    /// A container starts in a pod, with others or alone.
    Start { pod: usize, life: Life, asks: Vec<Ask>, replace: bool, exclude: usize },
    /// A pod's sandbox starts under CRI-O, with the pod's annotation, and asks for nothing.
    StartSandbox { pod: usize, annotation: Vec<Ask> },
    /// A container starts in a running sandbox, with kubelet's ports; `carries` the pod's annotation.
    StartMember { sandbox: usize, own: Vec<Ask>, carries: bool, replace: bool, exclude: usize },
    /// A container that has ended starts again with its ID, and maybe in another pod.
    Restart { of: usize, pod: usize, asks: Vec<Ask>, exclude: usize },
    /// The hook is called again for a running container, at another stage.
    Again { of: usize, stage: usize, exclude: usize },
    /// A container's processes die, and no hook is called.
    Crash { of: usize },
    /// A container ends, and its runtime calls poststop.
    Stop { of: usize },
    /// Poststop for a container that ended some time ago.
    LatePoststop { of: usize },
    /// Somebody removes a file of the journal.
    Forget { of: usize },
    /// Somebody changes the ruleset with nft.
    Nft(Damage),
    /// `hostport restore`.
    Restore,
    /// `hostport gc`, or with `--dry-run`.
    Gc { dry_run: bool },
}

/// How it is known that a container's owner is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Its init process, in whose network namespace it is.
    Process,
    /// The path of its network namespace alone: the state has no pid.
    Namespace,
}

/// What somebody does with nft. A family is 0 for `ip`, 1 for `ip6`.
#[derive(Clone, Copy, Debug)]
pub enum Damage {
    FlushRuleset,
    DeleteTable(usize),
    FlushMap(usize),
    FlushTable(usize),
    DeletePort(usize),
    DeleteHairpin(usize),
    /// Another program's element in the map, with or without a comment.
    AddPort(usize, u16, bool),
    /// The table as an older version would have left it: all of it, or the map alone.
    OldSchema(usize, bool),
}

/// One item of an annotation: `[hostIP:]hostPort:containerPort/protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    pub address: Address,
    /// Added to 9000, this is the host port.
    pub port: u16,
    /// Added to 8080, this is the container port.
    pub to: u16,
    pub udp: bool,
}

/// The host IP of an ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// None: the wildcard of each family.
    None,
    Wildcard4,
    Wildcard6,
    Node4,
    Second4,
    Node6,
}

/// How many choices there are for `exclude`: see [`super::ground::EXCLUDE`].
pub const EXCLUDES: usize = 3;
/// How many pods there are.
pub const PODS: usize = 3;

/// A sequence of at most this many operations.
pub fn sequences(most: usize) -> impl Strategy<Value = Vec<Operation>> {
    vec(operation(), most / 2..=most)
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let exclude = || prop_oneof![6 => Just(0), 1 => 1..EXCLUDES];
    let (of, pod) = (|| 0..64usize, || 0..PODS);
    let some = || vec(ask(), 1..4);
    let maybe = || vec(ask(), 0..3);
    let life = prop_oneof![Just(Life::Process), Just(Life::Namespace)];
    let rarely = || prop::bool::weighted(0.3);
    prop_oneof![
        8 => (pod(), life, some(), rarely(), exclude()).prop_map(
            |(pod, life, asks, replace, exclude)| Start { pod, life, asks, replace, exclude }),
        2 => (pod(), maybe()).prop_map(|(pod, annotation)| StartSandbox { pod, annotation }),
        4 => (of(), maybe(), any::<bool>(), rarely(), exclude()).prop_map(
            |(sandbox, own, carries, replace, exclude)|
                StartMember { sandbox, own, carries, replace, exclude }),
        2 => (of(), pod(), some(), exclude()).prop_map(
            |(of, pod, asks, exclude)| Restart { of, pod, asks, exclude }),
        3 => (of(), 0..3usize, exclude()).prop_map(
            |(of, stage, exclude)| Again { of, stage, exclude }),
        4 => of().prop_map(|of| Crash { of }),
        4 => of().prop_map(|of| Stop { of }),
        3 => of().prop_map(|of| LatePoststop { of }),
        1 => of().prop_map(|of| Forget { of }),
        6 => damage().prop_map(Nft),
        3 => Just(Restore),
        2 => rarely().prop_map(|dry_run| Gc { dry_run }),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    use Damage::*;
    let family = || 0..2usize;
    prop_oneof![
        2 => Just(FlushRuleset),
        1 => family().prop_map(DeleteTable),
        1 => family().prop_map(FlushMap),
        1 => family().prop_map(FlushTable),
        2 => (0..64usize).prop_map(DeletePort),
        1 => (0..64usize).prop_map(DeleteHairpin),
        2 => (family(), 0..4u16, any::<bool>()).prop_map(|(f, port, owned)| AddPort(f, port, owned)),
        2 => (family(), any::<bool>()).prop_map(|(family, bare)| OldSchema(family, bare)),
    ]
}

fn ask() -> impl Strategy<Value = Ask> {
    let address = prop_oneof![
        6 => Just(Address::None),
        1 => Just(Address::Wildcard4),
        1 => Just(Address::Wildcard6),
        2 => Just(Address::Node4),
        1 => Just(Address::Second4),
        2 => Just(Address::Node6),
    ];
    (address, 0..4u16, prop::bool::weighted(0.2), prop::bool::weighted(0.2))
        .prop_map(|(address, port, other, udp)| Ask { address, port, to: u16::from(other), udp })
}
