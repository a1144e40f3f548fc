//! Every error that a configuration can have, word for word.

mod policies;

use policies::{BARE_POLICIES, POLICIES};

/// What the cases of a group are appended to.
const EMPTY: &str = "";
pub(super) const UPLINK: &str = "[[uplink]]\nname = 'a'\ninterface = 'ppp0'\n";
const TUNNEL: &str = "[[tunnel]]\nname = 'a'\ninterface = 'tun0'\n";
const SETTINGS: &str = "[[tunnel]]\nname = 'a'\ninterface = 'tun0'\n[settings]\n";
const CHECK: &str = "[[uplink]]\nname = 'a'\ninterface = 'ppp0'\n[check]\n";
pub(super) const POLICY: &str = "uplink = [{ name = 'a', interface = 'ppp0' }, { name = 'b', interface = 'ppp1' }]\n[[policy]]\nname = 'p'\nvia = 'a'\n";
/// The same, for what stands instead of the name and `via`.
const BARE_POLICY: &str =
    "uplink = [{ name = 'a', interface = 'ppp0' }, { name = 'b', interface = 'ppp1' }]\n[[policy]]\n";

/// What a case appends, and the error: `f` is the file.
type Cases<'a> = &'a [(&'a str, &'a str)];

const FILE: Cases<'_> = &[
    ("", "f:1: there is no link: write at least one [[uplink]] or [[tunnel]]"),
    ("[settings]\n", "f:1: there is no link: write at least one [[uplink]] or [[tunnel]]"),
    ("[[uplink]\n", "f:1: unclosed array table, expected `]`"),
    ("[[uplink]]\nname = a\n", "f:2: text needs quotes: write \"a\""),
    ("[[uplink]]\nname = “isp1”\n", "f:2: “ is no quotation mark here: write \" before the text and after it"),
    ("[[uplink]]\nname = isp1 # mine\n", "f:2: text needs quotes: write \"isp1\""),
    ("[[uplink]]\nname = tele\n", "f:2: text needs quotes: write \"tele\""),
    ("[[uplink]]\nname = 1und1\n", "f:2: text needs quotes: write \"1und1\""),
    ("[[uplink]]\nname = \u{fc}\u{1b}\n", "f:2: text needs quotes: write \"\u{fc}\\u{1b}\""),
    ("[[uplink]]\ngateway = 192.0.2.1\n", "f:2: text needs quotes: write \"192.0.2.1\""),
    ("[[policy]]\nto = ['192.0.2.1',\n  203.0.113.0/24]\n", "f:3: text needs quotes: write \"203.0.113.0/24\""),
    ("[[policy]]\ndport = 6000-6010\n", "f:2: text needs quotes: write \"6000-6010\""),
    ("uplink = [{ name = isp1 }]\n", "f:1: text needs quotes: write \"isp1\""),
    ("[[policy]]\nsport = 6000_\n", "f:2: `_` may only go between digits, expected nothing"),
    ("[[uplink]]\nname = \"a\" b\n", "f:2: unexpected key or value, expected newline, `#`"),
    ("[[uplink]]\nname isp1\n", "f:2: key with no value, expected `=`"),
    ("[[uplink]]\nname = \"a\n", "f:2: invalid basic string, expected `\"`"),
    ("[[uplink]]\nname = 'a'\nname = 'b'\n", "f:3: duplicate key \"name\": keep one of them"),
    ("[[uplink]]\r\nname = 'a'\r\nname = 'b'\r\n", "f:3: duplicate key \"name\": keep one of them"),
    (
        "[[uplink]]\nwieght = 1\n",
        "f:2: unknown key `wieght`, expected one of `name`, `interface`, `ipparam`, `weight`, `tier`, `table`, `mark`, `masquerade`, `gateway`, `gateway6`, `prefixes`, `ipv6`, `nat6`, `check`, `metered`",
    ),
    (
        "[[uplink]]\n\"a\\nb\\u001b\" = 1\n",
        "f:2: unknown key `a\\nb\\u{1b}`, expected one of `name`, `interface`, `ipparam`, `weight`, `tier`, `table`, `mark`, `masquerade`, `gateway`, `gateway6`, `prefixes`, `ipv6`, `nat6`, `check`, `metered`",
    ),
    ("[[uplinks]]\n", "f:1: unknown key `uplinks`, expected one of `uplink`, `tunnel`, `policy`, `check`, `settings`"),
    (
        "[[policy]]\nport = 1\n",
        "f:2: unknown key `port`, expected one of `name`, `from`, `to`, `from-set`, `to-set`, `iif`, `proto`, `sport`, `dport`, `uid`, `dscp`, `fwmark`, `via`, `otherwise`",
    ),
    (
        "[settings]\ntimeout = 1\n",
        "f:2: unknown key `timeout`, expected one of `rule-priority`, `metric`, `spare-metric`, `protocol`, `nexthop-id`, `nexthops`, `settle-timeout`, `lock-timeout`, `firewall`, `device-group`, `hash-policy`, `event-command`",
    ),
    ("[uplink]\nname = 'a'\n", "f:1: write each in double brackets, [[uplink]]"),
    ("uplink = 3", "f:1: write each in double brackets, [[uplink]]"),
    ("uplink = [['a', 'ppp0']]", "f:1: write each in double brackets, [[uplink]]"),
    ("[policy]\n", "f:1: write each in double brackets, [[policy]]"),
    ("[[settings]]\nmetric = 1\n", "f:1: write it once, in single brackets, [settings]"),
    ("settings = 1\n", "f:1: write it once, in single brackets, [settings]"),
];

