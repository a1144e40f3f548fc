//! The lines that have dnsmasq put what it resolves into the sets of policies. Pure.

use std::fmt::Write;

use crate::config::Config;
use crate::model::firewall::nft::TABLE;
use crate::model::names::{Family, SetName};
use crate::reconcile::firewall::sets;

const HEAD: &str = "\
# For a file in /etc/dnsmasq.d: what dnsmasq resolves for these domains, and for
# all below them, goes into the sets of multihome. Write your domains in place of
# the examples, then `systemctl restart dnsmasq`.
# - dnsmasq 2.87 or later, built with nftset (`dnsmasq --version` says so). It needs
#   CAP_NET_ADMIN: without it, its log says that nothing was added.
# - Only the first line that names a domain counts. One that is to be in several
#   sets has them all in one line, with commas between.
# - Only an answer that dnsmasq asks for fills a set. After a set was emptied (`nft
#   flush ruleset`, a reboot, `mhctl set flush`) restart dnsmasq, which forgets its
#   answers; clients ask again when theirs have expired.
# - Clients must ask this dnsmasq. Browsers that resolve by HTTPS (DoH) do not: turn
#   it off there. server=/use-application-dns.net/ has Firefox ask as the system does.
# - Several sites may have one address (content delivery networks): all of them go
#   by the policy then.
";

/// The lines for all sets of destinations.
pub(super) fn lines(config: &Config) -> String {
    let destinations: Vec<_> = config.sets().into_iter().filter_map(|sets| sets.to.as_ref()).collect();
    let names: Vec<_> = config.set_names().into_iter().filter(|name| destinations.contains(name)).collect();
    if names.is_empty() {
        return "# No policy has a to-set: write to-set = \"streaming\" in a [[policy]] first.\n".to_owned();
    }
    let mut text = HEAD.to_owned();
    // Writing to a String cannot fail, here and below.
    for name in &names {
        let _ = writeln!(text, "nftset=/{name}.example/{}", filled(config, &[name]));
    }
    if names.len() > 1 {
        let _ = writeln!(text, "# In each of them:\n# nftset=/all.example/{}", filled(config, &names));
    }
    text
}

/// The sets of these names, of both families, as dnsmasq(8) has them.
fn filled(config: &Config, names: &[&SetName]) -> String {
    let mut filled = Vec::new();
    let pairs = names.iter().flat_map(|name| Family::BOTH.map(|family| (name, family)));
    for set in pairs.filter_map(|(name, family)| sets::find(config, name, family)) {
        let family = if set.family == Family::V4 { 4 } else { 6 };
        filled.push(format!("{family}#inet#{TABLE}#{}", set.name));
    }
    filled.join(",")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn each_set_of_destinations_has_a_line_and_all_of_a_domain_are_in_one() {
        let uplink = "[[uplink]]\nname = 'a'\ninterface = 'ppp0'\n";
        let policy = |n: u8, keys: &str| format!("[[policy]]\nname = 'p{n}'\nvia = 'a'\n{keys}\n");
        let policies = [
            policy(1, "to-set = 'tv'"),
            policy(2, "from-set = 'kids'"),
            policy(3, "from-set = 'kids'\nto-set = 'music'"),
            policy(4, "to-set = 'tv'\nproto = 'udp'"),
        ];
        let lines = |policies: &[String]| {
            let config = crate::config::parse(&format!("{uplink}{}", policies.concat()), Path::new("f")).unwrap();
            lines(&config)
        };
        let text = lines(&policies);
        let shown: Vec<_> = text.lines().filter(|line| line.contains("nftset=")).collect();
        assert_eq!(
            shown,
            [
                "nftset=/tv.example/4#inet#multihome#tv4,6#inet#multihome#tv6",
                "nftset=/music.example/4#inet#multihome#music4,6#inet#multihome#music6",
                "# nftset=/all.example/4#inet#multihome#tv4,6#inet#multihome#tv6,4#inet#multihome#music4,6#inet#multihome#music6"
            ]
        );
        assert!(text.lines().all(|line| line.starts_with('#') || line.starts_with("nftset=")));
        assert!(lines(&policies[1..2]).starts_with("# No policy has a to-set"));
    }
}
