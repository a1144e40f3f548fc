//! What a kill switch does not cover, as far as the configuration tells. Pure.

use std::net::IpAddr;

use ipnet::IpNet;

use super::advice::{is_forwarded, is_idle, names};
use super::covering::covers;
use crate::config::{Config, Firewall, Otherwise, Policy};
use crate::ctl::overlap::Overlap as _;
use crate::ctl::show;
use crate::model::names::{Family, LinkName};

/// Why something of a kill switch can leave by another link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// A policy above it takes part of its traffic.
    Above,
    /// A set holds what somebody has put into it.
    Sets,
    /// It names addresses of IPv4.
    Ipv6,
    /// Others send for a user.
    Users,
    /// Marks decide before policies.
    Marks,
    /// A socket can be bound to an interface.
    Interfaces,
    /// Main's better routes decide before policies.
    Main,
    /// What follows the first fragment of a packet has no ports.
    Fragments,
    /// A socket gets its source after rules were asked.
    Sources,
}

/// The addresses of the server's links.
#[derive(Debug, Clone, Copy)]
pub enum Addresses<'a> {
    /// As far as the configuration tells: any that is public, or is in a network with a gateway.
    Guessed,
    /// Those of the links that are up, by the links' names.
    Known(&'a [(&'a LinkName, IpAddr)]),
}

impl Addresses<'_> {
    /// Those in a network of a policy's sources; none are of a link that the policy may use. `None`: there are none.
    fn selected_by(self, policy: &Policy, config: &Config) -> Option<Vec<IpAddr>> {
        let Self::Known(all) = self else {
            return policy.from.iter().any(|net| may_hold_a_links(*net, config)).then(Vec::new);
        };
        let selected = all.iter().filter(|(link, address)| {
            !policy.via.contains(link) && policy.from.iter().any(|net| net.contains(address))
        });
        let selected: Vec<_> = selected.map(|(_, address)| *address).collect();
        (!selected.is_empty()).then_some(selected)
    }
}

/// Whether a link's address may be in a network.
fn may_hold_a_links(net: IpNet, config: &Config) -> bool {
    let is_public = match net {
        IpNet::V4(net) => !net.addr().is_private() && !net.addr().is_loopback() && !net.addr().is_link_local(),
        IpNet::V6(net) => !net.addr().is_unique_local() && !net.addr().is_unicast_link_local(),
    };
    let mut gateways = config.links.iter().flat_map(|link| [link.gateway, link.gateway6]).flatten();
    is_public || gateways.any(|gateway| net.contains(&gateway.get()))
}

/// One thing that kill switches do not cover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uncovered {
    pub gap: Gap,
    /// What, on one line.
    pub what: String,
    /// What to do.
    pub mend: String,
}

/// All that the kill switches of `config` do not cover, each kind once.
pub fn uncovered(config: &Config, addresses: Addresses<'_>) -> Vec<Uncovered> {
    let mut all = Vec::new();
    let mut first_above = None;
    for (at, policy) in config.policies.iter().enumerate() {
        if policy.otherwise == Otherwise::Unreachable && !is_idle(policy, config) {
            all.push(policy);
            first_above = first_above.or_else(|| above(policy, &config.policies[..at]));
        }
    }
    [
        first_above,
        sets(&those(&all, |policy| policy.sets.is_some())),
        ipv6(&those(&all, |policy| policy.families().all(|family| family == Family::V4))),
        users(&those(&all, |policy| !policy.uid.is_empty())),
        marks(&all, config),
        interfaces(&those(&all, |policy| policy.from.is_empty() && !is_forwarded(policy))),
        main(&all),
        fragments(&those(&all, |policy| has_ports(policy) && can_be_forwarded(policy)), config),
        sources(&those(&all, |policy| !policy.from.is_empty() && !is_forwarded(policy)), config, addresses),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn those<'a>(all: &[&'a Policy], applies: fn(&Policy) -> bool) -> Vec<&'a Policy> {
    all.iter().copied().filter(|policy| applies(policy)).collect()
}

fn named(policies: &[&Policy]) -> Option<String> {
    show::policies(policies.iter().map(|policy| policy.name.as_str()), 3)
}