const LINKS: Cases<'_> = &[
    ("[[uplink]]\n", "f:4: name: is missing here: write name = \"...\""),
    ("[[uplink]]\nname = 'b'\n", "f:4: interface: is missing here: write interface = \"...\""),
    (
        "[[uplink]]\nname = 'Isp 1'\n",
        "f:5: name: \"Isp 1\" is not valid: write a lowercase letter, then lowercase letters, digits, '_' or '-', at most 15 characters",
    ),
    (
        "[[uplink]]\nname = 'main'\n",
        "f:5: name: \"main\" is not valid: ip-route(8) reserves this table name; choose another",
    ),
    ("[[uplink]]\nname = 5\n", "f:5: name: 5 is not valid: write text in quotes"),
    (
        "[[uplink]]\nname = 'b'\ninterface = 'eth0:1'\n",
        "f:6: interface: \"eth0:1\" is not valid: write 1 to 15 printable characters without '/', ':' or spaces",
    ),
    (
        "[[uplink]]\nname = 'b'\ninterface = 'lo'\n",
        "f:6: interface: \"lo\" is not valid: the loopback interface is no link, write another",
    ),
    ("ipparam = ''\n", "f:4: ipparam: \"\" is not valid: write 1 to 64 printable characters"),
    ("ipparam = \"a\\nb\"\n", "f:4: ipparam: \"a\\nb\" is not valid: write 1 to 64 printable characters"),
    ("weight = 300\n", "f:4: weight: 300 is not valid: write a number from 1 to 256"),
    ("weight = 0\n", "f:4: weight: 0 is not valid: write a number from 1 to 256"),
    ("weight = -70000\n", "f:4: weight: -70000 is not valid: write a number from 1 to 256"),
    ("weight = '8'\n", "f:4: weight: \"8\" is not valid: write a number from 1 to 256"),
    ("weight = 1.5\n", "f:4: weight: a fraction is not valid: write a number from 1 to 256"),
    ("weight = 99999999999999999999\n", "f:4: weight: so large a number is not valid: write a number from 1 to 256"),
    ("weight = 2020-02-02\n", "f:4: weight: a date is not valid: write a number from 1 to 256"),
    ("weight = [1]\n", "f:4: weight: a list is not valid: write a number from 1 to 256"),
    ("weight.a = 1\n", "f:4: weight: a table is not valid: write a number from 1 to 256"),
    ("tier = 33\n", "f:4: tier: 33 is not valid: write a number from 1 to 32"),
    ("table = 254\n", "f:4: table: 254 is not valid: 0 and 253 to 255 are the kernel's; write another number"),
    (
        "table = 5_000_000_000\n",
        "f:4: table: 5000000000 is not valid: 0 and 253 to 255 are the kernel's; write another number",
    ),
    ("mark = 0x3\n", "f:4: mark: 0x3 is not valid: write one bit: 0x1, 0x2, 0x4, ... 0x80000000"),
    ("mark = '0x1'\n", "f:4: mark: \"0x1\" is not valid: write one bit: 0x1, 0x2, 0x4, ... 0x80000000"),
    ("masquerade = 1\n", "f:4: masquerade: 1 is not valid: write true or false"),
    (
        "gateway = 'gw.example.org'\n",
        "f:4: gateway: \"gw.example.org\" is not valid: write an IPv4 address such as 192.0.2.1",
    ),
    ("gateway = 'fe80::1'\n", "f:4: gateway: \"fe80::1\" is not valid: it is an IPv6 address: write gateway6"),
    ("gateway6 = '192.0.2.1'\n", "f:4: gateway6: \"192.0.2.1\" is not valid: write an IPv6 address such as fe80::1"),
    ("gateway6 = '::1'\n", "f:4: gateway6: \"::1\" is not valid: no host on a line can have it"),
    ("[[check]]\n", "f:4: write it once, in single brackets, [check]"),
    ("check = 'yes'\n", "f:4: check: \"yes\" is not valid: write true or false"),
    ("metered = 1\n", "f:4: metered: 1 is not valid: write true or false"),
    ("ipv6 = false\n", "f:4: ipv6: false is not valid: write text in quotes"),
    ("ipv6 = 'on'\n", "f:4: ipv6: \"on\" is not valid: write \"auto\" or \"off\""),
    ("nat6 = 'some'\n", "f:4: nat6: \"some\" is not valid: write \"foreign\" or \"all\" or \"none\""),
    (
        "prefixes = '192.0.2.0/24'\n",
        "f:4: prefixes: \"192.0.2.0/24\" is not valid: write an IPv6 prefix such as 2001:db8:1::/56",
    ),
    (
        "prefixes = ['2001:db8::1/56']\n",
        "f:4: prefixes: \"2001:db8::1/56\" is not valid: it has bits behind its prefix: write \"2001:db8::/56\"",
    ),
    (
        "prefixes = '2001::/8'\n",
        "f:4: prefixes: \"2001::/8\" is not valid: it has bits behind its prefix: write \"2000::/8\"",
    ),
    (
        "prefixes = '2000::/3'\n",
        "f:4: prefixes: \"2000::/3\" is not valid: no provider routes it to one customer: write the prefix that yours has given you",
    ),
    (
        "prefixes = 'fe80::/64'\n",
        "f:4: prefixes: \"fe80::/64\" is not valid: no provider routes it to one customer: write the prefix that yours has given you",
    ),
    ("gateway = '127.0.0.1'\n", "f:4: gateway: \"127.0.0.1\" is not valid: no host on a line can have it"),
    // Nothing twice.
    (
        "[[tunnel]]\nname = 'a'\ninterface = 'ppp1'\n",
        "f:5: name: a on ppp1 is also the name of the link on ppp0: give one of them another",
    ),
    (
        "[[tunnel]]\nname = 'b'\ninterface = 'ppp0'\n",
        "f:6: interface: ppp0 of b is also the interface of a: give one of them another",
    ),
    (
        "[[uplink]]\nname = 'b'\ninterface = 'ppp1'\nipparam = 'a'\n",
        "f:7: ipparam: \"a\" of b is also the ipparam that a gets by its name: give one of them another",
    ),
    (
        "ipparam = 'b'\n[[uplink]]\nname = 'b'\ninterface = 'ppp1'\n",
        "f:4: ipparam: \"b\" of a is also the ipparam that b gets by its name: give one of them another",
    ),
    (
        "ipparam = 'x'\n[[uplink]]\nname = 'b'\ninterface = 'ppp1'\nipparam = 'a'\n",
        "f:8: ipparam: \"a\" of b is another link's name: write another",
    ),
    (
        "ipparam = 'x'\n[[uplink]]\nname = 'b'\ninterface = 'ppp1'\nipparam = 'x'\n",
        "f:8: ipparam: \"x\" of b is also the ipparam of a: give one of them another",
    ),
    (
        "table = 2\n[[uplink]]\nname = 'b'\ninterface = 'ppp1'\n",
        "f:4: table: 2 of a is also the table that b gets by its position: give one of them another",
    ),
    (
        "[[uplink]]\nname = 'b'\ninterface = 'ppp1'\ntable = 1\n",
        "f:7: table: 1 of b is also the table that a gets by its position: give one of them another",
    ),
    (
        "table = 7\n[[uplink]]\nname = 'b'\ninterface = 'ppp1'\ntable = 7\n",
        "f:8: table: 7 of b is also the table of a: give one of them another",
    ),
    (
        "mark = 0x2\n[[uplink]]\nname = 'b'\ninterface = 'ppp1'\n",
        "f:4: mark: 0x2 of a is also the mark that b gets by its position: give one of them another",
    ),
    (
        "mark = 0x10\n[[uplink]]\nname = 'b'\ninterface = 'ppp1'\nmark = 16\n",
        "f:8: mark: 0x10 of b is also the mark of a: give one of them another",
    ),
];

