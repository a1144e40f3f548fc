//! What is in the sets, for people and for programs.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::{Error, sets_of};
use crate::config::{Config, Policy};
use crate::ctl::Error as CtlError;
use crate::ctl::show;
use crate::kernel::nftables;
use crate::model::firewall::nft::TABLE;
use crate::model::firewall::set::{AddressSet, Element, Time};
use crate::model::names::SetName;
use crate::reconcile::firewall::sets;

/// All that there is to tell.
#[derive(Debug, Serialize)]
struct Sets {
    sets: Vec<NamedSet>,
    /// Sets of our table that no policy names, as nft(8) calls them.
    others: Vec<String>,
}

#[derive(Debug, Serialize)]
struct NamedSet {
    name: String,
    /// Policies that have it.
    policies: Vec<String>,
    /// IPv4 first.
    elements: Vec<ElementFacts>,
}

#[derive(Debug, Serialize)]
struct ElementFacts {
    addresses: String,
    /// `null`: it stays.
    timeout_seconds: Option<u64>,
    expires_seconds: Option<u64>,
}

impl ElementFacts {
    fn new(element: &Element) -> Self {
        Self {
            addresses: element.addresses(),
            timeout_seconds: element.timeout.map(|time| time.as_secs()),
            expires_seconds: element.expires.map(|time| time.as_secs()),
        }
    }

    fn text(&self) -> String {
        let times = [self.timeout_seconds, self.expires_seconds];
        match times.map(|seconds| seconds.map(|seconds| Time(Duration::from_secs(seconds)))) {
            [Some(timeout), Some(expires)] => format!("{} for {expires} of {timeout}", self.addresses),
            _ => self.addresses.clone(),
        }
    }
}

/// Prints the set of that name, or all.
pub(super) fn run(name: Option<&SetName>, json: bool, config: &Config) -> Result<(), CtlError> {
    let names = name.map_or_else(|| config.set_names(), |name| vec![name]);
    let mut found = Sets { sets: Vec::new(), others: Vec::new() };
    for name in names {
        found.sets.push(look(name, config)?);
    }
    if name.is_none() {
        let ours: Vec<_> = sets::all(config).into_iter().map(|set| set.name).collect();
        found.others = nftables::set::names()?;
        found.others.retain(|other| !ours.contains(other) && !AddressSet::has_prefixes(other));
    }
    let printed = if json { show::json(&found) } else { text(&found, &mut io::stdout().lock()) };
    Ok(printed?)
}

fn look(name: &SetName, config: &Config) -> Result<NamedSet, CtlError> {
    let mut elements = Vec::new();
    for set in sets_of(config, name)? {
        let found = nftables::set::elements(&set)?.ok_or_else(|| Error::Missing(set.name.clone()))?;
        elements.extend(found.iter().map(ElementFacts::new));
    }
    let policies = config.policies.iter().filter(|policy| names(policy, name));
    let policies = policies.map(|policy| policy.name.clone()).collect();
    Ok(NamedSet { name: name.to_string(), policies, elements })
}

fn names(policy: &Policy, set: &SetName) -> bool {
    let sets = policy.sets.as_ref();
    sets.is_some_and(|sets| [&sets.from, &sets.to].into_iter().flatten().any(|of| of == set))
}

fn text(found: &Sets, out: &mut impl Write) -> io::Result<()> {
    let names = found.sets.iter().map(|set| set.name.len()).chain(found.others.iter().map(String::len));
    let width = names.max().unwrap_or_default();
    for NamedSet { name, elements, .. } in &found.sets {
        if elements.is_empty() {
            writeln!(out, "{name:width$}  empty")?;
        }
        for (at, element) in elements.iter().enumerate() {
            let name = if at == 0 { name } else { "" };
            writeln!(out, "{name:width$}  {}", element.text())?;
        }
    }
    for other in &found.others {
        writeln!(out, "{other:width$}  of no policy any more: nft delete set inet {TABLE} {other}")?;
    }
    if found.sets.is_empty() && found.others.is_empty() {
        writeln!(out, "no policy has a set")?;
    }
    Ok(())
}
