//! What other chains of the firewall do to marks, and whether the LAN's addresses are translated.

use std::collections::BTreeSet;

use ipnet::Ipv4Net;

use super::Finding;
use crate::config::{Config, Firewall, LinkKind};
use crate::firewall::{Variant, iptables, is_ours};
use crate::kernel;
use crate::kernel::fib::Fib;
use crate::kernel::nftables::others::{Leaving, OtherRule, rules};
use crate::sh::quoted;

/// Options of iptables(8) whose value is a mark and a mask.
const MARK_OPTIONS: [&str; 8] =
    ["--mark", "--set-mark", "--set-xmark", "--or-mark", "--nfmask", "--ctmask", "--restore-mark", "--save-mark"];

/// Looks for chains of ours where they should not be, and through what others have.
pub(super) fn look(config: &Config, forwards: bool) -> Result<Vec<Finding>, kernel::Error> {
    let mut findings = others(config, forwards)?;
    if config.settings.firewall != Firewall::None
        && let Some(leftover) = kernel::packet_filter()?.leftover
    {
        let filter = if leftover.variant == Variant::Nft { "iptables-nft" } else { "legacy iptables" };
        findings.push(Finding::trouble(
            format!("chains of ours are in {filter} too, which is not what this machine's `iptables` is"),
            "they are in force beside the present ones, and mark connections as they did when they were made",
            "mhctl apply",
        ));
    }
    Ok(findings)
}

