//! `hooks/` as they are installed, run by the real dhcpcd and dhclient for IPv6: a real router advertises itself behind
//! the line, and a real server of `DHCPv6` gives addresses and delegates prefixes.

use std::fs;

use crate::dhcp::*;
use crate::support::files::unpacked;
use crate::support::six::{defaults6, held6};
use crate::support::*;

/// A router with the address `fe80::1` behind eth1.
fn router(machine: &Machine) -> Daemon {
    for command in [
        "link set eth1-far down",
        "link set eth1-far addrgenmode none",
        "link set eth1-far up",
        "addr add fe80::1/64 dev eth1-far nodad",
        "addr add 2001:db8:1::1/64 dev eth1-far nodad",
    ] {
        run(&format!("{} ip {command}", machine.inside()));
    }
    Daemon::start(&format!(
        "{} dnsmasq --keep-in-foreground --port=0 --conf-file=/dev/null --user=root --pid-file= --enable-ra \
         --dhcp-range=2001:db8:1::,ra-only --ra-param=eth1-far,4,60 --dhcp-option=option6:dns-server,[2001:db8::54] \
         --interface=eth1-far",
        machine.inside()
    ))
}

/// A server behind eth1 that delegates this prefix and gives `2001:db8:1::50`, for some seconds.
fn server(machine: &Machine, prefix: &str) -> Daemon {
    let dhcpd = unpacked("dhcpd");
    let config = format!(
        "default-lease-time 12; preferred-lifetime 12; max-lease-time 12; authoritative;\n\
         option dhcp-renewal-time 2; option dhcp-rebinding-time 4; option dhcp6.name-servers 2001:db8::53;\n\
         subnet6 2001:db8:1::/64 {{ range6 2001:db8:1::50 2001:db8:1::50; prefix6 {prefix} {prefix} /56; }}\n"
    );
    fs::write("/run/dhcpd.conf", config).unwrap();
    fs::write("/run/dhcpd.leases", "").unwrap();
    Daemon::start(&format!(
        "{} {dhcpd} -6 -f -q -cf /run/dhcpd.conf -lf /run/dhcpd.leases -pf /run/dhcpd.pid eth1-far",
        machine.inside()
    ))
}

/// Waits until eth1 leads IPv6 to the Internet, and what comes from the prefix by eth1.
fn comes6(prefix: &str) {
    until(&format!("eth1 has IPv6 with {prefix}"), || {
        let held = held6();
        let from = |source: &str| held.iter().any(|line| line.contains(&format!("from {source} lookup 2 proto 77")));
        defaults6().iter().any(|line| line.contains("via fe80::1 dev eth1 proto 77 metric 512"))
            && from(prefix)
            && (from("2001:db8:1::50") || from("2001:db8:1::/64"))
    });
}

/// Waits until this is the resolver of the record.
fn resolves6(resolver: &str) {
    until(&format!("{resolver} is recorded"), || {
        let record = fs::read_to_string("/run/multihome/eth1.ipv6").unwrap_or_default();
        record.contains(&format!("\nresolvers = [\"{resolver}\"]\n"))
    });
}

/// Waits until nothing of ours leads IPv6 by eth1.
fn goes6() {
    until("eth1 has no IPv6 of ours", || {
        let held = held6();
        !held.iter().any(|line| line.contains("dev eth1") || line.contains("from 2001:db8:"))
    });
}

#[test]
fn dhcpcds_routers_addresses_and_prefixes_are_the_links() {
    apart(|| {
        let machine = Machine::new();
        let _router = router(&machine);
        let first = server(&machine, "2001:db8:100::");
        append("/etc/dhcpcd.conf", "ipv6only\nia_na 1\nia_pd 2");
        let client = Daemon::start("dhcpcd -B eth1");
        comes6("2001:db8:100::/56");
        // IPv4 is the other line's, as it was.
        assert_eq!(default(), ONLY_ISP1);
        // By turns what the server and what the router says.
        resolves6("2001:db8::53");
        resolves6("2001:db8::54");
        drop(first);
        let _second = server(&machine, "2001:db8:200::");
        comes6("2001:db8:200::/56");
        assert!(!held6().iter().any(|line| line.contains("2001:db8:100::")), "{:#?}", held6());
        // Of IPv4 somebody else tells, and its end is not that of IPv6.
        ip("addr add 203.0.113.50/24 dev eth1");
        run("mhctl link up cable --local 203.0.113.50 --gateway 203.0.113.1");
        run("mhctl link down --interface eth1 --ipv4");
        comes6("2001:db8:200::/56");
        tell_dhcpcd("-k");
        goes6();
        drop(client);
    });
}

#[test]
fn dhclients_address_and_prefix_are_the_links_until_they_expire() {
    apart(|| {
        let machine = Machine::new();
        let _router = router(&machine);
        let first = server(&machine, "2001:db8:100::");
        // Without an address of its own eth1 would have IPv6 by the router alone.
        fs::write("/proc/sys/net/ipv6/conf/eth1/autoconf", "0").unwrap();
        until("eth1 has a link-local address", || ip("-6 addr show dev eth1 -tentative").contains("fe80::"));
        let _client = Daemon::start("dhclient -6 -d -N -P -lf /run/leases6 -pf /run/dhclient6.pid eth1");
        comes6("2001:db8:100::/56");
        resolves6("2001:db8::53");
        assert_eq!(default(), ONLY_ISP1);
        drop(first);
        goes6();
        let _second = server(&machine, "2001:db8:200::");
        comes6("2001:db8:200::/56");
        assert!(!held6().iter().any(|line| line.contains("2001:db8:100::")), "{:#?}", held6());
    });
}
