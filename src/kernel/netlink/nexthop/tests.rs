//! Bodies of messages as iproute2 6.1 sends them and Linux 6.18 answers (strace of `ip nexthop`, x86-64), both ways.

#![allow(clippy::unwrap_used)]
#![cfg(target_endian = "little")]

use proptest::prelude::*;

use super::*;
use crate::kernel::netlink::constants::NHA_OP_FLAG_RESP_GRP_RESVD_0;

const RTNH_F_LINKDOWN: u32 = 16;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// `message` is `hex` on the wire, and `hex` is `message`.
fn both_ways(message: &NexthopMessage, hex: &str) {
    let mut buffer = vec![0xaa; message.buffer_len()];
    message.emit(&mut buffer);
    assert_eq!(buffer, bytes(hex), "{message:?}");
    assert_eq!(NexthopMessage::parse(&buffer).unwrap(), *message);
}

fn device(id: u32, oif: u32, gateway: Option<&str>, onlink: bool) -> NexthopMessage {
    NexthopMessage::device(id, 77, oif, gateway.map(|g| g.parse().unwrap()), onlink)
}

#[test]
fn a_device_is_sent_as_iproute2_sends_it() {
    // ip nexthop add id 7001 via 10.0.0.2 dev ppp0 proto 77
    both_ways(
        &device(7001, 3, Some("10.0.0.2"), false),
        "02004d0000000000 08000100591b0000 080006000a000002 0800050003000000",
    );
    // ip nexthop add id 7002 via 10.9.9.9 dev ppp0 onlink proto 77
    both_ways(
        &device(7002, 3, Some("10.9.9.9"), true),
        "02004d0004000000 080001005a1b0000 080006000a090909 0800050003000000",
    );
    // ip nexthop add id 7003 dev ppp1 proto 77
    let bare = "02004d0000000000 080001005b1b0000 0800050005000000";
    both_ways(&device(7003, 5, None, false), bare);
    both_ways(&device(7003, 5, None, true), bare);
}

#[test]
fn a_group_is_sent_as_iproute2_sends_it() {
    // ip nexthop replace id 7100 group 7001,8/7002,2 proto 77
    both_ways(
        &NexthopMessage::group(7100, 77, &[(7001, 8), (7002, 2)]),
        "00004d0000000000 08000100bc1b0000
         14000200 591b000007000000 5a1b000001000000",
    );
    // ip nexthop replace id 7101 group 7001,256/7003 proto 77
    both_ways(
        &NexthopMessage::group(7101, 77, &[(7001, 256), (7003, 1)]),
        "00004d0000000000 08000100bd1b0000
         14000200 591b0000ff000000 5b1b000000000000",
    );
}

#[test]
fn deletion_and_dump_are_asked_for_as_iproute2_asks() {
    // ip nexthop del id 7001
    both_ways(&NexthopMessage::delete(7001), "0000000000000000 08000100591b0000");
    // ip nexthop
    both_ways(&NexthopMessage::dump(), "0000000000000000");
}

/// What `ip nexthop` is answered, a body each.
const DUMP: [&str; 7] = [
    "02fd4d0000000000 08000100591b0000 0800050003000000 080006000a000002",
    "02fd4d0004000000 080001005a1b0000 0800050003000000 080006000a090909",
    "02fe4d0000000000 080001005b1b0000 0800050005000000",
    "02004d0000000000 080001005c1b0000 04000400",
    "0afd4d0000000000 080001005d1b0000 0800050003000000 14000600fd000000000000000000000000000002",
    "00004d0000000000 08000100bc1b0000 0600030000000000 14000200591b0000070000005a1b000001000000 08000e0000000080",
    "00004d0000000000 08000100bd1b0000 0600030000000000 14000200591b0000ff0000005b1b000000000000 08000e0000000080",
];

