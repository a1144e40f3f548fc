//! Bytes as iproute2 6.1 sends them and Linux 6.18 answers (strace of `ip nexthop`, x86-64), both ways.

#![allow(clippy::unwrap_used)]
#![cfg(target_endian = "little")]

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_MULTIPART, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
};
use proptest::prelude::*;

use super::*;

const SEQUENCE: u32 = 0x6b02_bf39;
const ADD: u16 = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
const REPLACE: u16 = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// `payload` is `hex` on the wire, and `hex` is `payload`.
fn both_ways(payload: NexthopPayload, flags: u16, hex: &str) {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = SEQUENCE;
    let mut message = NetlinkMessage::new(header, payload.into());
    message.finalize();
    let mut buffer = vec![0xaa; message.buffer_len()];
    message.serialize(&mut buffer);
    assert_eq!(buffer, bytes(hex), "{message:?}");
    assert_eq!(NetlinkMessage::deserialize(&buffer).unwrap(), message);
}

fn device(id: u32, oif: u32, gateway: Option<&str>, onlink: bool) -> NexthopPayload {
    NexthopPayload::New(NexthopMessage::device(id, 77, oif, gateway.map(|g| g.parse().unwrap()), onlink))
}

#[test]
fn a_device_is_sent_as_iproute2_sends_it() {
    // ip nexthop add id 7001 via 10.0.0.2 dev ppp0 proto 77
    both_ways(
        device(7001, 3, Some("10.0.0.2"), false),
        ADD,
        "300000006800050639bf026b00000000 02004d0000000000 08000100591b0000 080006000a000002 0800050003000000",
    );
    // ip nexthop add id 7002 via 10.9.9.9 dev ppp0 onlink proto 77
    both_ways(
        device(7002, 3, Some("10.9.9.9"), true),
        ADD,
        "300000006800050639bf026b00000000 02004d0004000000 080001005a1b0000 080006000a090909 0800050003000000",
    );
    // ip nexthop add id 7003 dev ppp1 proto 77
    let bare = "280000006800050639bf026b00000000 02004d0000000000 080001005b1b0000 0800050005000000";
    both_ways(device(7003, 5, None, false), ADD, bare);
    both_ways(device(7003, 5, None, true), ADD, bare);
}

#[test]
fn a_group_is_sent_as_iproute2_sends_it() {
    // ip nexthop replace id 7100 group 7001,8/7002,2 proto 77
    both_ways(
        NexthopPayload::New(NexthopMessage::group(7100, 77, &[(7001, 8), (7002, 2)])),
        REPLACE,
        "340000006800050539bf026b00000000 00004d0000000000 08000100bc1b0000
         14000200 591b000007000000 5a1b000001000000",
    );
    // ip nexthop replace id 7101 group 7001,256/7003 proto 77
    both_ways(
        NexthopPayload::New(NexthopMessage::group(7101, 77, &[(7001, 256), (7003, 1)])),
        REPLACE,
        "340000006800050539bf026b00000000 00004d0000000000 08000100bd1b0000
         14000200 591b0000ff000000 5b1b000000000000",
    );
}

#[test]
fn deletion_and_dump_are_asked_for_as_iproute2_asks() {
    // ip nexthop del id 7001
    both_ways(
        NexthopPayload::Del(NexthopMessage::delete(7001)),
        NLM_F_REQUEST | NLM_F_ACK,
        "200000006900050039bf026b00000000 0000000000000000 08000100591b0000",
    );
    // ip nexthop
    both_ways(
        NexthopPayload::Get(NexthopMessage::dump()),
        NLM_F_REQUEST | NLM_F_DUMP,
        "180000006a00010339bf026b00000000 0000000000000000",
    );
}

