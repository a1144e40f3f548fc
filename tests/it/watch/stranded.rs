//! TCP connections of the server itself whose line does not carry any more: they keep its address, and programs would wait
//! for a quarter of an hour.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

use super::Watcher;
use super::health::{Scene, two_lines};
use crate::support::internet::*;
use crate::support::*;

/// A connection of this host that has left by the line.
fn connected(line: Line) -> TcpStream {
    let by_line =
        |n: u8| connect_tcp((&format!("100.64.7.{n}"), ECHO)).filter(|(_, seen)| seen.to_string() == line.local);
    let (stream, _) = (1..=200).find_map(by_line).unwrap();
    stream
}

/// Why a connection has ended, if it has.
fn end(stream: &mut TcpStream) -> Option<ErrorKind> {
    stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    stream.read(&mut [0]).err().map(|error| error.kind()).filter(|kind| *kind != ErrorKind::WouldBlock)
}

fn ends(stream: &mut TcpStream) {
    until("the connection has ended", || end(stream) == Some(ErrorKind::ConnectionAborted));
}

#[test]
fn the_servers_own_connections_end_where_their_line_is_cut_or_lost_and_no_others() {
    let scene = Scene::new(&two_lines());
    let watcher = Watcher::settled(&scene.server);
    scene.is_known();
    let (mut first, mut second, mut named) = (connected(ISP1), connected(ISP2), connected(ISP1));
    setsockopt(&named, sockopt::BindToDevice, &ISP1.device.into()).unwrap();
    // Somebody of the LAN knows the server by the line's address.
    let service = TcpListener::bind((ISP1.local, 7)).unwrap();
    let lan = scene.internet.lan.spawn(|| TcpStream::connect((ISP1.local, 7)).unwrap());
    let (mut of_lan, _) = service.accept().unwrap();
    let _lan = lan.join().unwrap();

    scene.carries(1, false);
    watcher.event("drained");
    assert_eq!(end(&mut first), None);
    watcher.event("cut");
    ends(&mut first);
    assert_eq!([end(&mut second), end(&mut named), end(&mut of_lan)], [None; 3]);
    assert!(talks(&mut second));
    scene.internet.lan.run(|| TcpStream::connect((ISP1.local, 7)).unwrap());
    assert!(watcher.said().contains("1 connection of this host had lost its uplink, and was ended"));
    scene.carries(1, true);
    watcher.event("back");

    let mut first = connected(ISP1);
    // A program that takes IPv6 for all, and IPv4 for a part of it.
    let IpAddr::V4(host) = first.peer_addr().unwrap().ip() else { panic!() };
    let mut mapped = TcpStream::connect((host.to_ipv6_mapped(), ECHO)).unwrap();
    assert_eq!(mapped.local_addr().unwrap().ip().to_canonical().to_string(), ISP1.local);
    mapped.read_exact(&mut [0; 4]).unwrap();
    scene.server.lose(ISP1);
    ends(&mut first);
    ends(&mut mapped);
    assert!(talks(&mut second));
    watcher.stop();
}
