//! The resolvers that other programs know of reach us, each as one word, behind all that was said before.

use std::fs;

use super::{HOSTILE, Stubs, glue};
use crate::support::install_script;

/// A hook, what it is called with, what makes it tell of a link, and the variables with resolvers, each of one word or more.
struct Case {
    hook: &'static str,
    args: &'static [&'static str],
    up: &'static [(&'static str, &'static str)],
    resolvers: &'static [&'static str],
}

const ADDRESS: (&str, &str) = ("new_ip_address", "192.0.2.7");
const INTERFACE: (&str, &str) = ("interface", "eth1");

const CASES: [Case; 9] = [
    Case {
        hook: "dhclient",
        args: &[],
        up: &[("reason", "BOUND"), INTERFACE, ADDRESS],
        resolvers: &["new_domain_name_servers"],
    },
    Case {
        hook: "dhclient",
        args: &[],
        up: &[("reason", "RENEW6"), INTERFACE, ("new_ip6_address", "2001:db8::7")],
        resolvers: &["new_dhcp6_name_servers"],
    },
    Case {
        hook: "dhcpcd",
        args: &[],
        up: &[("reason", "REBOOT"), INTERFACE, ADDRESS],
        resolvers: &["new_domain_name_servers"],
    },
    Case {
        hook: "dhcpcd",
        args: &[],
        up: &[("reason", "BOUND6"), INTERFACE, ("new_dhcp6_ia_na1_ia_addr1", "2001:db8::7")],
        resolvers: &["new_dhcp6_name_servers"],
    },
    Case {
        hook: "dhcpcd",
        args: &[],
        up: &[("reason", "ROUTERADVERT"), INTERFACE, ("nd1_from", "fe80::1"), ("nd1_lifetime", "1800")],
        resolvers: &["nd1_rdnss1_servers", "nd1_rdnss2_servers", "nd12_rdnss1_servers"],
    },
    Case {
        hook: "odhcp6c",
        args: &["eth1", "bound"],
        up: &[("PREFIXES", "2001:db8:100::/56,900,1800")],
        resolvers: &["RDNSS", "RA_DNS"],
    },
    Case {
        hook: "NetworkManager",
        args: &["eth1", "up"],
        up: &[("IP4_ADDRESS_0", "192.0.2.7/24"), ("IP6_ADDRESS_0", "2001:db8::7/64")],
        resolvers: &["IP4_NAMESERVERS", "IP6_NAMESERVERS"],
    },
    Case {
        hook: "NetworkManager",
        args: &["eth1", "dhcp4-change"],
        // What the administrator has written is not the line's own.
        up: &[("IP4_ADDRESS_0", "192.0.2.7/24"), ("IP4_NAMESERVERS", "")],
        resolvers: &["DHCP4_DOMAIN_NAME_SERVERS", "DHCP6_DHCP6_NAME_SERVERS"],
    },
    Case {
        hook: "NetworkManager",
        args: &["tun0", "vpn-up"],
        up: &[("VPN_IP4_ADDRESS_0", "10.8.0.6/24")],
        resolvers: &["VPN_IP4_NAMESERVERS", "VPN_IP6_NAMESERVERS"],
    },
];

impl Case {
    /// What it tells when each of its variables has this value.
    fn told(&self, stubs: &Stubs, value: Option<&str>) -> Vec<String> {
        let mut shell = stubs.shell("/bin/sh");
        // Where it is sourced, it sees the arguments of the script that does so.
        shell.args(["-c", "hook=$0; . \"$hook\"", &glue(&format!("hooks/{}", self.hook))]).args(self.args);
        shell.envs(self.up.iter().copied());
        if let Some(value) = value {
            shell.envs(self.resolvers.iter().map(|name| (*name, value)));
        }
        stubs.told(&mut shell)
    }
}

fn options(words: &str) -> Vec<String> {
    words.split_ascii_whitespace().map(|word| format!("--dns={word}")).collect()
}

#[test]
fn each_caller_tells_of_the_resolvers_that_it_knows() {
    let stubs = Stubs::new();
    for case in CASES {
        let without = case.told(&stubs, None);
        assert!(without.len() > 3, "{}: {without:?}", case.hook);
        for word in ["192.0.2.53", "2001:db8::53"].iter().chain(&HOSTILE) {
            let value = format!("192.0.2.54 {word}");
            let told = case.told(&stubs, Some(&value));
            let (before, resolvers) = told.split_at(without.len());
            assert_eq!(before, without, "{} {:?}", case.hook, case.args);
            // env(1) tells of one line.
            let is_of_env = case.up.contains(&("reason", "ROUTERADVERT"));
            let words = if is_of_env { value.lines().next().unwrap() } else { &value };
            assert_eq!(resolvers, vec![options(words); case.resolvers.len()].concat(), "{} {:?}", case.hook, case.args);
        }
    }
}

/// As networkctl(1) of systemd 252 prints it.
const STATUS: &str = "* 3: eth1
                     Link File: /usr/lib/systemd/network/99-default.link
                         State: routable (configured)
               Hardware Address: 02:00:00:00:00:07
                       Address: 192.0.2.7 (DHCP4 via 192.0.2.1)
                                2001:db8::7
                       Gateway: 192.0.2.1
                           DNS: 192.0.2.53
                                2001:db8::53
                                192.0.2.54
                Search Domains: example
                           NTP: 192.0.2.9
                                192.0.2.10
";

#[test]
fn the_resolvers_of_networkd_are_those_that_networkctl_prints() {
    let stubs = Stubs::new();
    let told = |status: Option<&str>| {
        if let Some(status) = status {
            fs::write(stubs.path("status"), status).unwrap();
            let script =
                "#!/bin/sh\n[ \"$5\" = eth1 ] && while IFS= read -r line; do printf '%s\\n' \"$line\"; done <status";
            install_script(script, stubs.path("networkctl"));
        }
        let mut networkd = stubs.shell("/bin/sh");
        networkd.arg(glue("hooks/networkd-dispatcher")).env("STATE", "routable").env("IFACE", "eth1");
        stubs.told(networkd.env("IP_ADDRS", "192.0.2.7/24"))
    };
    let up = ["link", "up", "--interface=eth1", "--local=192.0.2.7", "--gateway=192.0.2.1"];
    assert_eq!(told(None), up, "there is no networkctl");
    let expected = options("192.0.2.53 2001:db8::53 192.0.2.54");
    assert_eq!(told(Some(STATUS))[up.len()..], expected);
    assert_eq!(told(Some(&STATUS.replace("DNS:", "x:")))[up.len()..], [""; 0]);
    for word in HOSTILE {
        let told = told(Some(&STATUS.replace("192.0.2.53", word)));
        assert!(told[..up.len()] == up && told[up.len()..].iter().all(|word| word.starts_with("--dns=")), "{told:?}");
    }
}
