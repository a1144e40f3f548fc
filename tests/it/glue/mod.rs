//! What stands between other programs and the executables: whatever comes from outside arrives as one word, and never
//! as an option or a command.

mod resolvers;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::support::{install, install_script};
use tempfile::TempDir;

/// Words of strangers. Of interfaces, addresses and the like fewer are possible than are tried.
const HOSTILE: [&str; 12] = [
    "--config=/home/x/evil.toml",
    "-v",
    "--",
    "x;touch pwned",
    "$(touch pwned)",
    "`touch pwned`",
    "\"; touch pwned; \"",
    "'; touch pwned; '",
    "a b\tc\nd",
    "*",
    "!1",
    "\\",
];

/// A directory with executables of ours that only tell their arguments, each on a line that ends with a NUL.
struct Stubs(TempDir);

impl Stubs {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let tells = "#!/bin/sh\nprintf '%s\\0' \"$@\"\n";
        let ip = "#!/bin/sh\necho 'default via 192.0.2.1 proto dhcp src 192.0.2.7 metric 1024 '\n";
        for (name, script) in [("mhctl", tells), ("mh-ip-up", tells), ("mh-ip-down", tells), ("ip", ip)] {
            install_script(script, dir.path().join(name));
        }
        for tool in ["env", "sed", "sort"] {
            symlink(format!("/usr/bin/{tool}"), dir.path().join(tool)).unwrap();
        }
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// A shell in the directory, with nothing else on its path and nothing in its environment.
    fn shell(&self, shell: &str) -> Command {
        let mut command = Command::new(shell);
        command.env_clear().env("PATH", self.0.path()).current_dir(self.0.path());
        command
    }

    /// The arguments that a stub was called with.
    fn told(&self, command: &mut Command) -> Vec<String> {
        let output = command.output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{command:?}: {output:?}");
        assert!(!Path::new(&self.path("pwned")).exists(), "{command:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        said.split_terminator('\0').map(str::to_owned).collect()
    }
}

fn glue(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).to_str().unwrap().to_owned()
}

#[test]
fn network_manager_and_networkd_dispatcher_pass_each_word_as_one() {
    let stubs = Stubs::new();
    for word in HOSTILE {
        let interface = format!("--interface={word}");
        let mut manager = stubs.shell("/bin/sh");
        manager.args([&glue("hooks/NetworkManager"), word, "up"]).env("CONNECTION_ID", word);
        manager.env("IP4_ADDRESS_0", word).env("IP4_GATEWAY", word);
        let address = word.split('/').next().unwrap();
        let four = [format!("--local={address}"), format!("--gateway={word}")];
        assert_eq!(stubs.told(&mut manager), ["link", "up", &interface, &four[0], &four[1]]);
        manager.env("IP6_ADDRESS_0", "fe80::7/64 ::").env("IP6_ADDRESS_1", word).env("IP6_GATEWAY", word);
        manager.env("DHCP6_IP6_PREFIX", word).env("DHCP6_IP6_PREFIXLEN", "56");
        let prefix = if word.contains('/') { word.to_owned() } else { format!("{word}/56") };
        let six = [format!("--local6={address}"), format!("--gateway6={word}"), format!("--prefix={prefix}")];
        let both = ["link", "up", &interface, &four[0], &four[1], "--ipv6", &six[0], &six[1], &six[2]];
        assert_eq!(stubs.told(&mut manager), both);
        let mut manager = stubs.shell("/bin/sh");
        manager.args([&glue("hooks/NetworkManager"), word, "down"]);
        assert_eq!(stubs.told(&mut manager), ["link", "down", &interface]);

        let mut networkd = stubs.shell("/bin/sh");
        networkd.arg(glue("hooks/networkd-dispatcher")).env("STATE", "routable").env("IFACE", word);
        networkd.env("IP_ADDRS", "192.0.2.7/24 192.0.2.8/24");
        let expected = ["link", "up", &interface, "--local=192.0.2.7", "--gateway=192.0.2.1"];
        assert_eq!(stubs.told(&mut networkd), expected);
        networkd.env("IP6_ADDRS", "fe80::7/64 2001:db8::7/64 2001:db8::8/64");
        assert_eq!(stubs.told(&mut networkd), [&expected[..], &["--ipv6", "--local6=2001:db8::7"]].concat());
        networkd.env("IP6_ADDRS", word);
        let told = stubs.told(&mut networkd);
        assert!(told[..5] == expected && told[5..].iter().all(|word| !word.starts_with("--config")), "{told:?}");
        let mut networkd = stubs.shell("/bin/sh");
        networkd.arg(glue("hooks/networkd-dispatcher")).env("STATE", "off").env("IFACE", word);
        assert_eq!(stubs.told(&mut networkd), ["link", "down", &interface]);
    }
}

