//! The transaction of `nf_tables` that leads from the observed to the desired managed chains. Pure.

use super::{nat, sets};
use crate::config::Config;
use crate::model::firewall::nft::{Chain, Command, Rule, Statement, Transaction};
use crate::model::firewall::{
    ChainName, ChainRule, Fingerprint, FoundChainRule, FoundFirewall, Lacking, LinkMatch, Match, Ruleset, Verdict,
    is_ours,
};
use crate::model::names::Family;
use crate::reconcile::link_state::Live;

/// The transaction that makes our table as `wanted`, and takes our chains out of the tables of iptables-nft; `None`:
/// nothing is to be done.
pub(super) fn transaction(
    config: &Config,
    live: &Live<'_>,
    wanted: &[Ruleset],
    found: &FoundFirewall,
) -> Option<Transaction> {
    let table = found.nft.clone().unwrap_or_default();
    if table.is_dormant {
        // This wakes it. The kernel takes no new base chain in the same transaction (`nf_tables_addchain()`).
        return Some(Transaction(vec![Command::AddTable]));
    }
    let chains = chains(config, wanted);
    let fingerprint = Fingerprint::of(&chains, Lacking::default());
    let mut commands = Vec::new();
    if !table.is(&chains, fingerprint) {
        commands.push(Command::AddTable);
        // A chain that the kernel calls elsewhere cannot be moved.
        let moved = chains.iter().filter(|c| table.chains.contains_key(&c.name.nft()) && !table.is_based(&c.name));
        commands.extend(moved.map(|chain| Command::DeleteChain(chain.name.nft())));
        commands.extend(sets::made(config));
        let names: Vec<_> = chains.iter().map(|chain| chain.name.clone()).collect();
        commands.extend(nat::made(config, live, &table, &names));
        commands.extend(chains.iter().map(|chain| Command::AddChain(chain.name.clone())));
        commands.extend(chains.iter().map(|chain| Command::Flush(chain.name.nft())));
        let mut unwanted: Vec<_> = table.chains.keys().cloned().collect();
        unwanted.retain(|name| !chains.iter().any(|chain| chain.name.nft() == *name));
        commands.extend(unwanted.iter().cloned().map(Command::Flush));
        for Chain { name, mut rules } in chains {
            sign(&mut rules, fingerprint);
            commands.extend(rules.into_iter().map(|rule| Command::AddRule(name.clone(), rule)));
        }
        let sets = nat::deleted(&table, &unwanted);
        commands.extend(unwanted.into_iter().map(Command::DeleteChain));
        commands.extend(sets);
    }
    commands.extend(removal_from_iptables(found));
    (!commands.is_empty()).then_some(Transaction(commands))
}

/// Puts the fingerprint before the comment of the first rule.
fn sign(rules: &mut [Rule], fingerprint: Fingerprint) {
    if let Some(first) = rules.first_mut() {
        let blank = if first.comment.is_empty() { "" } else { " " };
        first.comment = format!("{fingerprint}{blank}{}", first.comment);
    }
}

/// The transaction that deletes our table.
pub(super) fn removal() -> Transaction {
    Transaction(vec![Command::DeleteTable])
}

/// The transaction that takes our chains out of the tables of iptables-nft.
pub(super) fn removal_of_iptables(found: &FoundFirewall) -> Option<Transaction> {
    let commands = removal_from_iptables(found);
    (!commands.is_empty()).then_some(Transaction(commands))
}

/// The commands that take our chains out of the tables of iptables-nft.
fn removal_from_iptables(found: &FoundFirewall) -> Vec<Command> {
    let (mut unhooks, mut flushes, mut deletions) = (Vec::new(), Vec::new(), Vec::new());
    for (table, chains) in &found.tables {
        for (chain, rules) in chains {
            if is_ours(chain) {
                flushes.push(Command::FlushOld(*table, chain.clone()));
                deletions.push(Command::DeleteOld(*table, chain.clone()));
                continue;
            }
            for rule in rules {
                if let FoundChainRule::Jump { to, handle: Some(handle) } = rule
                    && is_ours(to)
                {
                    unhooks.push(Command::Unhook { table: *table, chain: chain.clone(), handle: *handle });
                }
            }
        }
    }
    // They may lead to one another, so all are emptied first.
    [unhooks, flushes, deletions].concat()
}

