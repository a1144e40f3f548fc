//! Lines by which something comes, though nothing beyond the provider answers: its own replies, or what strangers send.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Watcher;
use super::health::{Scene, seen, two_lines};
use crate::support::internet::*;
use crate::support::*;

/// Does this ten times a second, in the namespace, until it is told to end.
fn again_and_again(inside: &Namespace, each: impl Fn() + Send + 'static) -> Arc<AtomicBool> {
    let is_over = Arc::new(AtomicBool::new(false));
    let told = is_over.clone();
    inside.spawn(move || {
        while !told.load(Ordering::Relaxed) {
            each();
            thread::sleep(Duration::from_millis(100));
        }
    });
    is_over
}

fn with_firewall(firewall: &str) -> String {
    with_settings(&two_lines(), &format!("firewall = \"{firewall}\""))
}

#[test]
fn a_line_whose_provider_alone_answers_is_drained_and_its_connections_stay() {
    let scene = Scene::new(&with_firewall("nftables"));
    let watcher = Watcher::settled(&scene.server);
    scene.is_known();
    // As a resolver that programs ask all the time.
    scene.internet.providers[0].serve_echo(ECHO);
    let ask = || ask_udp_from(&format!("{}:0", ISP1.local), (ISP1.remote, ECHO));
    let is_over = again_and_again(&scene.internet.server, move || {
        ask();
    });
    until("it answers", || ask().is_some());
    scene.carries(1, false);
    let died = Instant::now();
    let event = watcher.event("drained");
    let reason = event["reason"].as_str().unwrap();
    assert!(event["link"] == "isp1" && reason.starts_with("none of 3 targets has answered by it for "), "{event}");
    // Four times down-after; of silence one would have been enough.
    assert!(died.elapsed() >= Duration::from_secs(4), "{:?}", died.elapsed());
    assert_eq!(seen(), [ISP2.local], "new connections go by the other line");
    // Of silence this is longer than cut-after.
    thread::sleep(Duration::from_secs(4));
    assert!(scene.state(1) == "drained" && ask().is_some(), "{}", watcher.said());
    is_over.store(true, Ordering::Relaxed);
    watcher.event("cut");
    scene.carries(1, true);
    assert_eq!(watcher.event("back")["link"], "isp1");
    watcher.stop();
}

#[test]
fn packets_of_strangers_keep_no_dead_line() {
    let scene = Scene::new(&with_firewall("none"));
    for (line, provider) in [ISP1, ISP2].iter().zip(&scene.internet.providers) {
        // A point-to-point interface has no addresses of its own kind: here each end has the same.
        ip(&format!("link set {} address 02:00:00:00:00:01 arp off", line.device));
        provider.ip("link set customer address 02:00:00:00:00:01 arp off");
    }
    let watcher = Watcher::settled(&scene.server);
    scene.is_known();
    let socket = scene.internet.providers[0].run(|| UdpSocket::bind((ISP1.remote, 0)).unwrap());
    again_and_again(&scene.internet.providers[0], move || {
        // The server says that nobody listens there.
        let _ = socket.send_to(b"scan", (ISP1.local, 9));
    });
    scene.carries(1, false);
    let event = watcher.event("drained");
    let reason = event["reason"].as_str().unwrap();
    assert!(event["link"] == "isp1" && reason.starts_with("none of 3 targets has answered by it for "), "{event}");
    watcher.event("cut");
    assert_eq!(scene.state(1), "cut");
    scene.carries(1, true);
    assert_eq!(watcher.event("back")["link"], "isp1");
    watcher.stop();
}
