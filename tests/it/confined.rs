//! Hooks with little power, hooks among hostile users, and hooks in a hostile environment.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::filter::{managed, table};
use crate::support::strace::log;
use crate::support::*;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

const NOBODY: u32 = 65534;

/// A server of which another user may see the configuration and run the programs.
fn open_to_others() -> Server {
    let server = Server::new(&with_settings(ARTICLE, "settle-timeout = \"0s\""));
    let dir = server.config().parent().unwrap().to_owned();
    fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
    for program in [UP, DOWN] {
        // The directory that they were built in may be closed to others.
        let copy = own(&server, program);
        fs::hard_link(program, &copy).unwrap_or_else(|_| install(program, &copy));
    }
    server
}

fn own(server: &Server, program: &str) -> PathBuf {
    server.config().with_file_name(Path::new(program).file_name().unwrap())
}

/// A hook as user nobody, with these capabilities and no others, now or ever.
fn as_nobody(server: &Server, program: &str, line: Line, capabilities: &str) -> Command {
    let hook = server.hook(own(server, program).to_str().unwrap(), line);
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    for set in ["bounding-set", "inh-caps", "ambient-caps"] {
        command.arg(format!("--{set}=-all{capabilities}"));
    }
    command.arg(hook.get_program()).args(hook.get_args()).current_dir("/");
    command.envs(hook.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

fn state_of(server: &Server, owner: u32) {
    fs::create_dir_all(server.state()).unwrap();
    chown(server.state(), Some(owner), None).unwrap();
}

#[test]
fn a_hook_needs_no_other_power_than_cap_net_admin() {
    let server = open_to_others();
    server.up(ISP1);
    server.up(ISP2);
    let (both, rules) = (held(), managed());
    assert!(rules.len() > 20, "{rules:?}");
    server.lose(ISP2);
    let only1 = held();
    server.lose(ISP1);
    ok(server.bare(CTL).arg("flush"));
    fs::remove_dir_all(server.state()).unwrap();
    assert_eq!((ours(), managed()), (vec![], vec![]));

    state_of(&server, NOBODY);
    for line in [ISP1, ISP2] {
        line.create();
        fs::write(format!("/proc/sys/net/ipv4/conf/{}/rp_filter", line.device), "1").unwrap();
        ok(&mut as_nobody(&server, UP, line, ",+net_admin"));
    }
    assert_eq!((held(), managed()), (both, rules));
    assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/conf/ppp0/rp_filter").unwrap(), "2\n");
    ISP2.hang_up();
    ok(&mut as_nobody(&server, DOWN, ISP2, ",+net_admin"));
    assert_eq!(held(), only1);
    // And root after that.
    ISP2.create();
    let said = fails(1, &mut server.hook(UP, ISP2));
    assert!(said.contains("is not safe"), "{said}");
}

#[test]
fn a_hook_that_has_its_power_from_its_file_knows_its_own_directory() {
    let server = open_to_others();
    // A program that it runs would have no power: it makes the rules itself.
    server.configure(&with_settings(ARTICLE, "firewall = \"nftables\""));
    state_of(&server, NOBODY);
    // Where temporary files are, files may give nobody power: Debian 13 mounts /tmp nosuid.
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
    let program = "/mnt/mh-ip-up";
    install(UP, program);
    ok(Command::new("setcap").args(["cap_net_admin+ep", program]));
    ISP1.create();
    // Not all of /proc/PID of such a process is its own.
    let mut hook = server.hook(program, ISP1);
    let args: Vec<_> = hook.get_args().map(ToOwned::to_owned).collect();
    hook = Command::new("setpriv");
    ok(hook.args(["--reuid=65534", "--regid=65534", "--clear-groups", "/bin/sh"]).args(args));
    assert_eq!(defaults("main").len(), 1);
    assert!(table().len() > 20, "{:?}", managed());
}

#[test]
fn without_power_it_is_said_on_one_line() {
    let server = open_to_others();
    server.up(ISP1);
    ISP2.create();
    let before = held();
    // Not even the records are its own.
    let said = fails(1, &mut as_nobody(&server, UP, ISP2, ""));
    assert!(said.lines().count() == 1 && said.contains("records.lock: Permission denied"), "{said}");
    // They are, but not the network.
    fs::remove_dir_all(server.state()).unwrap();
    state_of(&server, NOBODY);
    let said = fails(1, &mut as_nobody(&server, UP, ISP2, ""));
    assert!(said.lines().count() == 1 && said.contains("root, or CAP_NET_ADMIN"), "{said}");
    assert_eq!(held(), before);
    // What has become true by itself needs nobody.
    fs::remove_dir_all(server.state()).unwrap();
    ok(&mut server.hook(UP, ISP1));
    ISP1.hang_up();
    ISP1.unregister();
    let output = ok(as_nobody(&server, DOWN, ISP1, "").option("-v"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("without privileges there is nothing left to do"), "{said}");
}

#[test]
fn who_is_not_root_does_not_make_the_state_directory_of_all() {
    let server = open_to_others();
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
    ISP1.create();
    let state = server.state().to_str().unwrap().to_owned();
    let in_run = |hook: &Command| {
        let mut command = Command::new(hook.get_program());
        command.args(hook.get_args().map(|arg| if *arg == *state { OsStr::new("/run/multihome") } else { arg }));
        command.envs(hook.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir("/");
        command
    };
    let said = fails(1, &mut in_run(&as_nobody(&server, UP, ISP1, ",+net_admin,+dac_override")));
    assert!(said.contains("only root may make it") && said.lines().count() == 1, "{said}");
    assert!(!Path::new("/run/multihome").exists());
    ok(&mut in_run(&server.hook(UP, ISP1)));
    // Once it is there, such a user can serve his line.
    ISP2.create();
    ok(&mut in_run(&as_nobody(&server, UP, ISP2, ",+net_admin,+dac_override")));
    ok(&mut in_run(&server.hook(UP, ISP2)));
    assert_eq!(defaults("main").len(), 1);
    assert!(!defaults("2").is_empty());
}

/// Puts something in the place of a file that the hooks read.
type Obstacle = fn(&Path);

#[test]
fn what_stands_in_the_place_of_a_record_holds_nobody_up() {
    let obstacles: [(&str, Obstacle); 6] = [
        ("a pipe", |path| mkfifo(path, Mode::from_bits_truncate(0o644)).unwrap()),
        ("a directory", |path| fs::create_dir(path).unwrap()),
        ("a symbolic link", |path| symlink("/etc/passwd", path).unwrap()),
        ("a symbolic link to itself", |path| symlink(path, path).unwrap()),
        ("a huge file", |path| File::create(path).unwrap().set_len(1 << 40).unwrap()),
        ("a device", |path| symlink("/dev/zero", path).unwrap()),
    ];
    let server = Server::new(&with_settings(ARTICLE, "settle-timeout = \"0s\""));
    server.up(ISP1);
    server.up(ISP2);
    let both = held();
    for (what, obstacle) in obstacles {
        for name in ["ppp1.ipv4", "isp2.hold", ".ppp1.new"] {
            let path = server.state().join(name);
            let _ = fs::remove_file(&path);
            obstacle(&path);
            let started = Instant::now();
            let output = ok(server.hook(UP, ISP1).option("-v"));
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains(name) || name == ".ppp1.new", "{what}: {said}");
            assert!(!said.contains("root:"), "{what}: {said}");
            assert!(!defaults("1").is_empty(), "{what}");
            // The link itself is served as well, and the record is there unless a directory stands in its place.
            let output = server.hook(UP, ISP2).output().unwrap();
            let blocked = what == "a directory" && name != "isp2.hold";
            assert_eq!(output.status.code(), Some(i32::from(blocked)), "{what}, {name}: {output:?}");
            assert_eq!(held(), both, "{what}, {name}");
            assert!(started.elapsed() < Duration::from_secs(10), "{what}: {:?}", started.elapsed());
            let _ = fs::remove_dir(&path);
            let _ = fs::remove_file(&path);
            ok(&mut server.hook(UP, ISP2));
        }
    }
}

#[test]
fn nothing_is_written_through_what_stands_in_the_place_of_a_lock() {
    let server = Server::new(&with_settings(ARTICLE, "settle-timeout = \"0s\""));
    server.up(ISP1);
    let victim = server.config().with_file_name("victim");
    for name in ["lock", "records.lock"] {
        let lock = server.state().join(name);
        fs::write(&victim, "precious").unwrap();
        fs::remove_file(&lock).unwrap();
        symlink(&victim, &lock).unwrap();
        let said = fails(1, &mut server.hook(UP, ISP1));
        assert!(said.contains(name) && said.lines().count() == 1, "{said}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        fs::remove_file(&lock).unwrap();
        mkfifo(&lock, Mode::from_bits_truncate(0o600)).unwrap();
        let started = Instant::now();
        let _ = server.hook(UP, ISP1).status().unwrap();
        assert!(started.elapsed() < Duration::from_secs(10));
        fs::remove_file(&lock).unwrap();
        ok(&mut server.hook(UP, ISP1));
    }
}

#[test]
fn a_state_directory_of_another_user_is_refused() {
    let server = Server::new(ARTICLE);
    ISP1.create();
    state_of(&server, NOBODY);
    // What its owner has put there is not even looked at.
    symlink("/etc/passwd", server.state().join("ppp0.ipv4")).unwrap();
    for mode in [0o755, 0o700] {
        fs::set_permissions(server.state(), Permissions::from_mode(mode)).unwrap();
        for program in [UP, DOWN] {
            let said = fails(1, &mut server.hook(program, ISP1));
            assert!(said.contains("is not safe") && said.lines().count() == 1, "{said}");
        }
    }
    assert_eq!(fs::read_dir(server.state()).unwrap().count(), 1);
    assert_eq!(ours(), [""; 0]);
}

/// Files and programs that a hook and its children name to the kernel, with how they do it.
fn named(server: &Server, program: &str, line: Line, hostile: &[(&str, &str)]) -> BTreeSet<String> {
    // strace gives them to the hook only: sh(1) and strace itself are not on trial.
    let environment: Vec<_> = hostile.iter().map(|(name, value)| format!("-E {name}={value}")).collect();
    let options = format!("-f -e trace=%file {}", environment.join(" "));
    let text = log(&server.hook(program, line), &options, &server.config().with_file_name("named"));
    let call = |line: &str| {
        let (_, call) = line.split_once(' ')?;
        let (name, arguments) = call.trim_start().split_once('(')?;
        Some(format!("{name} {}", arguments.split('"').nth(1)?))
    };
    text.lines().filter_map(call).filter(|call| !call.starts_with("execve") || !call.contains("mh-ip")).collect()
}

#[test]
fn no_variable_of_the_environment_changes_what_is_read_or_run() {
    const EVIL: &str = "/nonexistent/evil";
    let names = "TMPDIR TMP TEMP PATH HOME PWD SHELL XDG_CONFIG_HOME XDG_RUNTIME_DIR XDG_CONFIG_DIRS XDG_STATE_HOME \
                 LD_PRELOAD LD_LIBRARY_PATH LD_AUDIT LD_DEBUG_OUTPUT GCONV_PATH LOCPATH NLSPATH TZ TZDIR LANG LC_ALL \
                 LANGUAGE RUST_LOG RUST_BACKTRACE RUST_LIB_BACKTRACE RUST_MIN_STACK MALLOC_TRACE GLIBC_TUNABLES \
                 HOSTALIASES RES_OPTIONS RESOLV_HOST_CONF LOCALDOMAIN XTABLES_LIBDIR IPTABLES_LIB_DIR XTABLES_LOCKFILE \
                 IPTABLES IPTABLES_RESTORE CONFIG STATE_DIR MULTIHOME_CONFIG MULTIHOME_STATE_DIR STATE_DIRECTORY \
                 RUNTIME_DIRECTORY NOTIFY_SOCKET CLICOLOR_FORCE NO_COLOR TERM COLUMNS TOKIO_WORKER_THREADS IFS ENV \
                 BASH_ENV CDPATH";
    let hostile: Vec<_> = names.split_whitespace().map(|name| (name, EVIL)).collect();
    let server = Server::new("");
    ISP1.create();
    // The first event of all, so that iptables-restore is run where iptables holds the rules.
    let life = |hostile: &[_]| {
        let up = named(&server, UP, ISP1, hostile);
        let down = named(&server, DOWN, ISP1, hostile);
        ok(server.bare(CTL).arg("flush"));
        fs::remove_dir_all(server.state()).unwrap();
        [up, down]
    };
    for filter in ["iptables", "nftables"] {
        server.configure(&with_settings(ARTICLE, &format!("firewall = \"{filter}\"\nsettle-timeout = \"0s\"")));
        let calm = life(&[]);
        let programs: Vec<_> = calm.iter().flatten().filter(|call| call.starts_with("execve ")).collect();
        let restores = programs.iter().any(|call| call.ends_with("/iptables-restore"));
        assert!(if filter == "iptables" { restores } else { programs.is_empty() }, "{calm:#?}");
        assert!(calm[0].iter().any(|call| call.ends_with("/ppp0.ipv4")), "{calm:#?}");
        let found = life(&hostile);
        assert_eq!(found, calm);
        assert!(!found.iter().flatten().any(|call| call.contains("evil")));
    }
}
