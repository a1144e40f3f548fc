//! When connections are stranded.

use std::path::Path;

use super::*;
use crate::config;
use crate::model::routing::{Device, NextHop};
use crate::watch::links::Status::{Cut, Down, Drained, NoCarrier, Stale, Up};

/// Two uplinks with these addresses, where they have any.
fn look(of_first: (Status, &str), of_second: (Status, &str)) -> Links {
    let mut views = Vec::new();
    for (n, (status, address)) in (1..).zip([of_first, of_second]) {
        let name = if n == 1 { "isp1" } else { "isp2" };
        let mut view = LinkView::of(name.parse().unwrap(), Family::V4, None, status);
        if matches!(status, Up | Drained | Cut) {
            let device = Device { name: format!("ppp{n}").parse().unwrap(), index: n };
            let next_hop = NextHop { device, gateway: None, onlink: false };
            view.way = Some((next_hop, vec![IpNet::from(address.parse::<std::net::IpAddr>().unwrap())]));
        }
        views.push(view);
    }
    Links(views)
}

const FIRST: &str = "198.51.100.10";
const SECOND: (Status, &str) = (Up, "203.0.113.10");

/// Looks at the first uplink, a second apart: what is ended after each, beside the second.
fn ended(looks: &[(Status, &str)], second: (Status, &str)) -> Vec<String> {
    let text = "uplink = [{ name = 'isp1', interface = 'ppp1' }, { name = 'isp2', interface = 'ppp2' }]\n\
                [check]\ndown-after = '1s'\ncut-after = '3s'\n";
    let config = config::parse(text, Path::new("f")).unwrap();
    let mut stranded = Stranded::default();
    let mut ended = Vec::new();
    for (n, two) in looks.windows(2).enumerate() {
        let now = Duration::from_secs(n as u64);
        let links = look(two[1], second);
        stranded.follow(&config, &look(two[0], second), &links, now);
        let is_due = stranded.wake(&links).is_some_and(|due| now >= due);
        let Ending { from, by } = stranded.take_due(&links, now);
        assert!(is_due || from.is_empty(), "nobody would have woken it");
        assert!(stranded.wake(&links).is_none_or(|due| now < due), "it does not rest");
        assert_eq!((by.contains(&1), by.contains(&2)), (two[1].0 == Up, second.0 == Up));
        ended.push(from.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    }
    ended
}

#[test]
fn a_cut_strands_at_once_and_an_end_after_as_long_as_silence_would() {
    let (up, old) = ((Up, FIRST), "198.51.100.10/32");
    assert_eq!(ended(&[up, (Drained, FIRST), (Cut, FIRST), (Cut, FIRST), (Down, "")], SECOND), ["", old, "", ""]);
    for lost in [Down, Stale, NoCarrier] {
        let lost = (lost, "");
        assert_eq!(ended(&[up, lost, lost, lost, lost, lost], SECOND), ["", "", "", old, ""]);
        // It is back before.
        assert_eq!(ended(&[up, lost, lost, up, lost, lost, lost], SECOND), [""; 6]);
        // By another address.
        let other = (Up, "198.51.100.11");
        assert_eq!(ended(&[up, lost, other, other, other, other], SECOND), ["", "", "", old, ""]);
        // It is back, is lost again, and is cut when it is there.
        assert_eq!(ended(&[up, lost, up, lost, lost, lost, lost], SECOND), ["", "", "", "", "", old]);
        assert_eq!(ended(&[up, lost, up, (Cut, FIRST), up, lost, lost], SECOND), ["", "", old, "", "", ""]);
    }
    assert_eq!(ended(&[up, (Up, "198.51.100.11"), up, up, up], SECOND), ["", "", "", ""]);
}

#[test]
fn nothing_is_ended_that_no_other_uplink_can_carry_or_that_another_has() {
    let (up, lost) = ((Up, FIRST), (Down, ""));
    assert_eq!(ended(&[up, lost, lost, lost, lost, lost], (Down, "")), [""; 5]);
    assert_eq!(ended(&[up, (Cut, FIRST), (Cut, FIRST)], (Up, FIRST)), [""; 2]);
    // A drain may end well.
    assert_eq!(ended(&[up, (Drained, FIRST), (Drained, FIRST), (Drained, FIRST), (Drained, FIRST)], SECOND), [""; 4]);
}
