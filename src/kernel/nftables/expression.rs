//! Conditions and statements of rules as expressions of `nf_tables`: small instructions that load a register, compare it,
//! change it, or end the rule. They are the ones that nft(8) makes of the same text.

use ipnet::IpNet;
use netlink_packet_core::DefaultNla;

use crate::kernel::netlink::constants::{
    IPS_DST_NAT, NF_CT_STATE_RELATED, NFT_BITWISE_BOOL, NFT_CMP_EQ, NFT_CMP_NEQ, NFT_CT_DIRECTION, NFT_CT_MARK,
    NFT_CT_STATE, NFT_CT_STATUS, NFT_GOTO, NFT_META_IIFGROUP, NFT_META_IIFNAME, NFT_META_L4PROTO, NFT_META_MARK,
    NFT_META_NFPROTO, NFT_META_OIFGROUP, NFT_META_OIFNAME, NFT_PAYLOAD_NETWORK_HEADER, NFT_RETURN, NFTA_BITWISE_DREG,
    NFTA_BITWISE_LEN, NFTA_BITWISE_MASK, NFTA_BITWISE_OP, NFTA_BITWISE_SREG, NFTA_BITWISE_XOR, NFTA_CMP_DATA,
    NFTA_CMP_OP, NFTA_CMP_SREG, NFTA_CT_DREG, NFTA_CT_KEY, NFTA_CT_SREG, NFTA_DATA_VALUE, NFTA_DATA_VERDICT,
    NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_IMMEDIATE_DATA, NFTA_IMMEDIATE_DREG, NFTA_LIST_ELEM, NFTA_LOOKUP_SET,
    NFTA_LOOKUP_SET_ID, NFTA_LOOKUP_SREG, NFTA_META_DREG, NFTA_META_KEY, NFTA_META_SREG, NFTA_PAYLOAD_BASE,
    NFTA_PAYLOAD_DREG, NFTA_PAYLOAD_LEN, NFTA_PAYLOAD_OFFSET, NFTA_VERDICT_CHAIN, NFTA_VERDICT_CODE,
};
use crate::kernel::netlink::netfilter::{number, protocol};
use crate::kernel::netlink::nla::{nested, text};
use crate::kernel::nftables::set::octets;
use crate::model::firewall::nft::{Rule, Statement};
use crate::model::firewall::set::{AddressSet, End};
use crate::model::firewall::{LinkMatch, Match};
use crate::model::names::Family;

/// The register of verdicts, and the one that all values go through.
const VERDICT: u32 = 0;
const REGISTER: u32 = 1;
/// Offsets in the header of IPv4.
const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;
/// The same of IPv6.
const SOURCE6: u32 = 8;
const DESTINATION6: u32 = 24;
/// Size of an interface's name (`IFNAMSIZ`).
const NAME_SIZE: usize = 16;
/// `IP_CT_DIR_REPLY`.
const REPLY: u8 = 1;
/// `IP_CT_DIR_ORIGINAL`.
const ORIGINAL: u8 = 0;

/// The expressions of a rule.
pub(super) fn expressions(rule: &Rule) -> Vec<DefaultNla> {
    let mut all = Expressions::default();
    for condition in &rule.conditions {
        all.condition(condition);
    }
    all.statement(&rule.statement);
    all.made
}

#[derive(Default)]
struct Expressions {
    made: Vec<DefaultNla>,
    /// The family that a condition has compared the packet's with.
    asked_family: Option<Family>,
}