#[test]
fn dhcp_clients_pass_each_word_as_one() {
    let stubs = Stubs::new();
    for word in HOSTILE {
        for (hook, routes) in [
            ("hooks/dhclient", ("new_rfc3442_classless_static_routes", "0 192 0 2 1")),
            ("hooks/dhcpcd", ("new_classless_static_routes", "0.0.0.0/0 192.0.2.1")),
        ] {
            let bound = |routes: (&str, &str)| {
                let mut client = stubs.shell("/bin/sh");
                client.args(["-c", ". \"$0\"", &glue(hook)]).env("reason", "BOUND").env("interface", word);
                client.env("new_ip_address", word).env("new_routers", word).env(routes.0, routes.1);
                stubs.told(&mut client)
            };
            let (interface, local) = (format!("--interface={word}"), format!("--local={word}"));
            assert_eq!(bound(routes), ["link", "up", &interface, &local, "--gateway=192.0.2.1"], "{hook}");
            // Of several routers the first.
            let gateway = format!("--gateway={}", word.split(' ').next().unwrap());
            assert_eq!(bound((routes.0, "")), ["link", "up", &interface, &local, &gateway], "{hook}");
            // As option 121 it is no route, or one word; never more.
            let told = bound((routes.0, word));
            assert_eq!(&told[..4], ["link", "up", &interface, &local], "{hook}");
            assert!(told.len() == 5 && told[4].starts_with("--gateway="), "{hook}: {told:?}");
        }
    }
}

#[test]
fn dhcpv6_clients_pass_each_word_as_one() {
    let stubs = Stubs::new();
    for word in HOSTILE {
        let interface = format!("--interface={word}");
        let told = |hook: &str, reason: &str, variables: &[&str]| {
            let mut client = stubs.shell("/bin/sh");
            client.args(["-c", ". \"$0\"", &glue(hook), word, reason]).env("reason", reason).env("interface", word);
            stubs.told(client.envs(variables.iter().map(|variable| (variable, word))))
        };
        let said = |option: &str| format!("{option}{word}");
        let up = ["link", "up", &interface, "--ipv6"];
        let (local, prefix) = (said("--local6="), said("--prefix="));
        let bound = told("hooks/dhclient", "BOUND6", &["new_ip6_address", "new_ip6_prefix"]);
        assert_eq!(bound, [&up[..], &[&local, &prefix]].concat());

        // What is no prefix and no address at all is nothing.
        let down = ["link", "down", &interface, "--prefixes"];
        let variables = ["new_dhcp6_ia_na1_ia_addr1", "new_dhcp6_ia_pd1_prefix1", "new_dhcp6_ia_pd1_prefix1_length"];
        assert_eq!(told("hooks/dhcpcd", "RENEW6", &variables), [&down[..], &up].concat());
        let router = told("hooks/dhcpcd", "ROUTERADVERT", &["nd1_from", "nd1_lifetime"]);
        assert_eq!(router, ["link", "down", &interface, "--ipv6"]);

        // Blanks part one from the next.
        let all = ["ADDRESSES", "RA_ADDRESSES", "PREFIXES", "RA_ROUTES"];
        let mut odhcp6c = stubs.shell("/bin/sh");
        odhcp6c.args([&glue("hooks/odhcp6c"), word, "bound"]).envs(all.map(|variable| (variable, word)));
        let told = stubs.told(&mut odhcp6c);
        assert_eq!(told[..3], ["link", "up", &interface]);
        let options = ["--local6=", "--prefix="];
        assert!(told[3..].iter().all(|word| options.iter().any(|option| word.starts_with(option))), "{told:?}");
    }
}

