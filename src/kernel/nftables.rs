//! Reads the managed chains of the `nf_tables` variant over netlink: running iptables-save(8) would take longer than
//! the rest of an event.
//!
//! iptables-nft keeps its tables under their own names in the family `ip`. A jump without conditions is a counter and
//! an `immediate` with the verdict. A comment is plain text in an expression or in the user data of the rule.

use netlink_packet_core::NlasIterator;

use super::netlink::netfilter::{Message, payload};
use super::netlink::nla::{attribute, string, text};
use super::netlink::socket::{self, Socket};
use super::{Error, read};
use crate::kernel::netlink::constants::{
    NFPROTO_INET, NFPROTO_IPV4, NFT_MSG_GETCHAIN, NFT_MSG_GETRULE, NFTA_CHAIN_NAME, NFTA_CHAIN_TABLE, NFTA_CHAIN_TYPE,
    NFTA_DATA_VERDICT, NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_IMMEDIATE_DATA, NFTA_LIST_ELEM, NFTA_RULE_CHAIN,
    NFTA_RULE_EXPRESSIONS, NFTA_RULE_TABLE, NFTA_VERDICT_CHAIN,
};
use crate::model::firewall::{Fingerprint, FoundChainRule, FoundFirewall, Table, is_ours};

/// Built-in chains that can jump to managed ones.
const HOOKS: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
/// Built-in chains of the table `nat`.
const NAT_CHAINS: [&str; 4] = ["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"];

/// The packet filter; empty if iptables is the other variant.
pub(crate) fn found() -> Result<FoundFirewall, Error> {
    let mut socket = Socket::open_netfilter().map_err(Error::Open)?;
    let all = Message { family: 0, ..Message::new(Vec::new()) };
    let chains = match socket.list(NFT_MSG_GETCHAIN, &all, |body| Ok(Some(FoundChain::read(body)))) {
        // Only root can read the packet filter.
        Err(e) if e.is_permission() => return Ok(FoundFirewall { hidden: true, ..FoundFirewall::default() }),
        // Without nf_tables in the kernel, iptables is the other variant.
        Err(e) if e.refused().is_some() => return Ok(FoundFirewall::default()),
        chains => chains.map_err(read("chains of nf_tables"))?,
    };
    let foreign_nat = chains.iter().any(FoundChain::is_foreign_nat);
    let mut found = FoundFirewall { foreign_nat, ..FoundFirewall::default() };
    let any_ours = chains.iter().any(|chain| chain.iptables().is_some() && is_ours(&chain.name));
    for chain in chains {
        let Some(table) = chain.iptables() else { continue };
        let name = chain.name;
        let is_source_nat = table == Table::Nat && name == "POSTROUTING";
        if !any_ours && !is_source_nat {
            continue;
        }
        let rules = rules(&mut socket, table, &name).map_err(read("rules of nf_tables"))?;
        let are_ours = rules.iter().all(|rule| matches!(rule, FoundChainRule::Jump(to) if is_ours(to)));
        found.foreign_nat |= is_source_nat && !are_ours;
        if any_ours {
            found.tables.entry(table).or_default().insert(name, rules);
        }
    }
    Ok(found)
}

/// A chain as the kernel lists it.
struct FoundChain {
    family: u8,
    table: String,
    name: String,
    /// Of the type `nat`.
    is_nat: bool,
}

impl FoundChain {
    fn read(body: &[u8]) -> Self {
        let attributes = payload(body);
        Self {
            family: body.first().copied().unwrap_or_default(),
            table: attribute(attributes, NFTA_CHAIN_TABLE).map(string).unwrap_or_default(),
            name: attribute(attributes, NFTA_CHAIN_NAME).map(string).unwrap_or_default(),
            is_nat: attribute(attributes, NFTA_CHAIN_TYPE).is_some_and(|kind| string(kind) == "nat"),
        }
    }

    /// Its table of iptables(8), if it is managed or can jump to managed chains.
    fn iptables(&self) -> Option<Table> {
        let is_wanted = is_ours(&self.name) || HOOKS.contains(&self.name.as_str());
        Table::ALL.into_iter().find(|table| table.name() == self.table && self.family == NFPROTO_IPV4 && is_wanted)
    }

    /// Whether its type says that it may rewrite source addresses. Built-in chains of iptables do not count here, since
    /// their rules are read. nft(8) may call a table `nat`, too.
    fn is_foreign_nat(&self) -> bool {
        let is_iptables =
            self.family == NFPROTO_IPV4 && self.table == Table::Nat.name() && NAT_CHAINS.contains(&self.name.as_str());
        self.is_nat && [NFPROTO_INET, NFPROTO_IPV4].contains(&self.family) && !is_iptables
    }
}

fn rules(socket: &mut Socket, table: Table, chain: &str) -> Result<Vec<FoundChainRule>, socket::Error> {
    let request = Message::new(vec![text(NFTA_RULE_TABLE, table.name()), text(NFTA_RULE_CHAIN, chain)]);
    socket.list(NFT_MSG_GETRULE, &request, |body| Ok(rule(payload(body), chain)))
}

/// A rule, if it is in the chain: kernels before 4.20 do not filter by chain.
fn rule(attributes: &[u8], chain: &str) -> Option<FoundChainRule> {
    if string(attribute(attributes, NFTA_RULE_CHAIN)?) != chain {
        return None;
    }
    // Built-in chains can hold hundreds of foreign rules, and never a fingerprint.
    if is_ours(chain)
        && let Some(fingerprint) = Fingerprint::find(attributes)
    {
        return Some(FoundChainRule::Fingerprint(fingerprint));
    }
    Some(jump(attributes).map_or(FoundChainRule::Other, FoundChainRule::Jump))
}

/// The raw rules of a chain.
#[cfg(test)]
pub(crate) fn rules_of(mut socket: Socket, chain: &str) -> Vec<Vec<u8>> {
    let request = Message::new(vec![text(NFTA_RULE_TABLE, "mangle"), text(NFTA_RULE_CHAIN, chain)]);
    socket.list(NFT_MSG_GETRULE, &request, |body| Ok(Some(body.to_vec()))).unwrap_or_default()
}

/// The target of a rule that is only a jump.
pub(crate) fn jump(rule: &[u8]) -> Option<String> {
    let mut to = None;
    for element in NlasIterator::new(attribute(rule, NFTA_RULE_EXPRESSIONS)?).flatten() {
        if element.kind() != NFTA_LIST_ELEM {
            continue;
        }
        let expression = element.value();
        match string(attribute(expression, NFTA_EXPR_NAME)?).as_str() {
            "counter" => {}
            "immediate" => {
                let path = [NFTA_EXPR_DATA, NFTA_IMMEDIATE_DATA, NFTA_DATA_VERDICT, NFTA_VERDICT_CHAIN];
                to = Some(string(path.iter().try_fold(expression, |nla, kind| attribute(nla, *kind))?));
            }
            _ => return None,
        }
    }
    to
}
