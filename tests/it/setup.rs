//! `mhctl setup` and `mhctl unsetup` in a scratch root, byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{ARTICLE, CTL, install_script};
use tempfile::TempDir;

/// A file tree of its own.
pub struct Root(TempDir);

impl Root {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let root = Self(TempDir::new().unwrap());
        for (path, text) in files {
            root.write(path, text);
        }
        root
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
    }

    pub fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(CTL);
        command.env_clear().args(args).arg("--root").arg(self.0.path());
        command.output().unwrap()
    }

    pub fn setup(&self, args: &[&str]) -> String {
        self.done(&[&["setup", "--bin-dir", "/usr/sbin"], args].concat())
    }

    pub fn done(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Everything in the tree: what a path is, its mode, and what it holds.
    pub fn all(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        list(self.0.path(), self.0.path(), &mut all);
        all
    }
}

fn list(root: &Path, dir: &Path, all: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let meta = path.symlink_metadata().unwrap();
        let mode = meta.permissions().mode() & 0o7777;
        if meta.is_symlink() {
            all.insert(name, format!("-> {}", fs::read_link(&path).unwrap().display()));
        } else if meta.is_dir() {
            all.insert(name, format!("directory {mode:o}"));
            list(root, &path, all);
        } else {
            all.insert(name, format!("{mode:o} {}", fs::read_to_string(&path).unwrap()));
        }
    }
}

/// What is in `after` and not, or not so, in `before`; directories apart.
pub fn new(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let differs =
        |(path, what): &(&String, &String)| before.get(*path) != Some(*what) && !what.starts_with("directory");
    after.iter().filter(differs).map(|(path, what)| (path.clone(), what.clone())).collect()
}

pub const DEBIAN: [(&str, &str); 3] = [
    ("etc/os-release", "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n"),
    ("etc/multihome.toml", ARTICLE),
    ("etc/ppp/ip-up.d/0000usepeerdns", "#!/bin/sh\n"),
];

pub const UNITS: [(&str, &str); 3] =
    [("multi-user", "multihome.service"), ("multi-user", "multihome-online.service"), ("timers", "multihome.timer")];

#[test]
fn setup_on_debian_makes_just_this_and_unsetup_leaves_nothing_of_it() {
    let root = Root::new(&DEBIAN);
    let before = root.all();
    root.setup(&["--dry-run"]);
    assert_eq!(root.all(), before, "a dry run touches nothing");

    root.setup(&[]);
    let unit = |name| format!("644 {}", fs::read_to_string(format!("systemd/{name}")).unwrap());
    let head = "# Made by `mhctl setup` from the configuration; `mhctl setup` renews it.";
    let mut made = new(&before, &root.all());
    made.retain(|(path, _)| path != "var/lib/multihome/setup.toml");
    let expected = [
        ("etc/iproute2/rt_protos.d/multihome.conf", format!("644 {head}\n77\tmultihome\n")),
        ("etc/iproute2/rt_tables.d/multihome.conf", format!("644 {head}\n1\tisp1\n2\tisp2\n3\tvpn\n")),
        ("etc/ppp/ip-down.d/0multihome", "-> /usr/sbin/mh-ip-down".to_owned()),
        ("etc/ppp/ip-up.d/0multihome", "-> /usr/sbin/mh-ip-up".to_owned()),
        ("etc/ppp/ipv6-down.d/0multihome", "-> /usr/sbin/mh-ip-down".to_owned()),
        ("etc/ppp/ipv6-up.d/0multihome", "-> /usr/sbin/mh-ip-up".to_owned()),
        ("etc/systemd/system/mh-watch.service", unit("mh-watch.service")),
        (
            "etc/systemd/system/multi-user.target.wants/multihome-online.service",
            "-> /etc/systemd/system/multihome-online.service".to_owned(),
        ),
        (
            "etc/systemd/system/multi-user.target.wants/multihome.service",
            "-> /etc/systemd/system/multihome.service".to_owned(),
        ),
        ("etc/systemd/system/multihome-online.service", unit("multihome-online.service")),
        ("etc/systemd/system/multihome.service", unit("multihome.service")),
        ("etc/systemd/system/multihome.timer", unit("multihome.timer")),
        ("etc/systemd/system/timers.target.wants/multihome.timer", "-> /etc/systemd/system/multihome.timer".to_owned()),
    ];
    assert_eq!(made, expected.map(|(path, what)| (path.to_owned(), what)));

    let after = root.all();
    assert!(root.setup(&[]).contains("nothing to do"));
    assert_eq!(root.all(), after, "a second run changes nothing");

    root.done(&["unsetup", "--dry-run"]);
    assert_eq!(root.all(), after);
    root.done(&["unsetup"]);
    assert_eq!(root.all(), before);
    assert!(root.done(&["unsetup"]).contains("nothing to do"));
}

