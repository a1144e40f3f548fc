//! The system says no to a hook, at each of its calls in turn: the kernel is out of memory or of buffers, a call is
//! interrupted, the disk is full, broken or read-only. A question that can be asked again is asked again; what fails is
//! told of on one line; and the next event mends it.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::support::filter::{flush_marks, managed};
use crate::support::strace::{Call, calls};
use crate::support::*;

/// The event of the second line, while `call` fails once with `error`.
struct Tried {
    /// The call and its error.
    what: String,
    /// Whether the hook said that all is well.
    well: bool,
    /// Whether the kernel held what it should.
    right: bool,
    /// What the hook said.
    said: String,
}

/// Waits for a hook, which must not hang.
fn ends(command: &mut Command, what: &str) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "it hangs: {what}");
        thread::sleep(Duration::from_millis(1));
    }
    child.wait_with_output().unwrap()
}

/// Has each of these calls of the second line's ip-up, before which others do `harm`, fail once with each of the errors, and the next event mend it.
fn spoil(names: &str, errors: &[&str], harm: fn(), is_meant: fn(&Call) -> bool) -> Vec<Tried> {
    let server = Server::new(&with_settings(ARTICLE, "settle-timeout = \"0s\""));
    server.up(ISP1);
    ISP2.create();
    let without = held();
    let hook = || server.hook(UP, ISP2);
    harm();
    let calls = calls(&hook(), names, &server.state().with_file_name("calls"));
    let now = || (held(), managed());
    let done = now();
    let mut all = Vec::new();
    for (n, call) in calls.iter().filter(|call| is_meant(call)).enumerate() {
        // In `make test` one of them.
        let (skip, take) = if thorough() { (0, errors.len()) } else { (n % errors.len(), 1) };
        for error in errors.iter().skip(skip).take(take) {
            ok(&mut server.hook(DOWN, ISP2));
            assert_eq!(held(), without);
            harm();
            let what = format!("{error} of {}", call.text);
            let output = ends(&mut call.spoilt(&hook(), &format!("error={error}")), &what);
            let said = String::from_utf8(output.stderr).unwrap();
            let status = output.status.code();
            assert!(matches!(status, Some(0 | 1)), "{status:?}: {what}: {said}");
            assert!(said.lines().count() <= 1, "{what}: {said}");
            assert_eq!(said.is_empty(), status == Some(0), "{what}: {said}");
            assert_eq!(defaults("main").len(), 1, "{what}: {:#?}", held());
            all.push(Tried { what: what.clone(), well: status == Some(0), right: now() == done, said });
            ok(&mut hook());
            assert_eq!(now(), done, "{what}");
        }
    }
    assert!(!all.is_empty());
    all
}

#[test]
fn a_request_that_fails_for_the_moment_is_made_again() {
    for tried in spoil("sendto,recvfrom", &["ENOBUFS", "EINTR"], || {}, |_| true) {
        assert!(tried.well && tried.right, "{}: {}", tried.what, tried.said);
    }
}

/// Rules are read and loaded: by netlink where nftables holds them.
#[test]
fn a_packet_filter_that_fails_for_the_moment_is_asked_again_and_loads_the_rules() {
    for tried in spoil("sendto,recvfrom", &["ENOBUFS", "EINTR"], flush_marks, |call| call.text.contains("NFNL_")) {
        assert!(tried.well && tried.right, "{}: {}", tried.what, tried.said);
    }
}

#[test]
fn a_file_that_cannot_be_written_is_told_of_and_the_routes_are_right_where_it_can_be() {
    let names = "openat,?mkdir,mkdirat,?rename,renameat,renameat2,?unlink,unlinkat,write,fchmod,ftruncate,flock";
    let all = spoil(names, &["ENOSPC", "EROFS", "EIO"], || {}, |call| !call.text.contains("O_RDONLY"));
    for tried in &all {
        assert!(tried.right || !tried.well, "{}: {}", tried.what, tried.said);
        // Without a lock nothing is done; a record that cannot be written counts for this hook.
        let is_lock = ["/state\"", "lock\"", "flock(", "fchmod(4, "].iter().any(|part| tried.what.contains(part));
        assert!(tried.right || is_lock, "{}: {}", tried.what, tried.said);
    }
    assert!(all.iter().any(|tried| tried.right && !tried.well) && all.iter().any(|tried| !tried.right));
}

/// A server whose state directory is a file system of its own, which `options` say of tmpfs(5).
fn with_a_small_disk(options: &str) -> Server {
    let server = Server::new(&with_settings(ARTICLE, "settle-timeout = \"0s\""));
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    fs::create_dir(server.state()).unwrap();
    mount(Some("none"), &server.state(), Some("tmpfs"), MsFlags::empty(), Some(options)).unwrap();
    server
}

#[test]
fn a_full_disk_keeps_no_line_from_being_served() {
    let server = with_a_small_disk("size=64k,mode=755");
    server.up(ISP1);
    let mut full = fs::File::create(server.state().join("full")).unwrap();
    while full.write_all(&[0; 4096]).is_ok() {}
    drop(full);
    ISP2.create();
    let said = fails(1, &mut server.hook(UP, ISP2));
    assert!(said.contains(".ppp1.new: No space left") && said.lines().count() == 1, "{said}");
    assert!(defaults("main")[0].contains("dev ppp1 weight 2"), "{:?}", held());
    // A line that goes needs no space.
    ok(&mut server.hook(DOWN, ISP1));
    assert!(defaults("1").is_empty() && !server.state().join("ppp0.ipv4").exists());
    assert!(!server.state().join(".ppp1.new").exists());
    // With space again the next event is as any other.
    fs::remove_file(server.state().join("full")).unwrap();
    for line in [ISP1, ISP2] {
        ok(&mut server.hook(UP, line));
    }
    assert!(defaults("main")[0].contains("dev ppp0 weight 8") && defaults("main")[0].contains("dev ppp1 weight 2"));
    let mut files: Vec<_> = fs::read_dir(server.state()).unwrap().map(|e| e.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["lock", "ppp0.ipv4", "ppp1.ipv4", "records.lock"]);
}

#[test]
fn a_state_directory_that_became_read_only_keeps_no_line_from_being_served() {
    let server = with_a_small_disk("size=64k,mode=755");
    server.up(ISP1);
    let remount = |flags| {
        let none = None::<&str>;
        mount(none, &server.state(), none, MsFlags::MS_REMOUNT | flags, Some("size=64k,mode=755")).unwrap();
    };
    remount(MsFlags::MS_RDONLY);
    ISP2.create();
    let said = fails(1, &mut server.hook(UP, ISP2));
    assert!(said.contains("Read-only file system") && said.contains("ppp1"), "{said}");
    assert!(defaults("main")[0].contains("dev ppp1 weight 2"), "{:?}", held());
    fails(1, &mut server.hook(DOWN, ISP1));
    assert!(defaults("1").is_empty());
    // The clock may have been ahead when the record was written, and a line may have another address by now.
    let renumbered = Line { local: "198.51.100.77", ..ISP1 };
    ISP1.create();
    ip("addr flush dev ppp0");
    renumbered.create();
    fails(1, &mut server.hook(UP, renumbered));
    assert!(held().iter().any(|line| line.contains("from 198.51.100.77 lookup 1")), "{:?}", held());
    remount(MsFlags::empty());
    ip("addr flush dev ppp0");
    ISP1.create();
    for line in [ISP1, ISP2] {
        ok(&mut server.hook(UP, line));
    }
    assert!(defaults("main")[0].contains("dev ppp0 weight 8") && defaults("main")[0].contains("dev ppp1 weight 2"));
}
