//! The kernel's numbers: those that libc has by name, and, by header, those that no crate has.

// libc says `int` where the field on the wire is narrower or has no sign; each of these fits.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use nix::libc;

// linux/rtnetlink.h and linux/if_link.h.
pub(crate) use nix::libc::{
    IFLA_AF_SPEC, IFLA_EXT_MASK, IFLA_GROUP, IFLA_IFNAME, IFLA_STATS64, IFLA_WIRELESS, RTA_DST, RTA_GATEWAY,
    RTA_MULTIPATH, RTA_OIF, RTA_PREFSRC, RTA_PRIORITY, RTA_SRC, RTA_TABLE, RTM_DELADDR, RTM_DELLINK, RTM_DELROUTE,
    RTM_DELRULE, RTM_GETADDR, RTM_GETLINK, RTM_GETNEIGH, RTM_GETROUTE, RTM_GETRULE, RTM_NEWADDR, RTM_NEWLINK,
    RTM_NEWNETCONF, RTM_NEWROUTE, RTM_NEWRULE, RTM_SETLINK, RTPROT_BOOT, RTPROT_STATIC, RTPROT_UNSPEC,
};

pub(crate) const RTEXT_FILTER_SKIP_STATS: u32 = libc::RTEXT_FILTER_SKIP_STATS as u32;
pub(crate) const RTM_DELNETCONF: u16 = 81;
pub(crate) const RTM_NEWNEXTHOP: u16 = 104;
pub(crate) const RTM_DELNEXTHOP: u16 = 105;
pub(crate) const RTM_GETNEXTHOP: u16 = 106;
/// musl's half of libc lacks it.
pub(crate) const RTA_VIA: u16 = 18;
pub(crate) const RTA_PREF: u16 = 20;
pub(crate) const RTA_IP_PROTO: u16 = 27;
pub(crate) const RTA_SPORT: u16 = 28;
pub(crate) const RTA_DPORT: u16 = 29;
pub(crate) const RTA_NH_ID: u16 = 30;
pub(crate) const RTNH_F_DEAD: u32 = 1;
pub(crate) const RTNH_F_ONLINK: u32 = 4;
pub(crate) const RTPROT_DHCP: u8 = 16;

/// The multicast groups of rtnetlink as bind(2) takes them.
pub(crate) const RTMGRP_LINK: u32 = group(libc::RTNLGRP_LINK);
pub(crate) const RTMGRP_IPV4_IFADDR: u32 = group(libc::RTNLGRP_IPV4_IFADDR);
pub(crate) const RTMGRP_IPV4_ROUTE: u32 = group(libc::RTNLGRP_IPV4_ROUTE);
pub(crate) const RTMGRP_IPV4_RULE: u32 = group(libc::RTNLGRP_IPV4_RULE);
pub(crate) const RTMGRP_IPV6_IFADDR: u32 = group(libc::RTNLGRP_IPV6_IFADDR);
pub(crate) const RTMGRP_IPV6_ROUTE: u32 = group(libc::RTNLGRP_IPV6_ROUTE);
pub(crate) const RTMGRP_IPV6_RULE: u32 = group(libc::RTNLGRP_IPV6_RULE);
pub(crate) const RTMGRP_NEXTHOP: u32 = group(32);

const fn group(number: u32) -> u32 {
    1 << (number - 1)
}

// linux/fib_rules.h.
pub(crate) const FRA_DST: u16 = 1;
pub(crate) const FRA_SRC: u16 = 2;
pub(crate) const FRA_IIFNAME: u16 = 3;
pub(crate) const FRA_GOTO: u16 = 4;
pub(crate) const FRA_PRIORITY: u16 = 6;
pub(crate) const FRA_FWMARK: u16 = 10;
pub(crate) const FRA_FLOW: u16 = 11;
pub(crate) const FRA_TUN_ID: u16 = 12;
pub(crate) const FRA_SUPPRESS_IFGROUP: u16 = 13;
pub(crate) const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
pub(crate) const FRA_TABLE: u16 = 15;
pub(crate) const FRA_FWMASK: u16 = 16;
pub(crate) const FRA_OIFNAME: u16 = 17;
pub(crate) const FRA_PAD: u16 = 18;
pub(crate) const FRA_L3MDEV: u16 = 19;
pub(crate) const FRA_UID_RANGE: u16 = 20;
pub(crate) const FRA_PROTOCOL: u16 = 21;
pub(crate) const FRA_IP_PROTO: u16 = 22;
pub(crate) const FRA_SPORT_RANGE: u16 = 23;
pub(crate) const FRA_DPORT_RANGE: u16 = 24;
/// The whole DSCP (Linux 6.12), where the older header field `tos` is compared in three bits only
/// (`INET_DSCP_MASK` against `IPTOS_RT_MASK`).
pub(crate) const FRA_DSCP: u16 = 25;
pub(crate) const FRA_SPORT_MASK: u16 = 28;
pub(crate) const FRA_DPORT_MASK: u16 = 29;
pub(crate) const FRA_DSCP_MASK: u16 = 30;
pub(crate) const FR_ACT_TO_TBL: u8 = 1;
pub(crate) const FR_ACT_GOTO: u8 = 2;
pub(crate) const FR_ACT_NOP: u8 = 3;
pub(crate) const FR_ACT_BLACKHOLE: u8 = 6;
pub(crate) const FR_ACT_UNREACHABLE: u8 = 7;
pub(crate) const FR_ACT_PROHIBIT: u8 = 8;
pub(crate) const FIB_RULE_INVERT: u32 = 0x2;
pub(crate) const FIB_RULE_UNRESOLVED: u32 = 0x4;
pub(crate) const FIB_RULE_IIF_DETACHED: u32 = 0x8;
pub(crate) const FIB_RULE_OIF_DETACHED: u32 = 0x10;

