//! What other people's rules of `nf_tables` do to marks and to the source of what leaves, as nft(8) tells it in JSON
//! (libnftables-json(5)): who writes them with nft(8) has no iptables-save(8) to show them.
//!
//! What is not understood counts as all bits, or as any interface. Of iptables-nft's matches and targets nft(8) knows
//! no more than the names.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::{BitOr, ControlFlow};

use ipnet::Ipv4Net;
use serde_json::Value;

use crate::ctl::overlap::Overlap as _;
use crate::kernel::netlink::constants::{
    NFPROTO_INET, NFPROTO_IPV4, NFT_MSG_GETRULE, NFTA_RULE_CHAIN, NFTA_RULE_TABLE,
};
use crate::kernel::netlink::netfilter::{Message, payload};
use crate::kernel::netlink::nla::{attribute, string};
use crate::kernel::netlink::socket::Socket;
use crate::kernel::{Error, iptables, read};
use crate::model::firewall::nft::TABLE;
use crate::model::firewall::{ChainName, is_ours};

/// A rule, as far as it is about marks or sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OtherRule {
    /// `ip` or `inet`.
    pub(super) family: String,
    pub(super) table: String,
    pub(super) chain: String,
    /// Its number, by which nft(8) deletes it.
    pub(super) handle: u64,
    /// The bits of packets' and connections' marks that it compares or sets.
    pub(super) mark_bits: u32,
    /// All that it does with marks is to set those of packets, before our chains and before they are routed: it chooses
    /// a link, where it sets bits of links only.
    pub(super) chooses: bool,
    /// Where what leaves gets another source, if it does.
    pub(super) translates: Option<Leaving>,
}

/// Packets that leave, as far as is understood: by default all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Leaving {
    /// Name of the interface, or how it begins.
    pub(super) by: String,
    /// `by` is the whole name.
    pub(super) whole: bool,
    /// By any other than that.
    pub(super) not: bool,
    /// From this network only.
    pub(super) from: Option<Ipv4Net>,
}

impl Leaving {
    /// Whether it is so of what leaves by `name` and comes from one of `lans`.
    pub(super) fn covers(&self, name: &str, lans: &[Ipv4Net]) -> bool {
        let named = if self.whole { name == self.by } else { name.starts_with(&self.by) };
        named != self.not && self.from.is_none_or(|net| lans.iter().any(|lan| net.meets(lan)))
    }

    /// Takes a match into account; whether it is one of certain destinations.
    fn narrow(&mut self, statement: &Value) -> bool {
        let (left, right) = (&statement["left"], &statement["right"]);
        let not = statement["op"] == "!=";
        if let Some("oif" | "oifname") = left["meta"]["key"].as_str()
            && let Some(name) = right.as_str().filter(|name| !name.starts_with('@'))
        {
            let beginning = name.strip_suffix('*');
            self.whole = beginning.is_none();
            beginning.unwrap_or(name).clone_into(&mut self.by);
            self.not = not;
        }
        let field = &left["payload"];
        if field["protocol"] == "ip" && field["field"] == "saddr" && !not {
            self.from = network(right).or(self.from);
        }
        field["protocol"] == "ip" && field["field"] == "daddr" && !not
    }
}

/// What to do where the kernel has refused our table.
pub(super) fn try_again(mhctl: &str) -> String {
    format!("write firewall = \"nftables\" in [settings], then {mhctl} apply: it says why, if it is refused again")
}

/// The rules of others' tables that are about marks or sources; `None`: nft(8) is not there, or cannot tell. `is_nft`: it
/// holds our chains.
pub(super) fn rules(is_nft: bool) -> Option<Vec<OtherRule>> {
    // Numbers instead of names, and no elements of sets, which may be a hundred thousand.
    let text = iptables::output("nft", &["-j", "-n", "-t", "list", "ruleset"]).ok()?;
    let ruleset: Value = serde_json::from_str(&text).ok()?;
    let objects = ruleset["nftables"].as_array()?;
    let mut rules: Vec<_> = objects.iter().filter_map(|object| OtherRule::read(&object["rule"])).collect();
    let chains: Vec<_> =
        objects.iter().map(|object| &object["chain"]).filter(|chain| is_for_own_marks(chain, is_nft)).collect();
    for rule in &mut rules {
        rule.chooses &= chains.iter().any(|chain| rule.is_in(chain));
    }
    Some(rules)
}

