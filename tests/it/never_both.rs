//! Our rules are in nftables or in iptables, never in neither, and after an event never in both: upgrades, the way back,
//! and kernels that do not take our table.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::alternatives::use_legacy;
use crate::support::ctl::*;
use crate::support::files::own_files;
use crate::support::filter::*;
use crate::support::flow::*;
use crate::support::internet::*;
use crate::support::*;

/// Two uplinks, of which at first nothing new goes by the second.
const LINKS: &str = "[[uplink]]\nname = \"isp1\"\ninterface = \"ppp0\"\nweight = 256\nmasquerade = true\n\
                     [[uplink]]\nname = \"isp2\"\ninterface = \"ppp1\"\nweight = 1\nmasquerade = true\n";

fn with_firewall(firewall: &str) -> String {
    with_settings(LINKS, &format!("firewall = \"{firewall}\"\nsettle-timeout = \"0s\""))
}

/// How many rules of ours nftables, iptables-nft and legacy iptables hold.
fn places() -> [usize; 3] {
    let of = |variant: &str| {
        let saved = ok(&mut Command::new(format!("/usr/sbin/iptables-{variant}-save"))).stdout;
        String::from_utf8(saved).unwrap().lines().filter(|line| line.contains("MULTIHOME")).count()
    };
    [table().len(), of("nft"), of("legacy")]
}

/// Which of the three hold rules that keep connections where they are.
fn hold() -> [bool; 3] {
    places().map(|rules| rules > 20)
}

/// The commands of a plan, each with its input.
fn commands(plan: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut is_input = false;
    for line in plan.lines() {
        if is_input {
            let last = all.last_mut().unwrap();
            last.push('\n');
            last.push_str(line);
        } else {
            all.push(line.to_owned());
        }
        is_input = (is_input || line.ends_with("<<'END'")) && line != "END";
    }
    all
}

/// Goes from one packet filter to another: `before` is what holds the rules first, `after` what does then.
fn goes(from: &str, to: &str, before: [bool; 3], after: [bool; 3]) {
    let server = Server::new(&with_firewall(from));
    // Others', which stay as they are.
    let foreign = "table inet foreign {\n\tchain output {\n\t\ttype route hook output priority mangle; policy accept;\n\
                   \t\ttcp dport 25 meta mark set 0x00080000\n\t}\n}\n";
    feed("nft", &["-f", "-"], foreign);
    iptables("-t mangle -A FORWARD -p tcp -j ACCEPT");
    let foreign_rules = || {
        let mut rules = of_iptables();
        rules.retain(|rule| !rule.contains("MULTIHOME"));
        (rules, nft("-s list table inet foreign"))
    };
    let others = foreign_rules();
    server.up(ISP1);
    server.up(ISP2);
    assert_eq!(hold(), before, "{from}");

    // Each prefix of what is to be done.
    server.configure(&with_firewall(to));
    let plan = said(&server, "plan");
    for command in commands(&plan) {
        ok(Command::new("sh").args(["-e", "-c", &command]));
        assert!(hold().contains(&true), "{:?} after {command}", places());
    }
    assert_eq!((hold(), places().iter().filter(|rules| **rules > 0).count()), (after, 1), "{plan}");
    assert_eq!(foreign_rules(), others);

    // The same by an event, which takes the other's away.
    server.configure(&with_firewall(from));
    ok(&mut server.hook(UP, ISP1));
    assert_eq!((hold(), places().iter().filter(|rules| **rules > 0).count()), (before, 1), "back to {from}");
    server.configure(&with_firewall(to));
    ok(&mut server.hook(UP, ISP2));
    assert_eq!((hold(), places().iter().filter(|rules| **rules > 0).count()), (after, 1), "{to}");
    assert_eq!(said(&server, "plan"), "# nothing to change\n");
    assert_eq!(foreign_rules(), others);
    // What a flush takes.
    ok(&mut ctl(&server, "flush"));
    assert_eq!(places(), [0; 3]);
    assert_eq!(foreign_rules(), others);
}

const NFT: [bool; 3] = [true, false, false];
const IPTABLES_NFT: [bool; 3] = [false, true, false];
const LEGACY: [bool; 3] = [false, false, true];

#[test]
fn an_upgrade_from_iptables_nft_takes_our_chains_out_of_it() {
    goes("iptables", "auto", IPTABLES_NFT, NFT);
}

#[test]
fn the_way_back_to_iptables_nft_takes_our_table_away() {
    goes("nftables", "iptables", NFT, IPTABLES_NFT);
}

