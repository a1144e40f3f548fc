//! What `mhctl drill` tells of sockets whose address changes with the link, as that of an OpenVPN does.

use std::net::UdpSocket;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use crate::support::ctl::*;
use crate::support::internet::*;
use crate::support::*;
use nix::sys::signal::Signal;
use serde_json::Value;

/// A socket of this host that has been answered by isp1, and with whom it talks.
fn tunnel() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let by_isp1 = |to: &String| ask_again(&socket, (to, ECHO)).unwrap().to_string() == ISP1.local;
    let to = (1..200).map(|n| format!("100.64.8.{n}")).find(by_isp1).unwrap();
    (socket, to)
}

/// Has them talk by isp1 once more, until the kernel takes them for connections (`udp_packet()`).
fn talk(tunnels: [&(UdpSocket, String); 2]) {
    let ask = || {
        for (socket, to) in tunnels {
            assert_eq!(ask_again(socket, (to, ECHO)).unwrap().to_string(), ISP1.local);
        }
    };
    ask();
    sleep(Duration::from_millis(2500));
    ask();
}

/// Drills isp1 for as long as `work` takes; the fates of the connections by their port.
fn fates(server: &Server, work: impl FnOnce()) -> Vec<(String, String)> {
    let child = ctl(server, "drill isp1 --for 10m --json").stdout(Stdio::piped()).spawn().unwrap();
    until("the default has moved", || default_route() == "default nhid 7100 via 203.0.113.1 dev ppp1 proto 77");
    work();
    send(Signal::SIGINT, &child);
    let report: Value = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
    let listed = report["connections"]["listed"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    listed.iter().map(|one| (text(&one["from"]), text(&one["fate"]))).collect()
}

#[test]
fn a_socket_that_goes_on_by_another_address_has_moved() {
    let server = Server::new(&ARTICLE.replace("weight    = 8", "weight = 256"));
    let internet = Internet::new();
    for line in [ISP1, ISP2] {
        internet.connect(line);
        ok(&mut server.hook(UP, line));
    }
    let (talking, idle) = (tunnel(), tunnel());
    talk([&talking, &idle]);
    let port = |(socket, _): &(UdpSocket, String)| socket.local_addr().unwrap().port();
    let [moved, silent] = [(&talking, "moved"), (&idle, "silent")]
        .map(|(tunnel, fate)| (format!("{}:{}", ISP1.local, port(tunnel)), fate.to_owned()));
    let seen = fates(&server, || {
        assert_eq!(ask_again(&talking.0, (&talking.1, ECHO)).unwrap().to_string(), ISP2.local);
        // A machine of the LAN that has the idle one's port, and talks to whom it talked to.
        internet.lan.run(|| {
            let socket = UdpSocket::bind(("0.0.0.0", port(&idle))).unwrap();
            socket.send_to(b"who", (idle.1.as_str(), ECHO)).unwrap();
        });
    });
    assert_eq!(seen, [moved.clone(), silent.clone()]);

    // Back on isp1, what is left of its connection by isp2 is no sign of life.
    talk([&talking, &idle]);
    let seen = fates(&server, || sleep(Duration::from_millis(2500)));
    assert!(seen.len() == 2 && seen.iter().all(|(_, fate)| fate == "silent"), "{seen:?}");

    // Unless it goes on there.
    talk([&talking, &idle]);
    let seen = fates(&server, || {
        sleep(Duration::from_millis(2500));
        assert_eq!(ask_again(&talking.0, (&talking.1, ECHO)).unwrap().to_string(), ISP2.local);
    });
    assert_eq!(seen, [moved, silent]);
}
