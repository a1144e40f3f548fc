//! What `--dry-run` prints can be pasted, and is what the hook itself would have done.

use std::fs;
use std::process::Command;

use crate::support::filter::rules;
use crate::support::*;

/// Every selector but `dscp`, which ip(8) knows since 6.12 only, and whatever a plan can hold besides.
const ALL_SORTS: &str = r#"
[[uplink]]
name      = "isp1"
interface = "ppp0"
weight    = 256
[[uplink]]
name      = "isp2"
interface = "ppp1"
weight    = 2
table     = 1000
mark      = 0x10000
[[uplink]]
name      = "lte"
interface = "wwan0.7"
tier      = 3
[[tunnel]]
name      = "vpn"
interface = "tun0"
[[policy]]
name  = "a user"
uid   = [33, "1000-1999"]
via   = ["isp1"]
otherwise = "unreachable"
[[policy]]
name  = "everything at once"
from  = ["192.168.2.0/24", "192.168.3.7"]
to    = "203.0.113.0/26"
iif   = "lo"
proto = "udp"
sport = "1024-65534"
dport = [53, "6000-6010"]
via   = ["vpn", "lte"]
[[policy]]
name   = "own marks"
fwmark = "0x100/0xff00"
via    = ["lte", "isp2"]
otherwise = "unreachable"
[[policy]]
name   = "another own mark"
fwmark = 0x20000
via    = ["isp2"]
[[policy]]
name  = "a protocol without a name"
proto = 47
via   = ["isp2"]
"#;

const LTE: Line = Line { device: "wwan0.7", local: "100.64.7.2", remote: "192.0.2.254", link: "lte", pid: 1004 };
const BARE: Line = Line { remote: "0.0.0.0", ..ISP2 };

/// What happens to the devices, and the hook that is told of it.
struct Step {
    devices: fn(),
    hook: fn(&Server) -> Command,
}

const STEPS: [Step; 8] = [
    // pppd's own default route is in the way.
    Step {
        devices: || {
            ISP1.create();
            ip("route add default dev ppp0 scope link");
            fs::write("/proc/sys/net/ipv4/conf/ppp0/rp_filter", "1").unwrap();
        },
        hook: |server| server.hook(UP, ISP1),
    },
    // A gateway that no address covers.
    Step {
        devices: || {
            Line { remote: "100.64.7.1", ..LTE }.create();
            fs::write("/proc/sys/net/ipv4/conf/wwan0.7/rp_filter", "1").unwrap();
        },
        hook: |server| server.hook(UP, LTE),
    },
    // No gateway at all.
    Step { devices: || ISP2.create(), hook: |server| server.hook(UP, BARE) },
    Step { devices: || VPN0.create(), hook: |server| server.openvpn(VPN0, "up") },
    Step { devices: || ISP1.hang_up(), hook: |server| server.hook(DOWN, ISP1) },
    Step { devices: || {}, hook: |server| server.openvpn(VPN0, "route-pre-down") },
    Step {
        devices: || {
            ISP1.create();
            ip("route prepend default dev ppp0 scope link");
            ip("rule del priority 190");
        },
        hook: |server| server.hook(UP, ISP1),
    },
    // A device that is gone by the time; what else has happened to its routes is the kernel's affair.
    Step { devices: || ISP2.unregister(), hook: |server| server.hook(DOWN, BARE) },
];

/// Routing, and what else a hook can change.
fn everything() -> Vec<String> {
    let mut all = held();
    all.extend(shown("-6 rule"));
    for name in ["conf/ppp0/rp_filter", "conf/wwan0.7/rp_filter", "fib_multipath_hash_policy"] {
        let value = fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
        all.push(format!("{name} = {}", value.trim()));
    }
    all.extend(rules());
    all.extend(ip("-d link").split(" group ").skip(1).filter_map(|l| Some(l.split(' ').next()?.to_owned())));
    all
}

/// Goes through the steps with the hooks themselves. Of each: what the dry run printed, and the state that followed.
fn by_hooks(config: &str) -> Vec<(String, Vec<String>)> {
    let server = Server::new(config);
    let steps = STEPS.iter().map(|step| {
        (step.devices)();
        let (before, records) = (everything(), files(&server));
        let printed = ok((step.hook)(&server).option("--dry-run")).stdout;
        assert_eq!((everything(), files(&server)), (before, records), "a dry run touched something");
        ok(&mut (step.hook)(&server));
        (String::from_utf8(printed).unwrap(), everything())
    });
    steps.collect()
}

/// The state directory, if there is one, with all that is in it.
fn files(server: &Server) -> Option<Vec<(String, Vec<u8>)>> {
    let mut all: Vec<_> = fs::read_dir(server.state())
        .ok()?
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), fs::read(path).unwrap()))
        .collect();
    all.sort();
    Some(all)
}

#[test]
fn the_commands_of_a_dry_run_pasted_give_the_very_state_that_the_hook_gives() {
    for mode in ["objects", "multipath"] {
        let settings = format!("nexthops = {mode:?}\nsettle-timeout = \"0s\"\nhash-policy = 1\nmetric = 0");
        let config = with_settings(ALL_SORTS, &settings);
        let done = apart(move || by_hooks(&config));
        apart(move || {
            let _twin = Server::new("");
            for (step, (printed, wanted)) in STEPS.iter().zip(done) {
                (step.devices)();
                let pasted = Command::new("sh").args(["-e", "-c", &printed]).output().unwrap();
                let said = String::from_utf8_lossy(&pasted.stderr);
                assert!(pasted.status.success() && said.is_empty(), "{mode}: {said}{printed}");
                assert_eq!(everything(), wanted, "{mode}: {printed}");
            }
        });
    }
}

#[test]
fn a_dry_run_touches_nothing_and_needs_nothing() {
    let server = Server::new(ARTICLE);
    ISP1.create();
    let before = everything();
    for program in [UP, DOWN] {
        let printed = ok(server.hook(program, ISP1).option("--dry-run")).stdout;
        assert!(
            String::from_utf8(printed).unwrap().contains("ip rule add priority 190 lookup 254 suppress_prefixlength 0")
        );
    }
    VPN0.create();
    ok(server.openvpn(VPN0, "up").option("--strict --dry-run"));
    VPN0.unregister();
    for command in [&["plan"][..], &["apply", "--dry-run"]] {
        ok(&mut server.with_args(CTL, command));
    }
    assert_eq!(everything(), before);
    assert!(!server.state().exists());
}

#[test]
fn a_selector_that_this_ip_may_not_know_is_printed_in_the_terms_of_a_newer_one() {
    let server = Server::new(&format!("{ARTICLE}[[policy]]\nname = \"voice\"\ndscp = 46\nvia = [\"isp2\"]\n"));
    ISP1.create();
    let printed = String::from_utf8(ok(server.hook(UP, ISP1).option("--dry-run")).stdout).unwrap();
    assert!(printed.contains("ip rule add priority 207 dscp 46 lookup 2 protocol 77\n"), "{printed}");
}