#[test]
fn an_upgrade_from_legacy_iptables_takes_our_chains_out_of_it() {
    use_legacy();
    goes("iptables", "auto", LEGACY, NFT);
}

#[test]
fn the_way_back_to_legacy_iptables_takes_our_table_away() {
    use_legacy();
    goes("auto", "iptables", NFT, LEGACY);
}

/// The machine's iptables has been the legacy one until its upgrade.
#[test]
fn what_a_legacy_iptables_of_before_has_left_goes_with_the_first_event() {
    let server = Server::new(&with_firewall("iptables"));
    Namespace::here().run(|| {
        use_legacy();
        server.up(ISP1);
    });
    assert_eq!(hold(), LEGACY);
    server.configure(&with_firewall("auto"));
    ok(&mut server.hook(UP, ISP1));
    assert_eq!((hold(), places()[2]), (NFT, 0));
}

/// It has no other names, and the machine no other iptables.
#[test]
fn what_an_iptables_before_1_8_has_left_goes_with_the_first_event() {
    own_files();
    install("/usr/sbin/xtables-legacy-multi", "/usr/sbin/xtables-multi");
    for name in ["iptables", "iptables-restore", "iptables-save"] {
        for variant in ["-legacy", "-nft"] {
            fs::remove_file(format!("/usr/sbin/{}", name.replacen("iptables", &format!("iptables{variant}"), 1)))
                .unwrap();
        }
        fs::remove_file(format!("/usr/sbin/{name}")).unwrap();
        symlink("xtables-multi", format!("/usr/sbin/{name}")).unwrap();
    }
    let server = Server::new(&with_firewall("iptables"));
    server.up(ISP1);
    assert!(table().is_empty() && managed().len() > 20, "{:?}", managed());
    server.configure(&with_firewall("auto"));
    ok(&mut server.hook(UP, ISP1));
    assert!(!table().is_empty());
    assert_eq!(managed(), table());
}

/// A process that owns a table of the name of ours; it ends with the test.
struct Owner(Child);

