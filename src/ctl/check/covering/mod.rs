//! Which earlier policy takes all of a later one's traffic. Of thousands of policies not each is compared with each: they
//! are looked up by the addresses, ports or users that they select. Pure.

use std::collections::HashMap;

use ipnet::IpNet;

use crate::config::Policy;
use crate::ctl::overlap::Overlap as _;
use crate::model::routing::PortRange;

/// Lists of a policy that it can be looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum List {
    From,
    To,
    Sport,
    Dport,
    Uid,
}

const LISTS: [List; 5] = [List::From, List::To, List::Sport, List::Dport, List::Uid];

/// All values that begin with the first `bits` bits of `first`, the others of which are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Block {
    first: u128,
    bits: u8,
}

/// The policies above, but for those that are covered themselves: what covers one of these covers all that it covers.
#[derive(Debug, Default)]
pub(super) struct Covering<'a> {
    /// By each block of one list of theirs, in their order.
    listed: HashMap<(List, Block), Vec<(usize, &'a Policy)>>,
    /// For each list, a bit for each length of a block that is in use; 0 and 1 have one in common.
    lengths: [u128; LISTS.len()],
    /// Those that select by none of the lists.
    others: Vec<(usize, &'a Policy)>,
}

impl<'a> Covering<'a> {
    /// The first of those above that takes all that `policy`, which is the one `at` this place, selects; `policy` is
    /// above the next one.
    pub fn next(&mut self, at: usize, policy: &'a Policy) -> Option<&'a Policy> {
        let mut first: Option<(usize, &Policy)> = None;
        for candidates in self.candidates(policy) {
            let earlier = candidates.iter().take_while(|(at, _)| first.is_none_or(|(first, _)| *at < first));
            first = earlier.copied().find(|(_, above)| covers(above, policy)).or(first);
        }
        if first.is_none() {
            self.insert(at, policy);
        }
        first.map(|(_, above)| above)
    }

    /// Those among which all are that can cover `policy`: they select the first value of some list of it.
    fn candidates(&self, policy: &Policy) -> Vec<&[(usize, &'a Policy)]> {
        let mut found = vec![self.others.as_slice()];
        for (list, lengths) in LISTS.into_iter().zip(self.lengths) {
            let Some(Block { first, bits }) = list.blocks(policy).first().copied() else { continue };
            for bits in (0..=bits).filter(|bits| lengths & length(*bits) != 0) {
                found.extend(self.listed.get(&(list, list.block(first, bits))).map(Vec::as_slice));
            }
        }
        found
    }

    /// By that list of `policy` whose blocks have the fewest others.
    fn insert(&mut self, at: usize, policy: &'a Policy) {
        let lists = LISTS.into_iter().map(|list| (list, list.blocks(policy))).filter(|(_, blocks)| !blocks.is_empty());
        let Some((list, blocks)) = lists.min_by_key(|(list, blocks)| self.entries(*list, blocks)) else {
            self.others.push((at, policy));
            return;
        };
        for block in blocks {
            self.lengths[list as usize] |= length(block.bits);
            self.listed.entry((list, block)).or_default().push((at, policy));
        }
    }

    /// How many entries these blocks have, with one more in each.
    fn entries(&self, list: List, blocks: &[Block]) -> usize {
        blocks.iter().map(|block| 1 + self.listed.get(&(list, *block)).map_or(0, Vec::len)).sum()
    }
}

/// The bit of a length.
fn length(bits: u8) -> u128 {
    1 << bits.saturating_sub(1)
}

/// IPv4 stands among IPv6 as `::ffff:0:0/96` (RFC 4291, 2.5.5.2).
impl From<IpNet> for Block {
    fn from(net: IpNet) -> Self {
        match net {
            IpNet::V4(net) => Self { first: net.network().to_ipv6_mapped().to_bits(), bits: 96 + net.prefix_len() },
            IpNet::V6(net) => Self { first: net.network().to_bits(), bits: net.prefix_len() },
        }
    }
}

impl List {
    /// How many bits a value has.
    fn width(self) -> u8 {
        match self {
            Self::From | Self::To => 128,
            Self::Sport | Self::Dport => 16,
            Self::Uid => 32,
        }
    }

    /// The block of that length around a value.
    fn block(self, value: u128, bits: u8) -> Block {
        let rest = u32::from(self.width() - bits);
        Block { first: value.checked_shr(rest).and_then(|n| n.checked_shl(rest)).unwrap_or(0), bits }
    }

    /// The values of a policy's list as blocks, in their order.
    fn blocks(self, policy: &Policy) -> Vec<Block> {
        match self {
            Self::From => policy.from.iter().copied().map(Block::from).collect(),
            Self::To => policy.to.iter().copied().map(Block::from).collect(),
            Self::Sport => self.ports(&policy.sport),
            Self::Dport => self.ports(&policy.dport),
            Self::Uid => policy.uid.iter().flat_map(|range| self.range(range.start, range.end)).collect(),
        }
    }

    fn ports(self, ports: &[PortRange]) -> Vec<Block> {
        ports.iter().flat_map(|range| self.range(range.start.into(), range.end.into())).collect()
    }

    /// A range as blocks, as a list of networks would have it; there are fewer than twice its bits.
    fn range(self, start: u32, end: u32) -> Vec<Block> {
        let mut blocks = Vec::new();
        let (mut next, end) = (u64::from(start), u64::from(end));
        while next <= end {
            let aligned = next.trailing_zeros().min(self.width().into());
            let rest = (0..=aligned).rev().find(|rest| next + (1 << rest) - 1 <= end).unwrap_or(0);
            // Not more than 32.
            let rest_bits = u8::try_from(rest).unwrap_or(0);
            blocks.push(Block { first: next.into(), bits: self.width() - rest_bits });
            next += 1 << rest;
        }
        blocks
    }
}

/// Whether every packet that `b` selects is also selected by `a`.
pub(super) fn covers(a: &Policy, b: &Policy) -> bool {
    a.proto.covers(&b.proto)
        && a.dscp.covers(&b.dscp)
        && a.mark().covers(&b.mark())
        && a.from.covers(&b.from)
        && a.to.covers(&b.to)
        && a.iif.covers(&b.iif)
        && a.sport.covers(&b.sport)
        && a.dport.covers(&b.dport)
        && a.uid.covers(&b.uid)
}

#[cfg(test)]
mod tests;