/// What `hook` tells in this environment; several calls are one after the other.
fn tells(hook: &str, args: &[&str], environment: &[(&str, &str)]) -> String {
    let stubs = Stubs::new();
    let mut shell = stubs.shell("/bin/sh");
    // Where it is sourced, it sees the arguments of the script that does so.
    shell.args(["-c", "hook=$0; . \"$hook\"", &glue(hook)]).args(args).envs(environment.iter().copied());
    stubs.told(&mut shell).join(" ")
}

#[test]
fn each_event_of_a_dhcpv6_client_is_about_ipv6_only() {
    let lease = [("new_dhcp6_ia_na1_ia_addr1", "2001:db8::7")];
    let prefixes = [
        ("new_dhcp6_ia_pd1_prefix1", "2001:db8:100::"),
        ("new_dhcp6_ia_pd1_prefix1_length", "56"),
        ("new_dhcp6_ia_pd1_prefix1_pltime", "900"),
        ("new_dhcp6_ia_pd2_prefix1", "2001:db8:2000::"),
        ("new_dhcp6_ia_pd2_prefix1_length", "60"),
        // Taken back.
        ("new_dhcp6_ia_pd2_prefix2", "2001:db8:3000::"),
        ("new_dhcp6_ia_pd2_prefix2_length", "60"),
        ("new_dhcp6_ia_pd2_prefix2_vltime", "0"),
        ("old_dhcp6_ia_pd1_prefix1", "2001:db8:900::"),
        ("old_dhcp6_ia_pd1_prefix1_length", "56"),
    ];
    let renumbered = [
        ("new_dhcp6_ia_na1_ia_addr1", "2001:db8::6"),
        ("new_dhcp6_ia_na1_ia_addr1_vltime", "0"),
        ("new_dhcp6_ia_na1_ia_addr2", "2001:db8::7"),
        ("new_dhcp6_ia_na1_ia_addr2_vltime", "7200"),
    ];
    let delegated = "--prefix=2001:db8:100::/56 --prefix=2001:db8:2000::/60";
    let routers = [
        ("nd1_from", "fe80::1"),
        ("nd1_lifetime", "0"),
        ("nd2_from", "fe80::2"),
        ("nd2_lifetime", "1800"),
        ("nd10_from", "fe80::10"),
        ("nd10_lifetime", "1800"),
    ];
    let both = [&lease[..], &prefixes].concat();
    let ended = [("old_dhcp6_ia_na1_ia_addr1", "2001:db8::7")];
    let only_prefix = [("old_dhcp6_ia_pd1_prefix1", "2001:db8:900::"), ("old_dhcp6_ia_pd1_prefix1_length", "56")];
    for (reasons, environment, expected) in [
        ("BOUND6 RENEW6 REBIND6 REBOOT6", &both[..], format!("up IF --ipv6 --local6=2001:db8::7 {delegated}")),
        ("BOUND6", &prefixes, format!("up IF --ipv6 {delegated}")),
        ("RENEW6", &lease, "down IF --prefixes link up IF --ipv6 --local6=2001:db8::7".to_owned()),
        ("RENEW6", &renumbered, "down IF --prefixes link up IF --ipv6 --local6=2001:db8::7".to_owned()),
        ("DELEGATED6 STATIC6", &[("new_delegated_dhcp6_prefix", "2001:db8:100::1/64")], "up IF --ipv6".to_owned()),
        ("EXPIRE6 STOP6 RELEASE6", &ended, "down IF --ipv6".to_owned()),
        ("EXPIRE6 STOP6 RELEASE6", &only_prefix, "down IF --prefixes".to_owned()),
        ("ROUTERADVERT", &routers, "up IF --ipv6 --gateway6=fe80::2".to_owned()),
        ("ROUTERADVERT", &routers[..2], "down IF --ipv6".to_owned()),
        ("ROUTERADVERT", &[], "down IF --ipv6".to_owned()),
        ("EXPIRE NAK RELEASE STOP FAIL", &[], "down IF --ipv4".to_owned()),
        ("NOCARRIER DEPARTED", &[], "down IF".to_owned()),
        ("IPV4LL NOCARRIER_ROAMING PREINIT CARRIER INFORM6 TEST STOPPED", &both, String::new()),
    ] {
        for reason in reasons.split(' ') {
            let more = [("reason", reason), ("interface", "eth1")];
            let told = tells("hooks/dhcpcd", &[], &[environment, &more].concat());
            let expected = if expected.is_empty() { String::new() } else { format!("link {expected}") };
            assert_eq!(told.replace("--interface=eth1", "IF"), expected, "{reason} {environment:?}");
        }
    }

    let address = [("new_ip6_address", "2001:db8::7"), ("new_ip6_prefixlen", "128")];
    let prefix = [("new_ip6_prefix", "2001:db8:100::/56")];
    for (reasons, environment, expected) in [
        ("BOUND6 RENEW6 REBIND6", &address[..], "link up IF --ipv6 --local6=2001:db8::7"),
        ("BOUND6 RENEW6 REBIND6", &prefix, "link up IF --ipv6 --prefix=2001:db8:100::/56"),
        // Only other options.
        ("BOUND6", &[], ""),
        ("DEPREF6", &[("cur_ip6_address", "2001:db8::7")], ""),
        ("EXPIRE6 RELEASE6 STOP6", &[("old_ip6_address", "2001:db8::7")], "link down IF --ipv6"),
        ("EXPIRE6 RELEASE6 STOP6", &[("old_ip6_prefix", "2001:db8:100::/56")], "link down IF --prefixes"),
        ("EXPIRE FAIL RELEASE STOP", &[], "link down IF --ipv4"),
    ] {
        for reason in reasons.split(' ') {
            let more = [("reason", reason), ("interface", "eth1")];
            let told = tells("hooks/dhclient", &[], &[environment, &more].concat());
            assert_eq!(told.replace("--interface=eth1", "IF"), expected, "{reason} {environment:?}");
        }
    }
}

