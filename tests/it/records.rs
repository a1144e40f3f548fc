//! What events make of a record: a late *down* never takes away what a newer session has brought.

use multihome::event::{Addresses, Change, Event, Family};
use multihome::state::records::{Effect, Record, effect};
use proptest::prelude::*;

/// What happens to one link.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Another pppd, on a new device that may bear the name of an older one.
    Dial { unit: u8 },
    /// The newest session has an address.
    Up(Family),
    /// A session has lost it; told perhaps long after.
    Down(prop::sample::Index, Family),
}

/// A pppd and its device.
#[derive(Debug, Clone, PartialEq)]
struct Session {
    pid: u32,
    interface: String,
    index: u32,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
    let step = prop_oneof![
        (0..2_u8).prop_map(|unit| Step::Dial { unit }),
        family.clone().prop_map(Step::Up),
        (any::<prop::sample::Index>(), family).prop_map(|(which, family)| Step::Down(which, family)),
    ];
    proptest::collection::vec(step, 1..20)
}

fn addresses(family: Family) -> Addresses {
    match family {
        Family::V4 => Addresses::V4 { local: "198.51.100.10".parse().ok(), gateway: "198.51.100.1".parse().ok() },
        Family::V6 => Addresses::V6 { local: "fe80::1".parse().unwrap(), remote: "fe80::2".parse().unwrap() },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_record_is_that_of_the_last_session_that_came_up(steps in steps()) {
        let mut sessions = vec![Session { pid: 1000, interface: "ppp0".to_owned(), index: 10 }];
        let mut record: Option<Record> = None;
        // Whose the record should be, and of which families it should know.
        let (mut current, mut v4, mut v6) = (0, false, false);
        for step in steps {
            let newest = sessions.len() - 1;
            let (who, change) = match step {
                Step::Dial { unit } => {
                    let n = u32::try_from(newest).unwrap() + 1;
                    sessions.push(Session { pid: 1000 + n, interface: format!("ppp{unit}"), index: 10 + n });
                    continue;
                }
                Step::Up(family) => {
                    if current != newest {
                        (current, v4, v6) = (newest, false, false);
                    }
                    *(if family == Family::V4 { &mut v4 } else { &mut v6 }) = true;
                    (newest, Change::Up(addresses(family)))
                }
                Step::Down(which, family) => {
                    let who = which.index(sessions.len());
                    if who == current {
                        *(if family == Family::V4 { &mut v4 } else { &mut v6 }) = false;
                    }
                    (who, Change::Down(family))
                }
            };
            let Session { pid, interface, index } = sessions[who].clone();
            let event = Event { change, interface: interface.parse().unwrap(), names: vec![], session: Some(pid) };
            match effect(&event, record.as_ref(), Some(index)) {
                Effect::Put(new) => record = Some(new),
                Effect::Remove(old) => prop_assert_eq!(record.take(), Some(old)),
                Effect::NotUp | Effect::Late(_) => {}
            }
            prop_assert_eq!(record.is_some(), v4 || v6, "{:?}", event);
            if let Some(record) = &record {
                prop_assert_eq!((record.v4.is_some(), record.v6.is_some()), (v4, v6));
                prop_assert_eq!((record.session, record.index), (Some(sessions[current].pid), sessions[current].index));
            }
        }
    }
}
