//! Our chains where iptables is the `nf_tables` variant: read over netlink, since a process of
//! iptables-save takes longer than all else at an event.
//!
//! iptables-nft keeps its tables under their own names in family `ip`. A jump without conditions is
//! a counter and an `immediate` with the verdict; a comment stands as plain text in the expression
//! or the user data of its rule.

use std::ops::ControlFlow;

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

/// The kernel's chains that can jump to ours.
const HOOKS: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
/// The kernel's chains of iptables' table `nat`.
const NAT_CHAINS: [&str; 4] = ["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"];

/// What there is of ours; nothing where iptables is not this variant.
pub(crate) fn found() -> Result<FoundFirewall, Error> {
    let mut socket = Socket::open_netfilter().map_err(Error::Open)?;
    let each = |(all, foreign_nat): &mut (Vec<(Table, String)>, bool), body: &[u8]| {
        let name = attribute(payload(body), NFTA_CHAIN_NAME).map(string).unwrap_or_default();
        let table = attribute(payload(body), NFTA_CHAIN_TABLE).map(string).unwrap_or_default();
        let is_nat = attribute(payload(body), NFTA_CHAIN_TYPE).is_some_and(|kind| string(kind) == "nat");
        let family = body.first().copied().unwrap_or_default();
        // Chains of iptables are looked into, those of others taken for what they may be: nft(8) may call its table
        // `nat` as well.
        let is_iptables = family == NFPROTO_IPV4 && table == Table::Nat.name() && NAT_CHAINS.contains(&name.as_str());
        *foreign_nat |= is_nat && [NFPROTO_INET, NFPROTO_IPV4].contains(&family) && !is_iptables;
        let table = Table::ALL.into_iter().find(|t| t.name() == table);
        if let Some(table) =
            table.filter(|_| family == NFPROTO_IPV4).filter(|_| is_ours(&name) || HOOKS.contains(&name.as_str()))
        {
            all.push((table, name));
        }
        Ok(ControlFlow::Continue(()))
    };
    let all = Message { family: 0, ..Message::new(Vec::new()) };
    let (chains, foreign_nat) = match socket.dump(NFT_MSG_GETCHAIN, &all, Default::default, each) {
        // The packet filter is root's to look at.
        Err(e) if e.is_permission() => return Ok(FoundFirewall { hidden: true, ..FoundFirewall::default() }),
        // No nf_tables in this kernel: then iptables cannot be this variant either.
        Err(e) if e.refused().is_some() => return Ok(FoundFirewall::default()),
        chains => chains.map_err(read("chains of nf_tables"))?,
    };
    let mut found = FoundFirewall { foreign_nat, ..FoundFirewall::default() };
    let any_ours = chains.iter().any(|(_, name)| is_ours(name));
    for (table, name) in chains {
        let is_source_nat = table == Table::Nat && name == "POSTROUTING";
        if !any_ours && !is_source_nat {
            continue;
        }
        let rules = rules(&mut socket, table, &name).map_err(read("rules of nf_tables"))?;
        let foreign =
            |rules: &[FoundChainRule]| !rules.iter().all(|r| matches!(r, FoundChainRule::Jump(to) if is_ours(to)));
        found.foreign_nat |= is_source_nat && foreign(&rules);
        if any_ours {
            found.tables.entry(table).or_default().insert(name, rules);
        }
    }
    Ok(found)
}

fn rules(socket: &mut Socket, table: Table, chain: &str) -> Result<Vec<FoundChainRule>, socket::Error> {
    let request = Message::new(vec![text(NFTA_RULE_TABLE, table.name()), text(NFTA_RULE_CHAIN, chain)]);
    let each = |all: &mut Vec<FoundChainRule>, body: &[u8]| {
        let body = payload(body);
        // Kernels before 4.20 do not filter by chain.
        if attribute(body, NFTA_RULE_CHAIN).is_some_and(|name| string(name) == chain) {
            // The kernel's chains can hold hundreds of others' rules, and never a fingerprint.
            let fingerprint =
                if is_ours(chain) { Fingerprint::find(body).map(FoundChainRule::Fingerprint) } else { None };
            all.push(fingerprint.or_else(|| jump(body).map(FoundChainRule::Jump)).unwrap_or(FoundChainRule::Other));
        }
        Ok(ControlFlow::Continue(()))
    };
    socket.dump(NFT_MSG_GETRULE, &request, Vec::new, each)
}

/// The rules of a chain as they come.
#[cfg(test)]
pub(crate) fn rules_of(mut socket: Socket, chain: &str) -> Vec<Vec<u8>> {
    let request = Message::new(vec![text(NFTA_RULE_TABLE, "mangle"), text(NFTA_RULE_CHAIN, chain)]);
    let each = |all: &mut Vec<Vec<u8>>, body: &[u8]| {
        all.push(body.to_vec());
        Ok(ControlFlow::Continue(()))
    };
    socket.dump(NFT_MSG_GETRULE, &request, Vec::new, each).unwrap_or_default()
}

/// The chain that a rule jumps to, if it does nothing else.
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
