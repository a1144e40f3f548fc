//! A real dnsmasq fills a set from what it resolves for a client.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{STREAMING, by, hosts, scene, seen};
use crate::support::ctl::said;
use crate::support::internet::*;
use crate::support::*;

/// dnsmasq in the thread's namespace, until it is dropped.
struct Dnsmasq(Child);

impl Dnsmasq {
    fn start(args: &[&str]) -> Self {
        let mut dnsmasq = Command::new("dnsmasq");
        dnsmasq.args([
            "--keep-in-foreground",
            "--user=root",
            "--pid-file=",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
        ]);
        dnsmasq.args(["--except-interface=lo", "--log-facility=-"]).args(args);
        Self(dnsmasq.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        send(Signal::SIGTERM, &self.0);
        let _ = self.0.wait();
    }
}

/// Asks a resolver for the address of a name, as a client does; the first answer.
fn resolve(name: &str, resolver: &str) -> Option<Ipv4Addr> {
    const HEAD: usize = 12;
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend(label.bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket.send_to(&question, (resolver, 53)).ok()?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).ok()?;
    let answers = u16::from_be_bytes([answer[6], answer[7]]);
    // Name (a pointer), type, class, time to live, length, address.
    let record = &answer[question.len().max(HEAD)..length];
    let address: [u8; 4] = record.get(12..16)?.try_into().ok()?;
    (answers > 0).then(|| address.into())
}

#[test]
fn what_dnsmasq_resolves_for_a_client_fills_the_set_and_the_client_goes_by_the_line() {
    let (server, internet) = scene(STREAMING);
    let hosts = hosts(5, &internet);
    let [film, news] = &hosts[..2] else { panic!("{hosts:?}") };
    // The domain's own server, somewhere in the Internet.
    let records = [format!("--address=/films.example/{film}"), format!("--address=/news.example/{news}")];
    let upstream_address = "100.64.53.53";
    internet.world.ip(&format!("addr add {upstream_address}/32 dev far0"));
    let listen = format!("--listen-address={upstream_address}");
    let upstream = internet.world.run(|| Dnsmasq::start(&[&listen, &records[0], &records[1]]));
    // The lines as setup prints them, with a domain in them.
    let lines = said(&server, "setup --dnsmasq");
    let lines_file = server.config().with_file_name("dnsmasq.conf");
    fs::write(&lines_file, lines.replace("streaming.example", "films.example")).unwrap();
    let own = Dnsmasq::start(&[
        &format!("--conf-file={}", lines_file.display()),
        &format!("--listen-address={LAN_GATEWAY}"),
        &format!("--server={upstream_address}"),
    ]);
    let resolved = |name: &str| {
        let mut answer = None;
        until("the client has an answer", || {
            answer = internet.lan.run(|| resolve(name, LAN_GATEWAY));
            answer.is_some()
        });
        answer.unwrap().to_string()
    };
    assert_eq!(&resolved("www.films.example"), film);
    assert_eq!(&resolved("news.example"), news);
    assert_eq!(said(&server, "set list"), format!("streaming  {film}\n"));
    assert_eq!(seen(film, &internet), [by(ISP2); 4]);
    assert_eq!(seen(news, &internet), [by(ISP1); 4]);
    drop((upstream, own));
}
