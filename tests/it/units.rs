//! Under systemd's confinement: real OpenVPN as Debian's openvpn-client@.service has it, and `mhctl apply` as our own
//! unit has it. The units are read, and what they say is made by hand, for there is no systemd here.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use crate::support::files::own_files;
use crate::support::filter::{flush_marks, managed};
use crate::support::openvpn::*;
use crate::support::openvpn_traffic::*;
use crate::support::strace::log;
use crate::support::*;

const BY_DEVICE: &str = "default dev tun0 table 3 proto 77 scope 253";

/// What a unit does to the file system, as systemd.exec(5) and systemd.resource-control(5) say it: `$1` read-only but for
/// `$4`, no homes, an own /tmp, and, if there is a `$2`, of /dev this and what every service may have. Files that are
/// open or bound stay. `$3`, if not empty, is a directory that does not exist yet; the rest is the command.
const MOUNTS: &str = r#"set -e
protected=$1 allowed=$2 absent=$3 writable=$4
shift 4
for dir in $protected; do
    [ "$dir" = / ] || mount --rbind "$dir" "$dir"
    while read -r _ _ _ _ point _; do
        # The kernel's own file systems are none of a unit's that protects all.
        case $point in /proc | /proc/* | /sys | /sys/* | /dev | /dev/*) continue ;; esac
        case $point in "${dir%/}"/* | "$dir") ;; *) continue ;; esac
        case $writable:$point in ?*:"$writable" | ?*:"$writable"/*) continue ;; esac
        # What another mount hides cannot be named.
        mount -o remount,bind,ro "$point" 2>/dev/null || ! touch "$point/writable" 2>/dev/null
    done </proc/self/mountinfo
    ! touch "$dir/writable" 2>/dev/null
done
for dir in /home /root /run/user; do [ ! -d "$dir" ] || mount -t tmpfs -o mode=000,ro tmpfs "$dir"; done
for dir in /tmp /var/tmp; do mount -t tmpfs -o mode=1777 tmpfs "$dir"; done
if [ -n "$allowed" ]; then
    mkdir /tmp/dev
    mount -t tmpfs -o mode=755 tmpfs /tmp/dev
    for node in $allowed /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /dev/log; do
        [ -e "$node" ] || continue
        mkdir -p "/tmp${node%/*}"
        touch "/tmp$node"
        mount --bind "$node" "/tmp$node"
    done
    mount --move /tmp/dev /dev
    rmdir /tmp/dev
fi
if [ -n "$absent" ]; then umount "$absent"; rmdir "$absent"; fi
[ -z "$(ls -A /tmp)" ]
exec "$@""#;

/// Debian's.
const OPENVPN: &str = "/usr/lib/systemd/system/openvpn-client@.service";
/// Ours.
const OWN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/multihome.service");

/// Settings that are about what a process may ask of the kernel.
const PROCESS: [&str; 12] = [
    "PrivateMounts",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
];

/// The command that confines `command` as the unit does.
fn under(unit: &str, absent: &str, command: &[&str]) -> Vec<String> {
    let text = fs::read_to_string(unit).unwrap_or_else(|e| panic!("{unit}: {e}: install Debian's openvpn"));
    let service = text.split("[Service]").nth(1).unwrap().split("\n[").next().unwrap();
    let mut umask = Vec::new();
    let (mut devices, mut limits, mut privileges, mut protected, mut writable) = (vec![], vec![], vec![], "", "");
    for line in service.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.split_once('=').unwrap() {
            ("CapabilityBoundingSet", set) => {
                let set = set.split_whitespace().map(|cap| cap.strip_prefix("CAP_").unwrap().to_lowercase());
                privileges.push(format!("--bounding-set=-all,+{}", set.collect::<Vec<_>>().join(",+")));
            }
            ("NoNewPrivileges", "yes") => privileges.push("--no-new-privs".to_owned()),
            ("UMask", mask) => {
                umask.extend(["/bin/sh", "-c", r#"umask $0 && exec "$@""#, mask].map(str::to_owned));
            }
            ("LimitNPROC", limit) => limits.push(format!("--nproc={limit}")),
            ("DeviceAllow", device) => devices.push(device.strip_suffix(" rw").unwrap()),
            ("ProtectSystem", "true") => protected = "/usr /boot",
            ("ProtectSystem", "strict") => protected = "/",
            ("ReadWritePaths", path) => writable = path,
            ("PrivateDevices", "yes") => devices.push("/dev/null"),
            ("ExecStart", start) => {
                let known = ["/mhctl apply", "/openvpn --suppress-timestamps --nobind --config %i.conf"];
                assert!(known.iter().any(|known| start.ends_with(known)), "{start}");
            }
            // What `MOUNTS` does for both; the view that a client has; what systemd does before and after; what takes away
            // no file, or goes with those capabilities. Which calls are made is looked at below, and tests/boot has
            // systemd itself forbid all others.
            ("ProtectHome" | "PrivateTmp", "true" | "yes")
            | ("WorkingDirectory", "/etc/openvpn/client")
            | (
                "Type" | "KillMode" | "Restart" | "RestartSec" | "LogLevelMax" | "StandardOutput" | "SystemCallFilter",
                _,
            )
            | ("SystemCallArchitectures", "native")
            | ("RestrictAddressFamilies", "AF_UNIX AF_NETLINK AF_INET AF_INET6") => {}
            (key, "yes" | "no") if PROCESS.contains(&key) => {}
            _ => panic!("{unit} says {line}, which nothing here does"),
        }
    }
    assert!(!privileges.is_empty() && !protected.is_empty(), "{service}");
    assert!(service.contains("\nProtectHome="), "{service}");
    assert!(service.contains("\nPrivateTmp=") || protected == "/", "{service}");
    let mut words: Vec<_> = ["/bin/sh", "-c", MOUNTS, "unit", protected].map(str::to_owned).into();
    words.extend([devices.join(" "), absent.to_owned(), writable.to_owned(), "prlimit".to_owned()]);
    words.extend(limits);
    words.extend(["--", "setpriv"].map(str::to_owned));
    words.extend(privileges);
    words.extend(umask);
    words.extend(command.iter().map(|&word| word.to_owned()));
    words
}

/// Borrowed, as a command line wants them.
fn words(owned: &[String]) -> Vec<&str> {
    owned.iter().map(String::as_str).collect()
}

/// The article's set-up with both lines up, and a policy to the host behind the tunnel.
fn world(config: &str) -> World {
    let world = World::new(&format!(
        "{config}\n[[policy]]\nname = 'company'\nto = '10.9.0.0/24'\nvia = ['vpn']\notherwise = 'unreachable'\n"
    ));
    world.up(ISP1);
    world.up(ISP2);
    world
}

/// Runs `what` with each packet filter, which the configuration names.
fn with_each_filter(what: fn(&str)) {
    for filter in ["nftables", "iptables"] {
        apart(move || what(&with_settings(ARTICLE, &format!("firewall = \"{filter}\""))));
    }
}

/// Under the unit a tunnel comes and goes, and the hook does all that an event may need.
fn assert_works(world: &World, options: &str) {
    let (without, rules) = (held(), managed());
    // All of it is there to be done: chains are missing, and the tunnel's filter for return paths is strict.
    flush_marks();
    assert_ne!(managed(), rules);
    fs::write("/proc/sys/net/ipv4/conf/default/rp_filter", "1").unwrap();
    let _server = world.openvpn_server("subnet", "10.8.0.0", PORT);
    let client = world.client_under(&words(&under(OPENVPN, "", &[])), "company", options);
    client.says(DONE);
    assert_eq!(defaults("3"), [BY_DEVICE]);
    assert_eq!(ask().unwrap().to_string(), "10.8.0.2");
    assert_eq!(managed(), rules, "{options}");
    assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/conf/tun0/rp_filter").unwrap(), "2\n");
    let log = client.stop();
    // sudo may not write to the audit log, and says so.
    let complaints = log.lines().filter(|l| l.contains("mh-vpn-up: ") || l.starts_with("sudo: "));
    let complaints: Vec<_> = complaints.filter(|l| !l.contains("unable to send audit message")).collect();
    assert_eq!(complaints, [""; 0], "{options}: {log}");
    assert_eq!(held(), without);
    assert_eq!(world.record("vpn"), None, "{options}: {log}");
}

#[test]
fn the_confinement_is_there() {
    let world = World::new(ARTICLE);
    let look = ["sh", "-c", "prlimit --nproc --noheadings --output SOFT; mount -t tmpfs x /tmp; ls /dev"];
    let output = world.viewed(&words(&under(OPENVPN, "", &look))).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.lines().next().map(str::trim), Some("10"));
    assert!(said.contains("null") && said.contains("net") && !said.contains("pts"), "{said}");
    // Without CAP_SYS_ADMIN.
    assert!(String::from_utf8_lossy(&output.stderr).contains("mount: "), "{output:?}");
}

#[test]
fn as_root() {
    with_each_filter(|config| assert_works(&world(config), ""));
}

/// As an own user: those of nobody's processes on the whole machine would count.
#[test]
fn with_a_child_that_is_root() {
    with_each_filter(|config| assert_works(&world(config), "config down-root.inc\nuser daemon\ngroup daemon"));
}

#[test]
fn by_sudo() {
    with_each_filter(|config| {
        let world = world(config);
        world.allow_sudo("daemon");
        assert_works(&world, "config user-nobody.inc\nuser daemon\ngroup daemon");
    });
}

#[test]
fn the_first_event_of_all_makes_the_state_directory() {
    let world = world(&static_lines());
    let _server = world.openvpn_server("subnet", "10.8.0.0", PORT);
    let client = world.client_under(&words(&under(OPENVPN, "/run/multihome", &[])), "company", "");
    client.says(DONE);
    assert_eq!(ask().unwrap().to_string(), "10.8.0.2");
    let state = world.run_dir().join("multihome");
    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o022, 0);
    assert!(state.join("tun0.ipv4").exists());
    client.stop();
    assert!(!state.join("tun0.ipv4").exists());
}

/// The article's lines as static ones: they need no record.
fn static_lines() -> String {
    ARTICLE.replacen("weight    = 8", &format!("weight    = 8\ngateway   = '{}'", ISP1.remote), 1).replacen(
        "weight    = 2",
        &format!("weight    = 2\ngateway   = '{}'", ISP2.remote),
        1,
    )
}

#[test]
fn our_own_unit_mends_what_others_have_deleted() {
    with_each_filter(|config| {
        let world = world(config);
        let (before, rules) = (held(), managed());
        flush_marks();
        ip("rule del priority 101");
        ip("route del default");
        fs::write("/proc/sys/net/ipv4/conf/ppp0/rp_filter", "1").unwrap();
        assert_ne!(held(), before);
        assert_ne!(managed(), rules);
        ok(&mut world.viewed(&words(&under(OWN, "", &["/usr/sbin/mhctl", "apply"]))));
        assert_eq!(held(), before);
        assert_eq!(managed(), rules);
        assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/conf/ppp0/rp_filter").unwrap(), "2\n");
    });
}

#[test]
fn our_own_unit_at_boot() {
    let world = world(&static_lines());
    let before = held();
    ok(world.server.bare(CTL).arg("flush"));
    assert_ne!(held(), before);
    ok(&mut world.viewed(&words(&under(OWN, "/run/multihome", &["/usr/sbin/mhctl", "apply"]))));
    assert_eq!(held(), before);
    // All may read it, whatever the unit's UMask.
    let state = world.run_dir().join("multihome");
    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o755);
}

/// How much of the machine a unit is exposed to, from 0 to 10.
#[test]
fn our_own_unit_is_confined() {
    let said = ok(Command::new("systemd-analyze").args(["security", "--offline=true", OWN])).stdout;
    let said = String::from_utf8(said).unwrap();
    let (_, level) = said.split_once("Overall exposure level for multihome.service: ").expect(&said);
    let level: f32 = level.split_whitespace().next().unwrap().parse().unwrap();
    assert!(level <= 2.5, "{said}");
}

/// The calls of a set of systemd's, as `systemd-analyze syscall-filter` of this machine has it.
fn calls(set: &str) -> BTreeSet<String> {
    let said = String::from_utf8(ok(Command::new("systemd-analyze").args(["syscall-filter", set])).stdout).unwrap();
    let words = said.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    words.flat_map(|word| if word.starts_with('@') { calls(word) } else { [word.to_owned()].into() }).collect()
}

/// The calls that a unit may make.
pub fn allowed_calls(unit: &str) -> BTreeSet<String> {
    let unit = fs::read_to_string(unit).unwrap();
    let mut allowed = BTreeSet::new();
    for filter in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (forbids, sets) = filter.strip_prefix('~').map_or((false, filter), |sets| (true, sets));
        for call in sets.split(' ').flat_map(calls) {
            if forbids {
                allowed.remove(&call)
            } else {
                allowed.insert(call)
            };
        }
    }
    allowed
}

#[test]
fn our_own_unit_may_make_each_call_that_an_apply_makes_with_any_packet_filter() {
    let allowed = allowed_calls(OWN);
    assert!(allowed.contains("sendto") && !allowed.contains("chown"), "{allowed:?}");
    for (filter, is_legacy) in [("nftables", false), ("iptables", false), ("iptables", true)] {
        let server = Server::new(&with_settings(ARTICLE, &format!("firewall = \"{filter}\"")));
        if is_legacy {
            own_files();
            for name in ["iptables-restore", "iptables-save", "iptables"] {
                let _ = fs::remove_file(format!("/usr/sbin/{name}"));
                symlink("xtables-legacy-multi", format!("/usr/sbin/{name}")).unwrap();
            }
        }
        server.up(ISP1);
        server.up(ISP2);
        let rules = managed();
        // All of it is to be done once more.
        ok(server.bare(CTL).arg("flush"));
        for line in [ISP1, ISP2] {
            ok(server.bare(CTL).args(["link", "up", line.link, "--local", line.local, "--gateway", line.remote]));
            fs::write(format!("/proc/sys/net/ipv4/conf/{}/rp_filter", line.device), "1").unwrap();
        }
        flush_marks();
        assert_ne!(managed(), rules);
        ip("rule del priority 101");
        let made = log(server.bare(CTL).arg("apply"), "-f", &server.config().with_file_name("calls"));
        assert_eq!(managed(), rules, "{made}");
        let name = |line: &str| line.split_whitespace().nth(1)?.split_once('(').map(|(call, _)| call.to_owned());
        // The first is strace's own, before the filter would be there.
        let made: BTreeSet<_> = made.lines().filter_map(name).collect();
        assert!(made.contains("sendto") && (!is_legacy || made.contains("setsockopt")), "{made:?}");
        assert_eq!(made.difference(&allowed).collect::<Vec<_>>(), [""; 0], "{filter}, legacy: {is_legacy}");
    }
}
