//! Nexthop messages against the kernel itself, in a network namespace of the test's own; `ip`
//! says what came of them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::Ipv4Addr;
use std::process::Command;

use multihome::kernel::nexthop::{NexthopAttribute, NexthopMessage, NexthopPayload};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::AddressFamily;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sched::{CloneFlags, unshare};

const EXCL: u16 = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
const REPLACE: u16 = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
const ENOENT: i32 = 2;
const EINVAL: i32 = 22;
const ENETDOWN: i32 = 100;
const ENETUNREACH: i32 = 101;

fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split(' ')).output().expect("ip(8) is installed");
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The objects as ip(8) sees them, numeric, since names of protocols differ between machines.
fn shown() -> Vec<String> {
    ip("-N nexthop").lines().map(|line| line.trim_end().to_owned()).collect()
}

struct Kernel(Socket);

impl Kernel {
    fn new() -> Self {
        let mut socket = Socket::new(NETLINK_ROUTE).unwrap();
        socket.bind_auto().unwrap();
        Self(socket)
    }

    /// Sends one request; the objects that came back, or the error number.
    fn request(&self, flags: u16, payload: NexthopPayload) -> Result<Vec<NexthopMessage>, i32> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let mut message = NetlinkMessage::new(header, payload.into());
        message.finalize();
        let mut buffer = vec![0; message.buffer_len()];
        message.serialize(&mut buffer);
        self.0.send_to(&buffer, &SocketAddr::new(0, 0), 0).unwrap();
        let mut objects = vec![];
        loop {
            let (datagram, _) = self.0.recv_from_full().unwrap();
            let mut rest = &datagram[..];
            while !rest.is_empty() {
                let answer = NetlinkMessage::deserialize(rest).unwrap();
                rest = &rest[answer.header.length as usize..];
                match answer.payload {
                    NetlinkPayload::InnerMessage(NexthopPayload::New(object)) => objects.push(object),
                    // A dump says here that it failed.
                    NetlinkPayload::Done(done) if done.code != 0 => return Err(-done.code),
                    NetlinkPayload::Done(_) => return Ok(objects),
                    NetlinkPayload::Error(error) => return error.code.map_or(Ok(objects), |code| Err(-code.get())),
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn new_object(&self, flags: u16, object: NexthopMessage) -> Result<(), i32> {
        self.request(flags, NexthopPayload::New(object)).map(drop)
    }

    fn delete(&self, id: u32) -> Result<(), i32> {
        self.request(NLM_F_ACK, NexthopPayload::Del(NexthopMessage::delete(id))).map(drop)
    }

    fn dump(&self, request: NexthopMessage) -> Result<Vec<NexthopMessage>, i32> {
        self.request(NLM_F_DUMP, NexthopPayload::Get(request))
    }
}

#[test]
fn objects_and_groups_live_as_documented() {
    unshare(CloneFlags::CLONE_NEWNET).expect("run as root, or under `unshare -rn`");
    ip("link add ppp0 index 10 type veth peer name peer0");
    ip("link add ppp1 index 20 type veth peer name peer1");
    let kernel = Kernel::new();
    let gateway = Some(Ipv4Addr::new(10, 0, 0, 2));
    let device = |id, oif, onlink| NexthopMessage::device(id, 77, oif, gateway, onlink);

    assert_eq!(kernel.new_object(EXCL, device(7001, 10, false)), Err(ENETDOWN));
    for name in ["lo", "ppp0", "ppp1", "peer0"] {
        ip(&format!("link set {name} up"));
    }
    // ppp1 is up, without carrier.
    assert_eq!(kernel.new_object(EXCL, device(7002, 20, true)), Err(ENETDOWN));
    ip("link set peer1 up");
    ip("address add 10.0.0.1/24 dev ppp0");
    assert_eq!(kernel.new_object(EXCL, device(7001, 99, false)), Err(EINVAL));
    assert_eq!(kernel.new_object(EXCL, device(7002, 20, false)), Err(ENETUNREACH));
    kernel.new_object(EXCL, device(7001, 10, false)).unwrap();
    kernel.new_object(EXCL, device(7002, 20, true)).unwrap();
    assert_eq!(kernel.new_object(EXCL, NexthopMessage::group(7100, 77, &[(9, 1)])), Err(EINVAL));
    kernel.new_object(EXCL, NexthopMessage::group(7100, 77, &[(7001, 1), (7002, 2)])).unwrap();
    // Of another protocol: the group keeps the first.
    kernel.new_object(REPLACE, NexthopMessage::group(7100, 78, &[(7001, 256), (7002, 1)])).unwrap();
    let objects = [
        "id 7001 via 10.0.0.2 dev ppp0 scope 253 proto 77",
        "id 7002 via 10.0.0.2 dev ppp1 scope 253 proto 77 onlink",
        "id 7100 group 7001,256/7002 proto 77",
    ];
    assert_eq!(shown(), objects);

    let dump = kernel.dump(NexthopMessage::dump()).unwrap();
    let sent =
        [device(7001, 10, false), device(7002, 20, true), NexthopMessage::group(7100, 77, &[(7001, 256), (7002, 1)])];
    assert_eq!(dump.len(), sent.len());
    for (dumped, sent) in dump.iter().zip(&sent) {
        let (is, was) = (&dumped.header, &sent.header);
        assert_eq!((is.family, is.protocol, is.flags), (was.family, was.protocol, was.flags));
        assert!(sent.attributes.iter().all(|attribute| dumped.attributes.contains(attribute)), "{dumped:?}");
    }

    // Any family leaves out the groups; a protocol is not a filter.
    let mut request = NexthopMessage::dump();
    request.header.family = AddressFamily::Inet;
    assert_eq!(kernel.dump(request.clone()).unwrap(), dump[..2]);
    request.header.protocol = 77.into();
    assert_eq!(kernel.dump(request), Err(EINVAL));

    ip("address del 10.0.0.1/24 dev ppp0");
    assert_eq!(shown(), objects);
    ip("link set ppp0 down");
    assert_eq!(shown(), ["id 7002 via 10.0.0.2 dev ppp1 scope 253 proto 77 onlink", "id 7100 group 7002 proto 77"]);
    kernel.delete(7002).unwrap();
    assert_eq!(kernel.delete(7002), Err(ENOENT));
    assert_eq!(shown(), [""; 0]);
    kernel.new_object(EXCL, NexthopMessage::device(7003, 77, 20, None, true)).unwrap();
    let attributes = vec![NexthopAttribute::Id(7003), NexthopAttribute::Oif(20)];
    assert_eq!(kernel.dump(NexthopMessage::dump()).unwrap()[0].attributes, attributes);
}
