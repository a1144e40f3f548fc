//! The administrator's program: run for one event, with its JSON on standard input.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tracing::{debug, warn};

/// How long it may take.
const LONGEST: Duration = Duration::from_secs(10);

/// Bytes of what it says that are logged.
const LOGGED: usize = 2048;

/// Runs the program to its end, and logs what it says and how it fails. It gets no variable but PATH, and no shell reads
/// its arguments.
pub(super) async fn run(command: Vec<String>, line: String) {
    let Some((program, arguments)) = command.split_first() else { return };
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Of its own, to be killed with all that it has started.
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(e) => return warn!("event-command: cannot run {program}: {e}"),
    };
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    match timeout(LONGEST, attend(&mut child, &line, program)).await {
        Ok(Ok(status)) if status.success() => debug!("{program} has been told"),
        Ok(Ok(status)) => warn!("event-command: {program}: {status}"),
        Ok(Err(e)) => warn!("event-command: {program}: {e}"),
        Err(_) => {
            warn!("event-command: {program} is killed: it has taken more than {} s", LONGEST.as_secs());
            // The child is not reaped yet, or its group has others: the number is still theirs.
            if let Some(Err(e)) = group.map(|group| killpg(group, Signal::SIGKILL)) {
                debug!("{program}: {e}");
            }
            let _ = child.wait().await;
        }
    }
}

/// Writes the line, reads what the program says, and waits for its end.
async fn attend(child: &mut Child, line: &str, program: &str) -> io::Result<ExitStatus> {
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut input) = input {
            // It need not read it.
            let _ = input.write_all(line.as_bytes()).await;
        }
    };
    let ((), said, complained, status) = tokio::join!(write, read(output), read(errors), child.wait());
    for text in [said, complained] {
        for line in text.lines() {
            warn!("{program}: {line}");
        }
    }
    status
}

/// Reads to the end, and keeps the beginning, without control characters.
async fn read(from: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut from) = from else { return String::new() };
    let (mut kept, mut part) = (Vec::new(), [0; 512]);
    while let Ok(length @ 1..) = from.read(&mut part).await {
        let room = LOGGED.saturating_sub(kept.len());
        kept.extend(part[..length].iter().take(room));
    }
    let text = String::from_utf8_lossy(&kept).into_owned();
    text.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect()
}
