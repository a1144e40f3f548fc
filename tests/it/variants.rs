//! A machine whose iptables has changed from one variant to the other, with chains of ours in both.

use std::process::Command;

use crate::support::alternatives::use_legacy;
use crate::support::ctl::*;
use crate::support::internet::Namespace;
use crate::support::*;

const LINKS: &str = "[[uplink]]\nname = \"isp1\"\ninterface = \"ppp0\"\nmasquerade = true\n\
                     [[uplink]]\nname = \"isp2\"\ninterface = \"ppp1\"\n[settings]\nsettle-timeout = \"0s\"\n\
                     firewall = \"iptables\"\n";

/// Lines of ours in the tables of a variant, and of its programs' own look at them, not the product's.
fn ours(variant: &str) -> usize {
    let output = ok(&mut Command::new(format!("/usr/sbin/iptables-{variant}-save")));
    String::from_utf8(output.stdout).unwrap().lines().filter(|line| line.contains("MULTIHOME")).count()
}

/// Does something on the same machine while its iptables is the legacy variant.
fn with_legacy<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    Namespace::here().run(|| {
        use_legacy();
        work()
    })
}

fn event(server: &Server) {
    ok(&mut server.hook(UP, ISP1));
}

#[test]
fn chains_in_legacy_tables_go_when_the_machines_iptables_is_nft_now() {
    let server = Server::new(LINKS);
    ISP1.create();
    with_legacy(|| event(&server));
    let whole = ours("legacy");
    assert!(whole > 20 && ours("nft") == 0);
    // Somebody else's, which stay.
    ok(Command::new("iptables-legacy").args(["-t", "mangle", "-A", "FORWARD", "-j", "ACCEPT"]));

    let plan = said(&server, "plan");
    let (new, old) = (plan.find("iptables-restore").unwrap(), plan.find("iptables-legacy-restore").unwrap());
    assert!(new < old && plan.matches("iptables-legacy-restore").count() == 2, "{plan}");
    assert!(said(&server, "flush --dry-run").contains("iptables-legacy-restore"));
    let doctor = String::from_utf8(ctl(&server, "doctor").output().unwrap().stdout).unwrap();
    assert!(doctor.contains("managed chains are in legacy iptables too"), "{doctor}");
    event(&server);
    assert_eq!((ours("legacy"), ours("nft")), (0, whole));
    let left = String::from_utf8(ok(&mut Command::new("iptables-legacy-save")).stdout).unwrap();
    assert!(left.contains("-A FORWARD -j ACCEPT"), "{left}");
    assert!(said(&server, "plan").contains("nothing to change"));

    // A flush takes both.
    with_legacy(|| {
        feed_legacy(":MULTIHOME-OUTPUT - [0:0]\n-A MULTIHOME-OUTPUT -j RETURN\n-A OUTPUT -j MULTIHOME-OUTPUT\n");
    });
    assert_eq!(ours("legacy"), 3);
    ok(&mut ctl(&server, "flush"));
    assert_eq!((ours("legacy"), ours("nft")), (0, 0));
}

fn feed_legacy(lines: &str) {
    let mut child =
        Command::new("iptables-legacy-restore").arg("-n").stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), format!("*mangle\n{lines}COMMIT\n").as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn chains_in_nft_tables_go_when_the_machines_iptables_is_legacy_now() {
    let server = Server::new(LINKS);
    ISP1.create();
    event(&server);
    let whole = ours("nft");
    assert!(whole > 20 && ours("legacy") == 0);
    with_legacy(|| {
        let plan = said(&server, "plan");
        let (new, old) = (plan.find("iptables-restore").unwrap(), plan.find("iptables-nft-restore").unwrap());
        assert!(new < old, "{plan}");
        // A flush needs no program for these.
        assert!(said(&server, "flush --dry-run").contains("\ndelete chain ip mangle MULTIHOME-OUTPUT\n"));
        let doctor = String::from_utf8(ctl(&server, "doctor").output().unwrap().stdout).unwrap();
        assert!(doctor.contains("managed chains are in iptables-nft too"), "{doctor}");
        event(&server);
    });
    assert_eq!((ours("nft"), ours("legacy")), (0, whole));
    with_legacy(|| {
        assert!(said(&server, "plan").contains("nothing to change"));
        ok(&mut ctl(&server, "flush"));
    });
    assert_eq!((ours("legacy"), ours("nft")), (0, 0));
}
