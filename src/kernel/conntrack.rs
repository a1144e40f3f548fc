//! Sticky connections in connection tracking, over ctnetlink.
//!
//! The kernel's behaviour, from `net/netfilter/nf_conntrack_netlink.c`, verified on 6.18:
//!
//! - A dump (`IPCTNL_MSG_CT_GET`) and a deletion without a tuple (`IPCTNL_MSG_CT_DELETE`) take
//!   `CTA_MARK` and `CTA_MARK_MASK`, and touch only entries whose mark is so under the mask (dump
//!   since 3.3, deletion since 4.0; we need 4.17 for other reasons). A deletion that finds nothing
//!   is no error.
//! - Both walk the whole table: 262,144 buckets take some 10 ms, 100,000 entries 20 ms more. So it is
//!   done only where a link has just gone, not at every event.
//! - MASQUERADE's entries are gone with the device, SNAT's are not, and keep the old source.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use super::netlink::netfilter::{Message, number};
use super::netlink::socket::{self, Socket};
use super::{Error, read};
use crate::kernel::netlink::constants::{CTA_MARK, CTA_MARK_MASK, IPCTNL_MSG_CT_DELETE, IPCTNL_MSG_CT_GET};
use crate::model::routing::FwMark;

/// Exists if the kernel tracks connections.
pub(crate) const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

fn marked(mark: FwMark) -> Message {
    Message { version: 1, ..Message::new(vec![number(CTA_MARK, mark.value), number(CTA_MARK_MASK, mark.mask)]) }
}

/// Whether any IPv4 connection bears this mark. A kernel without connection tracking has none.
pub(crate) fn any(mark: FwMark) -> Result<bool, Error> {
    // Without entries the walk, which costs time even in an empty table, is skipped.
    match fs::read_to_string(COUNT) {
        Ok(count) if count.trim() != "0" => {}
        _ => return Ok(false),
    }
    let mut socket = Socket::open_netfilter().map_err(Error::Open)?;
    let found = socket.dump(
        IPCTNL_MSG_CT_GET,
        &marked(mark),
        || false,
        |found, _| {
            *found = true;
            Ok(ControlFlow::Break(()))
        },
    );
    match found {
        // An ordinary user with --dry-run may not read connections.
        Err(e) if e.is_permission() => Ok(false),
        found => found.map_err(read("tracked connections")),
    }
}

/// Deletes the entries of all IPv4 connections that bear this mark. A kernel without connection tracking has none.
pub(crate) fn flush(mark: FwMark) -> Result<(), socket::Error> {
    if !Path::new(COUNT).exists() {
        return Ok(());
    }
    let mut socket = Socket::open_netfilter()?;
    socket.change(IPCTNL_MSG_CT_DELETE, 0, &marked(mark))
}
