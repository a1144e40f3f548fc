//! `mhctl demo` from a directory as it is installed: as root and as an ordinary user, what it says,
//! that it can be ended, and that it leaves nothing behind.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::support::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// The executables where everybody can run them, and a TMPDIR of the demo's own.
struct Installed {
    dir: TempDir,
}

/// What the demo must not change.
fn world() -> [String; 5] {
    let namespaces = fs::read_dir("/run/netns").map_or(0, Iterator::count).to_string();
    [ip("-o link"), ip("-br address"), ip("-4 route show table all"), ip("rule"), namespaces]
}

impl Installed {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        for program in [UP, DOWN, CTL] {
            let to = dir.path().join(PathBuf::from(program).file_name().unwrap());
            install(program, &to);
        }
        let tmp = dir.path().join("tmp");
        fs::create_dir(&tmp).unwrap();
        fs::set_permissions(&tmp, Permissions::from_mode(0o1777)).unwrap();
        Self { dir }
    }

    fn demo(&self, before: &[&str]) -> Command {
        let ctl = self.dir.path().join("mhctl").into_os_string().into_string().unwrap();
        let words = [before, &[&ctl, "demo"]].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("TMPDIR", self.dir.path().join("tmp")).stdin(Stdio::null());
        command
    }

    fn left_behind(&self) -> usize {
        fs::read_dir(self.dir.path().join("tmp")).unwrap().count()
    }
}

#[test]
fn who_has_read_enough_ends_it_without_a_word() {
    let installed = Installed::new();
    let output = installed.demo(&["bash", "-c", "set -o pipefail; \"$0\" \"$@\" | head -1"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(installed.left_behind(), 0);
}

fn assert_shown(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for part in [
        "1. No line is up",
        "  $ ip route\n      (nothing)\n",
        "  # mh-ip-up ppp1 /dev/pts/1 115200 203.0.113.10 203.0.113.1 isp2",
        "    + default nhid 7100 proto ",
        "    +     nexthop via 203.0.113.1 dev ppp1 weight 2\n",
        " group 7001,8/7002,2 ",
        "    + default nhid 7100 via 203.0.113.1 dev ppp1 proto ",
        "    + default via 203.0.113.1 dev ppp1 proto ",
        "      multipath and spares ",
        "      multipath alone ",
        "  ok: no default while a line was up: 0 times\n",
        "  ok: afterwards everything is as in step 2\n",
        "  # mh-ip-up ppp1 /dev/pts/1 115200 fe80::2 fe80::1 isp2",
        "      default proto ",
        "  ok: then by isp2 alone, before any hook ran\n",
    ] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    assert!(!text.contains("NOT AS PROMISED") && !text.contains('\x1b'), "{text}");
    assert!(text.lines().last().unwrap().starts_with("All 13 promises kept"), "{text}");
    assert_eq!(text.lines().find(|line| line.len() > 80), None);
}

#[test]
fn root_sees_it_and_nothing_is_left() {
    let installed = Installed::new();
    let before = world();
    assert_shown(&installed.demo(&["env"]).output().unwrap());
    assert_eq!(world(), before);
    assert_eq!(installed.left_behind(), 0);
}

#[test]
fn so_does_an_ordinary_user() {
    let installed = Installed::new();
    let before = world();
    // Where this runs as root of a user namespace it has no other user, and the user who started it
    // is an ordinary one.
    let alone = fs::read_to_string("/proc/self/uid_map").unwrap().split_whitespace().nth(2) == Some("1");
    let drop: &[&str] = if alone { &["env"] } else { &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] };
    assert_shown(&installed.demo(drop).output().unwrap());
    assert_eq!(world(), before);
    assert_eq!(installed.left_behind(), 0);
}

/// As in a machine's rescue system, or in a root that somebody builds.
#[test]
fn in_a_chroot_it_finds_the_hooks() {
    let installed = Installed::new();
    let root = installed.dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let inside = r#"mount --rbind / "$0" && exec chroot "$0" "$@""#;
    assert_shown(
        &installed.demo(&["unshare", "--mount", "sh", "-c", inside, root.to_str().unwrap()]).output().unwrap(),
    );
    assert_eq!(installed.left_behind(), 0);
}

#[test]
fn a_signal_ends_it_and_nothing_is_left() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let installed = Installed::new();
        let mut demo = installed.demo(&["env"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().starts_with("2. ")));
        assert_eq!(installed.left_behind(), 1);
        kill(Pid::from_raw(demo.id().try_into().unwrap()), signal).unwrap();
        assert!(lines.all(|line| !line.unwrap().starts_with("All")));
        assert_eq!(demo.wait().unwrap().code(), Some(1));
        let mut said = String::new();
        demo.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(said.contains("told to end"), "{said}");
        assert_eq!(installed.left_behind(), 0);
    }
}

#[test]
fn an_error_is_said_once_and_nothing_is_left() {
    let installed = Installed::new();
    fs::remove_file(installed.dir.path().join("mh-ip-down")).unwrap();
    let output = installed.demo(&["env"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("mh-ip-down is missing"), "{said}");
    assert_eq!(installed.left_behind(), 0);
    // A message that holds its source is not followed by the source once more.
    let config = installed.dir.path().join("multihome.toml");
    fs::write(&config, ARTICLE).unwrap();
    let apply = Command::new(CTL).arg("--config").arg(config).args(["--state-dir", "/dev/null/x", "apply"]).output();
    let said = String::from_utf8_lossy(&apply.unwrap().stderr).into_owned();
    assert_eq!(said.matches("Not a directory").count(), 1, "{said}");
}

#[test]
fn a_hook_that_does_nothing_does_not_pass() {
    let installed = Installed::new();
    install("/bin/true", installed.dir.path().join("mh-ip-down"));
    let output = installed.demo(&["env"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("NOT AS PROMISED"), "{text}");
    assert!(text.lines().last().unwrap().contains("promises broken"), "{text}");
    assert_eq!(installed.left_behind(), 0);
}