#[test]
fn a_dump_is_read() {
    use NexthopAttribute::{Blackhole, Gateway, GroupType, Id, Oif, OpFlags};
    let group = |members: [(u32, u16); 2]| {
        NexthopAttribute::Group(members.map(|(id, weight)| NexthopGroupEntry { id, weight }).to_vec())
    };
    let none = 0;
    let expected = [
        (2, 253, none, vec![Id(7001), Oif(3), Gateway("10.0.0.2".parse().unwrap())]),
        (2, 253, RTNH_F_ONLINK, vec![Id(7002), Oif(3), Gateway("10.9.9.9".parse().unwrap())]),
        (2, 254, none, vec![Id(7003), Oif(5)]),
        (2, 0, none, vec![Id(7004), Blackhole]),
        (10, 253, none, vec![Id(7005), Oif(3), Gateway("fd00::2".parse().unwrap())]),
        (0, 0, none, vec![Id(7100), GroupType(0), group([(7001, 8), (7002, 2)]), OpFlags(1 << 31)]),
        (0, 0, none, vec![Id(7101), GroupType(0), group([(7001, 256), (7003, 1)]), OpFlags(1 << 31)]),
    ];
    for (hex, (family, scope, flags, attributes)) in DUMP.into_iter().zip(expected) {
        let header = NexthopHeader { family, scope, protocol: 77, flags };
        both_ways(&NexthopMessage { header, attributes }, hex);
    }
}

#[test]
fn dead_and_linkdown_are_read() {
    let message = NexthopMessage::parse(&bytes("02fd4d0011000000")).unwrap();
    assert_eq!(message.header.flags, RTNH_F_DEAD | RTNH_F_LINKDOWN);
}

#[test]
fn the_high_byte_of_a_weight_counts_only_where_the_kernel_set_it() {
    let weight = |hex: &str| match &NexthopMessage::parse(&bytes(hex)).unwrap().attributes[0] {
        NexthopAttribute::Group(entries) => entries[0].weight,
        other => panic!("{other:?}"),
    };
    assert_eq!(weight("00004d0000000000 0c000200591b000001020000 08000e0000000080"), 0x202);
    assert_eq!(weight("00004d0000000000 0c000200591b000001020000 08000e0001000000"), 2);
    assert_eq!(weight("00004d0000000000 0c000200591b0000ffffffff"), 256);
}

#[test]
fn odd_messages_are_errors() {
    for hex in [
        "",
        "02004d00000000",                                             // header cut short
        "02004d0000000000 0800",                                      // attribute header cut short
        "02004d0000000000 080001005b1b",                              // value cut short
        "02004d0000000000 03000100",                                  // shorter than its own header
        "02004d0000000000 060001005b1b0000",                          // id of two bytes
        "02004d0000000000 090006000a00000200000000",                  // gateway of five bytes
        "02004d0000000000 0800040000000000",                          // flag with a value
        "00004d0000000000 08000200591b0000",                          // half a member
        "00004d0000000000 0c000200591b0000ffff0000 08000e0000000080", // weight 65536
    ] {
        assert!(NexthopMessage::parse(&bytes(hex)).is_err(), "{hex}");
    }
}

fn attribute() -> impl Strategy<Value = NexthopAttribute> {
    let entry = (any::<u32>(), 1..=u16::MAX).prop_map(|(id, weight)| NexthopGroupEntry { id, weight });
    prop_oneof![
        any::<u32>().prop_map(NexthopAttribute::Id),
        prop::collection::vec(entry, 0..40).prop_map(NexthopAttribute::Group),
        any::<u16>().prop_map(NexthopAttribute::GroupType),
        Just(NexthopAttribute::Blackhole),
        any::<u32>().prop_map(NexthopAttribute::Oif),
        any::<IpAddr>().prop_map(NexthopAttribute::Gateway),
        (7..14_u16, prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(kind, value)| NexthopAttribute::Other(DefaultNla::new(kind, value))),
    ]
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(
        (family, scope, protocol, flags) in any::<(u8, u8, u8, u32)>(),
        mut attributes in prop::collection::vec(attribute(), 0..8),
    ) {
        // Without it, weights over 256 are not believed.
        attributes.push(NexthopAttribute::OpFlags(NHA_OP_FLAG_RESP_GRP_RESVD_0));
        let header = NexthopHeader { family, scope, protocol, flags };
        let message = NexthopMessage { header, attributes };
        let mut buffer = vec![0xaa; message.buffer_len()];
        message.emit(&mut buffer);
        prop_assert_eq!(NexthopMessage::parse(&buffer).unwrap(), message);
    }

    #[test]
    fn any_bytes_are_read_without_panic(buffer in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = NexthopMessage::parse(&buffer);
    }

    #[test]
    fn damaged_messages_are_read_without_panic(
        message in 0..DUMP.len(),
        length in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let mut buffer = bytes(DUMP[message]);
        for (at, byte) in damage {
            let at = at.index(buffer.len());
            buffer[at] = byte;
        }
        let _ = NexthopMessage::parse(&buffer);
        buffer.truncate(length.index(buffer.len()));
        let _ = NexthopMessage::parse(&buffer);
    }
}
