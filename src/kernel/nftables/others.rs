//! What other people's rules of `nf_tables` do to marks and to the source of what leaves, read over
//! netlink: who writes them with nft(8) has no iptables-save(8) to show them.
//!
//! A rule is a list of expressions that load a field into a register, change or compare it, and store
//! it (`nf_tables.h`). `meta mark set mark and 0xff or 0x1` is: meta loads, bitwise keeps the bits of a
//! mask and flips those of another, meta stores. What is not understood counts as all bits, or as any
//! interface.

use std::collections::HashMap;
use std::ops::ControlFlow;

use netlink_packet_core::NlasIterator;

use super::{
    Message, NFPROTO_INET, NFPROTO_IPV4, NFT_MSG_GETRULE, NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_LIST_ELEM,
    NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS, NFTA_RULE_TABLE,
};
use crate::kernel::netfilter::payload;
use crate::kernel::nla::{attribute, string};
use crate::kernel::socket::Socket;
use crate::kernel::{Error, read};

const NFTA_RULE_HANDLE: u16 = 3;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_META_SREG: u16 = 3;
const NFT_META_MARK: u32 = 3;
const NFT_META_OIF: u32 = 5;
const NFT_META_OIFNAME: u32 = 7;
const NFTA_CT_DREG: u16 = 1;
const NFTA_CT_KEY: u16 = 2;
const NFTA_CT_SREG: u16 = 4;
const NFT_CT_MARK: u32 = 3;
const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;
const NFTA_BITWISE_OP: u16 = 6;
/// Of comparisons, ranges and lookups in sets alike.
const NFTA_CMP_SREG: u16 = 1;
const NFTA_LOOKUP_SREG: u16 = 2;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_NAT_TYPE: u16 = 1;

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

/// Interfaces by which packets leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaving {
    /// Any, as far as is understood.
    Any,
    /// The one of that name.
    By(String),
    /// All whose names begin so.
    ByPrefix(String),
}

/// Rules of all tables that are about marks or sources; `None`: only root may look.
pub fn rules() -> Result<Option<Vec<OtherRule>>, Error> {
    const EPERM: i32 = 1;
    let mut socket = Socket::open_netfilter().map_err(Error::Open)?;
    let each = |all: &mut Vec<OtherRule>, body: &[u8]| {
        all.extend(rule(body));
        Ok(ControlFlow::Continue(()))
    };
    let all = Message { family: 0, ..Message::new(Vec::new()) };
    match socket.dump(NFT_MSG_GETRULE, &all, Vec::new, each) {
        Err(e) if e.refused() == Some(EPERM) => Ok(None),
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
    let translates = registers.translates.then(|| registers.leaving.unwrap_or(Leaving::Any));
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
    OutIndex,
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
    leaving: Option<Leaving>,
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
                    Some(NFT_META_OIF) => Some(Value::OutIndex),
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
                    (Some(Value::Mark { of, mask, xor }), Some(and), Some(flip), None | Some(0)) => {
                        Some(Value::Mark { of, mask: mask & and, xor: xor & and ^ flip })
                    }
                    _ => None,
                };
                self.set(number(NFTA_BITWISE_DREG), value);
            }
            "cmp" => {
                let equal = number(NFTA_CMP_OP) == Some(0);
                let name = attribute(data, NFTA_CMP_DATA).and_then(|data| attribute(data, NFTA_DATA_VALUE));
                self.compare(number(NFTA_CMP_SREG), name.filter(|_| equal));
            }
            "range" => self.compare(number(NFTA_CMP_SREG), None),
            "lookup" => self.compare(number(NFTA_LOOKUP_SREG), None),
            "immediate" => self.set(number(NFTA_IMMEDIATE_DREG), None),
            "masq" => self.translates = true,
            "nat" => self.translates |= number(NFTA_NAT_TYPE) == Some(0),
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

    /// A register is compared; `with` is what it has to be equal to, if it is that simple.
    fn compare(&mut self, register: Option<u32>, with: Option<&[u8]>) {
        match register.and_then(|register| self.values.get(&register)) {
            Some(Value::Mark { mask, .. }) => self.mark_bits |= mask,
            Some(Value::OutName) => {
                let name = with.map(|name| match name.iter().position(|c| *c == 0) {
                    Some(end) => Leaving::By(String::from_utf8_lossy(&name[..end]).into_owned()),
                    // A whole name is padded; without an end it is what comes before `*`.
                    None => Leaving::ByPrefix(String::from_utf8_lossy(name).into_owned()),
                });
                self.leaving = Some(name.unwrap_or(Leaving::Any));
            }
            Some(Value::OutIndex) => self.leaving = Some(Leaving::Any),
            None => {}
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
