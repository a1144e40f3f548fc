//! `mhctl setup` and `mhctl unsetup` where there is something already: files of others, of a package, of another prefix.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::setup::*;

#[test]
fn what_is_somebody_elses_stays() {
    let root = Root::new(&[("etc/ppp/ip-up.local", "#!/bin/sh\necho mine\n")]);
    let output = root.run(&["setup", "--distribution", "fedora", "--bin-dir", "/usr/sbin"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("add this line to it: /usr/sbin/mh-ip-up \"$@\""), "{text}");
    assert_eq!(fs::read_to_string(root.at("etc/ppp/ip-up.local")).unwrap(), "#!/bin/sh\necho mine\n");
    root.done(&["unsetup"]);
    assert_eq!(fs::read_to_string(root.at("etc/ppp/ip-up.local")).unwrap(), "#!/bin/sh\necho mine\n");
}

#[test]
fn unsetup_leaves_what_was_changed_after_it_was_made() {
    let root = Root::new(&DEBIAN);
    root.setup(&[]);
    root.write("etc/systemd/system/multihome.timer", "[Timer]\nOnBootSec=5min\n");
    fs::remove_file(root.at("etc/ppp/ip-up.d/0multihome")).unwrap();
    symlink("/usr/local/sbin/mh-ip-up", root.at("etc/ppp/ip-up.d/0multihome")).unwrap();
    fs::remove_file(root.at("etc/ppp/ip-down.d/0multihome")).unwrap();
    let output = root.run(&["unsetup"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("foreign      /etc/systemd/system/multihome.timer"), "{text}");
    assert!(text.contains("foreign      /etc/ppp/ip-up.d/0multihome"), "{text}");
    assert!(!text.contains("ip-down.d"), "{text}");
    assert_eq!(root.all()["etc/ppp/ip-up.d/0multihome"], "-> /usr/local/sbin/mh-ip-up");
    assert!(root.at("etc/systemd/system/multihome.timer").exists());
    assert!(!root.at("etc/systemd/system/multihome.service").exists());
    assert!(!root.at("var").exists());
}

#[test]
fn what_was_there_already_is_not_taken_back() {
    let root = Root::new(&DEBIAN);
    symlink("/usr/sbin/mh-ip-up", root.at("etc/ppp/ip-up.d/0multihome")).unwrap();
    let before = root.all();
    assert!(root.setup(&[]).contains("there        /etc/ppp/ip-up.d/0multihome"));
    root.done(&["unsetup"]);
    assert_eq!(root.all(), before);
}

#[test]
fn what_was_installed_under_another_prefix_is_linked_there() {
    let root = Root::new(&DEBIAN);
    for (_, name) in UNITS {
        root.write(&format!("usr/local/lib/systemd/system/{name}"), "");
    }
    let before = root.all();
    root.done(&["setup", "--bin-dir", "/usr/local/sbin"]);
    let all = root.all();
    assert_eq!(all["etc/ppp/ip-up.d/0multihome"], "-> /usr/local/sbin/mh-ip-up");
    for (target, name) in UNITS {
        let link = format!("etc/systemd/system/{target}.target.wants/{name}");
        assert_eq!(all[&link], format!("-> /usr/local/lib/systemd/system/{name}"));
        // One there would go before the installed one, and outlive it.
        assert!(!root.at("etc/systemd/system").join(name).exists());
    }
    root.done(&["unsetup"]);
    assert_eq!(root.all(), before);
}

#[test]
fn what_a_package_has_put_in_place_is_there() {
    let root = Root::new(&DEBIAN);
    for (event, program) in [("ip-up", "ip-up"), ("ipv6-up", "ip-up"), ("ip-down", "ip-down"), ("ipv6-down", "ip-down")]
    {
        let hook = format!("etc/ppp/{event}.d/0multihome");
        root.write(&hook, &fs::read_to_string(format!("packaging/debian/{program}")).unwrap());
        fs::set_permissions(root.at(&hook), fs::Permissions::from_mode(0o755)).unwrap();
    }
    for (target, name) in UNITS {
        root.write(&format!("usr/lib/systemd/system/{name}"), "");
        let dir = root.at("etc/systemd/system").join(format!("{target}.target.wants"));
        fs::create_dir_all(&dir).unwrap();
        // As systemctl(1) of a merged /usr has it.
        symlink(format!("/lib/systemd/system/{name}"), dir.join(name)).unwrap();
    }
    root.write("usr/lib/systemd/system/mh-watch.service", "");
    let before = root.all();
    let text = root.setup(&[]);
    assert!(text.contains("there        /etc/ppp/ip-up.d/0multihome"), "{text}");
    let mut made = new(&before, &root.all());
    made.retain(|(path, _)| path != "var/lib/multihome/setup.toml");
    let made: Vec<_> = made.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(made, ["etc/iproute2/rt_protos.d/multihome.conf", "etc/iproute2/rt_tables.d/multihome.conf"]);
    root.done(&["unsetup"]);
    assert_eq!(root.all(), before);
}

#[test]
fn a_script_with_the_line_that_was_to_be_added_is_there() {
    let root = Root::new(&[]);
    for event in ["ip-up", "ip-down", "ipv6-up", "ipv6-down"] {
        let program = if event.ends_with("up") { "mh-ip-up" } else { "mh-ip-down" };
        let script = format!("etc/ppp/{event}.local");
        root.write(&script, &format!("#!/bin/sh\necho mine\n/usr/sbin/{program} \"$@\"\n"));
        fs::set_permissions(root.at(&script), fs::Permissions::from_mode(0o755)).unwrap();
    }
    assert!(root.setup(&["--distribution", "fedora"]).contains("there        /etc/ppp/ip-up.local"));
    // A comment runs nothing, and neither does a script that is not executable.
    root.write("etc/ppp/ip-up.local", "#!/bin/sh\n# /usr/sbin/mh-ip-up \"$@\"\n");
    fs::set_permissions(root.at("etc/ppp/ip-down.local"), fs::Permissions::from_mode(0o644)).unwrap();
    let output = root.run(&["setup", "--distribution", "fedora", "--bin-dir", "/usr/sbin"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("foreign      /etc/ppp/ip-up.local"), "{text}");
    assert!(text.contains("foreign      /etc/ppp/ip-down.local"), "{text}");
}
