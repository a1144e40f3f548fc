//! Shares of uplinks in both families, judged from outside as the kernel's own test of multipath routes does: packets
//! are counted on the devices, and the ratio may differ from that of the weights by 15 percent.

use std::fs;
use std::net::UdpSocket;

use super::internet::*;
use crate::support::*;

/// Five standard deviations are less than 15 percent then.
const PACKETS: u32 = 6000;
const WEIGHTS: [[u32; 2]; 3] = [[1, 1], [2, 1], [45, 11]];

fn weighted([first, second]: [u32; 2]) -> String {
    let first = LINKS.replace("\"isp1\"\n", &format!("\"isp1\"\nweight = {first}\n"));
    first.replace("\"isp2\"\n", &format!("\"isp2\"\nweight = {second}\n"))
}

/// Packets that each line has sent so far.
fn sent() -> [u32; 2] {
    // proc_pid_net(5): packets sent are the tenth number.
    let counters = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    [ISP1, ISP2].map(|line| {
        let of_line = counters.lines().find_map(|text| text.trim().strip_prefix(&format!("{}:", line.device)));
        of_line.unwrap().split_whitespace().nth(9).unwrap().parse().unwrap()
    })
}

/// A packet to each of many hosts; how many leave by each line.
fn shares(from: &str, to: impl Fn(u32) -> String) -> [u32; 2] {
    let socket = UdpSocket::bind((from, 0)).unwrap();
    let before = sent();
    for n in 0..PACKETS {
        // Nobody listens; that an earlier packet was refused is no error of this one.
        let _ = socket.send_to(b"one", (to(n).as_str(), 9));
    }
    let after = sent();
    [after[0] - before[0], after[1] - before[1]]
}

fn is_fair([first, second]: [u32; 2], weights: [u32; 2]) -> bool {
    let (ratio, wanted) = (f64::from(first) / f64::from(second), f64::from(weights[0]) / f64::from(weights[1]));
    (ratio / wanted - 1.0).abs() <= 0.15
}

#[test]
fn each_family_is_shared_out_by_the_weights() {
    let server = Server::new(LINKS);
    let six = Six::new();
    six.begin(&server, SIX1);
    six.begin(&server, SIX2);
    for weights in WEIGHTS {
        server.configure(&weighted(weights));
        server.apply();
        let v4 = shares("0.0.0.0", |n| format!("100.64.{}.{}", n / 250, n % 250 + 1));
        let v6 = shares("::", |n| format!("2001:db8:f::{n:x}"));
        for (family, shares) in [("IPv4", v4), ("IPv6", v6)] {
            assert!(is_fair(shares, weights), "{family}, {weights:?}: {shares:?}");
        }
    }
}