/// The first policy above that takes part of its traffic to a link that is none of its own.
fn above(policy: &Policy, earlier: &[Policy]) -> Option<Uncovered> {
    for above in earlier {
        let others: Vec<_> = above.via.iter().filter(|link| !policy.via.contains(link)).cloned().collect();
        // That it takes all is warned of.
        if others.is_empty() || !meets(above, policy) || covers(above, policy) {
            continue;
        }
        return Some(Uncovered {
            gap: Gap::Above,
            what: format!(
                "part of the traffic of policy {:?} goes by {}: {:?} above it takes that",
                policy.name,
                names(&others, " or "),
                above.name
            ),
            mend: format!("put {:?} above {:?}, unless that is meant", policy.name, above.name),
        });
    }
    None
}

fn sets(policies: &[&Policy]) -> Option<Uncovered> {
    let verb = if policies.len() == 1 { "is" } else { "are" };
    Some(Uncovered {
        gap: Gap::Sets,
        what: format!(
            "{} {verb} about what is in the set: at boot, and after `nft flush ruleset`, nothing is; names that are \
             resolved by HTTPS (DoH), or elsewhere, fill none",
            named(policies)?
        ),
        mend: "select by from or iif what must never leave otherwise; put networks into the set at boot \
               (mhctl set add)"
            .to_owned(),
    })
}

fn ipv6(policies: &[&Policy]) -> Option<Uncovered> {
    let verb = if policies.len() == 1 { "names" } else { "name" };
    Some(Uncovered {
        gap: Gap::Ipv6,
        what: format!("{} {verb} IPv4 addresses: what the same hosts send in IPv6 is not covered", named(policies)?),
        mend: "select by iif, uid or fwmark, which hold in both families".to_owned(),
    })
}

fn users(policies: &[&Policy]) -> Option<Uncovered> {
    Some(Uncovered {
        gap: Gap::Users,
        what: format!(
            "{}: what others send for a user is not covered: names are looked up by the resolver's user, containers are \
             forwarded as uid 0, TCP resets are the kernel's own",
            named(policies)?
        ),
        mend: "write a policy for the resolver as well (to, dport = 53); select containers by iif".to_owned(),
    })
}

fn marks(policies: &[&Policy], config: &Config) -> Option<Uncovered> {
    let named = named(policies)?;
    if config.settings.firewall == Firewall::None {
        return Some(Uncovered {
            gap: Gap::Marks,
            what: format!("{named}: what your firewall marks with the bit of another link goes by that link"),
            mend: "leave it out of those rules".to_owned(),
        });
    }
    let mask = config.marks();
    let others = config.links.iter().filter(|link| policies.iter().any(|policy| !policy.via.contains(&link.name)));
    let forget = others.map(|link| format!("conntrack -D -f ipv4 --mark {}/{mask:#x}", link.mark));
    Some(Uncovered {
        gap: Gap::Marks,
        what: format!(
            "{named}: a connection that bears another link's mark stays on that link: one that came in by it, one that \
             began before the policy was applied, one that your own firewall rules mark; for sockets of this server \
             only while a link of via is up"
        ),
        mend: format!("those of before are looked at anew after: {}", forget.collect::<Vec<_>>().join("; ")),
    })
}

fn interfaces(policies: &[&Policy]) -> Option<Uncovered> {
    // ip_route_output_key_hash_rcu(): "Apparently, routing tables are wrong. Assume, that the destination is on link."
    Some(Uncovered {
        gap: Gap::Interfaces,
        what: format!(
            "{}: a socket that names an interface leaves by it in IPv4, whatever rules say: by \
             SO_BINDTODEVICE, as ping -I ppp0, and of UDP by IP_UNICAST_IF and IP_PKTINFO",
            named(policies)?
        ),
        mend: "drop that in OUTPUT of your own firewall".to_owned(),
    })
}

fn main(policies: &[&Policy]) -> Option<Uncovered> {
    Some(Uncovered {
        gap: Gap::Main,
        what: format!(
            "{}: what main has a better route for than its default goes by that: LANs, a VPN's 0.0.0.0/1",
            named(policies)?
        ),
        mend: "ip route show table main; ip -6 route show table main".to_owned(),
    })
}

