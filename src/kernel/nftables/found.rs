//! Reads managed chains of `nf_tables`: those of our table, and those of iptables-nft.
//!
//! iptables-nft keeps its tables under their own names in the families `ip` and `ip6`. A jump without conditions
//! is a counter and an `immediate` with the verdict. A comment is plain text in an expression or in the user data of the rule.

use std::collections::BTreeMap;

use netlink_packet_core::NlasIterator;

use crate::kernel::netlink::constants::{
    NF_ACCEPT, NFPROTO_INET, NFPROTO_IPV4, NFT_MSG_GETCHAIN, NFT_MSG_GETRULE, NFT_MSG_GETTABLE, NFT_TABLE_F_DORMANT,
    NFT_TABLE_F_OWNER, NFTA_CHAIN_HOOK, NFTA_CHAIN_NAME, NFTA_CHAIN_POLICY, NFTA_CHAIN_TABLE, NFTA_CHAIN_TYPE,
    NFTA_DATA_VERDICT, NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_HOOK_HOOKNUM, NFTA_HOOK_PRIORITY, NFTA_IMMEDIATE_DATA,
    NFTA_LIST_ELEM, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS, NFTA_RULE_HANDLE, NFTA_RULE_TABLE, NFTA_TABLE_FLAGS,
    NFTA_TABLE_NAME, NFTA_VERDICT_CHAIN,
};
use crate::kernel::netlink::netfilter::{Message, payload, protocol};
use crate::kernel::netlink::nla::{attribute, string, text};
use crate::kernel::netlink::socket::Socket;
use crate::kernel::nftables::set::elements_by;
use crate::kernel::{Error, read};
use crate::model::firewall::nft::{FoundBase, FoundTable, TABLE};
use crate::model::firewall::{Fingerprint, FoundChainRule, FoundFirewall, Table, is_ours};
use crate::model::names::Family;

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
    let has_ours = Family::BOTH.map(|family| {
        let mut ours = chains.iter().filter(|chain| chain.family == protocol(family) && is_ours(&chain.name));
        ours.any(|chain| chain.iptables().is_some())
    });
    for chain in chains {
        let Some(table) = chain.iptables() else { continue };
        let name = chain.name;
        let is_source_nat = table.is_nat_of_ipv4() && name == "POSTROUTING";
        let any_ours = has_ours[usize::from(table.family == Family::V6)];
        if !any_ours && !is_source_nat {
            continue;
        }
        let of_chain = Place { family: chain.family, table: table.name(), chain: Some(&name) };
        let rules: Vec<_> = rules(&mut socket, of_chain)?.into_iter().map(|found| found.rule).collect();
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
    let request = Message { family: NFPROTO_INET, ..Message::new(vec![text(NFTA_TABLE_NAME, TABLE)]) };
    let found = socket.get(NFT_MSG_GETTABLE, &request).map_err(read("table inet multihome"))?;
    let Some(flags) = found.map(|body| attribute(payload(&body), NFTA_TABLE_FLAGS).map_or(0, number_of)) else {
        return Ok(FoundTable::default());
    };
    let mut table = FoundTable {
        is_there: flags & NFT_TABLE_F_OWNER == 0,
        is_dormant: flags & NFT_TABLE_F_DORMANT != 0,
        ..FoundTable::default()
    };
    for chain in chains.iter().filter(|chain| chain.is_in_our_table()) {
        table.chains.insert(chain.name.clone(), Vec::new());
        table.bases.extend(chain.base.clone().map(|base| (chain.name.clone(), base)));
    }
    if !table.chains.is_empty() {
        add_rules(&mut table, rules(socket, Place { family: NFPROTO_INET, table: TABLE, chain: None })?);
    }
    for (_, set) in table.sets_of_prefixes() {
        if let Some(elements) = elements_by(socket, &set)? {
            table.prefixes.insert(set.name, elements);
        }
    }
    Ok(table)
}

/// Adds the rules of our table. The kernel numbers what a table gets, one after the other (`nf_tables_alloc_handle()`),
/// so that the numbers of rules that one transaction has made for a chain have no gaps.
fn add_rules(table: &mut FoundTable, rules: Vec<FoundRule>) {
    let mut last = BTreeMap::new();
    for FoundRule { chain, handle, rule } in rules {
        if last.insert(chain.clone(), handle).is_some_and(|before| before.wrapping_add(1) != handle) {
            table.patched.insert(chain.clone());
        }
        table.chains.entry(chain).or_default().push(rule);
    }
}

/// A chain as the kernel lists it.
struct FoundChain {
    family: u8,
    table: String,
    name: String,
    /// Of a base chain.
    base: Option<FoundBase>,
}

