//! The system says no to a hook, at each of its calls in turn: the kernel is out of memory or of buffers, a call is
//! interrupted, the disk is full, broken or read-only. A question that can be asked again is asked again; what fails is
//! told of on one line; and the next event mends it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::strace::{Call, calls};
use support::*;

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

/// Has each of these calls of the second line's ip-up fail once with each of the errors, and the next event mend it.
fn spoil(names: &str, errors: &[&str], is_meant: fn(&Call) -> bool) -> Vec<Tried> {
    let server = Server::new(&with_settings(ARTICLE, "settle-timeout = \"0s\""));
    server.up(ISP1);
    ISP2.create();
    let without = held();
    let hook = || server.hook(UP, ISP2);
    let calls = calls(&hook(), names, &server.state().with_file_name("calls"));
    let done = held();
    let mut all = Vec::new();
    for (n, call) in calls.iter().filter(|call| is_meant(call)).enumerate() {
        // In `make test` one of them.
        let (skip, take) = if thorough() { (0, errors.len()) } else { (n % errors.len(), 1) };
        for error in errors.iter().skip(skip).take(take) {
            ok(&mut server.hook(DOWN, ISP2));
            assert_eq!(held(), without);
            let what = format!("{error} of {}", call.text);
            let output = ends(&mut call.spoilt(&hook(), &format!("error={error}")), &what);
            let said = String::from_utf8(output.stderr).unwrap();
            let status = output.status.code();
            assert!(matches!(status, Some(0 | 1)), "{status:?}: {what}: {said}");
            assert!(said.lines().count() <= 1, "{what}: {said}");
            assert_eq!(said.is_empty(), status == Some(0), "{what}: {said}");
            assert_eq!(defaults("main").len(), 1, "{what}: {:#?}", held());
            all.push(Tried { what: what.clone(), well: status == Some(0), right: held() == done, said });
            ok(&mut hook());
            assert_eq!(held(), done, "{what}");
        }
    }
    assert!(!all.is_empty());
    all
}

#[test]
fn a_request_that_fails_for_the_moment_is_made_again() {
    for tried in spoil("sendto,recvfrom", &["ENOBUFS", "EINTR"], |_| true) {
        assert!(tried.well && tried.right, "{}: {}", tried.what, tried.said);
    }
}
