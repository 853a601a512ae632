//! hostport's table as part of another `nftnl` batch: the kernel takes both, or neither.
//!
//! As root, in a network namespace of its own: `cargo run --example nftnl_batch --features nftnl`.

use std::ffi::CString;
use std::io;

use hostport_netlink::{Replies, Reply};
use hostport_nft::{Family, Settings, Table};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nftnl::{Batch, MsgType, ProtoFamily};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let own_name = CString::new("own")?;
    let own = nftnl::Table::new(&own_name, ProtoFamily::Ipv4);
    let ours = Table::new(Family::Ip, &Settings::default());

    let mut batch = Batch::new();
    // nftnl's objects ask for an acknowledgement, ours do not. One is enough: errors come anyway.
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
    println!("the kernel took the batch; {} acknowledged", answers(&socket)?);
    print!("{ours}");
    Ok(())
}

/// Reads the kernel's answers to the batch: how many messages it acknowledges, or its first error.
///
/// All answers are queued when the call that sends returns, so there is nothing to wait for.
fn answers(socket: &Socket) -> Result<usize, Box<dyn std::error::Error>> {
    socket.set_non_blocking(true)?;
    let mut acknowledged = 0;
    loop {
        let datagram = match socket.recv_from_full() {
            Ok((datagram, _)) => datagram,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        };
        for reply in Replies::new(&datagram) {
            match reply?.1 {
                Reply::Acknowledged => acknowledged += 1,
                Reply::Failed(error) => return Err(io::Error::from(error).into()),
                Reply::Done { .. } | Reply::Object(_) => {}
            }
        }
    }
    if acknowledged == 0 {
        return Err("the kernel did not answer".into());
    }
    Ok(acknowledged)
}