impl Expressions {
    fn condition(&mut self, condition: &Match) {
        match condition {
            Match::Family(family) => self.family(*family),
            Match::InSet(end, set) => self.in_set(*end, set),
            Match::From(LinkMatch::Group(group)) => {
                self.meta(NFT_META_IIFGROUP, &group.to_ne_bytes());
            }
            Match::To(LinkMatch::Group(group)) => self.meta(NFT_META_OIFGROUP, &group.to_ne_bytes()),
            Match::From(LinkMatch::Name(name)) => self.meta(NFT_META_IIFNAME, &padded(name.as_str())),
            Match::To(LinkMatch::Name(name)) => self.meta(NFT_META_OIFNAME, &padded(name.as_str())),
            Match::Source(net) => self.address(End::Source, *net),
            Match::Destination(net) => self.address(End::Destination, *net),
            Match::Marked(value, mask) => self.marked(*mask, NFT_CMP_EQ, *value),
            Match::NotMarked(value, mask) => self.marked(*mask, NFT_CMP_NEQ, *value),
            Match::Reply => self.direction(REPLY),
            Match::Original => self.direction(ORIGINAL),
            Match::Bears(bits) => {
                self.load_meta(NFT_META_MARK);
                self.mask(*bits, 0);
                self.compare(NFT_CMP_EQ, &bits.to_ne_bytes());
            }
            Match::Forwarded => self.flag(NFT_CT_STATUS, IPS_DST_NAT, NFT_CMP_NEQ),
            Match::NotForwarded => self.flag(NFT_CT_STATUS, IPS_DST_NAT, NFT_CMP_EQ),
            Match::IcmpError(family) => {
                self.meta(NFT_META_L4PROTO, &[family.icmp()]);
                self.flag(NFT_CT_STATE, NF_CT_STATE_RELATED, NFT_CMP_NEQ);
            }
        }
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Return => self.verdict(NFT_RETURN, None),
            Statement::Goto(chain) => self.verdict(NFT_GOTO, Some(&chain.nft())),
            Statement::Mark { value, mask } => {
                self.load_meta(NFT_META_MARK);
                self.mask(!mask, *value);
                self.add("meta", &[number(NFTA_META_KEY, NFT_META_MARK), number(NFTA_META_SREG, REGISTER)]);
            }
            Statement::MarkConnection { value, mask } => {
                self.load_ct(NFT_CT_MARK);
                self.mask(!mask, *value);
                self.add("ct", &[number(NFTA_CT_KEY, NFT_CT_MARK), number(NFTA_CT_SREG, REGISTER)]);
            }
            Statement::Masquerade => self.add("masq", &[]),
            // From 0.
            Statement::Count => self.add("counter", &[]),
        }
    }

    fn add(&mut self, name: &str, attributes: &[DefaultNla]) {
        self.made.push(nested(NFTA_LIST_ELEM, &[text(NFTA_EXPR_NAME, name), nested(NFTA_EXPR_DATA, attributes)]));
    }

    /// The packet's protocol of layer 3.
    fn family(&mut self, family: Family) {
        self.asked_family = Some(family);
        self.meta(NFT_META_NFPROTO, &[protocol(family)]);
    }

    /// A property of the packet is this value.
    fn meta(&mut self, key: u32, value: &[u8]) {
        self.load_meta(key);
        self.compare(NFT_CMP_EQ, value);
    }

    fn load_meta(&mut self, key: u32) {
        self.add("meta", &[number(NFTA_META_KEY, key), number(NFTA_META_DREG, REGISTER)]);
    }

    fn load_ct(&mut self, key: u32) {
        self.add("ct", &[number(NFTA_CT_KEY, key), number(NFTA_CT_DREG, REGISTER)]);
    }

    fn direction(&mut self, direction: u8) {
        self.load_ct(NFT_CT_DIRECTION);
        self.compare(NFT_CMP_EQ, &[direction]);
    }

    /// The connection mark compares so with this value, under the mask.
    fn marked(&mut self, mask: u32, operator: u32, value: u32) {
        self.load_ct(NFT_CT_MARK);
        self.mask(mask, 0);
        self.compare(operator, &value.to_ne_bytes());
    }

    /// A flag of the connection compares so with 0.
    fn flag(&mut self, key: u32, flag: u32, operator: u32) {
        self.load_ct(key);
        self.bitwise(None, &flag.to_ne_bytes(), &[0; 4]);
        self.compare(operator, &[0; 4]);
    }

    /// Keeps the bits of the mask in the register, and sets those of `value`.
    fn mask(&mut self, mask: u32, value: u32) {
        self.bitwise(Some(NFT_BITWISE_BOOL), &mask.to_ne_bytes(), &value.to_ne_bytes());
    }

    /// The register becomes (register & mask) ^ xor. nft(8) names the operation, which is the default, for an `&` that
    /// somebody wrote.
    fn bitwise(&mut self, operation: Option<u32>, mask: &[u8], xor: &[u8]) {
        let mut attributes = vec![number(NFTA_BITWISE_SREG, REGISTER), number(NFTA_BITWISE_DREG, REGISTER)];
        attributes.extend(operation.map(|operation| number(NFTA_BITWISE_OP, operation)));
        // At most 16.
        attributes.push(number(NFTA_BITWISE_LEN, u32::try_from(mask.len()).unwrap_or_default()));
        attributes.extend([data(NFTA_BITWISE_MASK, mask), data(NFTA_BITWISE_XOR, xor)]);
        self.add("bitwise", &attributes);
    }

    fn compare(&mut self, operator: u32, value: &[u8]) {
        self.add("cmp", &[number(NFTA_CMP_SREG, REGISTER), number(NFTA_CMP_OP, operator), data(NFTA_CMP_DATA, value)]);
    }

    /// An address of the packet is in the network. Whole bytes of a prefix need no mask.
    fn address(&mut self, end: End, net: IpNet) {
        let family = Family::of(net.addr());
        let (address, mask) = (octets(net.network()), octets(net.netmask()));
        let bits = usize::from(net.prefix_len());
        let is_whole = bits.is_multiple_of(8) && bits > 0;
        let length = if is_whole { bits / 8 } else { address.len() };
        self.load_address(family, end, length);
        if !is_whole {
            self.bitwise(None, &mask, &vec![0; mask.len()]);
        }
        self.compare(NFT_CMP_EQ, &address[..length]);
    }

    /// The address at one end of the packet is in the set.
    fn in_set(&mut self, end: End, set: &AddressSet) {
        self.load_address(set.family, end, if set.family == Family::V4 { 4 } else { 16 });
        self.add(
            "lookup",
            &[number(NFTA_LOOKUP_SREG, REGISTER), text(NFTA_LOOKUP_SET, &set.name), number(NFTA_LOOKUP_SET_ID, set.id)],
        );
    }

    /// Loads the first bytes of an address of the packet. The family that the last condition asked for is not asked for
    /// again.
    fn load_address(&mut self, family: Family, end: End, length: usize) {
        if self.asked_family != Some(family) {
            self.family(family);
        }
        let offset = match (family, end) {
            (Family::V4, End::Source) => SOURCE,
            (Family::V4, End::Destination) => DESTINATION,
            (Family::V6, End::Source) => SOURCE6,
            (Family::V6, End::Destination) => DESTINATION6,
        };
        // At most 16.
        self.load_header(offset, u32::try_from(length).unwrap_or_default());
    }

    /// Loads bytes of the header of layer 3.
    fn load_header(&mut self, offset: u32, length: u32) {
        self.add(
            "payload",
            &[
                number(NFTA_PAYLOAD_DREG, REGISTER),
                number(NFTA_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER),
                number(NFTA_PAYLOAD_OFFSET, offset),
                number(NFTA_PAYLOAD_LEN, length),
            ],
        );
    }

    fn verdict(&mut self, code: i32, chain: Option<&str>) {
        let code = DefaultNla::new(NFTA_VERDICT_CODE, code.to_be_bytes().to_vec());
        let verdict: Vec<_> = [code].into_iter().chain(chain.map(|chain| text(NFTA_VERDICT_CHAIN, chain))).collect();
        self.add(
            "immediate",
            &[
                number(NFTA_IMMEDIATE_DREG, VERDICT),
                nested(NFTA_IMMEDIATE_DATA, &[nested(NFTA_DATA_VERDICT, &verdict)]),
            ],
        );
    }
}

fn data(kind: u16, value: &[u8]) -> DefaultNla {
    nested(kind, &[DefaultNla::new(NFTA_DATA_VALUE, value.to_vec())])
}

/// A name as the kernel compares it, with NULs behind it.
fn padded(name: &str) -> [u8; NAME_SIZE] {
    let mut bytes = [0; NAME_SIZE];
    // A name has at most 15 bytes.
    for (byte, of_name) in bytes.iter_mut().zip(name.bytes()) {
        *byte = of_name;
    }
    bytes
}
