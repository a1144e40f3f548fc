//! Which link an event, and an record, is about.

use super::*;
use crate::config::{Link, LinkKind, Nat6, Settings};
use crate::event::{Addresses, Event, EventKind};
use crate::model::names::{Mark, TableId};
use crate::state::clock::Moment;

fn addresses() -> Addresses {
    Addresses::none(Family::V4)
}

/// What was said of a link by its name.
fn said(interface: &str, link: &Link, session: Option<u32>) -> Record {
    Record {
        interface: interface.parse().unwrap(),
        index: 5,
        names: vec![link.ipparam.clone()],
        session,
        since: Moment { unix: 0, since_boot: 1, boot: String::new() },
        link: Some(link.name.clone()),
        addresses: addresses(),
    }
}

fn link(n: u32, name: &str, interface: &str, ipparam: &str) -> Link {
    Link {
        name: name.parse().unwrap(),
        position: 0,
        kind: LinkKind::Tunnel,
        interface: interface.parse().unwrap(),
        ipparam: ipparam.to_owned(),
        table: TableId::new(n).unwrap(),
        mark: Mark::new(1 << n).unwrap(),
        masquerade: false,
        gateway: None,
        gateway6: None,
        prefixes: vec![],
        ipv6: true,
        nat6: Nat6::Foreign,
        check: true,
        metered: false,
    }
}

#[test]
fn a_link_is_recognised_by_the_callers_names_and_by_interface_only_without_any() {
    let links = vec![link(1, "isp1", "ppp0", "isp1"), link(2, "isp2", "ppp1", "second")];
    let config = Config { links, policies: vec![], check: None, probe_mark: None, settings: Settings::default() };
    let (up, down) = (EventKind::Up(addresses()), EventKind::Down(Family::V4));
    for (names, interface, expected) in [
        (&[][..], "ppp0", Some("isp1")),
        (&[], "ppp1", Some("isp2")),
        (&[], "ppp9", None),
        // A name goes before the interface, which another link may have had first.
        (&["second"], "ppp0", Some("isp2")),
        (&["second"], "ppp9", Some("isp2")),
        // In the caller's order, not the configuration's.
        (&["second", "isp1"], "ppp9", Some("isp2")),
        (&["unknown", "isp1"], "ppp1", Some("isp1")),
        // The name of the link is not its ipparam where that is given.
        (&["isp2"], "ppp1", None),
        // Somebody who dials in, on whatever interface.
        (&["203.0.113.77"], "ppp0", None),
        (&["unknown", "client"], "ppp1", None),
        (&["unknown"], "ppp9", None),
    ] {
        let event = |kind: &EventKind| Event {
            kind: kind.clone(),
            interface: interface.parse().unwrap(),
            names: names.iter().map(|&name| name.to_owned()).collect(),
            session: Some(77),
        };
        let found = |change: &EventKind, recorded: Option<(usize, Option<u32>)>| {
            let records = recorded.map(|(n, session)| said(interface, &config.links[n], session));
            let records = Records { all: records.into_iter().collect(), old: Vec::new() };
            records.recognise(&event(change), &config).map(|link| link.name.as_str())
        };
        for change in [&up, &down] {
            assert_eq!(found(change, None), expected, "{change:?} {names:?} {interface}");
        }
        let named = names.iter().any(|name| ["isp1", "second"].contains(name));
        for (n, name) in ["isp1", "isp2"].into_iter().enumerate() {
            // A record says nothing to who comes up without a name; of who goes down it says more than the
            // configuration does.
            for session in [None, Some(78)] {
                assert_eq!(found(&up, Some((n, session))), expected, "{names:?} {interface}");
                let at_down = if names.is_empty() { Some(name) } else { expected };
                assert_eq!(found(&down, Some((n, session))), at_down, "{names:?} {interface}");
            }
            // A name that has left the configuration, of a session that is known.
            let at_up = if named || names.is_empty() { expected } else { Some(name) };
            assert_eq!(found(&up, Some((n, Some(77)))), at_up, "{names:?} {interface}");
            assert_eq!(found(&down, Some((n, Some(77)))), if named { expected } else { Some(name) }, "{names:?}");
        }
    }
}

#[test]
fn an_entry_follows_its_link_through_the_configuration() {
    let first = link(1, "isp1", "ppp0", "isp1");
    let config = |links: &[Link]| Config {
        links: links.to_vec(),
        policies: vec![],
        check: None,
        probe_mark: None,
        settings: Settings::default(),
    };
    let whose = |record: &Record, links: &[Link]| record.link(&config(links)).map(|link| link.name.to_string());
    let named = said("ppp7", &first, None);
    let on_its_own = said("ppp0", &first, None);
    let nameless = Record { names: vec![], ..said("ppp0", &first, None) };
    let other = link(2, "isp2", "ppp1", "isp2");
    let both = [first.clone(), other.clone()];
    for record in [&named, &on_its_own, &nameless] {
        assert_eq!(whose(record, &both).as_deref(), Some("isp1"));
    }
    // Under another name, with the old ipparam or without.
    let renamed = link(1, "wan1", "ppp0", "isp1");
    assert_eq!(whose(&named, &[renamed]).as_deref(), Some("wan1"));
    let renamed = link(1, "wan1", "ppp0", "wan1");
    for (record, expected) in [(&named, None), (&on_its_own, Some("wan1")), (&nameless, Some("wan1"))] {
        assert_eq!(whose(record, std::slice::from_ref(&renamed)).as_deref(), expected);
    }
    // Its ipparam has changed.
    let recalled = link(1, "isp1", "ppp3", "provider");
    assert_eq!(whose(&on_its_own, &[recalled]).as_deref(), Some("isp1"));
    // Who said no name is whoever has the interface.
    let swapped = [link(1, "isp1", "ppp1", "isp1"), link(2, "isp2", "ppp0", "isp2")];
    assert_eq!(whose(&nameless, &swapped).as_deref(), Some("isp2"));
    // A name that was no link's when it was said is none's.
    let client = Record { names: vec!["203.0.113.77".to_owned()], link: None, ..said("ppp0", &first, None) };
    assert_eq!(whose(&client, &both), None);
}
