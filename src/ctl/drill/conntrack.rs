//! All tracked connections, and the ends of those that go, over ctnetlink.
//!
//! An entry is "assured" once both ends have shown that they mean it: TCP's third packet, or UDP both ways for
//! two seconds. One that is flushed comes back with its next packet, TCP in its midst too
//! (`nf_conntrack_tcp_loose`), under the same first tuple and with the mark of the line that it takes now.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;
use std::path::Path;
use std::{fs, io};

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket as Netlink, SocketAddr};
use nix::libc;

use crate::kernel::conntrack::COUNT;
use crate::kernel::netlink::constants::{
    CTA_IP_V4_DST, CTA_IP_V4_SRC, CTA_IP_V6_DST, CTA_IP_V6_SRC, CTA_MARK, CTA_PROTO_DST_PORT, CTA_PROTO_NUM,
    CTA_PROTO_SRC_PORT, CTA_PROTOINFO, CTA_PROTOINFO_TCP, CTA_PROTOINFO_TCP_STATE, CTA_STATUS, CTA_TIMEOUT,
    CTA_TUPLE_IP, CTA_TUPLE_ORIG, CTA_TUPLE_PROTO, IPCTNL_MSG_CT_DELETE, IPCTNL_MSG_CT_GET, IPPROTO_TCP, IPS_ASSURED,
    IPS_SEEN_REPLY, NFMGRP_CONNTRACK_DESTROY, TCP_CONNTRACK_CLOSE, TCP_CONNTRACK_LAST_ACK,
};
use crate::kernel::netlink::netfilter::{Message, payload};
use crate::kernel::netlink::nla::attribute;
use crate::kernel::netlink::socket::{Socket, split};
use crate::kernel::{Error, read};

/// The ends of a connection as its first packet had them, before any translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tuple {
    pub proto: u8,
    /// Who began.
    pub from: IpAddr,
    /// With whom.
    pub to: IpAddr,
    /// Port of who began; 0 where there are none.
    pub sport: u16,
    /// The other's.
    pub dport: u16,
}

/// A tracked connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    pub tuple: Tuple,
    pub mark: u32,
    /// Seconds after which the kernel deletes the entry; each packet begins them anew.
    pub timeout: u32,
    status: u32,
    tcp_state: Option<u8>,
    gone: bool,
}

impl Connection {
    /// Both ends have talked, and none has ended it.
    pub fn is_established(&self) -> bool {
        self.status & IPS_ASSURED != 0 && self.tcp_state.is_none_or(|state| state < TCP_CONNTRACK_LAST_ACK)
    }

    /// It is answered, and TCP was not reset.
    pub fn is_answered(&self) -> bool {
        // Where a reset is the first answer, the entry goes at once (`nf_conntrack_tcp_packet()`).
        let refused = self.gone && self.tuple.proto == IPPROTO_TCP && self.status & IPS_ASSURED == 0;
        self.status & IPS_SEEN_REPLY != 0 && self.tcp_state != Some(TCP_CONNTRACK_CLOSE) && !refused
    }

    fn parse(body: &[u8]) -> Option<Self> {
        let nlas = payload(body);
        let tuple = attribute(nlas, CTA_TUPLE_ORIG)?;
        let ip = attribute(tuple, CTA_TUPLE_IP)?;
        let proto = attribute(tuple, CTA_TUPLE_PROTO)?;
        let tcp = attribute(nlas, CTA_PROTOINFO).and_then(|info| attribute(info, CTA_PROTOINFO_TCP));
        let tcp_state = tcp.and_then(|tcp| attribute(tcp, CTA_PROTOINFO_TCP_STATE)?.first().copied());
        Some(Self {
            tuple: Tuple {
                proto: *attribute(proto, CTA_PROTO_NUM)?.first()?,
                from: address(ip, CTA_IP_V4_SRC, CTA_IP_V6_SRC)?,
                to: address(ip, CTA_IP_V4_DST, CTA_IP_V6_DST)?,
                sport: port(proto, CTA_PROTO_SRC_PORT).unwrap_or_default(),
                dport: port(proto, CTA_PROTO_DST_PORT).unwrap_or_default(),
            },
            // A kernel without CONFIG_NF_CONNTRACK_MARK has none.
            mark: number(nlas, CTA_MARK).unwrap_or_default(),
            timeout: number(nlas, CTA_TIMEOUT).unwrap_or_default(),
            status: number(nlas, CTA_STATUS)?,
            tcp_state,
            gone: false,
        })
    }
}

