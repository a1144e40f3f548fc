//! Reads managed chains of `nf_tables`: those of our table, and those of iptables-nft.
//!
//! iptables-nft keeps its tables under their own names in the family `ip`. A jump without conditions is a counter and
//! an `immediate` with the verdict. A comment is plain text in an expression or in the user data of the rule.

use netlink_packet_core::NlasIterator;

use crate::kernel::netlink::constants::{
    NFPROTO_INET, NFPROTO_IPV4, NFT_MSG_GETCHAIN, NFT_MSG_GETRULE, NFTA_CHAIN_HOOK, NFTA_CHAIN_NAME, NFTA_CHAIN_TABLE,
    NFTA_CHAIN_TYPE, NFTA_DATA_VERDICT, NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_HOOK_HOOKNUM, NFTA_HOOK_PRIORITY,
    NFTA_IMMEDIATE_DATA, NFTA_LIST_ELEM, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS, NFTA_RULE_HANDLE, NFTA_RULE_TABLE,
    NFTA_VERDICT_CHAIN,
};
use crate::kernel::netlink::netfilter::{Message, payload};
use crate::kernel::netlink::nla::{attribute, string, text};
use crate::kernel::netlink::socket::Socket;
use crate::kernel::{Error, read};
use crate::model::firewall::nft::{FoundTable, TABLE};
use crate::model::firewall::{Fingerprint, FoundChainRule, FoundFirewall, Table, is_ours};

/// Built-in chains that can jump to managed ones.
const HOOKS: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
/// Built-in chains of the table `nat`.
const NAT_CHAINS: [&str; 4] = ["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"];

/// The packet filter as `nf_tables` has it.
pub(crate) fn found() -> Result<FoundFirewall, Error> {
    let mut socket = Socket::open_netfilter().map_err(Error::Open)?;
    let all = Message { family: 0, ..Message::new(Vec::new()) };
    let chains = match socket.list(NFT_MSG_GETCHAIN, &all, |body| Ok(Some(FoundChain::read(body)))) {
        // Only root can read the packet filter.
        Err(e) if e.is_permission() => return Ok(FoundFirewall { hidden: true, ..FoundFirewall::default() }),
        // The kernel has no nf_tables.
        Err(e) if e.refused().is_some() => return Ok(FoundFirewall::default()),
        chains => chains.map_err(read("chains of nf_tables"))?,
    };
    let nft = Some(our_table(&mut socket, &chains)?);
    let mut found = FoundFirewall { nft, over_netlink: true, ..FoundFirewall::default() };
    found.foreign_nat = chains.iter().any(FoundChain::is_foreign_nat);
    let any_ours = chains.iter().any(|chain| chain.iptables().is_some() && is_ours(&chain.name));
    for chain in chains {
        let Some(table) = chain.iptables() else { continue };
        let name = chain.name;
        let is_source_nat = table == Table::Nat && name == "POSTROUTING";
        if !any_ours && !is_source_nat {
            continue;
        }
        let of_chain = Place { family: NFPROTO_IPV4, table: table.name(), chain: Some(&name) };
        let rules: Vec<_> = rules(&mut socket, of_chain)?.into_iter().map(|(_, rule)| rule).collect();
        let are_ours = rules.iter().all(|rule| matches!(rule, FoundChainRule::Jump { to, .. } if is_ours(to)));
        found.foreign_nat |= is_source_nat && !are_ours;
        if any_ours {
            found.tables.entry(table).or_default().insert(name, rules);
        }
    }
    Ok(found)
}

/// Our table, of which `chains` are known.
fn our_table(socket: &mut Socket, chains: &[FoundChain]) -> Result<FoundTable, Error> {
    let mut table = FoundTable::default();
    for chain in chains.iter().filter(|chain| chain.is_in_our_table()) {
        table.chains.insert(chain.name.clone(), Vec::new());
        table.bases.extend(chain.base.map(|base| (chain.name.clone(), base)));
    }
    if !table.chains.is_empty() {
        for (chain, rule) in rules(socket, Place { family: NFPROTO_INET, table: TABLE, chain: None })? {
            table.chains.entry(chain).or_default().push(rule);
        }
    }
    Ok(table)
}