const TUNNELS: Cases<'_> = &[
    ("weight = 3\n", "f:4: weight: belongs to uplinks: a tunnel is no part of the default route, remove it"),
    ("check = false\n", "f:4: check: belongs to uplinks: a tunnel is no part of the default route, remove it"),
    ("metered = true\n", "f:4: metered: belongs to uplinks: a tunnel is no part of the default route, remove it"),
    ("tier = 3\n", "f:4: tier: belongs to uplinks: a tunnel is no part of the default route, remove it"),
];

const SETTINGS_CASES: Cases<'_> = &[
    ("rule-priority = 0\n", "f:5: rule-priority: 0 is not valid: write a number from 1 to 32642"),
    ("rule-priority = 32643\n", "f:5: rule-priority: 32643 is not valid: write a number from 1 to 32642"),
    ("metric = 4294967232\n", "f:5: metric: 4294967232 is not valid: write a number from 0 to 4294967231"),
    (
        "metric = 3999969\n",
        "f:5: metric: 3999969 leaves the spares no room: write at most 3999968, or spare-metric as well",
    ),
    ("metric = 50\nspare-metric = 81\n", "f:6: spare-metric: 81 is not valid: write a number from 82 to 4294967263"),
    ("spare-metric = 4294967264\n", "f:5: spare-metric: 4294967264 is not valid: write a number from 32 to 4294967263"),
    ("protocol = 4\n", "f:5: protocol: 4 is not valid: write a number from 5 to 255"),
    ("nexthop-id = 0\n", "f:5: nexthop-id: 0 is not valid: write a number from 1 to 4294967095"),
    ("nexthop-id = 4294967096\n", "f:5: nexthop-id: 4294967096 is not valid: write a number from 1 to 4294967095"),
    ("nexthops = 'object'\n", "f:5: nexthops: \"object\" is not valid: write \"auto\" or \"objects\" or \"multipath\""),
    ("settle-timeout = 10\n", "f:5: settle-timeout: 10 is not valid: write a time such as \"10s\", from 0s to 10m"),
    (
        "settle-timeout = '11min'\n",
        "f:5: settle-timeout: \"11min\" is not valid: write a time such as \"10s\", from 0s to 10m",
    ),
    ("lock-timeout = '0s'\n", "f:5: lock-timeout: \"0s\" is not valid: write a time such as \"10s\", from 1ms to 10m"),
    ("device-group = 0\n", "f:5: device-group: 0 is not valid: write a number from 1 to 4294967263"),
    (
        "firewall = 'ipfw'\n",
        "f:5: firewall: \"ipfw\" is not valid: write \"auto\" or \"nftables\" or \"iptables\" or \"none\"",
    ),
    (
        "event-command = 'tell'\n",
        "f:5: event-command: \"tell\" is not valid: begin with the absolute path of a program, such as \"/usr/local/sbin/tell\"",
    ),
    ("event-command = []\n", "f:5: event-command: the list is empty: write a program"),
    ("event-command = ['/bin/a', 1]\n", "f:5: event-command: 1 is not valid: write text in quotes"),
    (
        "event-command = ['/bin/a', \"\\u0000\"]\n",
        "f:5: event-command: \"\\0\" is not valid: no argument of a program can have a NUL",
    ),
    ("hash-policy = 4\n", "f:5: hash-policy: 4 is not valid: write a number from 0 to 3"),
    (
        "rule-priority = 32640\n[[policy]]\nname = 'p'\nvia = 'a'\nproto = 'tcp'\nsport = [1, 2, 3, 4, 5, 6]\ndport = [1, 2, 3, 4, 5]\n",
        "f:5: rule-priority: 32640 leaves room for 25 rules and the policies need 30: write at most 32635",
    ),
];

