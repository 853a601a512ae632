//! What others do to a kernel, beside our own operations.

use std::io::Write;
use std::net::{IpAddr, UdpSocket};
use std::process::{Command, Stdio};

use hostport_nft::kernel::fake::{Fake, Hand};
use hostport_nft::kernel::{SetName, Socket};
use hostport_nft::{Endpoint, HostPort, Port, Protocol, TableName};

use super::operation::{Key, Nft, host, key_of};

/// What is done to a kernel beside our own operations.
pub trait Foreign {
    fn nft(&self, nft: &Nft) -> bool;
    fn track(&self, port: u16);
}

impl Foreign for Socket {
    fn nft(&self, nft: &Nft) -> bool {
        let command = match nft {
            Nft::CreateTable(family, false) => format!("create table {family} hostport"),
            Nft::CreateTable(family, true) => {
                format!("create table {family} hostport {{ comment \"another's\"; }}")
            }
            Nft::DeleteTable(family) => format!("delete table {family} hostport"),
            Nft::FlushTable(family) => format!("flush table {family} hostport"),
            Nft::AddRule(family) => format!("add rule {family} hostport publish counter"),
            Nft::DeletePort(family, number) => {
                let HostPort { host_ip, port, .. } = host(*family, *number);
                format!("delete element {family} hostport ports {{ {host_ip} . {port} . tcp }}")
            }
            Nft::Elsewhere => "add rule inet keep output counter".to_owned(),
        };
        nft_takes(&command)
    }

    fn track(&self, port: u16) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let _ = socket.send_to(b"x", ("127.0.0.1", port));
    }
}

pub fn nft_takes(command: &str) -> bool {
    let mut nft = Command::new("nft");
    nft.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::null());
    let mut nft = nft.spawn().unwrap();
    nft.stdin.take().unwrap().write_all(command.as_bytes()).unwrap();
    nft.wait().unwrap().success()
}

impl Foreign for Fake {
    fn nft(&self, nft: &Nft) -> bool {
        let (hand, table): (Hand, _) = (self.hand(), TableName::default());
        match nft {
            Nft::CreateTable(family, comment) => {
                hand.add_table(*family, &table, if *comment { "another's" } else { "" }, 0)
            }
            Nft::DeleteTable(family) => hand.delete_table(*family, &table),
            Nft::FlushTable(family) => hand.flush_table(*family, &table),
            Nft::AddRule(family) => hand.add_rule(*family, &table, "publish"),
            Nft::DeletePort(family, number) => {
                let key = key_of(*family, SetName::Ports, Key::Right(*number));
                hand.delete_element(*family, &table, SetName::Ports, &key)
            }
            Nft::Elsewhere => {
                hand.change_elsewhere();
                true
            }
        }
    }

    fn track(&self, port: u16) {
        let port = Port::new(port).unwrap();
        let ip = IpAddr::from([127, 0, 0, 1]);
        let host = HostPort { host_ip: ip, port, protocol: Protocol::Udp };
        self.hand().track(host, Endpoint { ip, port }, false);
    }
}
