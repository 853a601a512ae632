//! The containers of the scenarios.

use super::world::Container;

pub const A: Container =
    Container { name: "a", address: 1, ports: &[80, 81], replaces: false, sandbox: None };
pub const B: Container =
    Container { name: "b", address: 2, ports: &[80, 81], replaces: false, sandbox: None };
pub const C: Container =
    Container { name: "c", address: 3, ports: &[81, 82], replaces: false, sandbox: None };
pub const D: Container =
    Container { name: "d", address: 7, ports: &[80, 83], replaces: false, sandbox: None };
/// At A's address, as another container of its pod, or in a pod that got the address after it.
pub const E: Container =
    Container { name: "e", address: 1, ports: &[85], replaces: false, sandbox: None };
/// They take over from the living.
pub const R: Container =
    Container { name: "r", address: 4, ports: &[80, 81], replaces: true, sandbox: None };
pub const S: Container =
    Container { name: "s", address: 5, ports: &[81, 80], replaces: true, sandbox: None };
/// Takes over one of the ports of others.
pub const T: Container =
    Container { name: "t", address: 8, ports: &[80, 84], replaces: true, sandbox: None };
/// A pod of a sandbox and two containers.
pub const POD: Container =
    Container { name: "pod", address: 6, ports: &[], replaces: false, sandbox: None };
pub const P: Container = Container {
    name: "p",
    address: 6,
    ports: &[80],
    replaces: false,
    sandbox: Some(("pod", &[90])),
};
pub const Q: Container = Container {
    name: "q",
    address: 6,
    ports: &[81],
    replaces: false,
    sandbox: Some(("pod", &[90, 91])),
};
/// Containers of one pod that ask for the same, or partly.
pub const U: Container = Container {
    name: "u",
    address: 9,
    ports: &[80, 86],
    replaces: false,
    sandbox: Some(("pod", &[])),
};
pub const V: Container = Container { name: "v", ports: &[80, 87], ..U };
/// As U, and takes over from the living, but not from its own pod.
pub const W: Container = Container { name: "w", replaces: true, ..U };
