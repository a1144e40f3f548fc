//! Rules of the routing policy database, whoever made them.

use super::read;
use crate::kernel::Error;
use crate::kernel::netlink::constants::RTM_GETRULE;
use crate::kernel::netlink::rule;
use crate::kernel::netlink::socket::Socket;
use crate::model::names::Family;
use crate::model::routing::FoundRule;

/// All rules of a family, or of both, in the kernel's order.
pub(crate) fn rules(socket: &mut Socket, family: Option<Family>) -> Result<Vec<FoundRule>, Error> {
    socket.list(RTM_GETRULE, &rule::request(family), rule::parse).map_err(read("rules"))
}
