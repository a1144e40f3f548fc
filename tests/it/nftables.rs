//! Our table of `nf_tables`: what is sent for it, what the kernel then holds, and what others do to it.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use multihome::kernel::nftables::requests;
use multihome::model::change::Change;
use multihome::model::firewall::nft::{self, Transaction};
use multihome::model::firewall::set::{AddressSet, Element};
use multihome::model::names::Family;
use multihome::reconcile::preview;
use proptest::prelude::*;

use crate::scene::{Scene, scenes};
use crate::support::internet::Namespace;
use crate::support::ok;

/// The type of a message of `nf_tables`, and its body.
type Message = (u16, Vec<u8>);

/// What nft(8) sends for these commands, which it only checks.
fn sent_by_nft(commands: &str) -> Vec<Message> {
    let mut nft = Command::new("nft");
    nft.args(["--check", "--debug=mnl", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = nft.spawn().unwrap();
    child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{commands}\n{}", String::from_utf8_lossy(&output.stderr));
    // Both are used, as the versions have it.
    let text = [output.stdout, output.stderr].concat();
    dumped(&String::from_utf8(text).unwrap())
}

/// The messages of the batch in a dump of libmnl: cells of four bytes, and of the heads of attributes.
fn dumped(text: &str) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    for line in text.lines() {
        let line = without_colours(line);
        let Some((cells, meaning)) = line.strip_prefix('|').and_then(|line| line.split_once("|\t|")) else { continue };
        let is_nested = cells.contains("N-");
        let cells: Vec<_> = cells.split(['|', ' ', '-', 'N']).filter(|cell| !cell.is_empty()).collect();
        match meaning.split('|').next().unwrap().trim() {
            "message length" => messages.push((0, Vec::new())),
            "type" => messages.last_mut().unwrap().0 = cells[0].parse().unwrap(),
            "extra header" | "data" => {
                messages.last_mut().unwrap().1.extend(cells.iter().map(|byte| u8::from_str_radix(byte, 16).unwrap()));
            }
            "len" => {
                let (length, kind): (u16, u16) = (cells[0].parse().unwrap(), cells[1].parse().unwrap());
                let head = [length.to_ne_bytes(), (kind | u16::from(is_nested) << 15).to_ne_bytes()].concat();
                messages.last_mut().unwrap().1.extend(head);
            }
            _ => {}
        }
    }
    let begin = messages.iter().rposition(|(kind, _)| *kind == 16).expect("nft sends a batch");
    messages.retain(|(kind, _)| *kind != 17);
    messages.split_off(begin + 1)
}

/// A line without the escape sequences of colours.
fn without_colours(line: &str) -> String {
    let mut parts = line.split('\x1b');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
}

/// A message whatever the version of nft(8): its attributes by their kinds, and of the user data of a set what all write.
fn plain((kind, body): &Message) -> (u16, Vec<Vec<u8>>) {
    const NEW_SET: u16 = 2569;
    const USER_DATA: u16 = 13;
    const BYTE_ORDER: usize = 4 + 6;
    let (mut attributes, mut rest) = (Vec::new(), &body[4..]);
    while !rest.is_empty() {
        let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
        let (attribute, others) = rest.split_at(length.next_multiple_of(4).min(rest.len()));
        let of_set = *kind == NEW_SET && u16::from_ne_bytes([rest[2], rest[3]]) == USER_DATA;
        attributes.push(if of_set { [&[0, 0], &attribute[2..BYTE_ORDER]].concat() } else { attribute.to_vec() });
        rest = others;
    }
    attributes.sort_by_key(|attribute| u16::from_ne_bytes([attribute[2], attribute[3]]));
    attributes.insert(0, body[..4].to_vec());
    (*kind, attributes)
}

fn ours(transaction: &Transaction) -> Vec<Message> {
    requests(transaction).into_iter().map(|(kind, _, body)| (kind, body)).collect()
}

/// Elements of one family, in order and apart from one another; those at both ends of all addresses among them.
fn elements(family: Family) -> impl Strategy<Value = Vec<Element>> {
    let place = move |n: u8, length: u8| match family {
        Family::V4 => IpNet::V4(Ipv4Net::new([n, 0, 2, 0].into(), 8 + length % 25).unwrap().trunc()),
        Family::V6 => {
            let address = u128::from(n) << 120 | 7;
            IpNet::V6(Ipv6Net::new(address.into(), 8 + length % 121).unwrap().trunc())
        }
    };
    let times = proptest::option::of(1..400_000_u64);
    // 1 is of what is in the set already.
    let first = any::<u8>().prop_filter("another", |n| *n != 1);
    let all = proptest::collection::btree_map(first, (any::<u8>(), times), 1..6);
    all.prop_map(move |all| {
        let element = |(n, (length, seconds)): (u8, (u8, Option<u64>))| {
            Element::new(place(n, length), seconds.map(Duration::from_secs))
        };
        all.into_iter().map(element).collect()
    })
}

/// The transactions of the plan for a scene.
fn transactions(scene: &Scene) -> Vec<Transaction> {
    let plan = preview(&scene.config, &scene.records, &mut scene.fake.clone()).unwrap();
    let all = plan.changes.into_iter();
    all.filter_map(|change| if let Change::Nftables(transaction) = change { Some(transaction) } else { None }).collect()
}

fn assert_sent_as_printed(transaction: &Transaction) {
    let commands: Vec<_> = transaction.0.iter().map(ToString::to_string).collect();
    let theirs = sent_by_nft(&(commands.join("\n") + "\n"));
    let ours = ours(transaction);
    assert_eq!(ours.len(), theirs.len(), "{commands:#?}");
    for ((ours, theirs), command) in ours.iter().zip(&theirs).zip(&commands) {
        assert_eq!(plain(ours), plain(theirs), "{command}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// So that a command of `mhctl plan` makes what an event makes.
    #[test]
    fn each_request_is_byte_by_byte_what_nft_sends_for_the_printed_command(scene in scenes()) {
        Namespace::new().run(|| transactions(&scene).iter().for_each(assert_sent_as_printed));
    }

    /// The same for what is put into a set and taken out of it.
    #[test]
    fn each_element_is_byte_by_byte_what_nft_sends(
        v4 in elements(Family::V4), v6 in elements(Family::V6), is_empty in any::<bool>()
    ) {
        let sets = [(Family::V4, 1), (Family::V6, 2)];
        let [four, six] = sets.map(|(family, id)| AddressSet { name: "streaming".parse().unwrap(), family, id });
        Namespace::new().run(|| {
            let mut commands = vec![nft::Command::AddTable, nft::Command::AddSet(four.clone()), nft::Command::AddSet(six.clone())];
            if !is_empty {
                // What is in none of the elements that are added.
                let present = |net: &str| vec![Element::new(net.parse().unwrap(), None)];
                commands.extend([(&four, present("1.1.1.1/32")), (&six, present("100::1/128"))].map(add(true)));
            }
            run_by_nft(&Transaction(commands));
            let all = [(&four, &v4), (&six, &v6)];
            let added = all.map(|(set, elements)| add(is_empty)((set, elements.clone())));
            assert_sent_as_printed(&Transaction(added.to_vec()));
            // Of what has a time nft(8) sends that when it is deleted, too, and nobody heeds it.
            let forever = |elements: &[Element]| elements.iter().map(|e| Element { timeout: None, ..e.clone() }).collect();
            let kept: [Vec<Element>; 2] = [forever(&v4), forever(&v6)];
            let whole = [(&four, &kept[0]), (&six, &kept[1])];
            run_by_nft(&Transaction(whole.map(|(set, elements)| add(is_empty)((set, elements.clone()))).to_vec()));
            assert_sent_as_printed(&Transaction(
                whole.map(|(set, elements)| nft::Command::DeleteElements(set.clone(), elements.clone())).to_vec(),
            ));
            assert_sent_as_printed(&Transaction(vec![nft::Command::FlushSet(four.clone()), nft::Command::FlushSet(six.clone())]));
        });
    }
}

/// The command that adds elements to a set.
fn add(is_empty: bool) -> impl Fn((&AddressSet, Vec<Element>)) -> nft::Command {
    move |(set, elements)| nft::Command::AddElements { set: set.clone(), elements, is_empty }
}

/// Has nft(8) carry out the commands.
fn run_by_nft(transaction: &Transaction) {
    ok(Command::new("sh").args(["-c", &transaction.to_string()]));
}
