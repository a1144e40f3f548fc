//! Packets, and where the fake kernel sends them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use multihome::model::names::{Family, TableId};
use multihome::model::routing::{Action, FwMark, PortRange, Selector, UidRange};

use super::{UPLINKS, VPN, local, local6};
use crate::fake::Fake;

/// The first packet of a connection to the Internet.
#[derive(Debug, Clone)]
pub struct Packet {
    pub family: Family,
    /// Its source, if it has one.
    pub from: Option<IpAddr>,
    pub iif: &'static str,
    pub uid: u32,
    pub mark: u32,
}

const TO: IpAddr = IpAddr::V4(Ipv4Addr::new(100, 64, 9, 9));
const TO6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x6464, 0, 0, 0, 0, 9));
/// A host behind this one.
const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 7, 9));
const HOST6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x7777, 0, 0, 0, 0, 9));

impl Packet {
    /// All sorts; `marks` may be on the server's own.
    pub fn all(marks: &BTreeSet<(Family, u32)>) -> Vec<Self> {
        let mut all = Vec::new();
        for family in Family::BOTH {
            let is_v4 = family == Family::V4;
            let host = Self { family, from: Some(if is_v4 { HOST } else { HOST6 }), iif: "eth1", uid: 0, mark: 0 };
            let locals = (0..5).flat_map(|place| [(place, false), (place, true)]).map(|(place, second)| {
                if is_v4 { IpAddr::V4(local(place, second)) } else { IpAddr::V6(local6(place, second)) }
            });
            let sources: Vec<_> = locals.map(Some).chain([None]).collect();
            all.push(host.clone());
            // Hosts that have an address of a line's prefix.
            let delegated = (0..5).map(|place| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, place, 0, 0, 0, 0, 9)));
            all.extend(delegated.filter(|_| !is_v4).map(|from| Self { from: Some(from), ..host.clone() }));
            let marks = marks.iter().filter(|(of, _)| *of == family).map(|(_, mark)| *mark);
            for mark in marks.chain([0, 0x10000]) {
                all.extend(sources.iter().map(|from| Self { family, from: *from, iif: "lo", uid: 4242, mark }));
                all.push(Self { mark, ..host.clone() });
            }
        }
        all
    }

    pub fn is_in(&self, s: &Selector) -> bool {
        let (unspecified, to): (IpAddr, IpAddr) = match self.family {
            Family::V4 => (Ipv4Addr::UNSPECIFIED.into(), TO),
            Family::V6 => (Ipv6Addr::UNSPECIFIED.into(), TO6),
        };
        s.from.is_none_or(|net| net.contains(&self.from.unwrap_or(unspecified)))
            && s.to.is_none_or(|net| net.contains(&to))
            && s.iif.as_ref().is_none_or(|iif| iif.as_str() == self.iif)
            && s.fwmark.is_none_or(|FwMark { value, mask }| self.mark & mask == value)
            && s.uid.is_none_or(|UidRange { start, end }| (start..=end).contains(&self.uid))
            && s.proto.is_none_or(|proto| proto == 6)
            && s.dport.is_none_or(|PortRange { start, end }| (start..=end).contains(&443))
            && (s.sport, s.dscp) == (None, None)
    }

    /// Devices by which it leaves: rules as `fib_rules_lookup()` tries them. In IPv6 somebody else has a default by each
    /// uplink besides.
    pub fn leaves_by(&self, fake: &Fake) -> Vec<u32> {
        let rules: Vec<_> = fake.rules.iter().map(|f| &f.rule).filter(|rule| rule.family == self.family).collect();
        let mut at = 0;
        while let Some(rule) = rules.get(at) {
            at += 1;
            if !self.is_in(&rule.selector) {
                continue;
            }
            match rule.action {
                Action::Unreachable | Action::Blackhole | Action::Prohibit | Action::Other(_) => return vec![],
                Action::Goto(target) => at = rules.iter().position(|rule| rule.priority == target).unwrap_or(at),
                Action::Nop | Action::Lookup { suppress_prefixlength: Some(_), .. } => {}
                Action::Lookup { table, .. } if table == TableId::observed(255) => {}
                Action::Lookup { table, .. } => {
                    let mut devices: Vec<_> =
                        fake.carriers(self.family, table).iter().map(|(index, _)| *index).collect();
                    if self.family == Family::V6 && table == TableId::MAIN {
                        devices.extend(UPLINKS);
                    }
                    if !devices.is_empty() {
                        return devices;
                    }
                }
            }
        }
        vec![]
    }

    pub fn leaks(&self, fake: &Fake) -> bool {
        self.leaves_by(fake).iter().any(|index| *index != VPN)
    }
}
