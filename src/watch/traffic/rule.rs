//! A rule of our table that counts, as the kernel lists it.

use crate::kernel::netlink::constants::{
    NFTA_COUNTER_PACKETS, NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_LIST_ELEM, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS,
    NFTA_RULE_TABLE, NFTA_RULE_USERDATA,
};
use crate::kernel::netlink::nla::{Attributes, attribute, string};
use crate::model::firewall::nft::TABLE;
use crate::model::names::Family;
use crate::watch::health::Key;

/// The uplink and family that a rule of the chain counts for, and its packets; `None`: it is another rule. Kernels before
/// 4.20 send all rules.
pub(super) fn counted(rule: &[u8], chain: &str) -> Option<(Key, u64)> {
    if !is_text(attribute(rule, NFTA_RULE_TABLE)?, TABLE) || !is_text(attribute(rule, NFTA_RULE_CHAIN)?, chain) {
        return None;
    }
    Some((counts_for(&comment(rule)?)?, packets(rule)?))
}

/// Whether the value of an attribute is this text, with its NUL.
fn is_text(value: &[u8], text: &str) -> bool {
    value.strip_suffix(&[0]) == Some(text.as_bytes())
}

/// The last words of its comment are the link's name and the family; in the first rule the fingerprint stands before them.
fn counts_for(comment: &str) -> Option<Key> {
    let mut words = comment.rsplit(' ');
    let family = words.next()?;
    let family = Family::BOTH.into_iter().find(|known| known.to_string() == family)?;
    Some(Key { uplink: words.next()?.parse().ok()?, family })
}

/// User data are parts with a type and a length of a byte each; a comment is of type 0.
fn comment(rule: &[u8]) -> Option<String> {
    let mut rest = attribute(rule, NFTA_RULE_USERDATA)?;
    while let Some((&[kind, length], after)) = rest.split_first_chunk::<2>() {
        let (part, next) = after.split_at_checked(length.into())?;
        if kind == 0 {
            return Some(string(part));
        }
        rest = next;
    }
    None
}

fn packets(rule: &[u8]) -> Option<u64> {
    for (kind, expression) in Attributes::new(attribute(rule, NFTA_RULE_EXPRESSIONS)?).flatten() {
        let name = attribute(expression, NFTA_EXPR_NAME)?;
        if kind == NFTA_LIST_ELEM && is_text(name, "counter") {
            let packets = attribute(attribute(expression, NFTA_EXPR_DATA)?, NFTA_COUNTER_PACKETS)?;
            return packets.try_into().ok().map(u64::from_be_bytes);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_says_which_link_and_family_a_rule_counts_for() {
        let isp1 = Some(Key { uplink: "isp1".parse().unwrap(), family: Family::V6 });
        assert_eq!(counts_for("isp1 IPv6"), isp1);
        assert_eq!(counts_for("multihome:0123456789abcdef isp1 IPv6"), isp1);
        for other in ["", "IPv6", "isp1", "isp1 ipv6", "Isp1 IPv4", "isp1 IPv4 "] {
            assert_eq!(counts_for(other), None, "{other}");
        }
    }

    #[test]
    fn nothing_that_is_cut_short_is_read_beyond_its_end() {
        let rule = |userdata: &[u8]| {
            let length = u16::try_from(userdata.len() + 4).unwrap();
            [&length.to_ne_bytes()[..], &NFTA_RULE_USERDATA.to_ne_bytes(), userdata].concat()
        };
        assert_eq!(comment(&rule(&[1, 1, 7, 0, 3, b'a', b'b', 0])), Some("ab".to_owned()));
        for short in [&[][..], &[0], &[0, 3, b'a'], &[1, 9, 0, 0]] {
            assert_eq!(comment(&rule(short)), None, "{short:?}");
        }
    }
}