/// What `ip nexthop` is answered, all in one datagram, without its closing `NLMSG_DONE`.
const DUMP: &str = "
    300000006800020039bf026b96170000 02fd4d0000000000 08000100591b0000 0800050003000000 080006000a000002
    300000006800020039bf026b96170000 02fd4d0004000000 080001005a1b0000 0800050003000000 080006000a090909
    280000006800020039bf026b96170000 02fe4d0000000000 080001005b1b0000 0800050005000000
    240000006800020039bf026b96170000 02004d0000000000 080001005c1b0000 04000400
    3c0000006800020039bf026b96170000 0afd4d0000000000 080001005d1b0000 0800050003000000
        14000600fd000000000000000000000000000002
    440000006800020039bf026b96170000 00004d0000000000 08000100bc1b0000 0600030000000000
        14000200591b0000070000005a1b000001000000 08000e0000000080
    440000006800020039bf026b96170000 00004d0000000000 08000100bd1b0000 0600030000000000
        14000200591b0000ff0000005b1b000000000000 08000e0000000080";

#[test]
fn a_dump_is_read() {
    use NexthopAttribute::{Blackhole, Gateway, GroupType, Id, Oif, OpFlags};
    let group = |members: [(u32, u16); 2]| {
        NexthopAttribute::Group(members.map(|(id, weight)| NexthopGroupEntry { id, weight }).to_vec())
    };
    let none = RouteFlags::empty();
    let expected = [
        (2, 253, none, vec![Id(7001), Oif(3), Gateway("10.0.0.2".parse().unwrap())]),
        (2, 253, RouteFlags::Onlink, vec![Id(7002), Oif(3), Gateway("10.9.9.9".parse().unwrap())]),
        (2, 254, none, vec![Id(7003), Oif(5)]),
        (2, 0, none, vec![Id(7004), Blackhole]),
        (10, 253, none, vec![Id(7005), Oif(3), Gateway("fd00::2".parse().unwrap())]),
        (0, 0, none, vec![Id(7100), GroupType(0), group([(7001, 8), (7002, 2)]), OpFlags(1 << 31)]),
        (0, 0, none, vec![Id(7101), GroupType(0), group([(7001, 256), (7003, 1)]), OpFlags(1 << 31)]),
    ];
    let dump = bytes(DUMP);
    let mut rest = &dump[..];
    for (family, scope, flags, attributes) in expected {
        let message = NetlinkMessage::<NexthopPayload>::deserialize(rest).unwrap();
        let length = message.header.length as usize;
        let header = NexthopHeader { family: family.into(), scope: scope.into(), protocol: 77.into(), flags };
        let payload = NexthopPayload::New(NexthopMessage { header, attributes });
        assert_eq!(message.payload, payload.into());
        assert_eq!(message.header.flags, NLM_F_MULTIPART);
        let mut again = vec![0xaa; length];
        message.serialize(&mut again);
        assert_eq!(again, rest[..length]);
        rest = &rest[length..];
    }
    assert!(rest.is_empty());
}

#[test]
fn netlink_proto_takes_the_messages() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let _entered = runtime.enter();
    netlink_proto::new_connection::<NexthopPayload>(netlink_sys::protocols::NETLINK_ROUTE).unwrap();
}

#[test]
fn dead_and_linkdown_are_read() {
    let message = NexthopMessage::parse(&bytes("02fd4d0011000000")).unwrap();
    assert_eq!(message.header.flags, RouteFlags::Dead | RouteFlags::Linkdown);
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
    // A message of another kind on the same socket: RTM_NEWLINK.
    assert!(NetlinkMessage::<NexthopPayload>::deserialize(&bytes("10000000100000000000000000000000")).is_err());
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
        let header = NexthopHeader {
            family: family.into(),
            scope: scope.into(),
            protocol: protocol.into(),
            flags: RouteFlags::from_bits_retain(flags),
        };
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
        length in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let mut buffer = bytes(DUMP);
        for (at, byte) in damage {
            let at = at.index(buffer.len());
            buffer[at] = byte;
        }
        let start = [0, 48, 96, 136, 172, 232, 300][length.index(7)];
        let _ = NetlinkMessage::<NexthopPayload>::deserialize(&buffer[start..]);
        buffer.truncate(length.index(buffer.len()));
        let _ = NexthopMessage::parse(buffer.get(16..).unwrap_or_default());
    }
}