/// Environment as odhcp6c's README and its `entry_to_env()` have it.
#[test]
fn odhcp6cs_states_are_the_ipv6_of_the_link() {
    let route = "2001:db8:f::/48,fe80::9,1800,512 ::/0,fe80::8,0,512 ::/0,fe80::1,1800,512 ::/0,fe80::2,1800,1024";
    let prefixes = "2001:db8:100::/56,900,1800,450,720 2001:db8:200::/56,0,0,0,0 \
                    2001:db8:300::/60,900,1800,450,720,class=00000002,excluded=2001:db8:300:f::/64";
    let all = [
        ("RA_ROUTES", route),
        ("ADDRESSES", "2001:db8::7/128,900,1800,450,720"),
        ("RA_ADDRESSES", "2001:db8::a:b/64,900,1800,0,0"),
        ("PREFIXES", prefixes),
    ];
    let delegated = "--prefix=2001:db8:100::/56 --prefix=2001:db8:300::/60";
    for (states, environment, expected) in [
        (
            "bound informed updated rebound ra-updated",
            &all[..],
            format!("link up IF --gateway6=fe80::1 --local6=2001:db8::7 {delegated}"),
        ),
        ("ra-updated", &all[..1], "link up IF --gateway6=fe80::1".to_owned()),
        ("ra-updated", &all[2..3], "link up IF --local6=2001:db8::a:b".to_owned()),
        // An older version says less of each.
        ("bound", &[("PREFIXES", "2001:db8:100::/56,900,1800")], "link up IF --prefix=2001:db8:100::/56".to_owned()),
        ("updated", &[("PREFIXES", "2001:db8:100::/56,0,0,0,0")], "link down IF --ipv6".to_owned()),
        ("started unbound stopped", &all, "link down IF --ipv6".to_owned()),
        ("timeout", &all, String::new()),
    ] {
        for state in states.split(' ') {
            let told = tells("hooks/odhcp6c", &["eth1", state], environment);
            assert_eq!(told.replace("--interface=eth1", "IF"), expected, "{state} {environment:?}");
        }
    }
}

