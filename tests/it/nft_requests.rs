//! What is sent for our table of `nf_tables` is byte by byte what nft(8) sends for the printed commands.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use multihome::config;
use multihome::kernel::Kernel;
use multihome::kernel::nftables::requests;
use multihome::model::change::Change;
use multihome::model::firewall::Fingerprint;
use multihome::model::firewall::nft::{self, Transaction};
use multihome::model::firewall::set::{AddressSet, Element};
use multihome::model::names::{Family, HostAddr, IfName};
use multihome::model::observed::{Address, Scope};
use multihome::reconcile::link_state::LinkStates;
use multihome::reconcile::plan::Plan;
use multihome::reconcile::preview;
use multihome::state::records::LinkRecords;
use proptest::prelude::*;

use crate::fake::Fake;
use crate::scene::{Scene, scenes};
use crate::support::filter::feed;
use crate::support::internet::Namespace;
use crate::support::*;

/// The type of a message of `nf_tables`, and its body.
type Message = (u16, Vec<u8>);

/// What nft(8) sends for these commands, which it only checks.
fn sent_by_nft(commands: &str) -> Vec<Message> {
    let mut nft = Command::new(program());
    nft.args(["--check", "--debug=mnl", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = nft.spawn().unwrap();
    child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{commands}\n{}", String::from_utf8_lossy(&output.stderr));
    // Both are used, as the versions have it.
    let text = [output.stdout, output.stderr].concat();
    once(dumped(&String::from_utf8(text).unwrap()))
}

/// The messages without those that nft(8) sends twice: the elements of a set that the same batch makes.
fn once(mut messages: Vec<Message>) -> Vec<Message> {
    const NEW_ELEMENTS: u16 = 2572;
    messages.dedup_by(|second, first| {
        let are_elements = first.0 == NEW_ELEMENTS && second.0 == NEW_ELEMENTS;
        // The family, the table and the set.
        are_elements && plain(first).1[..3] == plain(second).1[..3]
    });
    messages
}

/// nft(8), or another version of it.
fn program() -> String {
    std::env::var("NFT").unwrap_or_else(|_| "nft".to_owned())
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

/// Two lines, of which one is an Ethernet with a LAN of its own in both families, and in a group of the administrator's;
/// and a tunnel.
fn recorded_scene() -> Transaction {
    let config = "[[uplink]]\nname = \"isp1\"\ninterface = \"ppp0\"\nmasquerade = true\nnat6 = \"all\"\n\
                  [[uplink]]\nname = \"isp2\"\ninterface = \"eth1\"\ngateway = \"192.0.2.1\"\nmasquerade = true\n\
                  gateway6 = \"fe80::1\"\nprefixes = [\"2001:db8:2:100::/56\", \"2001:db8:2:200::/57\"]\n\
                  [[tunnel]]\nname = \"vpn\"\ninterface = \"tun0\"\nmasquerade = true\n\
                  [[policy]]\nname = \"tv\"\nto-set = \"tv\"\nvia = [\"isp2\"]\n";
    let config = config::parse(config, Path::new("recorded.toml")).unwrap();
    let kernel = "link 3 eth1 up ethernet group 5 address 192.0.2.10/23\n";
    let records = LinkRecords::default();
    let mut observed = Fake::parse(kernel).observe(&Scope::new(&config, &records)).unwrap();
    let address = |net: &str| {
        let net: IpNet = net.parse().unwrap();
        Address { local: HostAddr::new(net.addr()).unwrap(), reaches: net.trunc() }
    };
    let eth1 = observed.interfaces.get_mut(&"eth1".parse::<IfName>().unwrap()).unwrap();
    eth1.addresses6 = ["2001:db8:2::10/64", "2001:db8:2:8::10/61", "fe80::2/64"].map(address).to_vec();
    let states = LinkStates::new(&config, &records, &observed);
    let mut all = Plan::new(&config, &states.routed(), &observed).changes.into_iter();
    let found = all.find_map(|change| if let Change::Nftables(found) = change { Some(found) } else { None });
    let mut transaction = found.unwrap();
    let is_filled = |command: &nft::Command| matches!(command, nft::Command::AddElements { .. });
    assert!(transaction.0.iter().any(is_filled), "it has IPv6");
    for command in &mut transaction.0 {
        // The hash is another with each version of Rust.
        if let nft::Command::AddRule(_, rule) = command
            && Fingerprint::find(rule.comment.as_bytes()).is_some()
        {
            rule.comment.replace_range(10..26, "0123456789abcdef");
        }
    }
    transaction
}

/// Each line of these files is a command, and what nft(8) of that version sent for it. `UPDATE_GOLDEN=1` writes that of
/// the version at hand, or of the program that `NFT` names.
#[test]
fn what_is_sent_is_what_nft_of_debian_12_and_13_sent() {
    let transaction = recorded_scene();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/nft");
    let commands: Vec<_> = transaction.0.iter().map(ToString::to_string).collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let sent = Namespace::new().run(|| sent_by_nft(&(commands.join("\n") + "\n")));
        let lines = commands.iter().zip(&sent).map(|(command, message)| format!("{command}\t{}\n", hex(message)));
        fs::write(dir.join(version() + ".txt"), lines.collect::<String>()).unwrap();
    }
    for version in ["1.0.6", "1.1.3"] {
        let recorded = fs::read_to_string(dir.join(format!("{version}.txt"))).unwrap();
        let recorded: Vec<_> = recorded.lines().map(|line| line.split_once('\t').unwrap()).collect();
        assert_eq!(recorded.iter().map(|(command, _)| *command).collect::<Vec<_>>(), commands, "{version}");
        for ((command, theirs), ours) in recorded.iter().zip(ours(&transaction)) {
            assert_eq!(plain(&ours), plain(&unhex(theirs)), "{version}: {command}");
        }
    }
}

fn version() -> String {
    let output = ok(Command::new(program()).arg("--version")).stdout;
    String::from_utf8(output).unwrap().split(' ').nth(1).unwrap().trim_start_matches('v').to_owned()
}

fn hex((kind, body): &Message) -> String {
    let bytes: Vec<_> = body.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{kind} {}", bytes.concat())
}

fn unhex(text: &str) -> Message {
    let (kind, bytes) = text.split_once(' ').unwrap();
    let byte = |at| u8::from_str_radix(&bytes[at..at + 2], 16).unwrap();
    (kind.parse().unwrap(), (0..bytes.len()).step_by(2).map(byte).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// So that a command of `mhctl plan` makes what an event makes.
    #[test]
    fn each_request_is_byte_by_byte_what_nft_sends_for_the_printed_command(scene in scenes()) {
        for transaction in &transactions(&scene) {
            // nft(8) does not number sets that are there.
            Namespace::new().run(|| {
                feed("nft", &["-f", "-"], &before(transaction));
                assert_sent_as_printed(transaction);
            });
        }
    }

    /// The same for what is put into a set and taken out of it.
    #[test]
    fn each_element_is_byte_by_byte_what_nft_sends(
        v4 in elements(Family::V4), v6 in elements(Family::V6), is_empty in any::<bool>()
    ) {
        let sets = [(Family::V4, 1), (Family::V6, 2)];
        let [four, six] = sets.map(|(family, id)| AddressSet::of(&"streaming".parse().unwrap(), family, id));
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
            assert_sent_as_printed(&Transaction(vec![nft::Command::DeleteSet(four.clone())]));
        });
    }
}

/// The command that adds elements to a set.
fn add(is_empty: bool) -> impl Fn((&AddressSet, Vec<Element>)) -> nft::Command {
    move |(set, elements)| nft::Command::AddElements { set: set.clone(), elements, is_empty }
}

/// The commands that make what a transaction takes for granted: chains and sets that it empties or deletes.
fn before(transaction: &Transaction) -> String {
    let mut commands = "add table inet multihome\n".to_owned();
    let made = |name: &String| {
        let is_of_it =
            |command: &nft::Command| matches!(command, nft::Command::AddChain(chain) if chain.nft() == *name);
        transaction.0.iter().any(is_of_it)
    };
    for command in &transaction.0 {
        match command {
            nft::Command::Flush(chain) if !made(chain) => {
                writeln!(commands, "add chain inet multihome {chain}").unwrap();
            }
            nft::Command::FlushSet(set) | nft::Command::DeleteSet(set) => {
                let element = vec![Element::new("2001:db8:ffff::/48".parse().unwrap(), None)];
                let filled = [nft::Command::AddSet(set.clone()), add(true)((set, element))];
                commands += &filled.map(|command| format!("{command}\n")).concat();
            }
            _ => {}
        }
    }
    commands
}

/// Has nft(8) carry out the commands.
fn run_by_nft(transaction: &Transaction) {
    ok(Command::new("sh").args(["-c", &transaction.to_string()]));
}
