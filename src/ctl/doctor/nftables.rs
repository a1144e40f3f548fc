//! What other people's rules of `nf_tables` do to marks and to the source of what leaves, read over
//! netlink: who writes them with nft(8) has no iptables-save(8) to show them.
//!
//! A rule is a list of expressions that load a field into a register, change or compare it, and store
//! it (`nf_tables.h`). `meta mark set mark and 0xff or 0x1` is: meta loads, bitwise keeps the bits of a
//! mask and flips those of another, meta stores. What is not understood counts as all bits, or as any
//! interface.

use std::collections::HashMap;
use std::ops::ControlFlow;

use ipnet::Ipv4Net;
use netlink_packet_core::NlasIterator;

use crate::kernel::netlink::constants::{
    NFPROTO_INET, NFPROTO_IPV4, NFT_BITWISE_MASK_XOR, NFT_CMP_EQ, NFT_CMP_NEQ, NFT_CT_MARK, NFT_META_MARK,
    NFT_META_OIFNAME, NFT_MSG_GETRULE, NFT_NAT_SNAT, NFT_PAYLOAD_NETWORK_HEADER, NFTA_BITWISE_DREG, NFTA_BITWISE_MASK,
    NFTA_BITWISE_OP, NFTA_BITWISE_SREG, NFTA_BITWISE_XOR, NFTA_CMP_DATA, NFTA_CMP_OP, NFTA_CMP_SREG, NFTA_CT_DREG,
    NFTA_CT_KEY, NFTA_CT_SREG, NFTA_DATA_VALUE, NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_IMMEDIATE_DREG, NFTA_LIST_ELEM,
    NFTA_LOOKUP_SREG, NFTA_META_DREG, NFTA_META_KEY, NFTA_META_SREG, NFTA_NAT_TYPE, NFTA_PAYLOAD_BASE,
    NFTA_PAYLOAD_DREG, NFTA_PAYLOAD_OFFSET, NFTA_RANGE_SREG, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS, NFTA_RULE_HANDLE,
    NFTA_RULE_TABLE,
};
use crate::kernel::netlink::netfilter::{Message, payload};
use crate::kernel::netlink::nla::{attribute, string};
use crate::kernel::netlink::socket::Socket;
use crate::kernel::{Error, read};

/// A rule, as far as it is about marks or sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherRule {
    /// `ip` or `inet`.
    pub family: &'static str,
    /// Its table.
    pub table: String,
    /// Its chain.
    pub chain: String,
    /// Its number, by which nft(8) deletes it.
    pub handle: u64,
    /// The bits of packets' and connections' marks that it compares or sets.
    pub mark_bits: u32,
    /// Where what leaves gets another source, if it does.
    pub translates: Option<Leaving>,
}

/// Packets that leave, as far as is understood: by default all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leaving {
    /// Name of the interface, or how it begins.
    pub by: String,
    /// `by` is the whole name.
    pub whole: bool,
    /// By any other than that.
    pub not: bool,
    /// From this network only.
    pub from: Option<Ipv4Net>,
}

impl Leaving {
    /// Whether it is so of what leaves by `name` and comes from one of `lans`.
    pub fn covers(&self, name: &str, lans: &[Ipv4Net]) -> bool {
        let named = if self.whole { name == self.by } else { name.starts_with(&self.by) };
        let meets = |net: Ipv4Net| lans.iter().any(|lan| net.contains(lan) || lan.contains(&net));
        named != self.not && self.from.is_none_or(meets)
    }
}

/// Rules of all tables that are about marks or sources; `None`: only root may look.
pub fn rules() -> Result<Option<Vec<OtherRule>>, Error> {
    let mut socket = Socket::open_netfilter().map_err(Error::Open)?;
    let each = |all: &mut Vec<OtherRule>, body: &[u8]| {
        all.extend(rule(body));
        Ok(ControlFlow::Continue(()))
    };
    let all = Message { family: 0, ..Message::new(Vec::new()) };
    match socket.dump(NFT_MSG_GETRULE, &all, Vec::new, each) {
        Err(e) if e.is_permission() => Ok(None),
        // No nf_tables in this kernel.
        Err(e) if e.refused().is_some() => Ok(Some(Vec::new())),
        rules => rules.map(Some).map_err(read("rules of nf_tables")),
    }
}

fn rule(body: &[u8]) -> Option<OtherRule> {
    let family = match *body.first()? {
        NFPROTO_IPV4 => "ip",
        NFPROTO_INET => "inet",
        _ => return None,
    };
    let nlas = payload(body);
    let mut registers = Registers::default();
    for element in NlasIterator::new(attribute(nlas, NFTA_RULE_EXPRESSIONS)?).flatten() {
        if element.kind() == NFTA_LIST_ELEM {
            let name = attribute(element.value(), NFTA_EXPR_NAME).map(string).unwrap_or_default();
            registers.run(&name, attribute(element.value(), NFTA_EXPR_DATA).unwrap_or_default());
        }
    }
    // What is about one destination is not about the Internet.
    let translates = (registers.translates && !registers.to_some).then_some(registers.leaving);
    (registers.mark_bits != 0 || translates.is_some()).then(|| OtherRule {
        family,
        table: attribute(nlas, NFTA_RULE_TABLE).map(string).unwrap_or_default(),
        chain: attribute(nlas, NFTA_RULE_CHAIN).map(string).unwrap_or_default(),
        handle: attribute(nlas, NFTA_RULE_HANDLE).and_then(|n| n.try_into().ok()).map_or(0, u64::from_be_bytes),
        mark_bits: registers.mark_bits,
        translates,
    })
}