/// Whether it selects by port.
fn has_ports(policy: &Policy) -> bool {
    !policy.sport.is_empty() || !policy.dport.is_empty()
}

/// Whether it selects what comes in by an interface, which is root's.
fn can_be_forwarded(policy: &Policy) -> bool {
    (policy.iif.is_empty() || policy.iif.iter().any(|name| name.as_str() != "lo")) && can_be_roots(policy)
}

fn can_be_roots(policy: &Policy) -> bool {
    policy.uid.is_empty() || policy.uid.iter().any(|range| range.start == 0)
}

fn fragments(policies: &[&Policy], config: &Config) -> Option<Uncovered> {
    // Connection tracking puts packets together before they are routed (nf_defrag_ipv4), and our own rules use it.
    if config.settings.firewall != Firewall::None {
        return None;
    }
    Some(Uncovered {
        gap: Gap::Fragments,
        what: format!(
            "{}: fragments of what is forwarded are not covered, since only the first has ports, unless your own firewall \
             tracks connections (firewall = \"none\")",
            named(policies)?
        ),
        mend: "select without ports, or have it track: iptables -A FORWARD -m conntrack --ctstate INVALID -j DROP"
            .to_owned(),
    })
}

fn sources(policies: &[&Policy], config: &Config, addresses: Addresses<'_>) -> Option<Uncovered> {
    // ip_route_output_key_hash_rcu() gives a packet the source of its route, if it has none before.
    let mut about = Vec::new();
    let mut selected = Vec::new();
    for policy in policies {
        if let Some(found) = addresses.selected_by(policy, config) {
            about.push(*policy);
            selected.extend(found);
        }
    }
    selected.sort_unstable();
    selected.dedup();
    let of = match &selected[..] {
        [] => "if from holds an address of a line of this server".to_owned(),
        [first, ..] => format!("from holds the server's own {first}"),
    };
    Some(Uncovered {
        gap: Gap::Sources,
        what: format!(
            "{}: {of}{} a socket that is not bound to that address is not covered: it gets its source after the rules were \
             asked",
            named(&about)?,
            if selected.is_empty() { "," } else { ":" }
        ),
        mend: "select by uid, or bind the programs to the address".to_owned(),
    })
}