// linux/if_addr.h and linux/rtnetlink.h.
pub(crate) const IFA_ADDRESS: u16 = libc::IFA_ADDRESS;
pub(crate) const IFA_LOCAL: u16 = libc::IFA_LOCAL;
pub(crate) const IFA_CACHEINFO: u16 = libc::IFA_CACHEINFO;
/// musl's half of libc lacks it.
pub(crate) const IFA_FLAGS: u16 = 8;
pub(crate) const IFA_F_DADFAILED: u32 = libc::IFA_F_DADFAILED;
pub(crate) const IFA_F_DEPRECATED: u32 = libc::IFA_F_DEPRECATED;
pub(crate) const RT_SCOPE_UNIVERSE: u8 = libc::RT_SCOPE_UNIVERSE;
pub(crate) const RT_SCOPE_LINK: u8 = libc::RT_SCOPE_LINK;
pub(crate) const RT_SCOPE_NOWHERE: u8 = libc::RT_SCOPE_NOWHERE;
pub(crate) const RTN_UNICAST: u8 = libc::RTN_UNICAST;
pub(crate) const RTN_UNREACHABLE: u8 = libc::RTN_UNREACHABLE;

// sys/socket.h and netinet/in.h.
pub(crate) const AF_UNSPEC: u8 = libc::AF_UNSPEC as u8;
pub(crate) const AF_INET: u8 = libc::AF_INET as u8;
pub(crate) const AF_INET6: u8 = libc::AF_INET6 as u8;
pub(crate) const IPPROTO_ICMP: u8 = libc::IPPROTO_ICMP as u8;
pub(crate) const IPPROTO_ICMPV6: u8 = libc::IPPROTO_ICMPV6 as u8;
pub(crate) const IPPROTO_TCP: u8 = libc::IPPROTO_TCP as u8;
pub(crate) const IPPROTO_UDP: u8 = libc::IPPROTO_UDP as u8;

// net/if.h.
pub(crate) const IFF_UP: u32 = libc::IFF_UP as u32;
pub(crate) const IFF_POINTOPOINT: u32 = libc::IFF_POINTOPOINT as u32;
pub(crate) const IFF_NOARP: u32 = libc::IFF_NOARP as u32;
pub(crate) const IFF_LOWER_UP: u32 = libc::IFF_LOWER_UP as u32;

// linux/netlink.h.
/// Kind of the attribute of an extended acknowledgement that holds the reason as text.
pub(crate) const NLMSGERR_ATTR_MSG: u16 = 1;

// linux/if_link.h, linux/ip.h and linux/veth.h.
pub(crate) const IFLA_INET_CONF: u16 = 1;
/// Counted from 1, as all in `IFLA_INET_CONF` are.
pub(crate) const IPV4_DEVCONF_RP_FILTER: u16 = 8;
pub(crate) const IPV4_DEVCONF_ARP_ANNOUNCE: u16 = 18;
pub(crate) const IPV4_DEVCONF_ARP_IGNORE: u16 = 19;
pub(crate) const IPV4_DEVCONF_IGNORE_ROUTES_WITH_LINKDOWN: u16 = 29;
pub(crate) const IFLA_INET6_CONF: u16 = 2;
/// Counted from 0, as all in `IFLA_INET6_CONF` are (linux/ipv6.h).
pub(crate) const IPV6_DEVCONF_IGNORE_ROUTES_WITH_LINKDOWN: usize = 39;

