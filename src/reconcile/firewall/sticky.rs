//! Which connections stay on which link: the chains of the mangle table. Pure.
//!
//! A connection's mark names its link. It is set once, after the packet has been routed: by the link that it leaves by;
//! else, and for port forwards, by the one that it arrived by. Later packets get the mark before they are routed, unless
//! they travel away from the link: such a packet would be sent out again.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::render::Side;
use crate::config::{Config, LinkKind};
use crate::model::firewall::{Chain, PREFIX, Ruleset, Table};
use crate::model::firewall::{Match, Rule, Verdict};

const PREROUTING: &str = "MULTIHOME-PREROUTING";
const INPUT: &str = "MULTIHOME-INPUT";
const FORWARD: &str = "MULTIHOME-FORWARD";
const OUTPUT: &str = "MULTIHOME-OUTPUT";
const POSTROUTING: &str = "MULTIHOME-POSTROUTING";
const RESTORE: &str = "MULTIHOME-RESTORE";

/// Makes the chains for some links.
struct Marks<'a> {
    sides: &'a [Side<'a>],
    /// All links' marks.
    mask: u32,
    /// The uplinks' marks.
    uplinks: u32,
}

pub(super) fn mangle(config: &Config, sides: &[Side<'_>], by_name: bool) -> Ruleset {
    let uplinks = config.uplinks().fold(0, |all, link| all | link.mark.get());
    let marks = Marks { sides, mask: config.marks(), uplinks };
    let mut chains = vec![
        // Marks of connections come after the marks of the administrator, whose rules decide over a connection's first
        // packet and no further.
        Chain { last: true, ..chain(PREROUTING, Some("PREROUTING"), marks.prerouting()) },
        Chain { last: true, ..chain(OUTPUT, Some("OUTPUT"), marks.output()) },
    ];
    if !sides.is_empty() {
        chains.push(chain(INPUT, Some("INPUT"), marks.input()));
        chains.push(chain(FORWARD, Some("FORWARD"), marks.forward()));
        chains.push(chain(POSTROUTING, Some("POSTROUTING"), marks.postrouting()));
    }
    chains.extend(sides.iter().map(|side| chain(&arriving(side), None, marks.arriving_by(side))));
    if marks.any_near() {
        chains.push(chain(RESTORE, None, marks.restoring()));
    }
    Ruleset { table: Table::Mangle, chains, by_name }
}

fn chain(name: &str, hook: Option<&'static str>, rules: Vec<Rule>) -> Chain {
    Chain { name: name.to_owned(), hook, last: false, rules }
}

/// Name of the chain of what comes in by a link. No link's name has capitals, as our other chains' have.
fn arriving(side: &Side<'_>) -> String {
    format!("{PREFIX}-{}", side.link.name)
}

impl Marks<'_> {
    fn any_near(&self) -> bool {
        self.sides.iter().any(|side| !side.near.is_empty())
    }

    fn unmarked(&self) -> Match {
        Match::Marked(0, self.mask)
    }

    fn marked_by(&self, side: &Side<'_>) -> Match {
        Match::Marked(side.link.mark.get(), self.mask)
    }

    fn pin(&self, matched: Match, side: &Side<'_>) -> Rule {
        Rule::new([matched], Verdict::Pin(side.link.mark.get(), self.mask))
    }

    /// How a packet gets the mark of its connection, which has one.
    fn restore(&self) -> Verdict {
        if self.any_near() { Verdict::Goto(RESTORE.to_owned()) } else { Verdict::Restore(self.mask) }
    }

    fn prerouting(&self) -> Vec<Rule> {
        let mut rules = vec![Rule::new([self.unmarked()], Verdict::Return)];
        for side in self.sides {
            rules.push(Rule::new([from(side)], Verdict::Goto(arriving(side))));
        }
        rules.push(Rule::new([], self.restore()));
        rules
    }

    /// What comes in by a link, of connections that have a mark.
    fn arriving_by(&self, side: &Side<'_>) -> Vec<Rule> {
        let mut rules = Vec::new();
        // An error of the gateway is about a packet that we sent there.
        if let Some(gateway) = side.gateway.filter(|_| !side.near.is_empty()) {
            let source = Match::Source(Ipv4Net::from(gateway.get()));
            rules.push(Rule::new([source, self.marked_by(side)], Verdict::Return));
        }
        // A LAN on the line's own Ethernet.
        for net in &side.near {
            rules.push(Rule::new([Match::Source(*net)], self.restore()));
        }
        rules.push(Rule::new([self.marked_by(side)], Verdict::Return));
        // Answers can come by another link than the questions left by. Only port forwards begin on one link and are
        // answered on another, and a tunnel's clients may go on by an uplink.
        let mut astray = vec![Match::NotForwarded];
        if side.link.kind == LinkKind::Tunnel {
            astray.insert(0, Match::Marked(0, self.uplinks));
        }
        rules.push(Rule::new(astray, Verdict::Return));
        rules.push(Rule::new([], self.restore()));
        rules
    }

    fn output(&self) -> Vec<Rule> {
        vec![
            Rule::new([self.unmarked()], Verdict::Return),
            // An error about a packet of the LAN (too big for the line, say) belongs to a connection that has a mark,
            // and goes to the LAN nevertheless.
            Rule::new([Match::IcmpError], Verdict::Return),
            Rule::new([], self.restore()),
        ]
    }

    fn restoring(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        // With the mark the packet would go by the link's table, hence by its gateway, which need not pass it on.
        // When the mark was set does not matter so, or whether the route was there by then.
        for side in self.sides {
            // Here a masquerade's address may still stand for the real one. A mark does no harm to what is for us.
            for own in &side.own {
                let destination = Match::Destination(own.get().into());
                rules.push(Rule::new([self.marked_by(side), destination], Verdict::Restore(self.mask)));
            }
            for net in &side.near {
                rules.push(Rule::new([self.marked_by(side), Match::Destination(*net)], Verdict::Return));
            }
        }
        rules.push(Rule::new([], Verdict::Restore(self.mask)));
        rules
    }

    /// What is marked already, and what cannot be the way that a connection has taken.
    fn settled(&self) -> Vec<Rule> {
        vec![Rule::new([Match::NotMarked(0, self.mask)], Verdict::Return), Rule::new([Match::Reply], Verdict::Return)]
    }

    fn input(&self) -> Vec<Rule> {
        let mut rules = self.settled();
        rules.push(to_many());
        for side in self.sides {
            for net in &side.near {
                rules.push(Rule::new([from(side), Match::Source(*net)], Verdict::Return));
            }
            rules.push(self.pin(from(side), side));
        }
        rules
    }

    fn forward(&self) -> Vec<Rule> {
        let arrived = Verdict::Goto(INPUT.to_owned());
        let mut rules = self.settled();
        for side in self.sides {
            for net in &side.near {
                rules.push(Rule::new([to(side), Match::Destination(*net)], arrived.clone()));
            }
        }
        // A tunnel's clients whose DNS is redirected are no port forward: what counts is the uplink that they leave by.
        let (tunnels, uplinks): (Vec<_>, Vec<_>) = self.sides.iter().partition(|s| s.link.kind == LinkKind::Tunnel);
        for sides in [uplinks, tunnels] {
            for side in &sides {
                rules.push(Rule::new([from(side), Match::Forwarded], arrived.clone()));
            }
            for side in &sides {
                rules.push(Rule::new([to(side)], Verdict::Return));
            }
        }
        rules.push(Rule::new([], arrived));
        rules
    }

    fn postrouting(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        // The mark has done its work. The tunnel's own packets would inherit it, and some kinds look
        // their way up with it (vxlan_get_route()): back into the tunnel.
        for side in self.sides.iter().filter(|side| side.link.kind == LinkKind::Tunnel) {
            rules.push(Rule::new([to(side)], Verdict::Unmark(self.mask)));
        }
        rules.extend(self.settled());
        rules.push(to_many());
        for side in self.sides {
            for net in &side.near {
                rules.push(Rule::new([to(side), Match::Destination(*net)], Verdict::Return));
            }
            rules.push(self.pin(to(side), side));
        }
        rules
    }
}

fn from(side: &Side<'_>) -> Match {
    Match::From(side.known_by.clone())
}

fn to(side: &Side<'_>) -> Match {
    Match::To(side.known_by.clone())
}

/// Multicast and broadcast: the socket says which interface such a packet leaves by.
fn to_many() -> Rule {
    let many = Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 3);
    Rule::new([Match::Destination(many)], Verdict::Return)
}