/// Whether a packet can be of both.
fn meets(a: &Policy, b: &Policy) -> bool {
    // What is forwarded is root's.
    let (of_a, of_b) = (can_be_roots(a), can_be_roots(b));
    (of_b || !is_forwarded(a))
        && (of_a || !is_forwarded(b))
        && a.proto.meets(&b.proto)
        && a.dscp.meets(&b.dscp)
        && a.mark().meets(&b.mark())
        && a.from.meets(&b.from)
        && a.to.meets(&b.to)
        && a.iif.meets(&b.iif)
        && a.sport.meets(&b.sport)
        && a.dport.meets(&b.dport)
        && a.uid.meets(&b.uid)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const LINKS: &str = "[[uplink]]\nname = \"isp1\"\ninterface = \"ppp0\"\n[[uplink]]\nname = \"isp2\"\n\
                         interface = \"ppp1\"\n[[tunnel]]\nname = \"vpn\"\ninterface = \"tun0\"\n";

    fn gaps(policies: &[&str]) -> Vec<Gap> {
        told(policies).into_iter().map(|uncovered| uncovered.gap).collect()
    }

    fn told(policies: &[&str]) -> Vec<Uncovered> {
        told_with("", policies)
    }

    /// With more settings.
    fn told_with(settings: &str, policies: &[&str]) -> Vec<Uncovered> {
        let policies = policies.iter().enumerate().map(|(n, text)| format!("[[policy]]\nname = \"p{n}\"\n{text}\n"));
        let text = format!("[settings]\n{settings}\n{LINKS}{}", policies.collect::<String>());
        uncovered(&crate::config::parse(&text, Path::new("f")).unwrap(), Addresses::Guessed)
    }

    const KILL: &str = "via = \"vpn\"\notherwise = \"unreachable\"";

    #[test]
    fn each_gap_is_told_where_there_is_one() {
        use Gap::*;
        for (selector, expected) in [
            ("uid = 4242", &[Users, Marks, Interfaces, Main][..]),
            ("from = \"192.168.1.5\"", &[Ipv6, Marks, Main]),
            ("to = \"192.0.2.0/24\"", &[Ipv6, Marks, Interfaces, Main]),
            ("iif = \"eth1\"", &[Marks, Main]),
            ("iif = [\"lo\", \"eth1\"]", &[Marks, Interfaces, Main]),
        ] {
            assert_eq!(gaps(&[&format!("{selector}\n{KILL}")]), expected, "{selector}");
        }
        let uplinks = "uid = 1\nvia = [\"isp1\", \"isp2\"]\notherwise = \"unreachable\"";
        assert_eq!(gaps(&["uid = 1\nvia = \"vpn\"", uplinks]), [], "no kill switch, and one that changes nothing");
    }

    #[test]
    fn a_policy_above_is_told_of_where_it_takes_part_of_the_traffic_elsewhere() {
        let is_told =
            |above: &str, selector: &str| gaps(&[above, &format!("{selector}\n{KILL}")]).contains(&Gap::Above);
        for above in ["proto = \"tcp\"\ndport = 25", "fwmark = 0x100", "uid = \"4000-5000\"\nto = \"10.0.0.0/8\""] {
            assert!(is_told(&format!("{above}\nvia = [\"vpn\", \"isp1\"]"), "uid = 4242"), "{above}");
            assert!(!is_told(&format!("{above}\nvia = \"vpn\""), "uid = 4242"), "{above}");
        }
        for (above, selector) in [
            ("uid = 1", "uid = 4242"),
            ("iif = \"eth1\"", "uid = 4242"),
            ("proto = \"udp\"", "proto = \"tcp\"\ndport = 25"),
            ("from = \"192.168.1.0/24\"", "from = \"192.168.2.0/24\""),
            ("fwmark = \"0x100/0x300\"", "fwmark = \"0x200/0x200\""),
        ] {
            assert!(!is_told(&format!("{above}\nvia = \"isp1\""), selector), "{above}, {selector}");
        }
    }

    #[test]
    fn fragments_are_told_of_where_nothing_of_ours_puts_them_together() {
        let is_told = |firewall: &str, selector: &str| {
            let told = told_with(&format!("firewall = \"{firewall}\""), &[&format!("{selector}\n{KILL}")]);
            told.iter().any(|uncovered| uncovered.gap == Gap::Fragments)
        };
        let (sport, dport) = ("proto = \"udp\"\nsport = 5060", "proto = \"udp\"\ndport = 5060");
        for selector in [sport, dport, &format!("iif = \"eth1\"\n{dport}"), &format!("uid = 0\n{dport}")] {
            assert!(is_told("none", selector) && !is_told("iptables", selector), "{selector}");
        }
        for selector in ["iif = \"eth1\"", &format!("iif = \"lo\"\n{dport}"), &format!("uid = 7\n{dport}")] {
            assert!(!is_told("none", selector), "{selector}");
        }
    }

    #[test]
    fn sources_are_told_of_where_they_may_be_a_lines_address() {
        for (selector, expected) in [
            ("from = \"198.51.100.10\"", true),
            ("from = [\"192.168.1.5\", \"198.51.100.0/24\"]", true),
            ("from = \"192.168.1.5\"", false),
            ("from = \"198.51.100.10\"\niif = \"eth1\"", false),
            ("uid = 7", false),
        ] {
            assert_eq!(gaps(&[&format!("{selector}\n{KILL}")]).contains(&Gap::Sources), expected, "{selector}");
        }
    }

    #[test]
    fn thousands_of_kill_switches_are_one_line() {
        let policies: Vec<_> = (0..3000).map(|n| format!("uid = {}\n{KILL}", n + 1)).collect();
        let told = told(&policies.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(told.len(), 4);
        assert!(told.iter().all(|t| t.what.starts_with("policies \"p0\", \"p1\", \"p2\" and 2997 more: ")), "{told:?}");
    }
}
