//! What of the packets that one selector selects a rule of somebody else can match, and whether that is all. Pure.

use ipnet::IpNet;

use crate::ctl::lookup::LEGACY_TOS;
use crate::ctl::overlap::Overlap as _;
use crate::model::names::IfName;
use crate::model::routing::{FoundRule, FwMark, PortRange, Selector, UidRange};

/// A rule or a route for a network that is narrower is somebody's own way to a destination, and wins by right.
pub(super) const NARROW: u8 = 8;

/// Whether a packet of `s` can match the rule: `false` only where that is certain. `is_own` says whether a network is a
/// single address of this host's.
pub(super) fn can_match(found: &FoundRule, s: &Selector, is_own: impl Fn(IpNet) -> bool) -> bool {
    let (rule, more) = (&found.rule.selector, found.more());
    if more.invert {
        return !matches_all(found, s);
    }
    // A socket that is bound to an interface leaves by it anyway, and one in a VRF is nothing of ours.
    if more.oif.is_some() || more.l3mdev {
        return false;
    }
    let iif = s.iif.as_ref().map(IfName::as_str);
    let is_forwarded = iif.is_some_and(|name| name != "lo");
    // What is forwarded is root's (ip_route_input_slow()).
    let is_local = iif == Some("lo") || s.uid.is_some_and(|uid| uid.start > 0);
    let iifs_meet = match found.iif() {
        Some("lo") => !is_forwarded,
        Some(name) => !is_local && iif.is_none_or(|iif| iif == name),
        None => true,
    };
    let uid = s.uid.or(is_forwarded.then_some(UidRange { start: 0, end: 0 }));
    iifs_meet
        && rule.uid.meets(&uid)
        // With a source of ours it would be a martian (fib_validate_source()).
        && !(is_forwarded && rule.from.is_some_and(is_own))
        && rule.from.meets(&s.from)
        && rule.to.meets(&s.to)
        && rule.fwmark.meets(&Some(mark(s)))
        && rule.proto.meets(&s.proto)
        && ports_meet(rule.sport, s.sport, more.sport_mask)
        && ports_meet(rule.dport, s.dport, more.dport_mask)
        && rule.dscp.zip(s.dscp).is_none_or(|(a, b)| (a ^ b) & more.dscp_mask.unwrap_or(u8::MAX) == 0)
        && s.dscp.is_none_or(|dscp| more.tos == 0 || more.tos == (dscp << 2) & LEGACY_TOS)
}

/// What selects by no mark has none, as far as can be told: who marks it means it to go elsewhere.
fn mark(s: &Selector) -> FwMark {
    s.fwmark.unwrap_or(FwMark { value: 0, mask: u32::MAX })
}

fn ports_meet(rule: Option<PortRange>, of: Option<PortRange>, mask: Option<u16>) -> bool {
    match (rule, of, mask) {
        (Some(a), Some(b), Some(mask)) => b.start != b.end || (a.start ^ b.start) & mask == 0,
        _ => rule.meets(&of),
    }
}

/// Whether each packet of `s` has all that the rule names, whether it says `not` or not.
fn matches_all(found: &FoundRule, s: &Selector) -> bool {
    let (rule, more) = (&found.rule.selector, found.more());
    let is_plain = more.oif.is_none() && !more.l3mdev && more.tun_id.is_none() && more.unknown.is_empty();
    let is_masked = more.sport_mask.is_some() || more.dport_mask.is_some() || more.dscp_mask.is_some();
    is_plain
        && !is_masked
        && more.tos == 0
        && rule.from.covers(&s.from)
        && rule.to.covers(&s.to)
        && found.iif().is_none_or(|name| s.iif.as_ref().is_some_and(|iif| iif.as_str() == name))
        && rule.fwmark.covers(&Some(mark(s)))
        && rule.uid.covers(&s.uid)
        && rule.proto.covers(&s.proto)
        && rule.sport.covers(&s.sport)
        && rule.dport.covers(&s.dport)
        && rule.dscp.covers(&s.dscp)
}

/// Whether a rule that matches a packet of `s` takes all of its traffic, or all but what it names: then it is no rule of
/// the administrator's own for some of it.
pub(super) fn takes_all(found: &FoundRule, s: &Selector) -> bool {
    let (rule, more) = (&found.rule.selector, found.more());
    let iif = s.iif.as_ref().map(IfName::as_str);
    more.invert
        || covers_net(rule.from, s.from)
            && covers_net(rule.to, s.to)
            && found.iif().is_none_or(|name| name == "lo" || iif == Some(name))
            && rule.fwmark.is_none_or(|m| m.value == 0 || s.fwmark.is_some_and(|of| of.mask & m.mask == m.mask))
            && rule.uid.covers(&Some(s.uid.unwrap_or(UidRange { start: 0, end: u32::MAX - 1 })))
            && rule.proto.covers(&s.proto)
            && rule.sport.covers(&s.sport)
            && rule.dport.covers(&s.dport)
            && more.sport_mask.is_none()
            && more.dport_mask.is_none()
            && rule.dscp.is_none_or(|dscp| dscp == 0 || s.dscp.is_some())
            && more.tos == 0
}

