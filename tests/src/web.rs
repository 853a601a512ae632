//! Requests to a container's web server over a host port. All test containers run the same server:
//! [`crate::runtime::Container::http_server`].

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::lab::{CLIENT4, CLIENT6, Lab, NODE4, NODE6, Netns};
use crate::runtime::wait_until;

/// Kubelet's annotation.
pub const KUBELET: &str = "io.kubernetes.container.ports";
/// Kubelet's text for a container port 8080 with host port 9000.
pub const KUBELET_9000: &str =
    r#"[{"name":"web","hostPort":9000,"containerPort":8080,"protocol":"TCP"}]"#;

/// The client's address as the server sees it, asked on a port of an address.
///
/// # Errors
///
/// If no server answers, or a different one does.
pub fn seen(from: &Netns, address: impl Into<IpAddr>, port: u16) -> io::Result<IpAddr> {
    let last = ask(from, (address.into(), port).into(), "/cgi-bin/client")?;
    last.parse().map_err(|_| io::Error::other(format!("not an answer: {last:?}")))
}

/// The server's first page: `hello`, or what a container has there instead.
///
/// # Errors
///
/// If no server answers.
pub fn page(from: &Netns, address: impl Into<IpAddr>, port: u16) -> io::Result<String> {
    ask(from, (address.into(), port).into(), "/")
}

fn ask(from: &Netns, address: SocketAddr, path: &str) -> io::Result<String> {
    let limit = Duration::from_secs(2);
    from.run(|| {
        let mut stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text.lines().last().unwrap_or_default().to_owned())
    })
}

/// Waits until the server on port 9000 answers, and checks that it sees the client's own address in both families.
///
/// # Panics
///
/// If it does not.
#[track_caller]
pub fn assert_answers(lab: &Lab) {
    let ways: [(IpAddr, IpAddr); 2] =
        [(NODE4.into(), CLIENT4.into()), (NODE6.into(), CLIENT6.into())];
    for (node, client) in ways {
        let mut last = None;
        wait_until(|| {
            last = Some(seen(lab.client(), node, 9000));
            last.as_ref().is_some_and(Result::is_ok)
        });
        let got = last.unwrap().unwrap_or_else(|error| panic!("{node}: {error}"));
        assert_eq!(got, client);
    }
}

/// Checks that port 9000 is refused at once in both families, and that the kernel's tables hold no element.
///
/// # Panics
///
/// If one of these is not so.
#[track_caller]
pub fn assert_closed(lab: &Lab) {
    // Every element of a container has a comment; apart from these, only the tables have one.
    let ruleset = lab.node().nft_list();
    let mut comments = ruleset.lines().filter(|line| line.contains("comment \""));
    assert!(comments.all(|line| line.contains("hostport schema")), "left:\n{ruleset}");
    for node in [IpAddr::from(NODE4), NODE6.into()] {
        let error = seen(lab.client(), node, 9000).expect_err("nobody there");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