#[test]
fn each_distribution_gets_its_hooks_where_its_pppd_looks() {
    for (name, hooks) in [
        ("fedora", &["ip-down.local", "ip-up.local", "ipv6-down.local", "ipv6-up.local"][..]),
        (
            "arch",
            &[
                "ip-down.d/0multihome.sh",
                "ip-up.d/0multihome.sh",
                "ipv6-down.d/0multihome.sh",
                "ipv6-up.d/0multihome.sh",
            ],
        ),
        ("openwrt", &["ip-down.d/0multihome", "ip-up.d/0multihome"]),
        ("plain", &["ip-down", "ip-up", "ipv6-down", "ipv6-up"]),
    ] {
        let root = Root::new(&[]);
        root.setup(&["--distribution", name]);
        let made = new(&BTreeMap::new(), &root.all());
        let found: Vec<_> =
            made.iter().filter_map(|(path, what)| Some((path.strip_prefix("etc/ppp/")?, what))).collect();
        assert_eq!(found.iter().map(|(path, _)| *path).collect::<Vec<_>>(), hooks, "{name}");
        for (path, what) in found {
            let program = if path.contains("up") { "mh-ip-up" } else { "mh-ip-down" };
            assert_eq!(*what, format!("-> /usr/sbin/{program}"), "{name} {path}");
        }
        assert_eq!(root.at("etc/systemd").exists(), name == "fedora" || name == "arch", "{name}");
        root.done(&["unsetup"]);
        assert_eq!(root.all(), BTreeMap::new(), "{name}");
    }
}

#[test]
fn a_sourced_hook_runs_the_executable_with_pppds_arguments() {
    let root = Root::new(&[]);
    let bin = root.at("bin");
    fs::create_dir(&bin).unwrap();
    install_script("#!/bin/sh\necho \"$@\"\n", bin.join("mh-ip-up"));
    root.done(&["setup", "--distribution", "gentoo", "--bin-dir", bin.to_str().unwrap()]);
    let hook = root.at("etc/ppp/ip-up.d/0multihome.sh");
    let sourced = Command::new("sh").args(["-c", ". \"$0\"", hook.to_str().unwrap(), "ppp0", "a b"]).output().unwrap();
    assert_eq!(String::from_utf8(sourced.stdout).unwrap(), "ppp0 a b\n");
    let run = Command::new(&hook).args(["ppp0", "a b"]).output().unwrap();
    assert_eq!(String::from_utf8(run.stdout).unwrap(), "ppp0 a b\n");
}

#[test]
fn debians_run_parts_takes_the_hooks_name() {
    let root = Root::new(&DEBIAN);
    fs::create_dir_all(root.at("bin")).unwrap();
    for name in ["mh-ip-up", "mh-ip-down", "mh-vpn-up", "mh-watch", "mhctl"] {
        symlink("/bin/true", root.at("bin").join(name)).unwrap();
    }
    root.done(&["setup", "--bin-dir", root.at("bin").to_str().unwrap()]);
    let listed = Command::new("run-parts").arg("--test").arg(root.at("etc/ppp/ip-up.d")).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("/ip-up.d/0multihome\n"), "{listed}");
}

#[test]
fn a_changed_configuration_renews_the_names_and_an_absent_one_leaves_them() {
    let root = Root::new(&DEBIAN);
    let names = "etc/iproute2/rt_tables.d/multihome.conf";
    root.setup(&[]);
    root.write("etc/multihome.toml", "[[uplink]]\nname = \"cable\"\ninterface = \"eth1\"\ntable = 70\n");
    assert!(root.setup(&[]).contains("renewed      /etc/iproute2/rt_tables.d/multihome.conf"));
    assert!(fs::read_to_string(root.at(names)).unwrap().ends_with("\n70\tcable\n"));
    fs::remove_file(root.at("etc/multihome.toml")).unwrap();
    root.setup(&[]);
    assert!(root.at(names).exists());
    root.done(&["unsetup"]);
    assert!(!root.at(names).exists());
}

#[test]
fn a_bad_configuration_stops_it_before_anything_is_touched() {
    let root = Root::new(&DEBIAN);
    root.write("etc/multihome.toml", "[[uplink]]\nname = \"UP\"\n");
    let before = root.all();
    assert_eq!(root.run(&["setup"]).status.code(), Some(1));
    assert_eq!(root.all(), before);
}