// linux/netconf.h.
pub(crate) const NETCONFA_IFINDEX: u16 = 1;
/// In the place of an index: the `all` of /proc/sys/net/ipv4/conf.
pub(crate) const NETCONFA_IFINDEX_ALL: u32 = u32::MAX;

// linux/nexthop.h.
pub(crate) const NHA_ID: u16 = 1;
pub(crate) const NHA_GROUP: u16 = 2;
pub(crate) const NHA_GROUP_TYPE: u16 = 3;
pub(crate) const NHA_BLACKHOLE: u16 = 4;
pub(crate) const NHA_OIF: u16 = 5;
pub(crate) const NHA_GATEWAY: u16 = 6;
pub(crate) const NHA_OP_FLAGS: u16 = 14;
/// In the kernel's `NHA_OP_FLAGS` (6.12): the bytes of a group's members that were reserved before
/// are set, not whatever was in memory.
pub(crate) const NHA_OP_FLAG_RESP_GRP_RESVD_0: u32 = 1 << 31;

// linux/netfilter.h.
pub(crate) const NFPROTO_INET: u8 = libc::NFPROTO_INET as u8;
pub(crate) const NFPROTO_IPV4: u8 = libc::NFPROTO_IPV4 as u8;
pub(crate) const NFPROTO_IPV6: u8 = libc::NFPROTO_IPV6 as u8;