/// Whether a mark that a chain sets leads a packet by a link, as an administrator's own may: packets of this host are
/// routed again behind a chain of type route only.
fn is_for_own_marks(chain: &Value, is_nft: bool) -> bool {
    /// Of iptables' table mangle.
    const MANGLE: i32 = -150;
    let is_early = [ChainName::Prerouting, ChainName::Output].iter().filter_map(ChainName::base).any(|ours| {
        chain["type"] == ours.kind.name()
            && chain["hook"] == ours.hook.name()
            && chain["prio"]
                .as_i64()
                .is_some_and(|priority| priority < if is_nft { ours.priority } else { MANGLE }.into())
    });
    is_early && chain["family"].as_str().is_some_and(|family| ["ip", "inet"].contains(&family))
}

/// Whether others have rules in chains that are not among `shown`, pairs of table and chain that iptables-save(8)
/// shows; `None`: only root may look.
pub(super) fn any_beside(shown: &BTreeSet<(&str, &str)>) -> Result<Option<bool>, Error> {
    let mut socket = Socket::open_netfilter().map_err(Error::Open)?;
    let all = Message { family: 0, ..Message::new(Vec::new()) };
    let any = socket.dump(NFT_MSG_GETRULE, &all, bool::default, |any: &mut bool, rule| {
        *any |= is_beside(shown, rule);
        Ok(if *any { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    match any {
        Err(e) if e.is_permission() => Ok(None),
        // No nf_tables in this kernel.
        Err(e) if e.refused().is_some() => Ok(Some(false)),
        any => any.map(Some).map_err(read("rules of nf_tables")),
    }
}

/// Whether a rule, as the kernel tells it, is of others and in none of these chains.
fn is_beside(shown: &BTreeSet<(&str, &str)>, rule: &[u8]) -> bool {
    let attributes = payload(rule);
    let table = attribute(attributes, NFTA_RULE_TABLE).map(string).unwrap_or_default();
    let chain = attribute(attributes, NFTA_RULE_CHAIN).map(string).unwrap_or_default();
    match rule.first() {
        Some(&NFPROTO_IPV4) => !shown.contains(&(table.as_str(), chain.as_str())) && !is_ours(&chain),
        Some(&NFPROTO_INET) => table != TABLE,
        _ => false,
    }
}

impl OtherRule {
    fn read(rule: &Value) -> Option<Self> {
        let family = rule["family"].as_str().filter(|family| ["ip", "inet"].contains(family))?;
        let table = rule["table"].as_str().filter(|table| family != "inet" || *table != TABLE)?;
        let mut mark_bits = 0;
        let mut chooses = true;
        let mut leaving = Leaving::default();
        let mut to_some = false;
        let mut translates = false;
        for (name, statement) in rule["expr"].as_array()?.iter().filter_map(Value::as_object).flatten() {
            let bits = match name.as_str() {
                // To remember a mark steers nothing.
                "set" => 0,
                "mangle" if is_mark(&statement["key"]) => set_bits(&statement["value"], &statement["key"]),
                _ => read_bits(statement),
            };
            mark_bits |= bits;
            chooses &= bits == 0 || statement["key"]["meta"]["key"] == "mark";
            match name.as_str() {
                "match" => to_some |= leaving.narrow(statement),
                "masquerade" | "snat" => translates = true,
                _ => {}
            }
        }
        // What is about one destination is not about the Internet.
        let translates = (translates && !to_some).then_some(leaving);
        if mark_bits == 0 && translates.is_none() {
            return None;
        }
        Some(Self {
            family: family.to_owned(),
            table: table.to_owned(),
            chain: rule["chain"].as_str()?.to_owned(),
            handle: rule["handle"].as_u64()?,
            mark_bits,
            chooses,
            translates,
        })
    }

    /// Whether it is in one of the chains, pairs of table and chain, that iptables-save(8) has shown.
    pub(super) fn is_among(&self, shown: &BTreeSet<(&str, &str)>) -> bool {
        self.family == "ip" && shown.contains(&(self.table.as_str(), self.chain.as_str()))
    }

    fn is_in(&self, chain: &Value) -> bool {
        chain["family"] == *self.family && chain["table"] == *self.table && chain["name"] == *self.chain
    }
}

/// An address or a prefix; a set or a range is not that simple.
fn network(value: &Value) -> Option<Ipv4Net> {
    if let Some(address) = value.as_str() {
        return address.parse::<Ipv4Addr>().ok().map(Ipv4Net::from);
    }
    let length = value["prefix"]["len"].as_u64()?.try_into().ok()?;
    Ipv4Net::new(value["prefix"]["addr"].as_str()?.parse().ok()?, length).ok()
}

/// Whether an expression is a packet's or a connection's mark.
fn is_mark(value: &Value) -> bool {
    value["meta"]["key"] == "mark" || value["ct"]["key"] == "mark"
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64()?.try_into().ok()
}

/// The bits of marks that an expression depends on.
fn read_bits(value: &Value) -> u32 {
    if is_mark(value) {
        return u32::MAX;
    }
    if let Some([of, mask]) = value["&"].as_array().map(Vec::as_slice)
        && let Some(mask) = number(mask)
    {
        return read_bits(of) & mask;
    }
    match value {
        Value::Array(all) => all.iter().map(read_bits).fold(0, BitOr::bitor),
        Value::Object(all) => all.values().map(read_bits).fold(0, BitOr::bitor),
        _ => 0,
    }
}

/// The bits of the mark `of` that may not be the same when it is set to `value`.
fn set_bits(value: &Value, of: &Value) -> u32 {
    kept_and_flipped(value, of).map_or(u32::MAX, |(kept, flipped)| !kept | flipped)
}

/// Which bits of `of` a value has, and which of these, or of others, are flipped in it.
fn kept_and_flipped(value: &Value, of: &Value) -> Option<(u32, u32)> {
    if value == of {
        return Some((u32::MAX, 0));
    }
    let (operator, operands) = value.as_object()?.iter().next()?;
    let (first, numbers) = operands.as_array()?.split_first()?;
    let (mut kept, mut flipped) = kept_and_flipped(first, of)?;
    for bits in numbers {
        let bits = number(bits)?;
        match operator.as_str() {
            "&" => (kept, flipped) = (kept & bits, flipped & bits),
            "|" => (kept, flipped) = (kept & !bits, flipped | bits),
            "^" => flipped ^= bits,
            _ => return None,
        }
    }
    Some((kept, flipped))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rule of a chain of `inet t` with these statements, as nft 1.0.6 tells it.
    fn rule(statements: &str) -> Option<OtherRule> {
        let rule = format!(r#"{{"family":"inet","table":"t","chain":"c","handle":4,"expr":[{statements}]}}"#);
        OtherRule::read(&serde_json::from_str(&rule).unwrap())
    }

    const MARK: &str = r#"{"meta":{"key":"mark"}}"#;
    const CT_MARK: &str = r#"{"ct":{"key":"mark"}}"#;

    fn bits(statement: &str) -> u32 {
        let statement = statement.replace("CONNECTION", CT_MARK).replace("PACKET", MARK);
        rule(&statement).map_or(0, |rule| rule.mark_bits)
    }

    #[test]
    fn the_bits_of_a_rule_are_those_that_it_compares_or_may_change() {
        for (statement, expected) in [
            (r#"{"mangle":{"key":PACKET,"value":1}}"#, u32::MAX),
            (r#"{"mangle":{"key":PACKET,"value":{"|":[{"&":[PACKET,4294967041]},1]}}}"#, 0xff),
            (r#"{"mangle":{"key":PACKET,"value":{"|":[PACKET,16]}}}"#, 0x10),
            (r#"{"mangle":{"key":PACKET,"value":{"|":[PACKET,16,1]}}}"#, 0x11),
            (r#"{"mangle":{"key":PACKET,"value":{"^":[PACKET,16]}}}"#, 0x10),
            (r#"{"mangle":{"key":PACKET,"value":{"&":[PACKET,255]}}}"#, 0xffff_ff00),
            (r#"{"mangle":{"key":CONNECTION,"value":{"|":[{"&":[CONNECTION,4294967282]},2]}}}"#, 0xf),
            (r#"{"mangle":{"key":CONNECTION,"value":PACKET}}"#, u32::MAX),
            (r#"{"mangle":{"key":PACKET,"value":{"&":[CONNECTION,255]}}}"#, u32::MAX),
            (
                r#"{"mangle":{"key":PACKET,"value":{"map":{"key":{"payload":{"protocol":"ip","field":"saddr"}},"data":"@m"}}}}"#,
                u32::MAX,
            ),
            (r#"{"mangle":{"key":PACKET,"value":{"numgen":{"mode":"inc","mod":2,"offset":0}}}}"#, u32::MAX),
            (r#"{"match":{"op":"==","left":{"&":[PACKET,255]},"right":1}},{"accept":null}"#, 0xff),
            (r#"{"match":{"op":"!=","left":PACKET,"right":1}}"#, u32::MAX),
            (r#"{"match":{"op":"==","left":PACKET,"right":{"set":[1,2]}}}"#, u32::MAX),
            (r#"{"match":{"op":"==","left":PACKET,"right":"@s"}}"#, u32::MAX),
            (r#"{"vmap":{"key":{"&":[PACKET,255]},"data":{"set":[[1,{"accept":null}],[2,{"drop":null}]]}}}"#, 0xff),
            (r#"{"match":{"op":"==","left":{"&":[CONNECTION,7]},"right":1}}"#, 7),
            (r#"{"set":{"op":"update","elem":PACKET,"set":"@dyn"}}"#, 0),
            (r#"{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":22}}"#, 0),
            (r#"{"counter":{"packets":0,"bytes":0}},{"xt":{"type":"target","name":"MARK"}}"#, 0),
        ] {
            assert_eq!(bits(statement), expected, "{statement}");
        }
    }

    #[test]
    fn a_rule_chooses_a_link_where_it_only_sets_the_mark_of_a_packet() {
        let chooses = |statements: &str| rule(&statements.replace("PACKET", MARK)).unwrap().chooses;
        let port = r#"{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":22}}"#;
        let set = r#"{"mangle":{"key":PACKET,"value":{"|":[{"&":[PACKET,4294967288]},2]}}}"#;
        assert!(chooses(&format!("{port},{set}")));
        assert!(!chooses(&format!(r#"{{"match":{{"op":"==","left":PACKET,"right":0}}}},{set}"#)));
        assert!(!chooses(&set.replace("PACKET", CT_MARK)));
        let is_for = |kind: &str, hook: &str, priority: i32| {
            let chain = format!(r#"{{"family":"inet","type":"{kind}","hook":"{hook}","prio":{priority}}}"#);
            [true, false].map(|is_nft| is_for_own_marks(&serde_json::from_str(&chain).unwrap(), is_nft))
        };
        assert_eq!(is_for("route", "output", -151), [true, true]);
        // With iptables it may come behind ours.
        assert_eq!(is_for("filter", "prerouting", -150), [true, false]);
        assert_eq!(is_for("filter", "prerouting", -100), [false, false]);
        assert_eq!(is_for("filter", "output", -151), [false, false]);
        assert_eq!(is_for("filter", "forward", -151), [false, false]);
    }

    #[test]
    fn what_leaves_by_an_interface_from_a_network_gets_another_source() {
        let oifname = |op: &str, right: &str| {
            format!(r#"{{"match":{{"op":"{op}","left":{{"meta":{{"key":"oifname"}}}},"right":{right}}}}},"#)
        };
        let ip = |field: &str, op: &str, right: &str| {
            let left = format!(r#"{{"payload":{{"protocol":"ip","field":"{field}"}}}}"#);
            format!(r#"{{"match":{{"op":"{op}","left":{left},"right":{right}}}}},"#)
        };
        let prefix = r#"{"prefix":{"addr":"192.168.0.0","len":20}}"#;
        let lans = ["192.168.2.0/24".parse().unwrap()];
        for (matches, expected) in [
            (oifname("==", r#""ppp*""#), true),
            (oifname("==", r#""ppp0""#), true),
            (oifname("==", r#""ppp1""#), false),
            (oifname("!=", r#""ppp0""#), false),
            (oifname("!=", r#""docker0""#), true),
            (oifname("==", r#"{"set":["ppp0","ppp1"]}"#), true),
            (oifname("==", r#""@lines""#), true),
            (ip("saddr", "==", prefix), true),
            (ip("saddr", "==", r#""192.168.2.7""#), true),
            (ip("saddr", "==", r#""10.0.0.1""#), false),
            (ip("saddr", "!=", prefix), true),
            (ip("saddr", "==", r#""@lan""#), true),
            (ip("daddr", "==", prefix), false),
            (ip("daddr", "!=", prefix), true),
            (ip("daddr", "==", r#""@n""#), false),
            (ip("saddr", "==", r#"{"prefix":{"addr":"172.17.0.0","len":16}}"#) + &oifname("!=", r#""docker0""#), false),
        ] {
            for translation in [r#"{"masquerade":{"flags":"fully-random"}}"#, r#"{"snat":{"addr":"203.0.113.10"}}"#] {
                let translates = rule(&format!("{matches}{translation}")).and_then(|rule| rule.translates);
                assert_eq!(translates.is_some_and(|of| of.covers("ppp0", &lans)), expected, "{matches}");
            }
        }
    }
}