/// Environment as NetworkManager-dispatcher(8) has it.
#[test]
fn networkmanager_tells_of_what_it_has() {
    let four = [("IP4_ADDRESS_0", "192.0.2.7/24 192.0.2.1"), ("IP4_GATEWAY", "192.0.2.1")];
    let six =
        [("IP6_ADDRESS_0", "fe80::7/64 ::"), ("IP6_ADDRESS_1", "2001:db8::7/64 fe80::1"), ("IP6_GATEWAY", "fe80::1")];
    let prefix = [("DHCP6_IP6_PREFIX", "2001:db8:100::/56")];
    let told4 = "--local=192.0.2.7 --gateway=192.0.2.1";
    let told6 = "--ipv6 --local6=2001:db8::7 --gateway6=fe80::1";
    for (actions, environment, expected) in [
        ("up dhcp4-change dhcp6-change reapply", &four[..], format!("link up IF {told4}")),
        ("up dhcp6-change", &six, format!("link up IF {told6}")),
        ("up", &[&four[..], &six, &prefix].concat(), format!("link up IF {told4} {told6} --prefix=2001:db8:100::/56")),
        ("dhcp6-change", &prefix, "link up IF --ipv6 --prefix=2001:db8:100::/56".to_owned()),
        ("up", &[&four[..], &six[..1], &[("IP6_GATEWAY", "::")]].concat(), format!("link up IF {told4}")),
        ("up", &[six[1], ("IP6_GATEWAY", "::")], "link up IF --ipv6 --local6=2001:db8::7".to_owned()),
        ("up hostname connectivity-change", &six[..1], String::new()),
        (
            "vpn-up",
            &[("VPN_IP4_ADDRESS_0", "10.8.0.6/24"), ("VPN_IP6_ADDRESS_0", "fd00:8::6/64"), ("VPN_IP6_GATEWAY", "::")],
            "link up IF --local=10.8.0.6 --ipv6 --local6=fd00:8::6".to_owned(),
        ),
        ("down pre-down vpn-down vpn-pre-down", &four, "link down IF".to_owned()),
    ] {
        for action in actions.split(' ') {
            let stubs = Stubs::new();
            let mut manager = stubs.shell("/bin/sh");
            manager.args([&glue("hooks/NetworkManager"), "eth1", action]).envs(environment.iter().copied());
            let told = stubs.told(&mut manager).join(" ");
            assert_eq!(told.replace("--interface=eth1", "IF"), expected, "{action} {environment:?}");
        }
    }
}

#[test]
fn a_router_of_zeros_is_none() {
    let stubs = Stubs::new();
    let expected = ["link", "up", "--interface=eth1", "--local=192.0.2.7"];
    for (hook, routes) in [
        ("hooks/dhclient", ("new_rfc3442_classless_static_routes", "0 0 0 0 0")),
        ("hooks/dhclient", ("new_routers", "0.0.0.0")),
        ("hooks/dhcpcd", ("new_classless_static_routes", "0.0.0.0/0 0.0.0.0")),
        ("hooks/dhcpcd", ("new_routers", "0.0.0.0")),
    ] {
        let mut client = stubs.shell("/bin/sh");
        client.args(["-c", ". \"$0\"", &glue(hook)]).env("reason", "BOUND").env("interface", "eth1");
        client.env("new_ip_address", "192.0.2.7").env(routes.0, routes.1);
        assert_eq!(stubs.told(&mut client), expected, "{hook}, {routes:?}");
    }
    let mut manager = stubs.shell("/bin/sh");
    manager.args([&glue("hooks/NetworkManager"), "eth1", "up"]);
    manager.env("IP4_ADDRESS_0", "192.0.2.7/24").env("IP4_GATEWAY", "0.0.0.0");
    assert_eq!(stubs.told(&mut manager), expected);
}

