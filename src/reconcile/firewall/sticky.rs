//! Sticky connections: the chains of the mangle table. Pure.
//!
//! A connection mark names the link of a connection. It is set once, after the packet has been routed: to the link that
//! the packet leaves by; otherwise, and for port forwards, to the link that it arrived by. Later packets get the mark
//! before they are routed. Packets that arrived by the link do not, or they would be sent out again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::matched::MatchedLink;
use crate::config::{Config, LinkKind};
use crate::model::firewall::{Chain, ChainName, ChainRule, Match, Ruleset, TableKind, Verdict};
use crate::model::names::{Family, HostAddr, Mark};

/// Multicast of IPv6.
pub(super) const MULTICAST: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8);
/// Addresses of one Ethernet or point-to-point link.
pub(super) const LINK_LOCAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);

/// Makes the chains.
struct Marks<'a> {
    links: &'a [MatchedLink<'a>],
    /// All links' marks.
    mask: u32,
    /// The uplinks' marks.
    uplinks: u32,
    /// The families whose connections are sticky.
    families: &'a [Family],
    /// What probes bear.
    probes: Option<u32>,
}

pub(super) fn mangle(config: &Config, links: &[MatchedLink<'_>], families: &[Family]) -> Ruleset {
    let uplinks = config.uplinks().fold(0, |all, link| all | link.mark.get());
    let marks = Marks { links, mask: config.marks(), uplinks, families, probes: config.probe_mark.map(Mark::get) };
    let mut chains = vec![
        // Connection marks are restored after the administrator's rules have set marks, which decide about the first
        // packet of a connection only.
        Chain { last: true, ..chain(ChainName::Prerouting, marks.prerouting()) },
        Chain { last: true, ..chain(ChainName::Output, marks.output()) },
    ];
    if !links.is_empty() {
        chains.push(chain(ChainName::Input, marks.input()));
        chains.push(chain(ChainName::Forward, marks.forward()));
        chains.push(chain(ChainName::Postrouting, marks.postrouting()));
        chains.push(chain(ChainName::Arrived, marks.arrived()));
    }
    chains.extend(links.iter().map(|link| chain(arriving(link), marks.arriving_by(link))));
    if marks.has_segment_networks() {
        chains.push(chain(ChainName::Restore, marks.restoring()));
    }
    Ruleset { kind: TableKind::Mangle, chains }
}

fn chain(name: ChainName, rules: Vec<ChainRule>) -> Chain {
    Chain { name, last: false, rules }
}

/// The chain for packets that come in by a link.
fn arriving(link: &MatchedLink<'_>) -> ChainName {
    ChainName::From(link.configured.name.clone())
}

impl Marks<'_> {
    fn has_segment_networks(&self) -> bool {
        self.links.iter().any(|link| !link.segment_networks.is_empty())
    }

    fn unmarked(&self) -> Match {
        Match::Marked(0, self.mask)
    }

    fn marked_by(&self, link: &MatchedLink<'_>) -> Match {
        Match::Marked(link.configured.mark.get(), self.mask)
    }

    fn mark(&self, matched: Match, link: &MatchedLink<'_>) -> ChainRule {
        // IPv6 of a link that is not used for it is left alone.
        let is_v4_only = !link.configured.ipv6 && self.families.contains(&Family::V6);
        let family = is_v4_only.then_some(Match::Family(Family::V4));
        let conditions: Vec<_> = family.into_iter().chain([matched]).collect();
        ChainRule::new(conditions, Verdict::MarkConnection(link.configured.mark.get(), self.mask))
    }

    /// Restores the connection mark to the packet.
    fn restore(&self) -> Verdict {
        if self.has_segment_networks() { Verdict::Goto(ChainName::Restore) } else { Verdict::Restore(self.mask) }
    }

    fn prerouting(&self) -> Vec<ChainRule> {
        let mut rules = vec![ChainRule::new([self.unmarked()], Verdict::Return)];
        for link in self.links {
            rules.push(ChainRule::new([from(link)], Verdict::Goto(arriving(link))));
        }
        rules.push(ChainRule::new([], self.restore()));
        rules
    }

    /// The chain for packets of marked connections that come in by a link.
    fn arriving_by(&self, link: &MatchedLink<'_>) -> Vec<ChainRule> {
        let mut rules = Vec::new();
        // An ICMP error of the gateway is about a packet that this host sent there.
        if let Some(gateway) = link.gateway.and_then(HostAddr::v4).filter(|_| !link.segment_networks.is_empty()) {
            let source = Match::Source(IpNet::from(IpAddr::V4(gateway)));
            rules.push(ChainRule::new([source, self.marked_by(link)], Verdict::Return));
        }
        // In IPv6 nobody says which of its addresses the gateway sends an error from.
        if link.segment_networks.iter().any(|net| Family::of(net.addr()) == Family::V6) {
            let error = Match::IcmpError(Family::V6);
            rules.push(ChainRule::new([error, self.marked_by(link)], Verdict::Return));
        }
        // A LAN on the link's own Ethernet.
        for net in &link.segment_networks {
            rules.push(ChainRule::new([Match::Source(*net)], self.restore()));
        }
        rules.push(ChainRule::new([self.marked_by(link)], Verdict::Return));
        // Replies can come by another link than the requests left by. Only port forwards can begin on one link and be
        // answered on another, and clients of a tunnel may go on by an uplink.
        let mut astray = vec![Match::NotForwarded];
        if link.configured.kind == LinkKind::Tunnel {
            astray.insert(0, Match::Marked(0, self.uplinks));
        }
        rules.push(ChainRule::new(astray, Verdict::Return));
        rules.push(ChainRule::new([], self.restore()));
        rules
    }

    fn output(&self) -> Vec<ChainRule> {
        let mut rules = vec![ChainRule::new([self.unmarked()], Verdict::Return)];
        // An ICMP error about a packet of the LAN (too big for the link, say) belongs to a marked connection, and must go
        // to the LAN.
        rules.extend(self.families.iter().map(|family| ChainRule::new([Match::IcmpError(*family)], Verdict::Return)));
        rules.push(ChainRule::new([], self.restore()));
        rules
    }

    fn restoring(&self) -> Vec<ChainRule> {
        let mut rules = Vec::new();
        // With the mark the packet would go by the link's table, and so to its gateway, which may not forward it.
        // Checking it here works whenever the mark was set, and whenever the route was added.
        for link in self.links {
            // Before NAT the destination may still be the masquerading address. A mark does not harm packets to this
            // host.
            for own in &link.own {
                let destination = Match::Destination(own.get().into());
                rules.push(ChainRule::new([self.marked_by(link), destination], Verdict::Restore(self.mask)));
            }
            for net in &link.segment_networks {
                rules.push(ChainRule::new([self.marked_by(link), Match::Destination(*net)], Verdict::Return));
            }
        }
        rules.push(ChainRule::new([], Verdict::Restore(self.mask)));
        rules
    }

    /// Returns for packets that must not set the mark: of marked connections, and in the reply direction.
    fn decided(&self) -> Vec<ChainRule> {
        vec![
            ChainRule::new([Match::NotMarked(0, self.mask)], Verdict::Return),
            ChainRule::new([Match::Reply], Verdict::Return),
        ]
    }

    /// Returns for packets whose socket chooses the interface: to multicast and broadcast, and to link-local addresses.
    fn unmarkable(&self) -> Vec<ChainRule> {
        let mut nets = vec![IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 3))];
        if self.families.contains(&Family::V6) {
            nets.extend([MULTICAST, LINK_LOCAL].map(IpNet::V6));
        }
        nets.into_iter().map(|net| ChainRule::new([Match::Destination(net)], Verdict::Return)).collect()
    }

    fn input(&self) -> Vec<ChainRule> {
        let mut rules = self.decided();
        rules.push(ChainRule::new([], Verdict::Goto(ChainName::Arrived)));
        rules
    }

    fn arrived(&self) -> Vec<ChainRule> {
        let mut rules = self.unmarkable();
        // Answers go to where they came from.
        if self.families.contains(&Family::V6) {
            rules.push(ChainRule::new([Match::Source(IpNet::V6(LINK_LOCAL))], Verdict::Return));
        }
        for link in self.links {
            for net in &link.segment_networks {
                rules.push(ChainRule::new([from(link), Match::Source(*net)], Verdict::Return));
            }
            rules.push(self.mark(from(link), link));
        }
        rules
    }

    fn forward(&self) -> Vec<ChainRule> {
        let arrived = Verdict::Goto(ChainName::Arrived);
        let mut rules = self.decided();
        for link in self.links {
            for net in &link.segment_networks {
                rules.push(ChainRule::new([to(link), Match::Destination(*net)], arrived.clone()));
            }
        }
        // Redirected DNS of a tunnel's clients is no port forward: the uplink that it leaves by counts.
        let (tunnels, uplinks): (Vec<_>, Vec<_>) =
            self.links.iter().partition(|s| s.configured.kind == LinkKind::Tunnel);
        for links in [uplinks, tunnels] {
            for link in &links {
                rules.push(ChainRule::new([from(link), Match::Forwarded], arrived.clone()));
            }
            for link in &links {
                rules.push(ChainRule::new([to(link)], Verdict::Return));
            }
        }
        rules.push(ChainRule::new([], arrived));
        rules
    }

    fn postrouting(&self) -> Vec<ChainRule> {
        let mut rules = Vec::new();
        // The packets of a tunnel inherit the mark of the packets inside. Some kinds of tunnel look up their route with
        // it (vxlan_get_route()), which would lead back into the tunnel.
        for link in self.links.iter().filter(|link| link.configured.kind == LinkKind::Tunnel) {
            rules.push(ChainRule::new([to(link)], Verdict::Unmark(self.mask)));
        }
        // They are no connections of the link, and go on when these are flushed.
        rules.extend(self.probes.map(|bits| ChainRule::new([Match::Bears(bits)], Verdict::Return)));
        rules.extend(self.decided());
        rules.extend(self.unmarkable());
        for link in self.links {
            for net in &link.segment_networks {
                rules.push(ChainRule::new([to(link), Match::Destination(*net)], Verdict::Return));
            }
            rules.push(self.mark(to(link), link));
        }
        rules
    }
}

fn from(link: &MatchedLink<'_>) -> Match {
    Match::From(link.known_by.clone())
}

fn to(link: &MatchedLink<'_>) -> Match {
    Match::To(link.known_by.clone())
}
