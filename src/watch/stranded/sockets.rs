//! Sockets of TCP over `sock_diag`: found by their address, and ended (`SOCK_DESTROY`, since Linux 4.5, with
//! `CONFIG_INET_DIAG_DESTROY`). The program is told ECONNABORTED at once (`tcp_abort()`).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use nix::libc::{AF_INET, AF_INET6, IPPROTO_TCP};

use super::Ending;
use crate::kernel::netlink::nla::Body;
use crate::kernel::netlink::socket::{Error, Socket};
use crate::kernel::towards::device_towards;

// linux/sock_diag.h, linux/inet_diag.h and net/tcp_states.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const TCP_TIME_WAIT: u8 = 6;
const TCP_CLOSE: u8 = 7;
const TCP_LISTEN: u8 = 10;
const TCP_NEW_SYN_RECV: u8 = 12;

/// `struct inet_diag_sockid`.
const ID: usize = 48;

/// A request: `struct inet_diag_req_v2`.
type Request = Body<{ 8 + ID }>;

/// What has begun, and what no end waits for any more has no program that could be told.
const STATES: u32 = !(1 << TCP_TIME_WAIT | 1 << TCP_CLOSE | 1 << TCP_LISTEN | 1 << TCP_NEW_SYN_RECV);

/// Ends the connections, and tells how many there were. A kernel that has no means for it leaves them alone.
pub(in crate::watch) fn end(ending: &Ending) -> Result<usize, Error> {
    let mut ended = 0;
    if ending.from.is_empty() {
        return Ok(ended);
    }
    let (mut sockets, mut routes) = (Socket::of(NETLINK_SOCK_DIAG)?, Socket::open()?);
    let mut devices = BTreeMap::new();
    // A socket of IPv6 may have a connection of IPv4.
    for family in [AF_INET, AF_INET6] {
        let found = match sockets.list(SOCK_DIAG_BY_FAMILY, &request(family, [0; ID]), |body| Ok(Found::of(body))) {
            Err(e) if e.is_gone() || e.is_unsupported() => return Ok(ended),
            found => found?,
        };
        for Found { id, local, remote } in found {
            if !ending.from.iter().any(|source| source.contains(&local)) {
                continue;
            }
            let by = match devices.get(&remote) {
                Some(known) => *known,
                None => *devices.entry(remote).or_insert(device_towards(remote, &mut routes)?),
            };
            if !by.is_some_and(|device| ending.by.contains(&device)) {
                continue;
            }
            match sockets.change(SOCK_DESTROY, 0, &request(family, id)) {
                Ok(()) => ended += 1,
                Err(e) if e.is_gone() => {}
                Err(e) if e.is_unsupported() => return Ok(ended),
                Err(e) => return Err(e),
            }
        }
    }
    Ok(ended)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "C's constants are ints, and these are small"
)]
fn request(family: i32, id: [u8; ID]) -> Request {
    let mut header = [0; 8 + ID];
    (header[0], header[1]) = (family as u8, IPPROTO_TCP as u8);
    header[4..8].copy_from_slice(&STATES.to_ne_bytes());
    header[8..].copy_from_slice(&id);
    Request::new(header)
}

/// A socket that is bound to no interface: whoever names one wants that.
struct Found {
    /// With the kernel's cookie: another socket that has come in its place is not it.
    id: [u8; ID],
    local: IpAddr,
    remote: IpAddr,
}

impl Found {
    /// Reads a `struct inet_diag_msg`.
    fn of(body: &[u8]) -> Option<Self> {
        let family = *body.first()?;
        let id: [u8; ID] = *body.get(4..)?.first_chunk()?;
        let interface = &id[36..40];
        let (local, remote) = (address(family, &id[4..20])?, address(family, &id[20..36])?);
        (interface == [0; 4]).then_some(Self { id, local, remote })
    }
}

fn address(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match i32::from(family) {
        AF_INET => Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
        AF_INET6 => Some(IpAddr::from(Ipv6Addr::from(*bytes.first_chunk::<16>()?)).to_canonical()),
        _ => None,
    }
}