/// A chain as the kernel lists it.
struct FoundChain {
    family: u8,
    table: String,
    name: String,
    /// Of the type `nat`.
    is_nat: bool,
    /// Hook and priority of a base chain.
    base: Option<(u32, i32)>,
}

impl FoundChain {
    fn read(body: &[u8]) -> Self {
        let attributes = payload(body);
        Self {
            family: body.first().copied().unwrap_or_default(),
            table: attribute(attributes, NFTA_CHAIN_TABLE).map(string).unwrap_or_default(),
            name: attribute(attributes, NFTA_CHAIN_NAME).map(string).unwrap_or_default(),
            is_nat: attribute(attributes, NFTA_CHAIN_TYPE).is_some_and(|kind| string(kind) == "nat"),
            base: attribute(attributes, NFTA_CHAIN_HOOK).and_then(base),
        }
    }

    fn is_in_our_table(&self) -> bool {
        self.family == NFPROTO_INET && self.table == TABLE
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
        let is_known = is_iptables || self.is_in_our_table();
        self.is_nat && [NFPROTO_INET, NFPROTO_IPV4].contains(&self.family) && !is_known
    }
}

/// The hook and the priority in a chain's hook attribute.
fn base(hook: &[u8]) -> Option<(u32, i32)> {
    let number = attribute(hook, NFTA_HOOK_HOOKNUM)?.try_into().ok()?;
    let priority = attribute(hook, NFTA_HOOK_PRIORITY)?.try_into().ok()?;
    Some((u32::from_be_bytes(number), i32::from_be_bytes(priority)))
}

/// Whose rules are asked for.
#[derive(Clone, Copy)]
struct Place<'a> {
    family: u8,
    table: &'a str,
    /// `None`: those of all chains of the table.
    chain: Option<&'a str>,
}

impl Place<'_> {
    fn request(self) -> Message {
        let mut attributes = vec![text(NFTA_RULE_TABLE, self.table)];
        attributes.extend(self.chain.map(|chain| text(NFTA_RULE_CHAIN, chain)));
        Message { family: self.family, ..Message::new(attributes) }
    }
}

/// Rules with their chains, in the kernel's order.
fn rules(socket: &mut Socket, place: Place<'_>) -> Result<Vec<(String, FoundChainRule)>, Error> {
    let rules = socket.list(NFT_MSG_GETRULE, &place.request(), |body| Ok(rule(payload(body), place)));
    rules.map_err(read("rules of nf_tables"))
}

/// A rule and its chain, if it is there: kernels before 4.20 send all rules.
fn rule(attributes: &[u8], place: Place<'_>) -> Option<(String, FoundChainRule)> {
    let chain = string(attribute(attributes, NFTA_RULE_CHAIN)?);
    let table = string(attribute(attributes, NFTA_RULE_TABLE)?);
    if table != place.table || place.chain.is_some_and(|wanted| wanted != chain) {
        return None;
    }
    // Built-in chains can hold hundreds of foreign rules, and never a fingerprint.
    let may_be_signed = table == TABLE || is_ours(&chain);
    let found = match Fingerprint::find(attributes).filter(|_| may_be_signed) {
        Some(fingerprint) => FoundChainRule::Fingerprint(fingerprint),
        None => jump(attributes).unwrap_or(FoundChainRule::Other),
    };
    Some((chain, found))
}

/// The raw rules of a chain.
#[cfg(test)]
pub(crate) fn rules_of(mut socket: Socket, chain: &str) -> Vec<Vec<u8>> {
    let request = Message::new(vec![text(NFTA_RULE_TABLE, "mangle"), text(NFTA_RULE_CHAIN, chain)]);
    socket.list(NFT_MSG_GETRULE, &request, |body| Ok(Some(body.to_vec()))).unwrap_or_default()
}

/// A rule that is only a jump.
pub(crate) fn jump(rule: &[u8]) -> Option<FoundChainRule> {
    let handle = attribute(rule, NFTA_RULE_HANDLE).and_then(|handle| handle.try_into().ok()).map(u64::from_be_bytes);
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
    to.map(|to| FoundChainRule::Jump { to, handle })
}
