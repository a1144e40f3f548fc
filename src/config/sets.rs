//! The named sets of policies: each pair of them gets a bit of the mark.

use std::fmt;

use toml::Spanned;

use super::error::SpannedError;
use super::field::{Field, optional, refused};
use super::raw::{RawConfig, RawPolicy};
use super::{Config, Firewall, FwMark, Link, Policy};
use crate::model::names::{Mark, SetName};
use crate::model::numbering;

/// Named sets that a policy's packets must be in, at least one. Others fill them, such as a resolver.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sets {
    /// Of the source.
    pub from: Option<SetName>,
    /// Of the destination.
    pub to: Option<SetName>,
    /// What our firewall rules mark such a packet with: a bit for each pair of sets.
    pub mark: Mark,
}

impl fmt::Display for Sets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "from {from} to {to}"),
            (Some(from), None) => write!(f, "from {from}"),
            (None, to) => write!(f, "to {}", to.as_ref().map_or("", SetName::as_str)),
        }
    }
}

/// Gives the policies their sets. Returns the next bit of the mark, for probes, if there are any and a bit is left.
pub(super) fn add(
    raw: &[Spanned<RawPolicy<'_>>],
    links: &[Link],
    policies: &mut [Policy],
) -> Result<Option<Mark>, SpannedError> {
    let mut free = numbering::set_marks(taken(links, policies));
    let mut known: Vec<Sets> = Vec::new();
    for (raw, policy) in raw.iter().map(Spanned::get_ref).zip(&mut *policies) {
        let from: Option<SetName> = optional("from-set", &raw.from_set, Field::word)?;
        let to = optional("to-set", &raw.to_set, Field::word)?;
        if from.is_none() && to.is_none() {
            continue;
        }
        if !known.iter().any(|sets| sets.from == from && sets.to == to) {
            let Some(mark) = free.next().and_then(|bit| Mark::new(bit).ok()) else {
                return no_bit_left(raw, known.len()).map(|()| None);
            };
            known.push(Sets { from: from.clone(), to: to.clone(), mark });
        }
        policy.sets = known.iter().find(|sets| sets.from == from && sets.to == to).cloned();
    }
    if !known.is_empty() {
        have_no_owners(raw)?;
    }
    let left = free.next().and_then(|bit| Mark::new(bit).ok());
    let of_probes = left.filter(|_| links.iter().any(|link| link.check));
    // What an administrator's rules compare the whole mark with has no bit of ours.
    let ours = known.iter().map(|sets| sets.mark).chain(of_probes).fold(0, |all, mark| all | mark.get());
    for fwmark in policies.iter_mut().filter_map(|policy| policy.fwmark.as_mut()) {
        fwmark.mask &= !ours;
    }
    Ok(of_probes)
}

/// Fails if a policy selects by the owner of a socket. A packet of this server that is in a set gets its mark after it was
/// routed, and `ip_route_me_harder()` routes it anew as one of root's: no rule would know its owner, a kill switch's
/// neither, whichever policy names the set.
fn have_no_owners(raw: &[Spanned<RawPolicy<'_>>]) -> Result<(), SpannedError> {
    let message = "it does not hold beside sets: for what is in a set the kernel forgets whose socket it was; have a \
                   rule of nftables mark what the user sends (`meta skuid 1000 meta mark set meta mark | 0x100`), and \
                   select by fwmark";
    for raw in raw.iter().map(Spanned::get_ref) {
        refused("uid", &raw.uid, message)?;
    }
    Ok(())
}

/// The bits of links' marks and of administrators'. A mark without a mask is one of all bits, of which only those that it
/// has are in use.
fn taken(links: &[Link], policies: &[Policy]) -> u32 {
    let links = links.iter().fold(0, |all, link| all | link.mark.get());
    policies
        .iter()
        .filter_map(|policy| policy.fwmark)
        .fold(links, |all, FwMark { value, mask }| all | if mask == u32::MAX { value } else { mask })
}

fn no_bit_left(raw: &RawPolicy<'_>, pairs: usize) -> Result<(), SpannedError> {
    let message = format!(
        "there is no bit of the mark left for it: each pair of sets has one, each link has one, and those of fwmark are \
         taken; use one of the {pairs} pairs above, or write narrower masks"
    );
    refused("to-set", &raw.to_set, &message)?;
    refused("from-set", &raw.from_set, &message)
}

/// Fails if there are sets, and the packet filter that is asked for has none.
pub(super) fn need_nftables(raw: &RawConfig<'_>, config: &Config) -> Result<(), SpannedError> {
    let wanted = match config.settings.firewall {
        Firewall::Auto | Firewall::Nftables => return Ok(()),
        Firewall::Iptables => "iptables",
        Firewall::None => "none",
    };
    let message = format!(
        "a set needs nftables, and firewall is {wanted:?}: write firewall = \"auto\" or \"nftables\" in [settings], \
         or select by addresses"
    );
    for raw in raw.policy.iter().map(Spanned::get_ref) {
        refused("to-set", &raw.to_set, &message)?;
        refused("from-set", &raw.from_set, &message)?;
    }
    Ok(())
}