// linux/netfilter/nfnetlink_conntrack.h; a message's type is its subsystem and its number.
pub(crate) const IPCTNL_MSG_CT_NEW: u16 = (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8;
pub(crate) const IPCTNL_MSG_CT_GET: u16 = (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8 | 1;
pub(crate) const IPCTNL_MSG_CT_DELETE: u16 = (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8 | 2;
pub(crate) const NFMGRP_CONNTRACK_DESTROY: u32 = group(libc::NFNLGRP_CONNTRACK_DESTROY as u32);
pub(crate) const CTA_TUPLE_ORIG: u16 = 1;
pub(crate) const CTA_TUPLE_REPLY: u16 = 2;
pub(crate) const CTA_STATUS: u16 = 3;
pub(crate) const CTA_PROTOINFO: u16 = 4;
pub(crate) const CTA_TIMEOUT: u16 = 7;
pub(crate) const CTA_MARK: u16 = 8;
pub(crate) const CTA_ZONE: u16 = 18;
pub(crate) const CTA_MARK_MASK: u16 = 21;
pub(crate) const CTA_TUPLE_IP: u16 = 1;
pub(crate) const CTA_TUPLE_PROTO: u16 = 2;
pub(crate) const CTA_IP_V4_SRC: u16 = 1;
pub(crate) const CTA_IP_V4_DST: u16 = 2;
pub(crate) const CTA_IP_V6_SRC: u16 = 3;
pub(crate) const CTA_IP_V6_DST: u16 = 4;
pub(crate) const CTA_PROTO_NUM: u16 = 1;
pub(crate) const CTA_PROTO_SRC_PORT: u16 = 2;
pub(crate) const CTA_PROTO_DST_PORT: u16 = 3;
pub(crate) const CTA_PROTOINFO_TCP: u16 = 1;
pub(crate) const CTA_PROTOINFO_TCP_STATE: u16 = 1;

// linux/netfilter/nf_conntrack_common.h and nf_conntrack_tcp.h.
pub(crate) const IPS_SEEN_REPLY: u32 = 1 << 1;
pub(crate) const IPS_ASSURED: u32 = 1 << 2;
pub(crate) const IPS_DST_NAT: u32 = 1 << 5;
pub(crate) const TCP_CONNTRACK_LAST_ACK: u8 = 6;
pub(crate) const TCP_CONNTRACK_CLOSE: u8 = 8;

// linux/netfilter/nfnetlink.h.
pub(crate) const NFNL_MSG_BATCH_BEGIN: u16 = 16;
pub(crate) const NFNL_MSG_BATCH_END: u16 = 17;
pub(crate) const NFNL_SUBSYS_NFTABLES: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;

// linux/netfilter/nf_tables.h; all but names come in network byte order.
pub(crate) const NFT_MSG_NEWTABLE: u16 = nf_tables(libc::NFT_MSG_NEWTABLE);
pub(crate) const NFT_MSG_GETTABLE: u16 = nf_tables(libc::NFT_MSG_GETTABLE);
pub(crate) const NFT_MSG_DELTABLE: u16 = nf_tables(libc::NFT_MSG_DELTABLE);
pub(crate) const NFT_MSG_NEWCHAIN: u16 = nf_tables(libc::NFT_MSG_NEWCHAIN);
pub(crate) const NFT_MSG_GETCHAIN: u16 = nf_tables(libc::NFT_MSG_GETCHAIN);
pub(crate) const NFT_MSG_DELCHAIN: u16 = nf_tables(libc::NFT_MSG_DELCHAIN);
pub(crate) const NFT_MSG_NEWRULE: u16 = nf_tables(libc::NFT_MSG_NEWRULE);
pub(crate) const NFT_MSG_GETRULE: u16 = nf_tables(libc::NFT_MSG_GETRULE);
pub(crate) const NFT_MSG_DELRULE: u16 = nf_tables(libc::NFT_MSG_DELRULE);
pub(crate) const NFT_MSG_NEWSET: u16 = nf_tables(libc::NFT_MSG_NEWSET);
pub(crate) const NFT_MSG_GETSET: u16 = nf_tables(libc::NFT_MSG_GETSET);
pub(crate) const NFT_MSG_DELSET: u16 = nf_tables(libc::NFT_MSG_DELSET);
pub(crate) const NFT_MSG_NEWSETELEM: u16 = nf_tables(libc::NFT_MSG_NEWSETELEM);
pub(crate) const NFT_MSG_GETSETELEM: u16 = nf_tables(libc::NFT_MSG_GETSETELEM);
pub(crate) const NFT_MSG_DELSETELEM: u16 = nf_tables(libc::NFT_MSG_DELSETELEM);
pub(crate) const NFT_MSG_NEWGEN: u16 = nf_tables(libc::NFT_MSG_NEWGEN);

const fn nf_tables(message: i32) -> u16 {
    (libc::NFNL_SUBSYS_NFTABLES << 8 | message) as u16
}

pub(crate) const NFTA_GEN_PROC_PID: u16 = 2;
pub(crate) const NFTA_GEN_PROC_NAME: u16 = 3;
pub(crate) const NFTA_LIST_ELEM: u16 = 1;
pub(crate) const NFTA_TABLE_NAME: u16 = 1;
pub(crate) const NFTA_TABLE_FLAGS: u16 = 2;
pub(crate) const NFT_TABLE_F_DORMANT: u32 = 1;
pub(crate) const NFT_TABLE_F_OWNER: u32 = 2;
pub(crate) const NFTA_CHAIN_TABLE: u16 = 1;
pub(crate) const NFTA_CHAIN_NAME: u16 = 3;
pub(crate) const NFTA_CHAIN_HOOK: u16 = 4;
pub(crate) const NFTA_CHAIN_POLICY: u16 = 5;
pub(crate) const NFTA_CHAIN_TYPE: u16 = 7;
/// Verdict of a base chain about what its rules do not decide.
pub(crate) const NF_ACCEPT: u32 = 1;
pub(crate) const NFTA_HOOK_HOOKNUM: u16 = 1;
pub(crate) const NFTA_HOOK_PRIORITY: u16 = 2;
pub(crate) const NFTA_RULE_TABLE: u16 = 1;
pub(crate) const NFTA_RULE_CHAIN: u16 = 2;
pub(crate) const NFTA_RULE_HANDLE: u16 = 3;
pub(crate) const NFTA_RULE_EXPRESSIONS: u16 = 4;
pub(crate) const NFTA_RULE_USERDATA: u16 = 7;
pub(crate) const NFTA_EXPR_NAME: u16 = 1;
pub(crate) const NFTA_EXPR_DATA: u16 = 2;
pub(crate) const NFTA_DATA_VALUE: u16 = 1;
pub(crate) const NFTA_DATA_VERDICT: u16 = 2;
pub(crate) const NFTA_VERDICT_CODE: u16 = 1;
pub(crate) const NFTA_VERDICT_CHAIN: u16 = 2;
pub(crate) const NFTA_IMMEDIATE_DREG: u16 = 1;
pub(crate) const NFTA_IMMEDIATE_DATA: u16 = 2;
pub(crate) const NFTA_META_DREG: u16 = 1;
pub(crate) const NFTA_META_KEY: u16 = 2;
pub(crate) const NFTA_META_SREG: u16 = 3;
pub(crate) const NFTA_CT_DREG: u16 = 1;
pub(crate) const NFTA_CT_KEY: u16 = 2;
pub(crate) const NFTA_CT_SREG: u16 = 4;
pub(crate) const NFTA_CMP_SREG: u16 = 1;
pub(crate) const NFTA_CMP_OP: u16 = 2;
pub(crate) const NFTA_CMP_DATA: u16 = 3;
pub(crate) const NFTA_BITWISE_SREG: u16 = 1;
pub(crate) const NFTA_BITWISE_DREG: u16 = 2;
pub(crate) const NFTA_BITWISE_LEN: u16 = 3;
pub(crate) const NFTA_BITWISE_MASK: u16 = 4;
pub(crate) const NFTA_BITWISE_XOR: u16 = 5;
pub(crate) const NFTA_BITWISE_OP: u16 = 6;
pub(crate) const NFT_BITWISE_BOOL: u32 = 0;
pub(crate) const NFTA_PAYLOAD_DREG: u16 = 1;
pub(crate) const NFTA_PAYLOAD_BASE: u16 = 2;
pub(crate) const NFTA_PAYLOAD_OFFSET: u16 = 3;
pub(crate) const NFTA_PAYLOAD_LEN: u16 = 4;
pub(crate) const NFTA_COUNTER_PACKETS: u16 = 2;
pub(crate) const NFTA_LOOKUP_SET: u16 = 1;
pub(crate) const NFTA_LOOKUP_SREG: u16 = 2;
pub(crate) const NFTA_LOOKUP_SET_ID: u16 = 4;
pub(crate) const NFTA_SET_TABLE: u16 = 1;
pub(crate) const NFTA_SET_NAME: u16 = 2;
pub(crate) const NFTA_SET_FLAGS: u16 = 3;
pub(crate) const NFTA_SET_KEY_TYPE: u16 = 4;
pub(crate) const NFTA_SET_KEY_LEN: u16 = 5;
pub(crate) const NFTA_SET_ID: u16 = 10;
pub(crate) const NFTA_SET_USERDATA: u16 = 13;
pub(crate) const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
pub(crate) const NFTA_SET_ELEM_LIST_SET: u16 = 2;
pub(crate) const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
pub(crate) const NFTA_SET_ELEM_LIST_SET_ID: u16 = 4;
pub(crate) const NFTA_SET_ELEM_KEY: u16 = 1;
pub(crate) const NFTA_SET_ELEM_FLAGS: u16 = 3;
pub(crate) const NFTA_SET_ELEM_TIMEOUT: u16 = 4;
pub(crate) const NFTA_SET_ELEM_EXPIRATION: u16 = 5;
pub(crate) const NFTA_SET_ELEM_USERDATA: u16 = 6;
pub(crate) const NFT_SET_INTERVAL: u32 = libc::NFT_SET_INTERVAL as u32;
pub(crate) const NFT_SET_TIMEOUT: u32 = libc::NFT_SET_TIMEOUT as u32;
pub(crate) const NFT_SET_ELEM_INTERVAL_END: u32 = libc::NFT_SET_ELEM_INTERVAL_END as u32;
pub(crate) const NFT_RETURN: i32 = libc::NFT_RETURN;
pub(crate) const NFT_GOTO: i32 = libc::NFT_GOTO;
pub(crate) const NFT_CMP_EQ: u32 = libc::NFT_CMP_EQ as u32;
pub(crate) const NFT_CMP_NEQ: u32 = libc::NFT_CMP_NEQ as u32;
pub(crate) const NFT_PAYLOAD_NETWORK_HEADER: u32 = libc::NFT_PAYLOAD_NETWORK_HEADER as u32;
pub(crate) const NFT_META_MARK: u32 = libc::NFT_META_MARK as u32;
pub(crate) const NFT_META_IIFNAME: u32 = libc::NFT_META_IIFNAME as u32;
pub(crate) const NFT_META_OIFNAME: u32 = libc::NFT_META_OIFNAME as u32;
pub(crate) const NFT_META_NFPROTO: u32 = libc::NFT_META_NFPROTO as u32;
pub(crate) const NFT_META_L4PROTO: u32 = libc::NFT_META_L4PROTO as u32;
pub(crate) const NFT_META_IIFGROUP: u32 = libc::NFT_META_IIFGROUP as u32;
pub(crate) const NFT_META_OIFGROUP: u32 = libc::NFT_META_OIFGROUP as u32;
pub(crate) const NFT_CT_STATE: u32 = libc::NFT_CT_STATE as u32;
pub(crate) const NFT_CT_DIRECTION: u32 = libc::NFT_CT_DIRECTION as u32;
pub(crate) const NFT_CT_STATUS: u32 = libc::NFT_CT_STATUS as u32;
pub(crate) const NFT_CT_MARK: u32 = libc::NFT_CT_MARK as u32;
/// `NF_CT_STATE_BIT(IP_CT_RELATED)`.
pub(crate) const NF_CT_STATE_RELATED: u32 = 1 << 2;