/// What a register holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    /// A mark with only the bits of `mask`, and of these flipped those of `xor`; `of` says whose mark.
    Mark {
        of: Of,
        mask: u32,
        xor: u32,
    },
    OutName,
    Source,
    Destination,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Packet,
    Connection,
}

/// A rule's effects, found by running it without a packet.
#[derive(Default)]
struct Registers {
    values: HashMap<u32, Value>,
    mark_bits: u32,
    leaving: Leaving,
    to_some: bool,
    translates: bool,
}

impl Registers {
    fn run(&mut self, name: &str, data: &[u8]) {
        let number = |kind| be32(attribute(data, kind)?);
        match name {
            "meta" => self.field(
                number(NFTA_META_DREG),
                number(NFTA_META_SREG),
                match number(NFTA_META_KEY) {
                    Some(NFT_META_MARK) => Some(whole_mark(Of::Packet)),
                    Some(NFT_META_OIFNAME) => Some(Value::OutName),
                    _ => None,
                },
            ),
            "ct" => self.field(
                number(NFTA_CT_DREG),
                number(NFTA_CT_SREG),
                match number(NFTA_CT_KEY) {
                    Some(NFT_CT_MARK) => Some(whole_mark(Of::Connection)),
                    _ => None,
                },
            ),
            "bitwise" => {
                let bits = |kind| attribute(data, kind).and_then(|data| native32(attribute(data, NFTA_DATA_VALUE)?));
                let from = number(NFTA_BITWISE_SREG).and_then(|register| self.values.get(&register).copied());
                let value = match (from, bits(NFTA_BITWISE_MASK), bits(NFTA_BITWISE_XOR), number(NFTA_BITWISE_OP)) {
                    (Some(Value::Mark { of, mask, xor }), Some(and), Some(flip), None | Some(NFT_BITWISE_MASK_XOR)) => {
                        Some(Value::Mark { of, mask: mask & and, xor: xor & and ^ flip })
                    }
                    _ => None,
                };
                self.set(number(NFTA_BITWISE_DREG), value);
            }
            "payload" => {
                let at = (number(NFTA_PAYLOAD_BASE), number(NFTA_PAYLOAD_OFFSET));
                let value = match at {
                    (Some(NFT_PAYLOAD_NETWORK_HEADER), Some(12)) => Some(Value::Source),
                    (Some(NFT_PAYLOAD_NETWORK_HEADER), Some(16)) => Some(Value::Destination),
                    _ => None,
                };
                self.set(number(NFTA_PAYLOAD_DREG), value);
            }
            "cmp" => {
                let equal = match number(NFTA_CMP_OP) {
                    Some(NFT_CMP_EQ) => Some(true),
                    Some(NFT_CMP_NEQ) => Some(false),
                    _ => None,
                };
                let with = attribute(data, NFTA_CMP_DATA).and_then(|data| attribute(data, NFTA_DATA_VALUE));
                self.compare(number(NFTA_CMP_SREG), equal.zip(with));
            }
            "range" => self.compare(number(NFTA_RANGE_SREG), None),
            "lookup" => self.compare(number(NFTA_LOOKUP_SREG), None),
            "immediate" => self.set(number(NFTA_IMMEDIATE_DREG), None),
            "masq" => self.translates = true,
            "nat" => self.translates |= number(NFTA_NAT_TYPE) == Some(NFT_NAT_SNAT),
            _ => {}
        }
    }

    /// A field of the packet or the connection is loaded into a register, or stored from one.
    fn field(&mut self, into: Option<u32>, from: Option<u32>, value: Option<Value>) {
        if into.is_some() {
            self.set(into, value);
        } else if let (Some(from), Some(Value::Mark { of: stored, .. })) = (from, value) {
            self.mark_bits |= match self.values.get(&from) {
                // It is changed: what is masked away or flipped.
                Some(Value::Mark { of, mask, xor }) if *of == stored => !mask | xor,
                _ => u32::MAX,
            };
        }
    }

    fn set(&mut self, register: Option<u32>, value: Option<Value>) {
        if let Some(register) = register {
            match value {
                Some(value) => drop(self.values.insert(register, value)),
                None => drop(self.values.remove(&register)),
            }
        }
    }

    /// A register is compared; `with` is what it has to be equal (true) or not equal to, if it is that simple.
    fn compare(&mut self, register: Option<u32>, with: Option<(bool, &[u8])>) {
        match (register.and_then(|register| self.values.get(&register)), with) {
            (Some(Value::Mark { mask, .. }), _) => self.mark_bits |= mask,
            (Some(Value::OutName), Some((equal, name))) => {
                // A whole name is padded; without an end it is what comes before `*`.
                let end = name.iter().position(|c| *c == 0);
                self.leaving.by = String::from_utf8_lossy(&name[..end.unwrap_or(name.len())]).into_owned();
                self.leaving.whole = end.is_some();
                self.leaving.not = !equal;
            }
            // Of a prefix of whole bytes only these are loaded.
            (Some(Value::Source), Some((true, net))) if net.len() <= 4 => {
                let mut addr = [0; 4];
                addr[..net.len()].copy_from_slice(net);
                // At most 32 bits.
                let length = u8::try_from(net.len() * 8).unwrap_or(32);
                self.leaving.from = Ipv4Net::new(addr.into(), length).ok();
            }
            (Some(Value::Destination), with) => self.to_some |= with.is_none_or(|(equal, _)| equal),
            _ => {}
        }
    }
}

fn whole_mark(of: Of) -> Value {
    Value::Mark { of, mask: u32::MAX, xor: 0 }
}

fn be32(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

fn native32(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}