impl Owner {
    fn new(commands: &str) -> Self {
        let mut child = Command::new("nft").arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.as_mut().unwrap().write_all(commands.as_bytes()).unwrap();
        until("the table is there", || nft("list tables").contains("inet multihome"));
        Self(child)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether the hook tried to make our table, and what it said.
fn tried(server: &Server, line: Line) -> (bool, String) {
    let hook = server.hook(UP, line);
    let file = server.config().with_file_name("sent");
    let sent = strace::log(&hook, "-e trace=sendto", &file).contains("NFNL_MSG_BATCH_BEGIN");
    (sent, String::from_utf8(ok(server.hook(UP, line).option("-v")).stderr).unwrap())
}

#[test]
fn a_table_that_another_process_owns_leaves_the_rules_to_iptables_and_is_told_of_once() {
    let server = Server::new(&with_firewall("auto"));
    let owner = Owner::new("add table inet multihome { flags owner; }\n");
    ISP1.create();
    let output = ok(server.hook(UP, ISP1).option("-v"));
    let said_first = String::from_utf8(output.stderr).unwrap();
    let warnings: Vec<_> = said_first.lines().filter(|line| line.contains("WARN")).collect();
    assert!(
        warnings.len() == 1
            && warnings[0].contains("iptables holds the rules: `nft add table inet multihome` was refused: a process")
            && warnings[0].contains("firewall = \"iptables\""),
        "{said_first}"
    );
    assert_eq!(hold(), IPTABLES_NFT);
    // Not again, at no event and by no timer.
    ISP2.create();
    for line in [ISP2, ISP1] {
        let (sent, told) = tried(&server, line);
        assert!(!sent && !told.contains("WARN"), "{told}");
    }
    server.apply();
    assert_eq!((said(&server, "plan"), hold()), ("# nothing to change\n".to_owned(), IPTABLES_NFT));

    // Who asks for nftables is told why not, and the rules stay.
    server.configure(&with_firewall("nftables"));
    let told = fails(1, &mut server.hook(UP, ISP1));
    assert!(
        told.lines().count() == 1 && told.contains("`nft add table inet multihome` was refused: a process"),
        "{told}"
    );
    assert_eq!(hold(), IPTABLES_NFT);
    drop(owner);
    ok(&mut server.hook(UP, ISP1));
    assert_eq!(hold(), NFT);
}

#[test]
fn a_chain_of_ours_that_a_foreign_rule_needs_leaves_the_rules_to_iptables() {
    let server = Server::new(&with_firewall("iptables"));
    server.up(ISP1);
    // It cannot be taken away as long as this is there.
    iptables("-t mangle -N ADMIN");
    iptables("-t mangle -A ADMIN -p tcp -j MULTIHOME-OUTPUT");
    server.configure(&with_firewall("auto"));
    let told = String::from_utf8(ok(server.hook(UP, ISP1).option("-v")).stderr).unwrap();
    assert_eq!(hold(), IPTABLES_NFT, "{told}");
    let warnings: Vec<_> = told.lines().filter(|line| line.contains("WARN")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("MULTIHOME-OUTPUT` was refused"), "{told}");
    let (sent, told) = tried(&server, ISP1);
    assert!(!sent && !told.contains("WARN"), "{told}");

    server.configure(&with_firewall("nftables"));
    let told = fails(1, &mut server.hook(UP, ISP1));
    assert!(told.lines().count() == 1 && told.contains("MULTIHOME-OUTPUT` was refused"), "{told}");
    iptables("-t mangle -F ADMIN");
    ok(&mut server.hook(UP, ISP1));
    assert_eq!((hold(), places()[1]), (NFT, 0));
}

/// An owner's table with chains is none that we could take away: it is told of, and the rules are loaded.
#[test]
fn an_owners_chains_are_told_of_at_each_event_and_iptables_holds_the_rules() {
    let server = Server::new(&with_firewall("auto"));
    let _owner = Owner::new("add table inet multihome { flags owner; }\nadd chain inet multihome theirs\n");
    ISP1.create();
    for _ in 0..2 {
        let told = fails(1, &mut server.hook(UP, ISP1));
        assert!(told.contains("a process that still runs owns this table"), "{told}");
        assert!(told.lines().count() <= 2, "{told}");
        assert_eq!(hold(), IPTABLES_NFT);
        assert_eq!(defaults("main").len(), 1);
    }
}

/// A sticky connection: its line, the host that it is to, and its packets.
type Sticky = (Line, String, Flow);

/// One of the server and one of a LAN host by each line.
fn sticky(internet: &Internet) -> Vec<Sticky> {
    let mut all = Vec::new();
    for (line, from) in [ISP1, ISP2].into_iter().flat_map(|line| [(line, &internet.server), (line, &internet.lan)]) {
        let by_line = |host: &String| ask_udp((host, ECHO)) == line.local.parse().ok();
        let host = from.run(|| (0..250).map(|n| format!("100.64.9.{n}")).find(by_line)).unwrap();
        all.push((line, host, from.run(|| Flow::of(3000))));
    }
    all
}

/// Has all of them send until `work` is done. Of each: packets sent, packets that came back, and by which address.
fn during(flows: &[Sticky], work: &mut dyn FnMut()) -> Vec<(u64, u64, Vec<Ipv4Addr>)> {
    let Some(((_, host, flow), others)) = flows.split_first() else {
        work();
        return Vec::new();
    };
    let mut all = Vec::new();
    let own = flow.during(host, || all = during(others, work));
    all.insert(0, own);
    all
}

/// The packet filter changes from iptables to nftables, back and once more, under sticky connections.
fn none_is_lost() {
    // The hash then sends nearly all to the first line, were it not for the marks.
    let server = Server::new(&with_firewall("iptables").replace("weight = 256", "weight = 1"));
    let internet = Internet::new();
    for line in [ISP1, ISP2] {
        internet.connect(line);
        ok(&mut server.hook(UP, line));
    }
    let flows = sticky(&internet);
    let mut went = Vec::new();
    let mut work = || {
        for firewall in ["auto", "iptables", "auto"] {
            std::thread::sleep(Duration::from_millis(300));
            server.configure(&with_firewall(firewall));
            ok(&mut server.hook(UP, ISP1));
            went.push(hold()[0]);
        }
        std::thread::sleep(Duration::from_millis(300));
    };
    let all = during(&flows, &mut work);
    assert_eq!(went, [true, false, true]);
    for ((line, host, _), (sent, back, seen)) in flows.iter().zip(all) {
        assert!(sent > 3000, "{sent}");
        assert_eq!(back, sent, "{host} by {} lost packets", line.link);
        assert_eq!(seen, [line.local.parse::<Ipv4Addr>().unwrap()], "{host} has left {}", line.link);
    }
}

#[test]
fn sticky_connections_lose_no_packet_while_the_rules_go_from_iptables_nft_to_nftables_and_back() {
    none_is_lost();
}

#[test]
fn sticky_connections_lose_no_packet_while_the_rules_go_from_legacy_iptables_to_nftables_and_back() {
    use_legacy();
    none_is_lost();
}