impl FoundChain {
    fn read(body: &[u8]) -> Self {
        let attributes = payload(body);
        Self {
            family: body.first().copied().unwrap_or_default(),
            table: attribute(attributes, NFTA_CHAIN_TABLE).map(string).unwrap_or_default(),
            name: attribute(attributes, NFTA_CHAIN_NAME).map(string).unwrap_or_default(),
            base: base(attributes),
        }
    }

    fn is_in_our_table(&self) -> bool {
        self.family == NFPROTO_INET && self.table == TABLE
    }

    /// Its table of iptables(8), if it is managed or can jump to managed chains.
    fn iptables(&self) -> Option<Table> {
        let is_wanted = is_ours(&self.name) || HOOKS.contains(&self.name.as_str());
        let mut tables = Table::ALL.into_iter().filter(|_| is_wanted);
        tables.find(|table| table.name() == self.table && protocol(table.family) == self.family)
    }

    /// Whether its type says that it may rewrite source addresses. Built-in chains of iptables do not count here, since
    /// their rules are read. nft(8) may call a table `nat`, too.
    fn is_foreign_nat(&self) -> bool {
        let is_iptables =
            self.iptables().is_some_and(Table::is_nat_of_ipv4) && NAT_CHAINS.contains(&self.name.as_str());
        let is_known = is_iptables || self.is_in_our_table();
        let is_nat = self.base.as_ref().is_some_and(|base| base.kind == "nat");
        is_nat && [NFPROTO_INET, NFPROTO_IPV4].contains(&self.family) && !is_known
    }
}

/// What makes a chain a base chain.
fn base(chain: &[u8]) -> Option<FoundBase> {
    let hook = attribute(chain, NFTA_CHAIN_HOOK)?;
    let priority = attribute(hook, NFTA_HOOK_PRIORITY)?.try_into().ok()?;
    Some(FoundBase {
        kind: attribute(chain, NFTA_CHAIN_TYPE).map(string).unwrap_or_default(),
        hook: attribute(hook, NFTA_HOOK_HOOKNUM).map(number_of)?,
        priority: i32::from_be_bytes(priority),
        accepts: attribute(chain, NFTA_CHAIN_POLICY).is_none_or(|policy| number_of(policy) == NF_ACCEPT),
    })
}

fn number_of(value: &[u8]) -> u32 {
    value.try_into().map(u32::from_be_bytes).unwrap_or_default()
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

/// A rule, and where it is.
struct FoundRule {
    chain: String,
    /// Its number in the table.
    handle: u64,
    rule: FoundChainRule,
}

/// Rules with their chains, in the kernel's order.
fn rules(socket: &mut Socket, place: Place<'_>) -> Result<Vec<FoundRule>, Error> {
    let rules = socket.list(NFT_MSG_GETRULE, &place.request(), |body| Ok(rule(payload(body), place)));
    rules.map_err(read("rules of nf_tables"))
}

/// A rule and its chain, if it is there: kernels before 4.20 send all rules.
fn rule(attributes: &[u8], place: Place<'_>) -> Option<FoundRule> {
    let chain = string(attribute(attributes, NFTA_RULE_CHAIN)?);
    let table = string(attribute(attributes, NFTA_RULE_TABLE)?);
    if table != place.table || place.chain.is_some_and(|wanted| wanted != chain) {
        return None;
    }
    // Built-in chains can hold hundreds of foreign rules, and never a fingerprint.
    let may_be_signed = table == TABLE || is_ours(&chain);
    let fingerprint = if may_be_signed { Fingerprint::find(attributes) } else { None };
    let rule = match fingerprint {
        Some(fingerprint) => FoundChainRule::Fingerprint(fingerprint),
        None => jump(attributes).unwrap_or(FoundChainRule::Other),
    };
    Some(FoundRule { chain, handle: handle(attributes)?, rule })
}

fn handle(rule: &[u8]) -> Option<u64> {
    attribute(rule, NFTA_RULE_HANDLE)?.try_into().ok().map(u64::from_be_bytes)
}

/// The raw rules of a chain.
#[cfg(test)]
pub(crate) fn rules_of(mut socket: Socket, chain: &str) -> Vec<Vec<u8>> {
    let request = Message::new(vec![text(NFTA_RULE_TABLE, "mangle"), text(NFTA_RULE_CHAIN, chain)]);
    socket.list(NFT_MSG_GETRULE, &request, |body| Ok(Some(body.to_vec()))).unwrap_or_default()
}

/// A rule that is only a jump.
pub(crate) fn jump(rule: &[u8]) -> Option<FoundChainRule> {
    let handle = handle(rule);
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
