//! Host ports next to other programs that write rules: their rules come before or after ours, both sides keep their
//! ports, and packets prove it.
//!
//! The rules of portmap, kube-proxy and Docker have the form that these programs write, and are loaded with
//! iptables-restore; firewalld, podman and netavark run themselves. Matches of ipset and virtual servers of
//! kube-proxy's IPVS mode are not here, since the kernel of a build machine has neither.

mod ground;

mod docker;
mod firewalld;
mod forward_policy;
mod kube_proxy;
mod netavark;
mod pods;
mod portmap;
mod resolvers;
mod uplinks;
