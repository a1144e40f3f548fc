//! A command of nft(8) as a request of `nf_tables` (`nf_tables.h`), byte by byte as nft(8) sends it.

use netlink_packet_core::{DefaultNla, NLM_F_APPEND, NLM_F_CREATE};

use super::expression::expressions;
use super::set;
use crate::kernel::netlink::constants::{
    NF_ACCEPT, NFPROTO_INET, NFT_MSG_DELCHAIN, NFT_MSG_DELRULE, NFT_MSG_DELSET, NFT_MSG_DELSETELEM, NFT_MSG_DELTABLE,
    NFT_MSG_NEWCHAIN, NFT_MSG_NEWRULE, NFT_MSG_NEWSET, NFT_MSG_NEWSETELEM, NFT_MSG_NEWTABLE, NFTA_CHAIN_HOOK,
    NFTA_CHAIN_NAME, NFTA_CHAIN_POLICY, NFTA_CHAIN_TABLE, NFTA_CHAIN_TYPE, NFTA_HOOK_HOOKNUM, NFTA_HOOK_PRIORITY,
    NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS, NFTA_RULE_HANDLE, NFTA_RULE_TABLE, NFTA_RULE_USERDATA, NFTA_TABLE_FLAGS,
    NFTA_TABLE_NAME,
};
use crate::kernel::netlink::netfilter::{Message, number, protocol};
use crate::kernel::netlink::nla::{nested, text};
use crate::kernel::netlink::transaction::Request;
use crate::model::firewall::nft::{Base, Command, Rule, TABLE};
use crate::model::firewall::{ChainName, Table};

pub(super) fn request(command: &Command) -> Request {
    match command {
        Command::AddTable => {
            ours(NFT_MSG_NEWTABLE, NLM_F_CREATE, vec![text(NFTA_TABLE_NAME, TABLE), number(NFTA_TABLE_FLAGS, 0)])
        }
        Command::DeleteTable => ours(NFT_MSG_DELTABLE, 0, vec![text(NFTA_TABLE_NAME, TABLE)]),
        Command::AddChain(name) => ours(NFT_MSG_NEWCHAIN, NLM_F_CREATE, new_chain(name)),
        Command::Flush(chain) => ours(NFT_MSG_DELRULE, 0, rules_of(TABLE, chain)),
        Command::AddRule(chain, rule) => ours(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, new_rule(chain, rule)),
        Command::DeleteChain(chain) => ours(NFT_MSG_DELCHAIN, 0, chain_of(TABLE, chain)),
        Command::AddSet(set) => ours(NFT_MSG_NEWSET, NLM_F_CREATE, set::new(set)),
        Command::AddElements { set, elements, is_empty } => {
            ours(NFT_MSG_NEWSETELEM, NLM_F_CREATE, set::added(set, elements, *is_empty))
        }
        Command::DeleteElements(set, elements) => ours(NFT_MSG_DELSETELEM, 0, set::deleted(set, elements)),
        Command::DeleteSet(set) => ours(NFT_MSG_DELSET, 0, set::named(set)),
        Command::FlushSet(set) => ours(NFT_MSG_DELSETELEM, 0, set::whole(set)),
        Command::Unhook { table, chain, handle } => {
            let mut rule = rules_of(table.name(), chain);
            rule.push(DefaultNla::new(NFTA_RULE_HANDLE, handle.to_be_bytes().to_vec()));
            of_iptables(*table, NFT_MSG_DELRULE, rule)
        }
        Command::FlushOld(table, chain) => of_iptables(*table, NFT_MSG_DELRULE, rules_of(table.name(), chain)),
        Command::DeleteOld(table, chain) => of_iptables(*table, NFT_MSG_DELCHAIN, chain_of(table.name(), chain)),
    }
}

/// A request about the family `inet`.
fn ours(kind: u16, flags: u16, attributes: Vec<DefaultNla>) -> Request {
    Request { kind, flags, message: Message { family: NFPROTO_INET, ..Message::new(attributes) } }
}

/// A request about a table of iptables-nft.
fn of_iptables(table: Table, kind: u16, attributes: Vec<DefaultNla>) -> Request {
    Request { kind, flags: 0, message: Message { family: protocol(table.family), ..Message::new(attributes) } }
}

fn chain_of(table: &str, chain: &str) -> Vec<DefaultNla> {
    vec![text(NFTA_CHAIN_TABLE, table), text(NFTA_CHAIN_NAME, chain)]
}

fn rules_of(table: &str, chain: &str) -> Vec<DefaultNla> {
    vec![text(NFTA_RULE_TABLE, table), text(NFTA_RULE_CHAIN, chain)]
}

fn new_chain(name: &ChainName) -> Vec<DefaultNla> {
    let mut attributes = chain_of(TABLE, &name.nft());
    if let Some(Base { kind, hook, priority }) = name.base() {
        attributes.push(text(NFTA_CHAIN_TYPE, kind.name()));
        attributes.push(number(NFTA_CHAIN_POLICY, NF_ACCEPT));
        let priority = DefaultNla::new(NFTA_HOOK_PRIORITY, priority.to_be_bytes().to_vec());
        attributes.push(nested(NFTA_CHAIN_HOOK, &[number(NFTA_HOOK_HOOKNUM, hook as u32), priority]));
    }
    attributes
}

fn new_rule(chain: &ChainName, rule: &Rule) -> Vec<DefaultNla> {
    let mut attributes = rules_of(TABLE, &chain.nft());
    attributes.push(nested(NFTA_RULE_EXPRESSIONS, &expressions(rule)));
    if !rule.comment.is_empty() {
        attributes.push(DefaultNla::new(NFTA_RULE_USERDATA, comment(&rule.comment)));
    }
    attributes
}

/// A comment as user data of a rule: type 0, length, and a string with its NUL (`NFTNL_UDATA_RULE_COMMENT` of
/// libnftnl).
fn comment(comment: &str) -> Vec<u8> {
    const LONGEST: usize = 127;
    let text = &comment.as_bytes()[..comment.len().min(LONGEST)];
    // At most 128.
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    [&[0, length], text, &[0]].concat()
}