/// wg-quick(8) takes names of letters, digits and `_=+.-`, and has bash evaluate the line.
#[test]
fn wg_quick_passes_the_interface_as_one_word() {
    let stubs = Stubs::new();
    let conf = fs::read_to_string(glue("hooks/wg-quick.conf")).unwrap();
    for name in ["wg0", "-v", "--config=x", "a+b.c=d-e_f"] {
        for (key, change) in [("PostUp = ", "up"), ("PreDown = ", "down")] {
            let line = conf.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            let line = line.replace("%i", name).replace("/usr/sbin/mhctl", &stubs.path("mhctl"));
            let told = stubs.told(stubs.shell("/bin/bash").args(["-c", "eval \"$0\"", &line]));
            assert_eq!(told, ["link", change, &format!("--interface={name}")]);
        }
    }
}

/// The configuration says which protocol number and marks are ours.
#[test]
fn a_purge_says_what_stays_where_the_configuration_is_gone() {
    let stubs = Stubs::new();
    let script = fs::read_to_string(glue("packaging/debian/scripts/postrm")).unwrap();
    let script = script.replace("/run/multihome", &stubs.path("run")).replace("/var/lib/multihome", &stubs.path("lib"));
    let script = script.replace("/etc/multihome.toml", &stubs.path("multihome.toml"));
    let purge = |has_configuration: bool| {
        for dir in ["run", "lib"] {
            fs::create_dir(stubs.path(dir)).unwrap();
        }
        fs::write(stubs.path("run/lock"), "").unwrap();
        install(stubs.path("mhctl"), stubs.path("lib/mhctl"));
        if has_configuration {
            fs::write(stubs.path("multihome.toml"), "").unwrap();
        }
        let output = Command::new("/bin/sh").args(["-ec", &script, "postrm", "purge"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(["run", "lib", "multihome.toml"].iter().all(|path| !Path::new(&stubs.path(path)).exists()));
        let said = String::from_utf8(output.stderr).unwrap();
        (String::from_utf8(output.stdout).unwrap(), said.replace(&stubs.path("multihome.toml"), "/etc/multihome.toml"))
    };
    let (told, said) = purge(true);
    assert!(told == "flush\0" && said.starts_with("multihome: taking away routes"), "{told} {said}");
    let stays =
        "multihome: routes, rules and firewall chains stay until the next boot: there is no /etc/multihome.toml.\n";
    assert_eq!(purge(false), (String::new(), stays.to_owned()));
}

#[test]
fn scripts_in_front_of_pppds_hooks_pass_all_six_words_as_they_are() {
    let stubs = Stubs::new();
    fs::write(stubs.path("multihome.toml"), "").unwrap();
    for path in ["packaging/debian/ip-up", "packaging/debian/ip-down", "etc-ppp/ip-up.local", "etc-ppp/ip-down.local"] {
        let script = fs::read_to_string(glue(path)).unwrap().replace("/usr/sbin/", &stubs.path(""));
        let script = script.replace("/etc/multihome.toml", &stubs.path("multihome.toml"));
        for word in HOSTILE {
            let words = ["ppp0", word, word, "192.0.2.7", "192.0.2.1", word];
            assert_eq!(stubs.told(stubs.shell("/bin/sh").args(["-c", &script, path]).args(words)), words, "{path}");
        }
    }
}