/// Looks through iptables-save(8), where that runs, and through what nft(8) has made.
fn others(config: &Config, forwards: bool) -> Result<Vec<Finding>, kernel::Error> {
    let links: Vec<_> = config.links.iter().map(|link| &link.interface).collect();
    let lans = if forwards { Some(Fib::open()?.lans(&links)?) } else { None };
    let lans = lans.as_deref();
    match (iptables::saved(Variant::Usual, &[]).ok(), rules()?) {
        (saved, Some(nft)) => Ok(judge(config, lans, &saved.unwrap_or_default(), &nft)),
        (None, None) => Ok(vec![Finding::note(
            "the packet filter was not looked at: only root may",
            "other programs' marks may collide with ours, and the LAN's addresses may not be translated",
            "run mhctl doctor as root",
        )]),
        (Some(saved), None) => Ok(judge(config, lans, &saved, &[])),
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
fn judge(config: &Config, lans: Option<&[Ipv4Net]>, saved: &str, nft: &[OtherRule]) -> Vec<Finding> {
    let mut found = Vec::new();
    let foreign: Vec<_> = saved.lines().filter(|l| l.starts_with("-A ") && !l.contains("MULTIHOME")).collect();
    let shown = shown(saved);
    let is_shown = |r: &OtherRule| r.family == "ip" && shown.contains(&(r.table.as_str(), r.chain.as_str()));
    let nft: Vec<_> = nft.iter().filter(|r| !is_shown(r) && !is_ours(&r.chain)).collect();
    let union = config.marks();
    let iptables = foreign.iter().map(|line| (format!("iptables: {line}"), mask(line), String::new()));
    let tables = nft.iter().map(|r| {
        let OtherRule { family, table, chain, handle, .. } = r;
        let what = format!("nft: rule {handle} of chain {chain} in table {family} {table}");
        let (table, chain) = (quoted(table), quoted(chain));
        (what, r.mark_bits, format!(" (nft -a list chain {family} {table} {chain} shows it)"))
    });
    for (what, bits, shows) in iptables.chain(tables).filter(|(_, bits, _)| bits & union != 0) {
        found.push(Finding::trouble(
            what,
            format!("it uses bits of our marks ({:#x}), and steers connections by them", bits & union),
            format!("use a mask in that rule{shows}, or give the links other marks with `mark`"),
        ));
    }
    let Some(lans) = lans else { return found };
    for link in config.links.iter().filter(|l| !l.masquerade && matches!(l.kind, LinkKind::Uplink { .. })) {
        let name = link.interface.as_str();
        if !translates(saved, name, lans)
            && !nft.iter().filter_map(|r| r.translates.as_ref()).any(|l| l.covers(name, lans))
        {
            found.push(Finding::note(
                format!("nothing translates addresses that leave by {} ({})", link.name, link.interface),
                "what is forwarded from a LAN goes out with private addresses, and gets no answer",
                format!("write masquerade = true for {}, then mhctl apply", link.name),
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

/// Where a rule of `chain` sends what comes from `lans` and leaves by `name`.
fn target<'a>(line: &'a str, chain: &str, name: &str, lans: &[Ipv4Net]) -> Option<&'a str> {
    let words: Vec<_> = line.split_whitespace().collect();
    if words.first() != Some(&"-A") || words.get(1) != Some(&chain) {
        return None;
    }
    let target = words.iter().rposition(|word| ["-j", "-g"].contains(word)).and_then(|at| words.get(at + 1))?;
    // These stand before all matches, whose values may be anything.
    let plain: Vec<_> = words.iter().copied().take_while(|word| !["-m", "-j", "-g"].contains(word)).collect();
    let option = |option: &str| {
        let at = plain.iter().position(|word| *word == option)?;
        Some((plain[at - 1] != "!", *plain.get(at + 1)?))
    };
    // What is about one destination is not about the Internet.
    if option("-d").is_some_and(|(is, _)| is) {
        return None;
    }
    let (is, out) = option("-o").unwrap_or((true, "+"));
    let by = out.trim_end_matches('+').to_owned();
    let from = option("-s").filter(|(is, _)| *is).and_then(|(_, net)| net.parse().ok());
    Leaving { whole: by == out, by, not: !is, from }.covers(name, lans).then_some(*target)
}

/// The bits that a rule sets or compares.
fn mask(line: &str) -> u32 {
    let words: Vec<_> = line.split_whitespace().collect();
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    let mut all = 0;
    for (at, word) in words.iter().enumerate().filter(|(_, word)| MARK_OPTIONS.contains(word)) {
        let value = words.get(at + 1).map_or("", |v| v);
        all |= match (value.split_once('/'), number(value)) {
            (Some((_, mask)), _) => number(mask).unwrap_or(u32::MAX),
            // --or-mark sets the bits of its value; the rest without a mask mean all of them.
            (None, Some(bits)) if ["--or-mark", "--nfmask", "--ctmask"].contains(word) => bits,
            // `--restore-mark` and its like stand alone, and masks may follow.
            (None, None) if words.contains(&"--nfmask") || words.contains(&"--ctmask") => 0,
            (None, _) => u32::MAX,
        };
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config() -> Config {
        crate::config::parse(include_str!("../../config/tests/article.toml"), Path::new("test")).unwrap()
    }

    #[test]
    fn the_bits_of_a_rule_are_those_under_its_mask() {
        for (line, expected) in [
            ("-A PREROUTING -j MARK --set-xmark 0x40000/0xff0000", 0x00ff_0000),
            ("-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000", 0x4000),
            ("-A OUTPUT -m mark --mark 0x1", u32::MAX),
            ("-A OUTPUT -j CONNMARK --restore-mark", u32::MAX),
            ("-A OUTPUT -j CONNMARK --restore-mark --nfmask 0xf0 --ctmask 0xf0", 0xf0),
            ("-A INPUT -p tcp -j ACCEPT", 0),
        ] {
            assert_eq!(mask(line), expected, "{line}");
        }
    }

    #[test]
    fn marks_that_are_not_ours_are_let_be() {
        let saved = "*mangle\n-A PREROUTING -j MARK --set-xmark 0x40000/0xff0000\n-A MULTIHOME-OUTPUT -j CONNMARK --restore-mark\n";
        assert_eq!(judge(&config(), None, saved, &[]), []);
        let saved = "*mangle\n-A OUTPUT -p tcp -j MARK --set-xmark 0x2/0xffffffff\n";
        assert_eq!(judge(&config(), None, saved, &[]).len(), 1);
    }

    #[test]
    fn each_uplink_of_a_router_needs_its_addresses_translated() {
        let lans = ["192.168.2.0/24".parse().unwrap()];
        let whats =
            |saved: &str| judge(&config(), Some(&lans), saved, &[]).into_iter().map(|f| f.what).collect::<Vec<_>>();
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