#[test]
fn another_distribution_moves_the_hooks() {
    let root = Root::new(&DEBIAN);
    root.setup(&[]);
    let text = root.setup(&["--distribution", "fedora"]);
    assert!(text.contains("removed      /etc/ppp/ip-up.d/0multihome"), "{text}");
    assert!(!root.at("etc/ppp/ip-up.d/0multihome").exists());
    assert!(root.at("etc/ppp/ip-up.local").symlink_metadata().is_ok());
}

#[test]
fn what_was_said_of_the_distribution_holds_until_something_else_is_said() {
    for name in ["arch", "fedora", "suse", "gentoo", "plain"] {
        let root = Root::new(&[("etc/multihome.toml", ARTICLE)]);
        for program in ["mh-ip-up", "mh-ip-down", "mh-vpn-up", "mh-watch", "mhctl"] {
            root.write(&format!("usr/sbin/{program}"), "");
            fs::set_permissions(root.at("usr/sbin").join(program), fs::Permissions::from_mode(0o755)).unwrap();
        }
        root.setup(&["--distribution", name]);
        let before = root.all();
        let again = root.setup(&[]);
        assert!(again.contains(&format!("as on: {name} (as was said before)")), "{again}");
        assert!(again.contains("nothing to do"), "{name}: {again}");
        assert_eq!(root.all(), before, "{name}");
        let doctor = String::from_utf8(root.run(&["doctor"]).stdout).unwrap();
        assert!(!doctor.contains("/etc/ppp"), "{name}: {doctor}");
        // Manifests of before did not have it; saying it again writes it down, although all else is there.
        let manifest = fs::read_to_string(root.at("var/lib/multihome/setup.toml")).unwrap();
        let line = format!("distribution = \"{name}\"\n");
        assert!(manifest.contains(&line), "{manifest}");
        root.write("var/lib/multihome/setup.toml", &manifest.replace(&line, ""));
        root.setup(&["--distribution", name]);
        assert_eq!(root.all(), before, "{name}");
    }
}

#[test]
fn an_unknown_distribution_is_asked_for() {
    let output = Root::new(&[]).run(&["setup"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("say --distribution debian"));
}

const DROP_IN: &str = "etc/systemd/networkd.conf.d/multihome.conf";
const FOREIGN: &str = "\n[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n";

#[test]
fn networkd_is_told_to_leave_alone_what_is_not_its_own_where_it_is_there() {
    let table = "Network.ManageForeignRoutes\0";
    for (files, text) in [
        (&[][..], None),
        // Version 252 has no more keys, 257 has a third.
        (&[("usr/lib/systemd/systemd-networkd", table.to_owned())], Some(FOREIGN.to_owned())),
        (
            &[("usr/lib/systemd/systemd-networkd", format!("{table}Network.ManageForeignNextHops\0"))],
            Some(format!("{FOREIGN}ManageForeignNextHops=no\n")),
        ),
        (&[("etc/systemd/network/wan.network", "[Match]\n".to_owned())], Some(FOREIGN.to_owned())),
        (&[("run/systemd/netif/state", String::new())], Some(FOREIGN.to_owned())),
    ] {
        let root = Root::new(&DEBIAN);
        for (path, text) in files {
            root.write(path, text);
        }
        let before = root.all();
        let said = root.setup(&[]);
        let made = fs::read_to_string(root.at(DROP_IN)).ok();
        assert_eq!(made.as_ref().map(|made| made.split_once('\n').unwrap().1), text.as_ref().map(|t| &t[1..]));
        assert_eq!(
            said.contains("made         /etc/systemd/networkd.conf.d/multihome.conf\n"),
            text.is_some(),
            "{said}"
        );
        let running = root.at("run/systemd/netif").exists();
        assert_eq!(said.ends_with("&& systemctl restart systemd-networkd\n"), running, "{said}");
        assert!(root.setup(&[]).contains("nothing to do"));
        root.done(&["unsetup"]);
        assert_eq!(root.all(), before);
    }
}

#[test]
fn a_networkd_that_the_administrator_has_told_already_is_left_so() {
    let root = Root::new(&DEBIAN);
    root.write("run/systemd/netif/state", "");
    // As doctor says to write it.
    let own = "[Network]\nManageForeignRoutingPolicyRules=no\nManageForeignRoutes=no\nManageForeignNextHops=no\n";
    root.write(DROP_IN, own);
    let said = root.setup(&[]);
    assert!(said.contains("there        /etc/systemd/networkd.conf.d/multihome.conf\n"), "{said}");
    assert!(!said.contains("restart systemd-networkd"), "{said}");
    root.done(&["unsetup"]);
    assert_eq!(fs::read_to_string(root.at(DROP_IN)).unwrap(), own);
    root.write(DROP_IN, "[Network]\nManageForeignRoutes=no\n");
    let output = root.run(&["setup", "--bin-dir", "/usr/sbin"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}
