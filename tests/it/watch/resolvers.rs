//! The resolvers of a line that is up and carries nothing: a judge where no target answers.

use std::net::UdpSocket;
use std::sync::mpsc::channel;

use super::Watcher;
use super::health::{CHECK, Scene};
use crate::support::ctl::*;
use crate::support::internet::Namespace;
use crate::support::*;

/// Of the first provider, beyond it.
const RESOLVER: &str = "100.64.0.53";

/// A name server that answers whatever it is asked.
fn serve_dns(namespace: &Namespace, address: &'static str) {
    let (ready, wait) = channel();
    namespace.spawn(move || {
        let socket = UdpSocket::bind((address, 53)).unwrap();
        ready.send(()).unwrap();
        let mut packet = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            packet[2] |= 0x80;
            let _ = socket.send_to(&packet[..length], from);
        }
    });
    wait.recv().unwrap();
}

#[test]
fn where_no_target_answers_the_lines_own_resolvers_are_asked_unless_they_are_its_router() {
    let check = CHECK.replace("[\"100.64.0.1\", \"tcp:100.64.0.2:7\", \"100.64.0.3\"]", "[\"192.0.2.99\"]");
    assert_ne!(check, CHECK);
    let scene = Scene::new(&format!("{ARTICLE}{check}"));
    serve_dns(&scene.internet.world, RESOLVER);
    // It answers whether the line beyond it carries anything or not.
    serve_dns(&scene.internet.providers[1], ISP2.remote);
    ok(scene.server.hook(UP, ISP1).env("DNS1", "100.64.0.9"));
    ok(scene.server.hook(UP, ISP2).env("DNS1", ISP2.remote));
    let watcher = Watcher::settled(&scene.server);
    // Another one: mh-watch hears of it with the next change.
    ok(scene.server.hook(UP, ISP1).env("DNS1", RESOLVER));
    ip("route del default");
    let health = |link: usize| json(&scene.server, "status --json")["links"][link - 1]["health"].clone();
    until("the first line is known", || health(1) == "good");
    assert_eq!(health(2), "unknown");
    scene.carries(1, false);
    let event = watcher.event("drained");
    assert_eq!(event["link"], "isp1");
    scene.carries(1, true);
    assert_eq!(watcher.event("back")["link"], "isp1");
    watcher.stop();
}
