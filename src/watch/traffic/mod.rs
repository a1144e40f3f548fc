//! What has left by each uplink, and what has come in by it in answer: evidence that costs nothing.
//!
//! Our table of nftables counts both (`reconcile/firewall/traffic.rs`). Where it does not, the interface's own counters say
//! as much on a point-to-point interface. On an Ethernet they do not: ARP and broadcasts of others come in while nothing is
//! answered.

mod rule;

use std::collections::BTreeMap;

use crate::kernel::netlink::constants::{NFPROTO_INET, NFT_MSG_GETRULE, NFTA_RULE_CHAIN, NFTA_RULE_TABLE};
use crate::kernel::netlink::netfilter::{Message, payload};
use crate::kernel::netlink::nla::text;
use crate::kernel::netlink::socket::Socket;
use crate::kernel::{Error, interface, read};
use crate::model::firewall::nft::{REPLIES, SENT, TABLE};
use crate::model::names::IfName;
use crate::watch::health::{Counters, Key};

/// The packets of each family of an uplink since a time that only the kernel knows: its rules were loaded.
pub type ByUplink = BTreeMap<Key, Counters>;

/// Reads counters of the network namespace of the thread that opens it.
#[derive(Debug)]
pub struct Meter {
    netfilter: Socket,
    route: Socket,
}

impl Meter {
    pub fn open() -> Result<Self, Error> {
        let netfilter = Socket::open_netfilter().map_err(Error::Open)?;
        Ok(Self { netfilter, route: Socket::open().map_err(Error::Open)? })
    }

    /// What our rules have counted. What they do not count is missing: all of it where the kernel has no `nf_tables`, or
    /// iptables holds the rules, or somebody has flushed them and no pass has come yet.
    pub fn counted(&mut self) -> Result<ByUplink, Error> {
        let mut all = ByUplink::new();
        for (key, packets) in self.of_chain(SENT)? {
            all.entry(key).or_insert(Counters { sent: 0, replies: 0 }).sent += packets;
        }
        // Only beside what was sent: with half of the rules the link would look alive, or dead.
        for (key, packets) in self.of_chain(REPLIES)? {
            if let Some(counters) = all.get_mut(&key) {
                counters.replies += packets;
            }
        }
        Ok(all)
    }

    fn of_chain(&mut self, chain: &str) -> Result<Vec<(Key, u64)>, Error> {
        let attributes = vec![text(NFTA_RULE_TABLE, TABLE), text(NFTA_RULE_CHAIN, chain)];
        let request = Message { family: NFPROTO_INET, ..Message::new(attributes) };
        match self.netfilter.list(NFT_MSG_GETRULE, &request, |body| Ok(rule::counted(payload(body), chain))) {
            // There is no such table, or no nf_tables.
            Err(e) if e.refused().is_some() && !e.is_permission() => Ok(Vec::new()),
            counted => counted.map_err(read("counters of nf_tables")),
        }
    }

    /// What the interface has counted since it was made, of both families together; `None`: there is none of that name, or it uses ARP, so
    /// that what comes in says nothing.
    pub fn of_interface(&mut self, name: &IfName) -> Result<Option<Counters>, Error> {
        let found = interface::with_counters(&mut self.route, name)?.filter(|found| !found.arp);
        Ok(found.and_then(|found| found.counters).map(|[received, sent, ..]| Counters { sent, replies: received }))
    }
}
