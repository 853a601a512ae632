//! hostport's table as part of somebody's own `nftnl` batch: both are there, or neither.
//!
//! As root, in a network namespace of its own: `cargo run --example nftnl_batch --features nftnl`.

use std::ffi::CString;

use hostport_nft::{Family, Settings, Table};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nftnl::{Batch, MsgType, ProtoFamily};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let own_name = CString::new("own")?;
    let own = nftnl::Table::new(&own_name, ProtoFamily::Ipv4);
    let ours = Table::new(Family::Ip, &Settings::default());

    let mut batch = Batch::new();
    batch.add(&own, MsgType::Add);
    // In this order, and none left out.
    for message in ours.messages() {
        batch.add(&message, MsgType::Add);
    }
    let batch = batch.finalize();

    let socket = Socket::new(NETLINK_NETFILTER)?;
    let bytes: Vec<u8> = batch.iter().flatten().copied().collect();
    socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
    println!("sent {} bytes", bytes.len());
    print!("{ours}");
    Ok(())
}
