//! Rules of `nf_tables` as nft(8) makes them, put into the kernel without nft(8): the recorded
//! expressions of `nft-rules.txt` in a chain of a table of ours.

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NFT_MSG_NEWTABLE: u16 = NFNL_SUBSYS_NFTABLES << 8;
const NFT_MSG_DELTABLE: u16 = NFNL_SUBSYS_NFTABLES << 8 | 2;
const NFT_MSG_NEWCHAIN: u16 = NFNL_SUBSYS_NFTABLES << 8 | 3;
const NFT_MSG_NEWRULE: u16 = NFNL_SUBSYS_NFTABLES << 8 | 6;
const NFPROTO_INET: u8 = 1;

fn nla(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap();
    let mut all = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    all.resize(all.len().next_multiple_of(4), 0);
    all
}

fn message(kind: u16, flags: u16, family: u8, resource: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
    let body = [&[family, 0][..], &resource.to_be_bytes(), &attributes.concat()].concat();
    let length = u32::try_from(16 + body.len()).unwrap();
    [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &(flags | 1).to_ne_bytes(), &[0; 8], &body].concat()
}

/// Sends a transaction; its last change has to be acknowledged.
fn commit(changes: Vec<Vec<u8>>) {
    const NLM_F_ACK: u8 = 4;
    let mut socket = Socket::new(NETLINK_NETFILTER).unwrap();
    socket.bind_auto().unwrap();
    socket.connect(&SocketAddr::new(0, 0)).unwrap();
    let mut batch = message(NFNL_MSG_BATCH_BEGIN, 0, 0, NFNL_SUBSYS_NFTABLES, &[]);
    let mut changes = changes;
    changes.last_mut().unwrap()[6] |= NLM_F_ACK;
    batch.extend(changes.concat());
    batch.extend(message(NFNL_MSG_BATCH_END, 0, 0, NFNL_SUBSYS_NFTABLES, &[]));
    socket.send(&batch, 0).unwrap();
    let (answer, _) = socket.recv_from_full().unwrap();
    assert_eq!(answer[4..6], 2u16.to_ne_bytes(), "no NLMSG_ERROR");
    assert_eq!(i32::from_ne_bytes(answer[16..20].try_into().unwrap()), 0, "refused");
}

/// The recorded expressions of a rule.
fn expressions(rule: &str) -> Vec<u8> {
    let text = include_str!("nft-rules.txt");
    let mut lines = text.lines().skip_while(|line| *line != rule).skip(1);
    let hex: String = lines.by_ref().take_while(|line| line.starts_with("    ")).map(str::trim).collect();
    assert!(!hex.is_empty(), "no such rule: {rule}");
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// A table `inet t` with one chain and this rule in it: of type `nat` at postrouting, or `filter` at output.
pub fn add_rule(chain_type: &str, rule: &str) {
    const NLM_F_CREATE: u16 = 0x400;
    const NLM_F_APPEND: u16 = 0x800;
    let (hook, priority) = if chain_type == "nat" { (4u32, 100i32) } else { (3, -150) };
    let place = [nla(1, &hook.to_be_bytes()), nla(2, &priority.to_be_bytes())].concat();
    let kind = nla(7, &[chain_type.as_bytes(), &[0]].concat());
    let new = |kind, more, attributes: &[Vec<u8>]| message(kind, NLM_F_CREATE | more, NFPROTO_INET, 0, attributes);
    commit(vec![
        new(NFT_MSG_NEWTABLE, 0, &[nla(1, b"t\0")]),
        new(NFT_MSG_NEWCHAIN, 0, &[nla(1, b"t\0"), nla(3, b"c\0"), nla(4 | 0x8000, &place), kind]),
        new(NFT_MSG_NEWRULE, NLM_F_APPEND, &[nla(1, b"t\0"), nla(2, b"c\0"), nla(4 | 0x8000, &expressions(rule))]),
    ]);
}

/// Takes the table away.
pub fn delete_table() {
    commit(vec![message(NFT_MSG_DELTABLE, 0, NFPROTO_INET, 0, &[nla(1, b"t\0")])]);
}