fn covers_net(rule: Option<IpNet>, of: Option<IpNet>) -> bool {
    rule.is_some_and(|rule| rule.prefix_len() < NARROW) || rule.covers(&of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::{Family, TableId};
    use crate::model::routing::{Action, More, Rule};

    fn found(selector: &Selector, more: More) -> FoundRule {
        let action = Action::Lookup { table: TableId::observed(52), suppress_prefixlength: None };
        let rule = Rule { priority: 50, family: Family::V4, selector: selector.clone(), action };
        FoundRule { rule, protocol: 3, more: Some(Box::new(more)) }
    }

    fn of(set: impl FnOnce(&mut Selector)) -> Selector {
        let mut selector = Selector::default();
        set(&mut selector);
        selector
    }

    fn uid(start: u32, end: u32) -> Selector {
        of(|s| s.uid = Some(UidRange { start, end }))
    }

    fn from(net: &str) -> Selector {
        of(|s| s.from = net.parse().ok())
    }

    fn to(net: &str) -> Selector {
        of(|s| s.to = net.parse().ok())
    }

    fn iif(name: &str) -> Selector {
        of(|s| s.iif = name.parse().ok())
    }

    fn mark(value: u32, mask: u32) -> Selector {
        of(|s| s.fwmark = Some(FwMark { value, mask }))
    }

    fn port(start: u16, end: u16) -> Selector {
        of(|s| s.dport = Some(PortRange { start, end }))
    }

    fn proto(proto: u8) -> Selector {
        of(|s| s.proto = Some(proto))
    }

    #[test]
    fn a_rule_is_let_be_only_where_no_packet_can_be_of_both() {
        let is_own = |net: IpNet| net == "198.51.100.10/32".parse().unwrap();
        let meets = |rule: &Selector, s: &Selector| can_match(&found(rule, More::default()), s, is_own);
        for (a, b) in [
            (Selector::default(), uid(1234, 1234)),
            (from("198.51.100.10/32"), uid(1234, 1234)),
            (uid(1000, 2000), uid(1234, 1234)),
            (uid(0, 0), iif("eth2")),
            (to("8.0.0.0/8"), to("8.8.8.8/32")),
            (mark(0, 1), uid(1234, 1234)),
            (mark(0x100, 0x100), mark(0x300, 0x300)),
            (iif("lo"), uid(1234, 1234)),
            (iif("eth2"), from("192.168.2.0/24")),
            (port(1, 100), port(80, 443)),
        ] {
            assert!(meets(&a, &b), "{a} and {b}");
        }
        for (a, b) in [
            (uid(0, 0), uid(1234, 1234)),
            (uid(1000, 2000), iif("eth2")),
            (to("8.0.0.0/8"), to("9.9.9.9/32")),
            (from("192.168.2.0/24"), from("192.168.3.0/24")),
            (from("198.51.100.10/32"), iif("eth2")),
            (mark(0x0008_0000, 0x00ff_0000), uid(1234, 1234)),
            (mark(0x100, 0x100), mark(0x200, 0x300)),
            (iif("eth2"), uid(1234, 1234)),
            (iif("eth2"), iif("eth3")),
            (iif("lo"), iif("eth3")),
            (port(1, 79), port(80, 443)),
            (proto(6), proto(17)),
        ] {
            assert!(!meets(&a, &b), "{a} and {b}");
        }
    }

    #[test]
    fn a_rule_that_says_not_is_let_be_only_where_it_names_all_of_the_traffic() {
        let invert = || More { invert: true, ..More::default() };
        let meets = |rule: &Selector, s: &Selector| can_match(&found(rule, invert()), s, |_| false);
        assert!(meets(&mark(0xca6c, u32::MAX), &uid(1, 1)));
        assert!(meets(&to("8.0.0.0/8"), &uid(1, 1)));
        assert!(!meets(&mark(0xca6c, u32::MAX), &mark(0xca6c, u32::MAX)));
        assert!(!meets(&uid(0, 1000), &uid(1, 1)));
    }

    #[test]
    fn a_rule_for_some_of_the_traffic_does_not_take_all_of_it() {
        let any = Selector::default;
        let all = [
            (any(), false),
            (Selector { to: "0.0.0.0/1".parse().ok(), ..any() }, false),
            (Selector { fwmark: Some(FwMark { value: 0, mask: 1 }), ..any() }, false),
            (Selector { fwmark: Some(FwMark { value: 51820, mask: u32::MAX }), ..any() }, true),
            (Selector { iif: "lo".parse().ok(), ..any() }, false),
            (Selector { uid: Some(UidRange { start: 0, end: u32::MAX - 1 }), ..any() }, false),
        ];
        for (selector, invert) in all {
            assert!(takes_all(&found(&selector, More { invert, ..More::default() }), &any()), "{selector:?}");
        }
        let some = [
            Selector { to: "8.8.8.8/32".parse().ok(), ..any() },
            Selector { from: "192.168.2.0/24".parse().ok(), ..any() },
            Selector { fwmark: Some(FwMark { value: 1, mask: 1 }), ..any() },
            Selector { uid: Some(UidRange { start: 0, end: 0 }), ..any() },
            Selector { proto: Some(6), ..any() },
            Selector { dport: Some(PortRange { start: 443, end: 443 }), ..any() },
            Selector { dscp: Some(46), ..any() },
        ];
        for selector in some {
            assert!(!takes_all(&found(&selector, More::default()), &any()), "{selector:?}");
        }
    }
}
