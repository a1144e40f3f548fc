//! Which events a change of links is, and what they look like.

use std::time::{Duration, SystemTime};

use super::{Event, Kind, Told, VERSION, between};
use crate::model::names::{Family, Tier};
use crate::watch::links::Status::{self, Cut, Dead, Down, Drained, NoCarrier, Stale, Up};
use crate::watch::links::{LinkView, Links};

/// A look at three uplinks, of which the last is the second tier's, and a tunnel.
fn look(statuses: [Status; 4]) -> Links {
    let mut views = Vec::new();
    for (n, status) in statuses.into_iter().enumerate() {
        views.push(LinkView::of(
            ["isp1", "isp2", "lte", "vpn"][n].parse().unwrap(),
            Family::V4,
            [Some(1), Some(1), Some(2), None][n].map(|tier| Tier::new(tier).unwrap()),
            status,
        ));
    }
    Links(views)
}

fn told(before: [Status; 4], after: [Status; 4]) -> Vec<String> {
    let (before, after) = (look(before), look(after));
    between(&before, &after).iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_has_happened() {
    for status in [Up, Down, Dead, NoCarrier, Drained] {
        assert_eq!(told([status; 4], [status; 4]), [""; 0]);
    }
    assert_eq!(told([Down; 4], [Dead, Stale, NoCarrier, Down]), [""; 0]);
}

#[test]
fn links_come_and_go() {
    assert_eq!(told([Up; 4], [NoCarrier, Up, Up, Up]), ["isp1 down (IPv4): its interface has lost its carrier"]);
    assert_eq!(told([Up, Stale, Up, Up], [Up; 4]), ["isp2 up (IPv4): it can carry traffic"]);
    assert_eq!(told([Up; 4], [Up, Drained, Up, Up]), ["isp2 drained (IPv4): it is kept out of new connections"]);
    assert_eq!(told([Up, Drained, Up, Up], [Up; 4]), ["isp2 back (IPv4): it can carry traffic"]);
    assert_eq!(told([Up; 4], [Up, Up, Up, Dead]).len(), 1);
    assert_eq!(told([Up, Drained, Up, Up], [Up, Cut, Up, Up]), ["isp2 cut (IPv4): it is kept out of all connections"]);
    assert_eq!(told([Up, Cut, Up, Up], [Up; 4]), ["isp2 back (IPv4): it can carry traffic"]);
}

#[test]
fn traffic_moves_to_another_tier_and_back() {
    let over = told([Up; 4], [Stale, Drained, Up, Up]);
    assert_eq!(over[2], "failover (IPv4): traffic goes by tier 2 instead of tier 1; now: lte");
    let back = told([Stale, Drained, Up, Up], [Up, Up, Up, Up]);
    assert_eq!(back[2], "failback (IPv4): traffic goes by tier 1 instead of tier 2; now: isp1 isp2");
    // Then there is no traffic.
    assert_eq!(told([Up; 4], [Stale; 4]).len(), 4);
}

#[test]
fn a_link_that_is_configured_no_more_is_down() {
    let (before, mut after) = (look([Up; 4]), look([Up; 4]));
    after.0.remove(1);
    let events: Vec<_> = between(&before, &after).iter().map(ToString::to_string).collect();
    assert_eq!(events, ["isp2 down (IPv4): it is not configured any more"]);
}

#[test]
fn an_event_is_a_line_of_json() {
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    let link = "isp1".parse().unwrap();
    let mut told = Told::new(Event::of_link(Kind::Down, &link, Family::V6, None, "\"gone\"\n"), time);
    let expected = r#"{"version":1,"time":"2023-11-14T22:13:20.123Z","kind":"down","link":"isp1","family":"IPv6","reason":"\"gone\"\n"}"#;
    assert_eq!(told.line(), format!("{expected}\n"));
    told.missed = 3;
    assert!(told.line().ends_with(",\"missed\":3}\n"));
}

const ALL: [Kind; 9] = [
    Kind::Up,
    Kind::Down,
    Kind::Drained,
    Kind::Cut,
    Kind::Back,
    Kind::Failover,
    Kind::Failback,
    Kind::Repair,
    Kind::Fight,
];

/// docs/events.md names each key and each kind, and the version.
#[test]
fn the_json_is_documented() {
    let text = include_str!("../../../docs/events.md");
    let event = Event {
        by: Some(String::new()),
        carrying: vec![String::new()],
        changes: vec![String::new()],
        pause: Some(1),
        interface: Some(String::new()),
        ..Event::of_link(Kind::Fight, &"isp1".parse().unwrap(), Family::V4, None, "")
    };
    let mut told = Told::new(event, SystemTime::UNIX_EPOCH);
    told.missed = 1;
    let json: serde_json::Value = serde_json::from_str(&told.line()).unwrap();
    for key in json.as_object().unwrap().keys() {
        assert!(text.contains(&format!("| `{key}` |")), "{key}");
    }
    assert!(text.contains(&format!("version {VERSION}")));
    for kind in ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        assert!(text.contains(&format!("| `{}` |", kind.as_str())), "{kind:?}");
    }
}
