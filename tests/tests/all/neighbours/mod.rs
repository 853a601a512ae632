//! Host ports beside others who write rules: their rules are there before or come after, both sides keep
//! their ports, and packets tell.
//!
//! The rules of portmap, kube-proxy and Docker are of the shape that these programs write, loaded with
//! iptables-restore; firewalld, podman and netavark run themselves. Not here, since the machine that
//! builds has no such kernel: ipset matches and virtual servers of kube-proxy's IPVS mode.

mod ground;

mod docker;
mod firewalld;
mod forward_policy;
mod kube_proxy;
mod netavark;
mod pods;
mod portmap;
mod uplinks;
