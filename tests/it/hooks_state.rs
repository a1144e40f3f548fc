//! The state directory as hooks find it: who may read and write it, and what they do where it is not as it should be.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use crate::hooks_cli::assert_untouched;
use crate::support::*;

#[test]
fn a_state_directory_that_cannot_be_made_is_an_error() {
    let server = Server::new(ARTICLE);
    ISP1.create();
    for dir in ["/proc/nope", "/proc/nope/x", "/dev/null/x"] {
        let mut hook = Command::new(UP);
        hook.args(["--config"]).arg(server.config()).args(["--state-dir", dir]);
        let said = fails(1, hook.args([ISP1.device, "", "", ISP1.local, ISP1.remote, ISP1.link]));
        assert!(said.contains(dir) && said.lines().count() == 1, "{said}");
        // The other mistake is told as well.
        let mut hook = Command::new(DOWN);
        let said = fails(1, hook.args(["--config", "/nonexistent", "--state-dir", dir, ISP1.device, "", "", "", ""]));
        assert!(said.contains("no configuration at /nonexistent: "), "{said}");
        assert!(said.contains("; ppp0 is not recorded as down either: ") && said.contains(dir), "{said}");
    }
    assert_untouched(&server);
}

#[test]
fn the_records_are_readable_for_all_whatever_the_umask_and_the_locks_are_not() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(server.state()), 0o755);
    // Who can open a lock can hold it, and with it every event.
    for (file, wanted) in [("ppp0.ipv4", 0o644), ("lock", 0o600), ("records.lock", 0o600)] {
        assert_eq!(mode(server.state().join(file)), wanted, "{file}");
    }
    // One below a directory that is not there either.
    let deep = server.state().join("a/b");
    let script = "umask 077; exec \"$0\" \"$@\"";
    let mut hook = Command::new("/bin/sh");
    hook.args(["-c", script, UP, "--config"]).arg(server.config()).arg("--state-dir").arg(&deep);
    ok(hook.args([ISP1.device, "", "", ISP1.local, ISP1.remote]));
    assert_eq!((mode(deep.parent().unwrap().to_owned()), mode(deep.clone())), (0o755, 0o755));
    assert_eq!(fs::metadata(deep.join("ppp0.ipv4")).unwrap().uid(), 0);
}

#[test]
fn a_state_directory_that_others_could_write_to_is_refused() {
    let server = Server::new(ARTICLE);
    ISP1.create();
    fs::create_dir(server.state()).unwrap();
    fs::set_permissions(server.state(), fs::Permissions::from_mode(0o777)).unwrap();
    let said = fails(1, &mut server.hook(UP, ISP1));
    assert!(said.contains("is not safe") && said.contains("--state-dir"), "{said}");
    fs::remove_dir(server.state()).unwrap();
    let elsewhere = server.state().with_file_name("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, server.state()).unwrap();
    let said = fails(1, &mut server.hook(UP, ISP1));
    assert!(said.contains("is not safe"), "{said}");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    assert_eq!(ours(), [""; 0]);
}

#[test]
fn a_record_that_cannot_be_read_or_written_keeps_no_other_link_from_being_served() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    server.up(ISP2);
    let both = held();
    for rubbish in [&b"interface = "[..], b"", b"\xff\xfe", b"interface = \"../x\"\nindex = 1\nsince = 0\n"] {
        fs::write(server.state().join("ppp1.ipv4"), rubbish).unwrap();
        ok(&mut server.hook(UP, ISP1));
        assert!(defaults("main")[0].contains("dev ppp0") && defaults("2").is_empty(), "{:?}", held());
        ok(&mut server.hook(UP, ISP2));
        assert_eq!(held(), both);
    }
    // The record cannot be replaced: the event counts all the same, and is told to have failed.
    fs::remove_file(server.state().join("ppp1.ipv4")).unwrap();
    fs::create_dir(server.state().join("ppp1.ipv4")).unwrap();
    let said = fails(1, &mut server.hook(UP, ISP2));
    assert!(said.contains("ppp1.ipv4"), "{said}");
    assert_eq!(held(), both);
}
