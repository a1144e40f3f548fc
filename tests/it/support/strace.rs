//! A hook under strace(1): which calls of the kernel it makes, killed or stopped at one of them, or
//! lied to by one of them. Nothing in the product knows of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Calls that change something outside of the process, or by which it asks the kernel or waits for
/// it; `?`: not every architecture has them all.
pub const CALLS: &str = "sendto,write,openat,?mkdir,mkdirat,?rename,renameat,renameat2,?unlink,unlinkat,fchmod,ftruncate,\
                     flock,clone,?clone3,?vfork,wait4,waitid,?poll,ppoll";

/// `command`, as `Server::hook` makes it, with these options of strace(1) in front. The process that is
/// started is the hook itself (`-D`), and children of it are left alone.
pub fn under(command: &Command, options: &str) -> Command {
    let mut args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    assert_eq!(args[0], "-c", "{command:?}");
    let script = args[1].to_str().unwrap();
    assert!(script.contains("exec "), "{command:?}");
    args[1] = script.replace("exec ", &format!("exec strace -D -qqq {options} ")).into();
    let mut traced = Command::new(command.get_program());
    traced.args(args).env_clear().stdin(Stdio::null());
    traced.current_dir(command.get_current_dir().unwrap_or(Path::new("/")));
    traced.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    traced
}

/// A call that a hook makes.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// How many of this name there have been by then, from 1.
    pub nth: usize,
    /// As strace shows it.
    pub text: String,
}

impl Call {
    /// `command` with this done to the call: `signal=KILL`, `error=ENOMEM` ...
    pub fn spoilt(&self, command: &Command, how: &str) -> Command {
        let Self { name, nth, .. } = self;
        under(command, &format!("-o /dev/null -e trace={name} -e inject={name}:{how}:when={nth}"))
    }

    /// `command`, killed when it is about to make the call: what it has done before is done, that call is not. With
    /// every call in turn this is before and after each of them.
    pub fn killed(&self, command: &Command) -> Command {
        self.spoilt(command, "signal=KILL")
    }
}

/// What strace(1) writes about `command`, which has to succeed; `file` is where it does so.
pub fn log(command: &Command, options: &str, file: &Path) -> String {
    super::ok(&mut under(command, &format!("-o {} -e signal=none {options}", file.display())));
    // The tracer, which ends after the hook does, leaves the end of it until then.
    let mut text = String::new();
    super::until("strace has written all", || {
        let before = text.len();
        std::thread::sleep(std::time::Duration::from_millis(5));
        text = fs::read_to_string(file).unwrap_or_default();
        before > 0 && before == text.len() && text.ends_with('\n')
    });
    fs::remove_file(file).unwrap();
    text
}

/// Which of these calls `command` makes when nobody disturbs it; `file` is where strace writes meanwhile.
pub fn calls(command: &Command, names: &str, file: &Path) -> Vec<Call> {
    let text = log(command, &format!("-e trace={names}"), file);
    let mut counts = BTreeMap::new();
    let call = |line: &str| {
        let name = line.split('(').next().unwrap().to_owned();
        let nth = counts.entry(name.clone()).and_modify(|n| *n += 1).or_insert(1);
        Call { nth: *nth, name, text: line.to_owned() }
    };
    text.lines().map(call).collect()
}

/// The programs that `command` runs.
pub fn programs(server: &super::Server, command: &Command) -> Vec<String> {
    let text = log(command, "-f -e trace=execve -e status=successful", &server.config().with_file_name("programs"));
    let program = |line: &str| Some(line.split_once("execve(\"")?.1.split_once('"')?.0.to_owned());
    let all: Vec<_> = text.lines().filter_map(program).collect();
    // It comes first itself.
    let own = command.get_args().nth(2).unwrap();
    assert!(all.first().is_some_and(|first| first.as_str() == own), "{all:?}");
    all[1..].to_vec()
}