/// The chains of both rulesets as those of our table.
fn chains(config: &Config, wanted: &[Ruleset]) -> Vec<Chain> {
    let mut chains = Vec::new();
    for chain in wanted.iter().flat_map(|ruleset| &ruleset.chains) {
        let mut rules = Vec::new();
        if matches!(chain.name, ChainName::Prerouting | ChainName::Output) {
            rules.extend(sets::marking(config));
        }
        // Where no link is used for IPv6, its packets are nobody's. Chains that only others lead to see none.
        if chain.name.base().is_some() && !config.uses_ipv6() {
            rules.push(nft_rule(config, &chain.name, &ChainRule::new([Match::Family(Family::V6)], Verdict::Return)));
        }
        for rule in &chain.rules {
            match rule.verdict {
                Verdict::Restore(mask) if chain.name == ChainName::Restore => rules.extend(restore(config, rule, mask)),
                _ => rules.push(nft_rule(config, &chain.name, rule)),
            }
        }
        chains.push(Chain { name: chain.name.clone(), rules });
    }
    if !chains.iter().any(|chain| chain.name == ChainName::Restore) {
        let rule = ChainRule::new([], Verdict::Restore(config.marks()));
        chains.push(Chain { name: ChainName::Restore, rules: restore(config, &rule, config.marks()) });
    }
    chains
}

fn nft_rule(config: &Config, chain: &ChainName, rule: &ChainRule) -> Rule {
    let statement = match &rule.verdict {
        Verdict::Return => Statement::Return,
        Verdict::Goto(chain) => Statement::Goto(chain.clone()),
        Verdict::Restore(_) => Statement::Goto(ChainName::Restore),
        // A tunnel's own packets would inherit the marks of sets, too.
        Verdict::Unmark(mask) => Statement::Mark { value: 0, mask: mask | config.set_marks() },
        Verdict::MarkConnection(value, mask) => Statement::MarkConnection { value: *value, mask: *mask },
        Verdict::Masquerade => Statement::Masquerade,
        Verdict::Count => Statement::Count,
    };
    let mut comment = comment(config, chain, rule);
    // Whoever reads the counter knows it by these two words.
    if let (Verdict::Count, Some(family)) = (&rule.verdict, rule.family()) {
        comment = format!("{comment} {family}");
    }
    Rule { conditions: rule.matches.clone(), statement, comment }
}

/// Rules that restore the mark under the mask, one for each link: the kernel copies marks under a mask since 6.13 only
/// (`NFTA_BITWISE_SREG2`).
fn restore(config: &Config, rule: &ChainRule, mask: u32) -> Vec<Rule> {
    let known = rule.matches.iter().find(|condition| matches!(condition, Match::Marked(..)));
    let mut rules = Vec::new();
    for link in &config.links {
        let value = link.mark.get();
        let marked = Match::Marked(value, mask);
        let mut conditions = rule.matches.clone();
        match known {
            Some(known) if *known == marked => {}
            Some(_) => continue,
            None => conditions.push(marked),
        }
        let statement = Statement::Mark { value, mask };
        rules.push(Rule { conditions, statement, comment: link.name.to_string() });
    }
    rules
}

/// The name of the link that a rule is for; empty: of none, or of all.
fn comment(config: &Config, chain: &ChainName, rule: &ChainRule) -> String {
    let numbers = config.settings.numbers;
    for condition in &rule.matches {
        let link = match condition {
            Match::From(LinkMatch::Group(group)) | Match::To(LinkMatch::Group(group)) => {
                config.links.iter().find(|link| numbers.link_group(link.position) == *group)
            }
            Match::From(LinkMatch::Name(name)) | Match::To(LinkMatch::Name(name)) => config.link_on(name),
            Match::Marked(value, _) => config.links.iter().find(|link| link.mark.get() == *value),
            _ => None,
        };
        if let Some(link) = link {
            return link.name.to_string();
        }
    }
    match chain {
        ChainName::From(link) | ChainName::Nat6(link) => link.to_string(),
        _ => String::new(),
    }
}
