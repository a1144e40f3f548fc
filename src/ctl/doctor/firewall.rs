//! What other chains of the firewall do to marks, and whether the LAN's addresses are translated.

use std::collections::BTreeSet;

use ipnet::Ipv4Net;

use super::{Finding, marks};
use crate::config::{Config, Firewall};
use crate::ctl::doctor::nftables::{self, Leaving, OtherRule};
use crate::ctl::lookup::read::Fib;
use crate::kernel;
use crate::kernel::iptables;
use crate::model::firewall::{Lacking, Variant, is_ours};
use crate::model::names::Family;
use crate::model::sh::quoted;

/// Looks for chains of ours where they should not be, and through what others have.
pub(super) fn look(config: &Config, forwards: bool, mhctl: &str) -> Result<Vec<Finding>, kernel::Error> {
    let filter = kernel::packet_filter(config.settings.firewall)?;
    let is_nft = filter.uses_nftables(config.settings.firewall, Lacking::default());
    let mut findings = others(config, forwards, is_nft, mhctl)?;
    if config.settings.firewall != Firewall::None {
        if config.settings.firewall == Firewall::Auto && filter.without().nftables {
            findings.push(Finding::note(
                "iptables holds multihome's rules: the kernel has refused its table of nftables at an earlier event",
                "it is not tried again by itself; policies by sets need it",
                nftables::try_again(mhctl) + "; firewall = \"iptables\" leaves it at that",
            ));
        }
        for place in filter.elsewhere(config.settings.firewall) {
            findings.push(Finding::trouble(
                format!("managed chains are in {place} too, which does not hold multihome's rules any more"),
                "they are in force beside the present ones, and mark connections as they did when they were made",
                format!("{mhctl} apply"),
            ));
        }
    }
    Ok(findings)
}

/// Looks through iptables-save(8), where that runs, and through what nft(8) has made. `is_nft`: nftables holds our chains.
fn others(config: &Config, forwards: bool, is_nft: bool, mhctl: &str) -> Result<Vec<Finding>, kernel::Error> {
    let links: Vec<_> = config.links.iter().map(|link| &link.interface).collect();
    let lans = if forwards { Some(Fib::open()?.lans(&links)?) } else { None };
    let lans = lans.as_deref();
    let output = iptables::saved(Variant::Usual, Family::V4, &[]);
    let saved = output.as_deref().unwrap_or_default();
    if let Some(rules) = nftables::rules(is_nft) {
        return Ok(judge(config, lans, saved, &rules, mhctl));
    }
    match nftables::any_beside(&shown(saved))? {
        None if output.is_err() => Ok(vec![Finding::note(
            "the packet filter was not looked at: only root may",
            "other programs' marks may collide with multihome's, and the LAN's addresses may not be translated",
            format!("run {mhctl} doctor as root"),
        )]),
        // Whether these translate is not known.
        Some(true) => {
            let mut found = judge(config, None, saved, &[], mhctl);
            found.push(Finding::note(
                "rules of nf_tables were not looked at: nft(8) is not there, or cannot list them as JSON",
                "their marks may collide with multihome's, and the LAN's addresses may not be translated",
                format!("install nftables, and run {mhctl} doctor again"),
            ));
            Ok(found)
        }
        _ => Ok(judge(config, lans, saved, &[], mhctl)),
    }
}

/// The chains that iptables-save(8) has shown.
fn shown(saved: &str) -> BTreeSet<(&str, &str)> {
    let mut table = "";
    let mut all = BTreeSet::new();
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(chain) = line.strip_prefix(':').and_then(|rest| rest.split(' ').next()) {
            all.insert((table, chain));
        }
    }
    all
}

/// What `saved`, the text of iptables-save(8), and the rules of `nf_tables` would do, the latter to what comes from
/// `lans` if that is forwarded.
fn judge(config: &Config, lans: Option<&[Ipv4Net]>, saved: &str, nft: &[OtherRule], mhctl: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    let shown = shown(saved);
    let nft: Vec<_> = nft.iter().filter(|r| !r.is_among(&shown) && !is_ours(&r.chain)).collect();
    let union = config.all_marks();
    let mut table = "";
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if line.starts_with("-A ") && !line.contains("MULTIHOME") {
            found.extend(marks::judge(table, line, union));
        }
    }
    for OtherRule { family, table, chain, handle, mark_bits, chooses, .. } in &nft {
        let is_own_mark = *chooses && mark_bits & !config.marks() == 0;
        if mark_bits & union != 0 && !is_own_mark {
            found.push(Finding::trouble(
                format!("nft: rule {handle} of chain {chain} in table {family} {table}"),
                format!("it uses bits of multihome's marks ({:#x}), and steers connections by them", mark_bits & union),
                format!(
                    "use a mask in that rule (nft -a list chain {family} {} {} shows it), or give the links other \
                     marks with `mark`",
                    quoted(table),
                    quoted(chain)
                ),
            ));
        }
    }
    let Some(lans) = lans else { return found };
    for link in config.uplinks().filter(|link| !link.masquerade) {
        let name = link.interface.as_str();
        if !translates(saved, name, lans)
            && !nft.iter().filter_map(|r| r.translates.as_ref()).any(|l| l.covers(name, lans))
        {
            found.push(Finding::note(
                format!("nothing translates addresses that leave by {} ({})", link.name, link.interface),
                "what is forwarded from a LAN goes out with private addresses, and gets no answer",
                format!("write masquerade = true for {}, then {mhctl} apply", link.name),
            ));
        }
    }
    found
}

