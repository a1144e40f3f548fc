//! The input of iptables-restore(8), and of its twin of IPv6, that leads from the observed to the desired managed
//! chains. Pure.

use std::fmt::Write;

use crate::model::firewall::{
    Batch, Chain, ChainRule, FoundChainRule, FoundChains, FoundFirewall, Lacking, Table, Variant, is_ours,
};

/// The batches that lead from `found` to `wanted`. Tables that are not in `wanted` lose their managed chains.
pub(super) fn batches(wanted: &[(Table, Vec<Chain>)], without: Lacking, found: &FoundFirewall) -> Vec<Batch> {
    let nothing = FoundChains::new();
    let mut batches = Vec::new();
    for table in Table::ALL {
        let chains = wanted.iter().find(|(of, _)| *of == table).map(|(_, chains)| &chains[..]).unwrap_or_default();
        let found = found.tables.get(&table).unwrap_or(&nothing);
        batches.extend(batch(Variant::Usual, table, chains, without, found));
    }
    batches
}

/// The batches that take the managed chains out of variants that are not in use.
pub(super) fn leftovers(found: &FoundFirewall) -> Vec<Batch> {
    let mut batches = Vec::new();
    for leftover in &found.leftovers {
        for (table, chains) in &leftover.tables {
            batches.extend(batch(leftover.variant, *table, &[], Lacking::default(), chains));
        }
    }
    batches
}

fn batch(variant: Variant, table: Table, wanted: &[Chain], without: Lacking, found: &FoundChains) -> Option<Batch> {
    let unwanted: Vec<_> =
        found.keys().filter(|name| is_ours(name) && !wanted.iter().any(|c| c.name.iptables() == **name)).collect();
    if unwanted.is_empty() && wanted.iter().all(|chain| is_complete(chain, without, found) && is_hooked(chain, found)) {
        return None;
    }
    let mut text = format!("*{}\n", table.name());
    // Writing to a String cannot fail. With --noflush, naming a chain creates or empties it.
    for chain in wanted.iter().filter(|chain| !chain.rules.is_empty()) {
        let _ = writeln!(text, ":{} - [0:0]", chain.name.iptables());
    }
    for chain in wanted {
        let mut fingerprint = format!(" -m comment --comment \"{}\"", chain.fingerprint(without));
        for rule in &chain.rules {
            let _ = writeln!(text, "-A {}{fingerprint} {rule}", chain.name.iptables());
            fingerprint.clear();
        }
    }
    for chain in wanted.iter().filter(|chain| !is_hooked(chain, found)) {
        let name = chain.name.iptables();
        unhook(&mut text, &name, found);
        if let Some(hook) = chain.name.hook() {
            let _ = writeln!(text, "-A {hook} -j {name}");
        }
    }
    // They may jump to one another, so all are emptied first.
    for name in &unwanted {
        unhook(&mut text, name, found);
        let _ = writeln!(text, "-F {name}");
    }
    for name in unwanted {
        let _ = writeln!(text, "-X {name}");
    }
    text.push_str("COMMIT\n");
    let by_group = wanted.iter().flat_map(|c| &c.rules).any(ChainRule::by_group);
    Some(Batch { variant, table, text, by_group })
}

/// Whether the observed chain has all its desired rules.
pub(super) fn is_complete(chain: &Chain, without: Lacking, found: &FoundChains) -> bool {
    let rules = found.get(&chain.name.iptables()).map(Vec::as_slice).unwrap_or_default();
    let signature = FoundChainRule::Fingerprint(chain.fingerprint(without));
    chain.rules.is_empty() || rules.len() == chain.rules.len() && rules.first() == Some(&signature)
}

/// Adds the lines that delete the jumps to a chain.
fn unhook(text: &mut String, name: &str, found: &FoundChains) {
    for (base, _) in hooks(name, found) {
        let _ = writeln!(text, "-D {base} -j {name}");
    }
}

/// The jumps to a chain: built-in chain, and index in it.
fn hooks<'a>(name: &str, found: &'a FoundChains) -> Vec<(&'a str, usize)> {
    let mut hooks = Vec::new();
    for (base, rules) in found.iter().filter(|(base, _)| !is_ours(base)) {
        for (index, rule) in rules.iter().enumerate() {
            if matches!(rule, FoundChainRule::Jump { to, .. } if to == name) {
                hooks.push((base.as_str(), index));
            }
        }
    }
    hooks
}

/// Whether exactly the desired jump to the chain exists, in the right place.
fn is_hooked(chain: &Chain, found: &FoundChains) -> bool {
    match (chain.name.hook(), &hooks(&chain.name.iptables(), found)[..]) {
        (None, []) => true,
        (Some(hook), [(base, index)]) => {
            *base == hook && (!chain.last || found.get(hook).map(Vec::len) == Some(index + 1))
        }
        _ => false,
    }
}
