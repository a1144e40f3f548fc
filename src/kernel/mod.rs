//! Observes and changes the kernel, by netlink, /proc/sys and iptables.

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use netlink_packet_core::Parseable;
use thiserror::Error;

use crate::model::change::Change;
use crate::model::firewall::{Firewall, FoundFirewall};
use crate::model::names::{Family, IfName};
use crate::model::observed::{InterfaceState, Observed, Scope};
use crate::model::routing::{Device, FwMark};

mod apply;
pub mod conntrack;
pub mod interface;
pub mod iptables;
pub mod netlink;
pub mod nftables;
pub mod observe;
mod program;
pub mod removal;
pub mod sysctl;
pub mod towards;

use netlink::socket;

/// What reconciling needs of a kernel. Tests have a simulated one.
pub trait Kernel {
    /// Reads what `scope` names.
    fn observe(&mut self, scope: &Scope) -> Result<Observed, Error>;

    /// Makes one change, with `protocol` as the number of managed objects. It succeeds if the object to add exists, or
    /// the one to delete does not.
    fn apply(&mut self, change: &Change, protocol: u8) -> Result<(), Error>;

    /// All devices in these device groups, with their groups.
    fn in_groups(&mut self, groups: &Range<u32>) -> Result<Vec<(Device, u32)>, Error>;

    /// Whether any tracked connection of the family bears this mark.
    fn has_connections(&mut self, family: Family, mark: FwMark) -> Result<bool, Error>;

    /// Drops learnt path MTUs and redirects.
    fn flush_route_cache(&mut self) -> Result<(), Error>;
}

/// Why the kernel was not read or changed.
#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot read {what} of the kernel: {source}")]
    Read { what: &'static str, source: socket::Error },
    #[error("`{command}` was refused: {source}{}", if self.is_permission() { "; this needs root, or CAP_NET_ADMIN" } else { "" })]
    Change { command: String, source: socket::Error },
    /// Only the netlink socket that has made such a table may change it (`NFT_TABLE_F_OWNER`).
    #[error(
        "`{command}` was refused: a process that still runs owns this table, which `nft list table inet multihome` names"
    )]
    Owned { command: String },
    #[error("cannot {action} {}: {source}", path.display())]
    Sysctl { action: &'static str, path: PathBuf, source: io::Error },
    #[error("firewall: {0}")]
    Firewall(#[from] iptables::Error),
    #[error("cannot open a netlink socket: {0}")]
    Open(#[source] io::Error),
}

impl Error {
    /// Whether the process lacks privileges: then no other change will succeed.
    pub(crate) fn is_permission(&self) -> bool {
        match self {
            Self::Change { source, .. } | Self::Read { source, .. } => source.is_permission(),
            Self::Owned { .. } | Self::Sysctl { .. } | Self::Firewall(_) | Self::Open(_) => false,
        }
    }

    /// Whether the kernel may take the same change later.
    pub(crate) fn is_temporary(&self) -> bool {
        matches!(self, Self::Change { source, .. } if source.is_retryable())
    }
}

/// The kernel of the network namespace that the thread is in.
#[derive(Debug)]
pub struct Linux {
    socket: socket::Socket,
    /// Opened with the first change of nftables.
    netfilter: Option<socket::Socket>,
}

impl Linux {
    /// Opens a netlink socket for routes.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: socket::Socket::open().map_err(Error::Open)?, netfilter: None })
    }

    /// `None`: there is no interface of that name.
    pub fn index(&mut self, name: &IfName) -> Result<Option<u32>, Error> {
        Ok(interface::by_name(&mut self.socket, name)?.map(|found| found.index))
    }

    /// Whether the interface of this name and index is up, with its carrier.
    pub(crate) fn is_up(&mut self, name: &IfName, index: u32) -> Result<bool, Error> {
        let found = interface::by_name(&mut self.socket, name)?;
        Ok(found.is_some_and(|found| found.index == index && found.state == InterfaceState::Up))
    }
}

impl Kernel for Linux {
    fn observe(&mut self, scope: &Scope) -> Result<Observed, Error> {
        observe::observe(&mut self.socket, scope)
    }

    fn apply(&mut self, change: &Change, protocol: u8) -> Result<(), Error> {
        apply::apply(self, change, protocol)
    }

    fn in_groups(&mut self, groups: &Range<u32>) -> Result<Vec<(Device, u32)>, Error> {
        interface::in_groups(&mut self.socket, groups)
    }

    fn has_connections(&mut self, family: Family, mark: FwMark) -> Result<bool, Error> {
        conntrack::any(family, mark)
    }

    fn flush_route_cache(&mut self) -> Result<(), Error> {
        sysctl::flush_route_cache()
    }
}

/// [`Linux::index`] on a socket of its own.
pub fn index(name: &IfName) -> Result<Option<u32>, Error> {
    Linux::open()?.index(name)
}

/// The observed packet filter, with all that is left of ours anywhere.
pub(crate) fn packet_filter(wanted: Firewall) -> Result<FoundFirewall, Error> {
    observe::firewall(wanted, true, &Family::BOTH)
}

/// Makes the error of a failed request.
pub(crate) fn read(what: &'static str) -> impl Fn(socket::Error) -> Error {
    move |source| Error::Read { what, source }
}

/// Parses a message; a malformed one is an error, and not skipped.
pub(crate) fn parse<T: Parseable<[u8]>>(body: &[u8]) -> Result<T, socket::Error> {
    T::parse(body).map_err(|e| socket::Error::Decode(e.to_string()))
}
