//! Sockets whose packets leave by one link.

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, bind, setsockopt, socket,
    sockopt,
};

use super::{Binding, Error};
use crate::config::{Method, Target};
use crate::kernel;
use crate::model::names::Family;

/// A socket to ask the target by. It does not block.
pub(super) fn open(binding: &Binding, target: Target) -> Result<OwnedFd, Error> {
    let fd = unbound(target).map_err(|errno| match (errno, target.method()) {
        (Errno::EACCES, Method::Icmp) => Error::PingGroups,
        _ => failed("make a socket for", target, errno),
    })?;
    bound(&fd, binding).map_err(|errno| match errno {
        Errno::ENODEV => Error::Gone(binding.interface.clone()),
        _ => failed("bind a socket to the link, for", target, errno),
    })?;
    // The device was looked up by its name; the socket stays on what had it then.
    match kernel::index(&binding.interface) {
        Ok(Some(index)) if index == binding.index => Ok(fd),
        _ => Err(Error::Gone(binding.interface.clone())),
    }
}

pub(super) fn failed(action: &'static str, target: Target, source: impl Into<io::Error>) -> Error {
    Error::Socket { action, target, source: source.into() }
}

fn unbound(target: Target) -> Result<OwnedFd, Errno> {
    let family = match target.family() {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    let (kind, protocol) = match (target.method(), target.family()) {
        (Method::Icmp, Family::V4) => (SockType::Datagram, SockProtocol::Icmp),
        (Method::Icmp, Family::V6) => (SockType::Datagram, SockProtocol::IcmpV6),
        (Method::Dns, _) => (SockType::Datagram, SockProtocol::Udp),
        (Method::Tcp(_), _) => (SockType::Stream, SockProtocol::Tcp),
    };
    socket(family, kind, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, protocol)
}

fn bound(fd: &OwnedFd, binding: &Binding) -> Result<(), Errno> {
    // Before the port is chosen: the kernel compares it with those of the same device.
    setsockopt(fd, sockopt::BindToDevice, &OsString::from(binding.interface.as_str()))?;
    setsockopt(fd, sockopt::Mark, &binding.mark)?;
    if let Some(source) = binding.source {
        let source = match source {
            // Means nothing without its interface.
            IpAddr::V6(source) if source.is_unicast_link_local() => {
                SocketAddrV6::new(source, 0, 0, binding.index).into()
            }
            source => SocketAddr::new(source, 0),
        };
        bind(fd.as_raw_fd(), &*sockaddr(source))?;
    }
    Ok(())
}

/// An address as system calls take it.
pub(super) fn sockaddr(address: SocketAddr) -> Box<dyn SockaddrLike> {
    match address {
        SocketAddr::V4(address) => Box::new(SockaddrIn::from(address)),
        SocketAddr::V6(address) => Box::new(SockaddrIn6::from(address)),
    }
}