/// Whether iptables' rules translate what comes from `lans` and leaves by `name`: those of POSTROUTING, and of the
/// chains that it goes through from there.
fn translates(saved: &str, name: &str, lans: &[Ipv4Net]) -> bool {
    let nat: Vec<_> = saved.lines().skip_while(|l| *l != "*nat").take_while(|l| *l != "COMMIT").collect();
    let mut chains = vec!["POSTROUTING"];
    let mut at = 0;
    while let Some(chain) = chains.get(at).copied() {
        at += 1;
        for target in nat.iter().filter_map(|line| target(line, chain, name, lans)) {
            if ["MASQUERADE", "SNAT"].contains(&target) {
                return true;
            }
            // Not ours: whether they translate is the configuration's to say.
            if !chains.contains(&target) && !is_ours(target) {
                chains.push(target);
            }
        }
    }
    false
}

/// The value of an option, and whether no `!` stands before it.
fn option<'a>(words: &[&'a str], option: &str) -> Option<(bool, &'a str)> {
    let at = words.iter().position(|word| *word == option)?;
    Some((words[at - 1] != "!", *words.get(at + 1)?))
}

/// Where a rule of `chain` sends what comes from `lans` and leaves by `name`.
fn target<'a>(line: &'a str, chain: &str, name: &str, lans: &[Ipv4Net]) -> Option<&'a str> {
    let words: Vec<_> = line.split_whitespace().collect();
    if words.first() != Some(&"-A") || words.get(1) != Some(&chain) {
        return None;
    }
    let target = words.iter().rposition(|word| ["-j", "-g"].contains(word)).and_then(|at| words.get(at + 1))?;
    // These stand before all matches, whose values may be anything.
    let plain: Vec<_> = words.iter().copied().take_while(|word| !["-m", "-j", "-g"].contains(word)).collect();
    // What is about one destination is not about the Internet.
    if option(&plain, "-d").is_some_and(|(is, _)| is) {
        return None;
    }
    let (is, out) = option(&plain, "-o").unwrap_or((true, "+"));
    let by = out.trim_end_matches('+').to_owned();
    let from = option(&plain, "-s").filter(|(is, _)| *is).and_then(|(_, net)| net.parse().ok());
    Leaving { whole: by == out, by, not: !is, from }.covers(name, lans).then_some(*target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config() -> Config {
        crate::config::parse(include_str!("../../config/tests/article.toml"), Path::new("test")).unwrap()
    }

    #[test]
    fn marks_that_are_not_ours_are_let_be() {
        let saved = "*mangle\n-A PREROUTING -j MARK --set-xmark 0x40000/0xff0000\n-A MULTIHOME-OUTPUT -j CONNMARK --restore-mark\n";
        assert_eq!(judge(&config(), None, saved, &[], "mhctl"), []);
        let saved = "*mangle\n-A OUTPUT -p tcp -j MARK --set-xmark 0x2/0xffffffff\n";
        assert_eq!(judge(&config(), None, saved, &[], "mhctl").len(), 1);
    }

    #[test]
    fn each_uplink_of_a_router_needs_its_addresses_translated() {
        let lans = ["192.168.2.0/24".parse().unwrap()];
        let whats = |saved: &str| {
            judge(&config(), Some(&lans), saved, &[], "mhctl").into_iter().map(|f| f.what).collect::<Vec<_>>()
        };
        assert_eq!(whats("*nat\n-A POSTROUTING -o ppp+ -j MASQUERADE\n"), [""; 0]);
        assert_eq!(
            whats("*nat\n-A POSTROUTING -o ppp0 -j SNAT --to-source 198.51.100.10\n"),
            ["nothing translates addresses that leave by isp2 (ppp1)"]
        );
        assert_eq!(whats("").len(), 2);
        let isp1 = ["nothing translates addresses that leave by isp1 (ppp0)"];
        assert_eq!(whats("*nat\n-A POSTROUTING ! -o ppp0 -j MASQUERADE\n"), isp1);
        for all in [
            "! -o lan -j MASQUERADE",
            "-s 192.168.0.0/16 -j MASQUERADE",
            "-s 192.168.2.30/32 -j MASQUERADE --random",
            "-s 192.168.2.0/24 ! -d 192.168.2.0/24 -j MASQUERADE",
            "! -s 10.0.0.0/8 -j MASQUERADE",
            "-m comment --comment \"-o eth9 -d here\" -j MASQUERADE",
            "-o ppp+ -g mine\n-A mine -j two\n-A two ! -o lo -j MASQUERADE",
        ] {
            assert_eq!(whats(&format!("*nat\n-A POSTROUTING {all}\nCOMMIT\n")), [""; 0], "{all}");
        }
        for none in [
            "-d 10.0.0.0/8 -j MASQUERADE",
            "-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
            "-o eth9 -j mine\n-A mine -j MASQUERADE",
            "-j mine\n-A mine -j POSTROUTING",
            "-j ACCEPT\n-A mine -j MASQUERADE",
        ] {
            assert_eq!(whats(&format!("*nat\n-A POSTROUTING {none}\nCOMMIT\n")).len(), 2, "{none}");
        }
    }
}
