//! The kernel's numbers: those that libc has by name, and, by header, those that no crate has.

// libc says `int` where the field on the wire is narrower or has no sign; each of these fits.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use nix::libc;

// linux/rtnetlink.h and linux/if_link.h.
pub(crate) use nix::libc::{
    IFLA_AF_SPEC, IFLA_EXT_MASK, IFLA_GROUP, IFLA_IFNAME, IFLA_STATS64, RTA_DST, RTA_GATEWAY, RTA_MULTIPATH, RTA_OIF,
    RTA_PREFSRC, RTA_PRIORITY, RTA_TABLE, RTM_DELLINK, RTM_DELROUTE, RTM_DELRULE, RTM_GETADDR, RTM_GETLINK,
    RTM_GETNEIGH, RTM_GETROUTE, RTM_GETRULE, RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWRULE, RTM_SETLINK, RTPROT_BOOT,
    RTPROT_STATIC, RTPROT_UNSPEC,
};

pub(crate) const RTEXT_FILTER_SKIP_STATS: u32 = libc::RTEXT_FILTER_SKIP_STATS as u32;
pub(crate) const RTM_NEWNEXTHOP: u16 = 104;
pub(crate) const RTM_DELNEXTHOP: u16 = 105;
pub(crate) const RTM_GETNEXTHOP: u16 = 106;
/// musl's half of libc lacks it.
pub(crate) const RTA_VIA: u16 = 18;
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
pub(crate) const RTMGRP_NEXTHOP: u32 = group(32);

const fn group(number: u32) -> u32 {
    1 << (number - 1)
}

// sys/socket.h and netinet/in.h.
pub(crate) const AF_INET: u8 = libc::AF_INET as u8;
pub(crate) const AF_INET6: u8 = libc::AF_INET6 as u8;
pub(crate) const IPPROTO_ICMP: u8 = libc::IPPROTO_ICMP as u8;
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

// linux/fib_rules.h.
/// netlink-packet-route has the attribute, but does not export the type of its value.
pub(crate) const FRA_IP_PROTO: u16 = 22;
/// The whole DSCP (Linux 6.12), where the older header field `tos` is compared in three bits only
/// (`INET_DSCP_MASK` against `IPTOS_RT_MASK`).
pub(crate) const FRA_DSCP: u16 = 25;
pub(crate) const FRA_SPORT_MASK: u16 = 28;
pub(crate) const FRA_DPORT_MASK: u16 = 29;
pub(crate) const FRA_DSCP_MASK: u16 = 30;

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
pub(crate) const CTA_PROTO_NUM: u16 = 1;
pub(crate) const CTA_PROTO_SRC_PORT: u16 = 2;
pub(crate) const CTA_PROTO_DST_PORT: u16 = 3;
pub(crate) const CTA_PROTOINFO_TCP: u16 = 1;
pub(crate) const CTA_PROTOINFO_TCP_STATE: u16 = 1;

// linux/netfilter/nf_conntrack_common.h and nf_conntrack_tcp.h.
pub(crate) const IPS_SEEN_REPLY: u32 = 1 << 1;
pub(crate) const IPS_ASSURED: u32 = 1 << 2;
pub(crate) const TCP_CONNTRACK_LAST_ACK: u8 = 6;
pub(crate) const TCP_CONNTRACK_CLOSE: u8 = 8;

// linux/netfilter/nf_tables.h.
pub(crate) const NFT_MSG_GETCHAIN: u16 = (libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_GETCHAIN) as u16;
pub(crate) const NFT_MSG_GETRULE: u16 = (libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_GETRULE) as u16;
pub(crate) const NFTA_LIST_ELEM: u16 = 1;
pub(crate) const NFTA_CHAIN_TABLE: u16 = 1;
pub(crate) const NFTA_CHAIN_NAME: u16 = 3;
pub(crate) const NFTA_CHAIN_TYPE: u16 = 7;
pub(crate) const NFTA_RULE_TABLE: u16 = 1;
pub(crate) const NFTA_RULE_CHAIN: u16 = 2;
pub(crate) const NFTA_RULE_EXPRESSIONS: u16 = 4;
pub(crate) const NFTA_EXPR_NAME: u16 = 1;
pub(crate) const NFTA_EXPR_DATA: u16 = 2;
pub(crate) const NFTA_DATA_VERDICT: u16 = 2;
pub(crate) const NFTA_VERDICT_CHAIN: u16 = 2;
pub(crate) const NFTA_IMMEDIATE_DATA: u16 = 2;
