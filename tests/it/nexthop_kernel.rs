//! Nexthop messages against the kernel itself, in a network namespace of the test's own; `ip`
//! says what came of them.

use std::net::Ipv4Addr;
use std::ops::ControlFlow;
use std::process::Command;

use multihome::kernel::netlink::nexthop::{NexthopAttribute, NexthopMessage};
use multihome::kernel::netlink::socket::{Error, Socket};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Parseable};
use nix::sched::{CloneFlags, unshare};

const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const RTM_GETNEXTHOP: u16 = 106;

const EXCL: u16 = NLM_F_CREATE | NLM_F_EXCL;
const REPLACE: u16 = NLM_F_CREATE | NLM_F_REPLACE;
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

/// The error number, which has to be there: an error of another kind is none of the kernel's.
fn refused(error: &Error) -> i32 {
    error.refused().unwrap_or_else(|| panic!("{error}"))
}

impl Kernel {
    fn new_object(&mut self, flags: u16, object: &NexthopMessage) -> Result<(), i32> {
        self.0.change(RTM_NEWNEXTHOP, flags, object).map_err(|e| refused(&e))
    }

    fn delete(&mut self, id: u32) -> Result<(), i32> {
        self.0.change(RTM_DELNEXTHOP, 0, &NexthopMessage::delete(id)).map_err(|e| refused(&e))
    }

    fn dump(&mut self, request: &NexthopMessage) -> Result<Vec<NexthopMessage>, i32> {
        let each = |all: &mut Vec<_>, body: &[u8]| {
            all.push(NexthopMessage::parse(body).unwrap());
            Ok(ControlFlow::Continue(()))
        };
        self.0.dump(RTM_GETNEXTHOP, request, Vec::new, each).map_err(|e| refused(&e))
    }
}

#[test]
fn objects_and_groups_live_as_documented() {
    unshare(CloneFlags::CLONE_NEWNET).expect("run as root, or under `unshare -rn`");
    ip("link add ppp0 index 10 type veth peer name peer0");
    ip("link add ppp1 index 20 type veth peer name peer1");
    let mut kernel = Kernel(Socket::open().unwrap());
    let gateway = Some(Ipv4Addr::new(10, 0, 0, 2));
    let device = |id, oif, onlink| NexthopMessage::device(id, 77, oif, gateway, onlink);

    assert_eq!(kernel.new_object(EXCL, &device(7001, 10, false)), Err(ENETDOWN));
    for name in ["lo", "ppp0", "ppp1", "peer0"] {
        ip(&format!("link set {name} up"));
    }
    // ppp1 is up, without carrier.
    assert_eq!(kernel.new_object(EXCL, &device(7002, 20, true)), Err(ENETDOWN));
    ip("link set peer1 up");
    ip("address add 10.0.0.1/24 dev ppp0");
    assert_eq!(kernel.new_object(EXCL, &device(7001, 99, false)), Err(EINVAL));
    assert_eq!(kernel.new_object(EXCL, &device(7002, 20, false)), Err(ENETUNREACH));
    kernel.new_object(EXCL, &device(7001, 10, false)).unwrap();
    kernel.new_object(EXCL, &device(7002, 20, true)).unwrap();
    assert_eq!(kernel.new_object(EXCL, &NexthopMessage::group(7100, 77, &[(9, 1)])), Err(EINVAL));
    kernel.new_object(EXCL, &NexthopMessage::group(7100, 77, &[(7001, 1), (7002, 2)])).unwrap();
    // Of another protocol: the group keeps the first.
    kernel.new_object(REPLACE, &NexthopMessage::group(7100, 78, &[(7001, 256), (7002, 1)])).unwrap();
    let objects = [
        "id 7001 via 10.0.0.2 dev ppp0 scope 253 proto 77",
        "id 7002 via 10.0.0.2 dev ppp1 scope 253 proto 77 onlink",
        "id 7100 group 7001,256/7002 proto 77",
    ];
    assert_eq!(shown(), objects);

    let dump = kernel.dump(&NexthopMessage::dump()).unwrap();
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
    request.header.family = 2;
    assert_eq!(kernel.dump(&request).unwrap(), dump[..2]);
    request.header.protocol = 77;
    assert_eq!(kernel.dump(&request), Err(EINVAL));

    ip("address del 10.0.0.1/24 dev ppp0");
    assert_eq!(shown(), objects);
    ip("link set ppp0 down");
    assert_eq!(shown(), ["id 7002 via 10.0.0.2 dev ppp1 scope 253 proto 77 onlink", "id 7100 group 7002 proto 77"]);
    kernel.delete(7002).unwrap();
    assert_eq!(kernel.delete(7002), Err(ENOENT));
    assert_eq!(shown(), [""; 0]);
    kernel.new_object(EXCL, &NexthopMessage::device(7003, 77, 20, None, true)).unwrap();
    let attributes = vec![NexthopAttribute::Id(7003), NexthopAttribute::Oif(20)];
    assert_eq!(kernel.dump(&NexthopMessage::dump()).unwrap()[0].attributes, attributes);
}
