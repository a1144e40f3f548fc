//! Wrong policies, and the error of each.

use super::Cases;

pub(super) const BARE_POLICIES: Cases<'_> = &[
    ("", "f:2: name: is missing here: write name = \"...\""),
    ("name = ''\n", "f:3: name: \"\" is not valid: write 1 to 64 printable characters"),
    ("name = 'p'\nto = '192.0.2.1'\n", "f:2: via: is missing here: write via = \"...\""),
    ("name = 'p'\nvia = []\n", "f:4: via: the list is empty: write at least one value"),
    ("name = 'p'\nvia = 'c'\n", "f:4: via: unknown link \"c\": write one of a, b"),
    ("name = 'p'\nvia = ['a', 'b', 'a']\n", "f:4: via: \"a\" is in the list twice: write it once"),
    (
        "name = 'p'\nvia = 'a'\n",
        "f:2: policy \"p\" has no selector and would take all traffic: write one (from, to, iif, proto, uid ...), or share all traffic out by weight and tier of the uplinks",
    ),
    (
        "name = 'p'\nvia = 'a'\nuid = 1\n[[policy]]\nname = 'p'\nvia = 'b'\nuid = 2\n",
        "f:7: name: \"p\" is the name of two policies: give one of them another",
    ),
];

pub(super) const POLICIES: Cases<'_> = &[
    (
        "from = '192.168.2.30/24'\n",
        "f:5: from: \"192.168.2.30/24\" is not valid: it has bits behind its prefix: write \"192.168.2.0/24\" or \"192.168.2.30\"",
    ),
    (
        "from = ['192.168.2.30',\n 'fritz.box']\n",
        "f:6: from: \"fritz.box\" is not valid: IP addresses only, never host names",
    ),
    (
        "from = '2001:db8::1/32'\n",
        "f:5: from: \"2001:db8::1/32\" is not valid: it has bits behind its prefix: write \"2001:db8::/32\" or \"2001:db8::1\"",
    ),
    (
        "from = '192.0.2.1'\nto = ['2001:db8::/32', '::1']\n",
        "f:5: from: has addresses of one family and `to` of the other: no packet has both",
    ),
    (
        "from = '192.0.2.300'\n",
        "f:5: from: \"192.0.2.300\" is not valid: write an IP address or prefix such as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32",
    ),
    ("from = '0.0.0.0/0'\n", "f:5: from: \"0.0.0.0/0\" is not valid: this is every address: leave the key out"),
    ("from = ['192.0.2.1', '192.0.2.1/32']\n", "f:5: from: \"192.0.2.1/32\" is in the list twice: write it once"),
    ("to = []\n", "f:5: to: the list is empty: write at least one value"),
    ("to = 3\n", "f:5: to: 3 is not valid: write text in quotes"),
    (
        "iif = ['eth0', 'a b']\n",
        "f:5: iif: \"a b\" is not valid: write 1 to 15 printable characters without '/', ':' or spaces",
    ),
    (
        "proto = 'TCP'\n",
        "f:5: proto: \"TCP\" is not valid: write one of tcp, udp, udplite, sctp, dccp, icmp, gre, esp, ah, or a number from 1 to 255",
    ),
    (
        "proto = 0\n",
        "f:5: proto: 0 is not valid: write one of tcp, udp, udplite, sctp, dccp, icmp, gre, esp, ah, or a number from 1 to 255",
    ),
    (
        "proto = 256\n",
        "f:5: proto: 256 is not valid: write one of tcp, udp, udplite, sctp, dccp, icmp, gre, esp, ah, or a number from 1 to 255",
    ),
    (
        "dport = 25\n",
        "f:5: dport: only some protocols have ports: add proto, \"tcp\", \"udp\", \"udplite\", \"sctp\" or \"dccp\"",
    ),
    (
        "proto = 'icmp'\nsport = 25\n",
        "f:6: sport: only some protocols have ports: add proto, \"tcp\", \"udp\", \"udplite\", \"sctp\" or \"dccp\"",
    ),
    (
        "proto = 'tcp'\ndport = 0\n",
        "f:6: dport: 0 is not valid: write a number from 1 to 65534, or a range such as \"6000-6010\"",
    ),
    (
        "proto = 'tcp'\ndport = '1024-65535'\n",
        "f:6: dport: \"1024-65535\" is not valid: write a number from 1 to 65534, or a range such as \"6000-6010\"",
    ),
    ("proto = 'tcp'\ndport = '6010-6000'\n", "f:6: dport: \"6010-6000\" is not valid: write the lower end first"),
    (
        "proto = 'tcp'\ndport = [25, '+26']\n",
        "f:6: dport: \"+26\" is not valid: write a number from 1 to 65534, or a range such as \"6000-6010\"",
    ),
    (
        "proto = 'tcp'\nsport = [25, [26]]\n",
        "f:6: sport: a list is not valid: write a number from 1 to 65534, or a range such as \"6000-6010\"",
    ),
    (
        "uid = 4294967295\n",
        "f:5: uid: 4294967295 is not valid: write a number from 0 to 4294967294, or a range such as \"1000-1999\"",
    ),
    (
        "uid = 'www-data'\n",
        "f:5: uid: \"www-data\" is not valid: write a number from 0 to 4294967294, or a range such as \"1000-1999\"",
    ),
    ("dscp = 64\n", "f:5: dscp: 64 is not valid: write a number from 0 to 63"),
    ("fwmark = 0\n", "f:5: fwmark: 0 is not valid: neither mark nor mask may be 0"),
    ("fwmark = '0x100/0x0'\n", "f:5: fwmark: \"0x100/0x0\" is not valid: neither mark nor mask may be 0"),
    (
        "fwmark = '0x101/0x100'\n",
        "f:5: fwmark: \"0x101/0x100\" is not valid: the mark has bits outside of its mask: write a mask that covers it",
    ),
    ("fwmark = 'x'\n", "f:5: fwmark: \"x\" is not valid: write a mark such as 0x100 or \"0x100/0xff00\""),
    ("fwmark = '0x-1'\n", "f:5: fwmark: \"0x-1\" is not valid: write a mark such as 0x100 or \"0x100/0xff00\""),
    (
        "fwmark = '0x102/0xfff'\n",
        "f:5: fwmark: \"0x102/0xfff\" is not valid: it has the bit 0x2 of b, whose own rule comes first: write other bits",
    ),
    (
        "to-set = 'Tele Vision'\n",
        "f:5: to-set: \"Tele Vision\" is not valid: write a lowercase letter, then lowercase letters, digits, '_' or '-', at most 30 characters",
    ),
    ("from-set = 'ip'\n", "f:5: from-set: \"ip\" is not valid: with a 6 behind it nft(8) reserves it; choose another"),
    ("to-set = ['tv', 'music']\n", "f:5: to-set: a list is not valid: write text in quotes"),
    (
        "to-set = 'tv'\n[settings]\nfirewall = 'iptables'\n",
        "f:5: to-set: a set needs nftables, and firewall is \"iptables\": write firewall = \"auto\" or \"nftables\" in [settings], or select by addresses",
    ),
    (
        "from-set = 'tv'\n[settings]\nfirewall = 'none'\n",
        "f:5: from-set: a set needs nftables, and firewall is \"none\": write firewall = \"auto\" or \"nftables\" in [settings], or select by addresses",
    ),
    (
        "uid = 1\nto-set = 'tv'\n",
        "f:5: uid: it does not hold beside sets: for what is in a set the kernel forgets whose socket it was; have a rule of nftables mark what the user sends (`meta skuid 1000 meta mark set meta mark | 0x100`), and select by fwmark",
    ),
    (
        "uid = 1\n[[policy]]\nname = 'q'\nvia = 'a'\nfrom-set = 'tv'\n",
        "f:5: uid: it does not hold beside sets: for what is in a set the kernel forgets whose socket it was; have a rule of nftables mark what the user sends (`meta skuid 1000 meta mark set meta mark | 0x100`), and select by fwmark",
    ),
    ("uid = 1\notherwise = 'drop'\n", "f:6: otherwise: \"drop\" is not valid: write \"default\" or \"unreachable\""),
];
