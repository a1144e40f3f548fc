//! The resolvers that a provider gives for a link, as callers say them.

use super::Env;
use crate::model::names::{Family, HostAddr};

/// Of a family no more are kept: the server of a VPN may push any number.
pub(crate) const MOST: usize = 8;

/// A resolver that may be beyond a link; `None`: it is no such address. A link-local one is good for nothing without the
/// name of an interface.
pub(crate) fn resolver(text: &str) -> Option<HostAddr> {
    let address: HostAddr = text.parse().ok()?;
    let is_link_local = address.is_link_local() || address.v4().is_some_and(|v4| v4.is_link_local());
    (!is_link_local).then_some(address)
}

/// The resolvers of a family among these words, each once, in their order. No word about them costs a link its routes:
/// what is none is passed over.
pub(crate) fn resolvers(words: impl IntoIterator<Item = String>, family: Family) -> Vec<HostAddr> {
    let mut found = Vec::new();
    for address in words.into_iter().filter_map(|word| resolver(&word)) {
        if address.family() == family && !found.contains(&address) {
            found.push(address);
        }
    }
    found.truncate(MOST);
    found
}

/// What the peer of pppd says where that asks for it (`usepeerdns`): IPv4 only, since IPV6CP has no such option.
pub(super) fn of_pppd(env: Env, family: Family) -> Vec<HostAddr> {
    resolvers(["DNS1", "DNS2"].into_iter().filter_map(env), family)
}

/// What the server of OpenVPN pushes as `dhcp-option DNS`, or `DNS6` of IPv6: variables that are counted from 1.
pub(super) fn of_openvpn(env: Env, family: Family) -> Vec<HostAddr> {
    // Most of them may be about something else.
    const MOST_OPTIONS: usize = 100;
    let options = (1..=MOST_OPTIONS).map_while(|n| env(&format!("foreign_option_{n}")));
    let mut pushed = Vec::new();
    for option in options {
        let mut words = option.split_ascii_whitespace();
        if let (Some("dhcp-option"), Some("DNS" | "DNS6"), Some(address)) = (words.next(), words.next(), words.next()) {
            pushed.push(address.to_owned());
        }
    }
    resolvers(pushed, family)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::env_of;

    #[test]
    fn what_is_no_resolver_beyond_a_link_is_passed_over() {
        let said = |words: &[&str], family| {
            let found = resolvers(words.iter().map(|word| (*word).to_owned()), family);
            found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        let words = [
            "192.0.2.53",
            "",
            "x",
            "127.0.0.53",
            "0.0.0.0",
            "224.0.0.251",
            "255.255.255.255",
            "169.254.1.1",
            "192.0.2.53",
            "10.0.0.53",
            "::",
            "::1",
            "fe80::1",
            "fe80::1%ppp0",
            "ff02::fb",
            "2001:db8::53",
            "192.0.2.1 ",
            "192.0.2.1/32",
        ];
        assert_eq!(said(&words, Family::V4), "192.0.2.53 10.0.0.53");
        assert_eq!(said(&words, Family::V6), "2001:db8::53");
        let flood: Vec<_> = (0..200).map(|n| format!("192.0.2.{n}")).collect();
        assert_eq!(resolvers(flood, Family::V4).len(), MOST);
    }

    #[test]
    fn what_the_server_of_openvpn_pushes_is_read_to_the_first_gap() {
        let env = env_of(&[
            ("foreign_option_1", "dhcp-option DOMAIN 192.0.2.1"),
            ("foreign_option_2", "dhcp-option DNS 10.8.0.1"),
            ("foreign_option_3", "dhcp-option DNS6 2001:db8::53"),
            ("foreign_option_4", "dhcp-option DNS\t2001:db8::54 x"),
            ("foreign_option_5", "dhcp-option DNS"),
            ("foreign_option_6", "other-option DNS 10.8.0.9"),
            ("foreign_option_7", "dhcp-option DNS 10.8.0.2\n; rm"),
            ("foreign_option_9", "dhcp-option DNS 10.8.0.3"),
        ]);
        let found: [Vec<_>; 2] =
            Family::BOTH.map(|family| of_openvpn(&env, family).iter().map(ToString::to_string).collect());
        let expected: [Vec<String>; 2] = [
            vec!["10.8.0.1".to_owned(), "10.8.0.2".to_owned()],
            vec!["2001:db8::53".to_owned(), "2001:db8::54".to_owned()],
        ];
        assert_eq!(found, expected);
        // A server without end.
        assert_eq!(of_openvpn(&|_| Some("dhcp-option DOMAIN x".to_owned()), Family::V4), []);
    }

    #[test]
    fn pppd_says_resolvers_of_ipv4() {
        let env = env_of(&[("DNS1", "192.0.2.53"), ("DNS2", "\n")]);
        assert_eq!(of_pppd(&env, Family::V4), ["192.0.2.53".parse().unwrap()]);
        assert_eq!(of_pppd(&env, Family::V6), []);
    }
}
