//! Real OpenVPN under Debian's openvpn-client@.service: the unit that is installed is read, and what it says is made by
//! hand, for there is no systemd here.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use support::openvpn::*;
use support::*;

const BY_DEVICE: &str = "default dev tun0 table 3 proto 77 scope 253";

/// What the unit does to the file system, as systemd.exec(5) and systemd.resource-control(5) say it: read-only /usr and
/// /boot, no homes, an own /tmp, and of /dev what every service may have with `$1` and what it names. Files that are open
/// or bound stay. `$2`, if not empty, is a directory that does not exist yet; the rest is the command.
const MOUNTS: &str = r#"set -e
allowed=$1 absent=$2
shift 2
for dir in /usr /boot; do mount --rbind "$dir" "$dir"; done
while read -r _ _ _ _ point _; do
    case $point in /usr | /usr/* | /boot | /boot/*) mount -o remount,bind,ro "$point" ;; esac
done </proc/self/mountinfo
for dir in /home /root /run/user; do [ ! -d "$dir" ] || mount -t tmpfs -o mode=000,ro tmpfs "$dir"; done
for dir in /tmp /var/tmp; do mount -t tmpfs -o mode=1777 tmpfs "$dir"; done
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
if [ -n "$absent" ]; then umount "$absent"; rmdir "$absent"; fi
! touch /usr/writable 2>/dev/null
[ -z "$(ls -A /tmp)" ]
exec "$@""#;

/// The command that confines another as the installed unit does.
fn unit(absent: &str) -> Vec<String> {
    let path = "/usr/lib/systemd/system/openvpn-client@.service";
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}: install Debian's openvpn"));
    let service = text.split("[Service]").nth(1).unwrap().split("\n[").next().unwrap();
    let (mut devices, mut limits, mut capabilities) = (Vec::new(), Vec::new(), None);
    for line in service.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.split_once('=').unwrap() {
            ("CapabilityBoundingSet", set) => {
                let set: Vec<_> =
                    set.split_whitespace().map(|cap| cap.strip_prefix("CAP_").unwrap().to_lowercase()).collect();
                capabilities = Some(format!("--bounding-set=-all,+{}", set.join(",+")));
            }
            ("LimitNPROC", limit) => limits.push(format!("--nproc={limit}")),
            ("DeviceAllow", device) => devices.push(device.strip_suffix(" rw").unwrap()),
            ("ExecStart", start) => {
                assert!(start.ends_with("/openvpn --suppress-timestamps --nobind --config %i.conf"), "{start}");
            }
            // `MOUNTS` do it; the view that a client has; what systemd does before and after.
            ("ProtectSystem" | "ProtectHome" | "PrivateTmp", "true")
            | ("WorkingDirectory", "/etc/openvpn/client")
            | ("Type" | "KillMode" | "Restart" | "RestartSec", _) => {}
            _ => panic!("{path} says {line}, which nothing here does"),
        }
    }
    assert!(service.contains("\nProtectSystem=") && service.contains("\nPrivateTmp="), "{service}");
    let mut command: Vec<_> = ["/bin/sh", "-c", MOUNTS, "unit"].map(str::to_owned).into();
    command.extend([devices.join(" "), absent.to_owned(), "prlimit".to_owned()]);
    command.extend(limits);
    command.extend(["--".to_owned(), "setpriv".to_owned(), capabilities.expect("a bounding set")]);
    command
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

/// An iptables command.
fn iptables(args: &str) -> String {
    String::from_utf8(ok(Command::new("iptables").args(args.split(' '))).stdout).unwrap()
}

/// Under the unit a tunnel comes and goes, and the hook does all that an event may need.
fn assert_works(world: &World, options: &str) {
    let without = held();
    // All of it is there to be done: chains are missing, and the tunnel's filter for return paths is strict.
    iptables("-w -t mangle -F");
    fs::write("/proc/sys/net/ipv4/conf/default/rp_filter", "1").unwrap();
    let _server = world.openvpn_server("subnet", "10.8.0.0", PORT);
    let unit = unit("");
    let client = world.client_under(&unit.iter().map(String::as_str).collect::<Vec<_>>(), "company", options);
    client.says(DONE);
    assert_eq!(defaults("3"), [BY_DEVICE]);
    assert_eq!(ask().unwrap().to_string(), "10.8.0.2");
    assert!(iptables("-w -t mangle -S").contains("-j MULTIHOME-PREROUTING"), "{options}");
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
    let mut command = unit("");
    command.extend(
        ["sh", "-c", "prlimit --nproc --noheadings --output SOFT; mount -t tmpfs x /tmp; ls /dev"].map(str::to_owned),
    );
    let output = world.viewed(&command.iter().map(String::as_str).collect::<Vec<_>>()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.lines().next().map(str::trim), Some("10"));
    assert!(said.contains("null") && said.contains("net") && !said.contains("pts"), "{said}");
    // Without CAP_SYS_ADMIN.
    assert!(String::from_utf8_lossy(&output.stderr).contains("mount: "), "{output:?}");
}

#[test]
fn as_root() {
    assert_works(&world(ARTICLE), "");
}

/// As an own user: those of nobody's processes on the whole machine would count.
#[test]
fn with_a_child_that_is_root() {
    assert_works(&world(ARTICLE), "config down-root.inc\nuser daemon\ngroup daemon");
}

#[test]
fn by_sudo() {
    let world = world(ARTICLE);
    world.allow_sudo("daemon");
    assert_works(&world, "config user-nobody.inc\nuser daemon\ngroup daemon");
}

#[test]
fn the_first_event_of_all_makes_the_state_directory() {
    // Static lines need no record.
    let config = ARTICLE
        .replacen("weight    = 8", &format!("weight    = 8\ngateway   = '{}'", ISP1.remote), 1)
        .replacen("weight    = 2", &format!("weight    = 2\ngateway   = '{}'", ISP2.remote), 1);
    let world = world(&config);
    let _server = world.openvpn_server("subnet", "10.8.0.0", PORT);
    let unit = unit("/run/multihome");
    let client = world.client_under(&unit.iter().map(String::as_str).collect::<Vec<_>>(), "company", "");
    client.says(DONE);
    assert_eq!(ask().unwrap().to_string(), "10.8.0.2");
    let state = world.run_dir().join("multihome");
    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o022, 0);
    assert!(state.join("vpn.toml").exists());
    client.stop();
    assert!(!state.join("vpn.toml").exists());
}