/// The address of either family, by the kind of its attribute.
fn address(ip: &[u8], v4: u16, v6: u16) -> Option<IpAddr> {
    match number(ip, v4) {
        Some(address) => Some(IpAddr::V4(Ipv4Addr::from(address))),
        None => Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(attribute(ip, v6)?).ok()?))),
    }
}

/// A number of four bytes.
fn number(nlas: &[u8], kind: u16) -> Option<u32> {
    Some(u32::from_be_bytes(attribute(nlas, kind)?.try_into().ok()?))
}

fn port(nlas: &[u8], kind: u16) -> Option<u16> {
    Some(u16::from_be_bytes(attribute(nlas, kind)?.try_into().ok()?))
}

/// The tracked connections of both families that are `wanted`. Needs `CAP_NET_ADMIN`.
pub fn connections(wanted: impl Fn(&Connection) -> bool) -> Result<Vec<Connection>, Error> {
    let mut socket = Socket::open_netfilter().map_err(Error::Open)?;
    // Of all families.
    let request = Message { family: 0, ..Message::new(Vec::new()) };
    let found = socket.dump(IPCTNL_MSG_CT_GET, &request, Vec::new, |found, body| {
        found.extend(Connection::parse(body).filter(&wanted));
        Ok(ControlFlow::Continue(()))
    });
    found.map_err(read("tracked connections"))
}

/// A socket that the kernel tells of connections that end.
fn subscribed() -> io::Result<Netlink> {
    let mut netlink = Netlink::new(NETLINK_NETFILTER)?;
    netlink.bind(&SocketAddr::new(0, NFMGRP_CONNTRACK_DESTROY))?;
    netlink.set_non_blocking(true)?;
    // As much as an ordinary limit allows: a thousand may go at once.
    let _ = netlink.set_rx_buf_sz(1 << 22);
    Ok(netlink)
}

/// Tells of connections whose entries go, by themselves or otherwise.
pub struct DestroyEvents {
    netlink: Netlink,
    /// Some were lost: the kernel sends none, or the socket could not take them all (ENOBUFS).
    pub overrun: bool,
}

impl DestroyEvents {
    /// Listens in the thread's network namespace from now on; `None`: this kernel tracks no connections.
    /// Needs `CAP_NET_ADMIN`.
    pub fn listen() -> Result<Option<Self>, Error> {
        if !Path::new(COUNT).exists() {
            return Ok(None);
        }
        // 0: the administrator wants the kernel to tell nobody.
        let silent = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_events").is_ok_and(|n| n.trim() == "0");
        Ok(Some(Self { netlink: subscribed().map_err(Error::Open)?, overrun: silent }))
    }

    /// Those that have ended since the last call.
    pub fn take(&mut self, mut each: impl FnMut(&Connection)) -> Result<(), Error> {
        loop {
            match self.netlink.recv_from_full() {
                Ok((datagram, from)) if from.port_number() == 0 => {
                    let mut rest = &datagram[..];
                    while let Some((answer, after)) = split(rest).map_err(read("ends of connections"))? {
                        rest = after;
                        if let (IPCTNL_MSG_CT_DELETE, Some(gone)) = (answer.kind, Connection::parse(answer.body)) {
                            each(&Connection { gone: true, ..gone });
                        }
                    }
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => self.overrun = true,
                Err(e) => return Err(read("ends of connections")(e.into())),
            }
        }
    }
}