/// `[check]`.
const CHECKS: Cases<'_> = &[
    (
        "targets = 'dns.google'\n",
        "f:5: targets: \"dns.google\" is not valid: write an address, \"192.0.2.1\", \"tcp:192.0.2.1:443\" or \"dns:192.0.2.1\", IPv6 in brackets, \"[2001:db8::1]\"; never a host name",
    ),
    (
        "targets = '2001:db8::1'\n",
        "f:5: targets: \"2001:db8::1\" is not valid: write an address, \"192.0.2.1\", \"tcp:192.0.2.1:443\" or \"dns:192.0.2.1\", IPv6 in brackets, \"[2001:db8::1]\"; never a host name",
    ),
    (
        "targets = '[192.0.2.1]'\n",
        "f:5: targets: \"[192.0.2.1]\" is not valid: write an address, \"192.0.2.1\", \"tcp:192.0.2.1:443\" or \"dns:192.0.2.1\", IPv6 in brackets, \"[2001:db8::1]\"; never a host name",
    ),
    (
        "targets = '192.0.2.1:53'\n",
        "f:5: targets: \"192.0.2.1:53\" is not valid: write an address, \"192.0.2.1\", \"tcp:192.0.2.1:443\" or \"dns:192.0.2.1\", IPv6 in brackets, \"[2001:db8::1]\"; never a host name",
    ),
    (
        "targets = '[2001:db8::1%2]'\n",
        "f:5: targets: \"[2001:db8::1%2]\" is not valid: write an address, \"192.0.2.1\", \"tcp:192.0.2.1:443\" or \"dns:192.0.2.1\", IPv6 in brackets, \"[2001:db8::1]\"; never a host name",
    ),
    (
        "targets = '[2001:db8::1'\n",
        "f:5: targets: \"[2001:db8::1\" is not valid: write an address, \"192.0.2.1\", \"tcp:192.0.2.1:443\" or \"dns:192.0.2.1\", IPv6 in brackets, \"[2001:db8::1]\"; never a host name",
    ),
    (
        "targets = 'icmp:192.0.2.1'\n",
        "f:5: targets: \"icmp:192.0.2.1\" is not valid: write an address, \"192.0.2.1\", \"tcp:192.0.2.1:443\" or \"dns:192.0.2.1\", IPv6 in brackets, \"[2001:db8::1]\"; never a host name",
    ),
    (
        "targets = 'tcp:192.0.2.1'\n",
        "f:5: targets: \"tcp:192.0.2.1\" is not valid: write an address, \"192.0.2.1\", \"tcp:192.0.2.1:443\" or \"dns:192.0.2.1\", IPv6 in brackets, \"[2001:db8::1]\"; never a host name",
    ),
    (
        "targets = 'tcp:192.0.2.1:0'\n",
        "f:5: targets: \"tcp:192.0.2.1:0\" is not valid: write an address, \"192.0.2.1\", \"tcp:192.0.2.1:443\" or \"dns:192.0.2.1\", IPv6 in brackets, \"[2001:db8::1]\"; never a host name",
    ),
    (
        "targets = 'tcp:192.0.2.1:+80'\n",
        "f:5: targets: \"tcp:192.0.2.1:+80\" is not valid: write an address, \"192.0.2.1\", \"tcp:192.0.2.1:443\" or \"dns:192.0.2.1\", IPv6 in brackets, \"[2001:db8::1]\"; never a host name",
    ),
    (
        "targets = 'tcp:192.0.2.1:65536'\n",
        "f:5: targets: \"tcp:192.0.2.1:65536\" is not valid: write an address, \"192.0.2.1\", \"tcp:192.0.2.1:443\" or \"dns:192.0.2.1\", IPv6 in brackets, \"[2001:db8::1]\"; never a host name",
    ),
    (
        "targets = 'tcp:2001:db8::1:80'\n",
        "f:5: targets: \"tcp:2001:db8::1:80\" is not valid: write an address, \"192.0.2.1\", \"tcp:192.0.2.1:443\" or \"dns:192.0.2.1\", IPv6 in brackets, \"[2001:db8::1]\"; never a host name",
    ),
    (
        "targets = 'dns:192.0.2.1:53'\n",
        "f:5: targets: \"dns:192.0.2.1:53\" is not valid: write an address, \"192.0.2.1\", \"tcp:192.0.2.1:443\" or \"dns:192.0.2.1\", IPv6 in brackets, \"[2001:db8::1]\"; never a host name",
    ),
    (
        "targets = '192.0.2.0/24'\n",
        "f:5: targets: \"192.0.2.0/24\" is not valid: write an address, \"192.0.2.1\", \"tcp:192.0.2.1:443\" or \"dns:192.0.2.1\", IPv6 in brackets, \"[2001:db8::1]\"; never a host name",
    ),
    (
        "targets = ''\n",
        "f:5: targets: \"\" is not valid: write an address, \"192.0.2.1\", \"tcp:192.0.2.1:443\" or \"dns:192.0.2.1\", IPv6 in brackets, \"[2001:db8::1]\"; never a host name",
    ),
    ("targets = '127.0.0.1'\n", "f:5: targets: \"127.0.0.1\" is not valid: no host beyond a line can have it"),
    ("targets = 'dns:224.0.0.1'\n", "f:5: targets: \"dns:224.0.0.1\" is not valid: no host beyond a line can have it"),
    ("targets = '[::1]'\n", "f:5: targets: \"[::1]\" is not valid: no host beyond a line can have it"),
    (
        "targets = '[::ffff:192.0.2.1]'\n",
        "f:5: targets: \"[::ffff:192.0.2.1]\" is not valid: no host beyond a line can have it",
    ),
    ("targets = '[fe80::1]'\n", "f:5: targets: \"[fe80::1]\" is not valid: no host beyond a line can have it"),
    (
        "targets = 'tcp:[ff02::1]:80'\n",
        "f:5: targets: \"tcp:[ff02::1]:80\" is not valid: no host beyond a line can have it",
    ),
    ("targets = []\n", "f:5: targets: the list is empty: write at least one value"),
    ("targets = 5\n", "f:5: targets: 5 is not valid: write text in quotes"),
    (
        "targets = ['192.0.2.1', 'dns:192.0.2.1',\n'192.0.2.1']\n",
        "f:6: targets: \"192.0.2.1\" is in the list twice: write it once",
    ),
    (
        "targets = ['192.0.2.1', '192.0.2.2', '192.0.2.3', '192.0.2.4', '192.0.2.5', '192.0.2.6', '192.0.2.7', '192.0.2.8', '192.0.2.9', '192.0.2.10', '192.0.2.11', '192.0.2.12', '192.0.2.13', '192.0.2.14', '192.0.2.15', '192.0.2.16', '192.0.2.17']\n",
        "f:5: targets: write at most 16: each is probed by each uplink",
    ),
    ("interval = 1\n", "f:5: interval: 1 is not valid: write a time such as \"10s\", from 200ms to 1m"),
    ("interval = '199ms'\n", "f:5: interval: \"199ms\" is not valid: write a time such as \"10s\", from 200ms to 1m"),
    ("interval = '61s'\n", "f:5: interval: \"61s\" is not valid: write a time such as \"10s\", from 200ms to 1m"),
    (
        "down-after = '499ms'\n",
        "f:5: down-after: \"499ms\" is not valid: write a time such as \"10s\", from 500ms to 10m",
    ),
    ("up-after = '11m'\n", "f:5: up-after: \"11m\" is not valid: write a time such as \"10s\", from 500ms to 10m"),
    (
        "cut-after = 'never'\n",
        "f:5: cut-after: \"never\" is not valid: write a time such as \"10s\", from 500ms to 10m",
    ),
    (
        "down-after = '3s'\ncut-after = '3s'\n",
        "f:6: cut-after: write more than down-after: a link is drained before it is cut",
    ),
    ("cut-after = '2s'\n", "f:5: cut-after: write more than down-after: a link is drained before it is cut"),
    ("down-after = '10s'\n", "f:5: down-after: write less than cut-after, 10s, or cut-after as well"),
    (
        "downafter = '3s'\n",
        "f:5: unknown key `downafter`, expected one of `targets`, `interval`, `down-after`, `cut-after`, `up-after`",
    ),
];

pub(super) const GROUPS: [(&str, Cases<'_>); 7] = [
    (EMPTY, FILE),
    (UPLINK, LINKS),
    (TUNNEL, TUNNELS),
    (BARE_POLICY, BARE_POLICIES),
    (POLICY, POLICIES),
    (CHECK, CHECKS),
    (SETTINGS, SETTINGS_CASES),
];
