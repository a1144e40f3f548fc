//! What can befall a hook: it is killed or stopped at any moment or at any of its calls, or the system says no to it.

use std::fs;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::random::Random;
use crate::support::{send, strace};

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Disturbance {
    None,
    /// A signal after so many microseconds.
    After(u64, Signal),
    /// At the call of that name and number, as strace(1) says it.
    At(&'static str, usize, &'static str),
}

impl Disturbance {
    pub fn any(random: &mut Random) -> Self {
        const CALLS: [(&str, usize); 9] = [
            ("sendto", 45),
            ("recvfrom", 120),
            ("openat", 30),
            ("write", 6),
            ("flock", 2),
            ("rename", 1),
            ("unlink", 1),
            ("socket", 6),
            ("close", 30),
        ];
        const ERRORS: [&str; 7] = [
            "error=ENOBUFS",
            "error=ENOMEM",
            "error=EINTR",
            "error=EAGAIN",
            "error=ENOSPC",
            "error=EIO",
            "error=EMFILE",
        ];
        let signal = random.pick(&[Signal::SIGKILL, Signal::SIGSTOP]);
        let (call, most) = random.pick(&CALLS);
        let nth = 1 + random.below(most);
        match random.below(8) {
            0..4 => Self::None,
            4 => Self::After(u64::try_from(random.below(15_000)).unwrap(), signal),
            5 => Self::At(call, nth, if signal == Signal::SIGKILL { "signal=KILL" } else { "signal=STOP" }),
            // close(2) does not fail so that the file stays open, nor does what tokio writes to itself, to an eventfd(2).
            _ if call == "close" || call == "write" && nth > 2 => Self::None,
            // From here on it can be std's own socket to a child that starts, which it trusts (and waits for ever).
            _ if call == "recvfrom" && nth > 60 => Self::At(call, nth, "error=EINTR"),
            _ => Self::At(call, nth, random.pick(&ERRORS)),
        }
    }

    /// The command of a hook that this befalls.
    pub fn of(self, command: Command) -> Command {
        match self {
            Self::None | Self::After(..) => command,
            Self::At(call, nth, what) => {
                strace::under(&command, &format!("-o /dev/null -e trace={call} -e inject={call}:{what}:when={nth}"))
            }
        }
    }

    /// What has to be done when it has started.
    pub fn strike(self, child: &Child) {
        if let Self::After(time, signal) = self {
            thread::sleep(Duration::from_micros(time));
            send(signal, child);
        }
    }
}

/// What a process and its children are doing, as far as the kernel tells it.
pub fn waits_in(pid: u32) -> String {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let children = read(&format!("task/{pid}/children"));
    let children: Vec<_> = children.split_whitespace().map(|child| waits_in(child.parse().unwrap())).collect();
    let [command, call, stack] = ["cmdline", "syscall", "stack"].map(read);
    format!("{command:?} in {call}{stack}{}", children.join("\n"))
}
