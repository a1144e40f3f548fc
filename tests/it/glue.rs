//! What stands between other programs and the executables: whatever comes from outside arrives as one word, and never
//! as an option or a command.

use std::fs;
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
        let (local, gateway) = (format!("--local={}", word.split('/').next().unwrap()), format!("--gateway={word}"));
        assert_eq!(stubs.told(&mut manager), ["link", "up", &interface, &local, &gateway]);
        let mut manager = stubs.shell("/bin/sh");
        manager.args([&glue("hooks/NetworkManager"), word, "down"]);
        assert_eq!(stubs.told(&mut manager), ["link", "down", &interface]);

        let mut networkd = stubs.shell("/bin/sh");
        networkd.arg(glue("hooks/networkd-dispatcher")).env("STATE", "routable").env("IFACE", word);
        networkd.env("IP_ADDRS", "192.0.2.7/24 192.0.2.8/24");
        let expected = ["link", "up", &interface, "--local=192.0.2.7", "--gateway=192.0.2.1"];
        assert_eq!(stubs.told(&mut networkd), expected);
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
