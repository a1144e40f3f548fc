//! Runs a program without a shell or an environment, for a limited time.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Between two looks whether a program that has closed its outputs has ended.
const PAUSE: Duration = Duration::from_micros(100);

/// Runs the program with `input` as its standard input; `None`: it had not ended after `limit`, and was killed.
pub(super) fn run(path: &Path, args: &[&str], input: &[u8], limit: Duration) -> io::Result<Option<Output>> {
    let deadline = Instant::now() + limit;
    let mut command = Command::new(path);
    command.args(args).env_clear().current_dir("/");
    let mut child = command.stdin(file(input)?).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let ended = follow(&mut child, deadline);
    if !matches!(ended, Ok(Some(_))) {
        // It may have ended meanwhile.
        let _ = child.kill();
        child.wait()?;
    }
    ended
}

/// A file in memory: a program that stops reading it cannot hold us up, as it could with a pipe.
fn file(text: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"input", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(text)?;
    file.rewind()?;
    Ok(file)
}

/// Reads the outputs of the program until it has ended; `None`: the deadline came first.
fn follow(child: &mut Child, deadline: Instant) -> io::Result<Option<Output>> {
    let outputs = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
    let mut pipes = outputs.map(|output| Pipe { file: output.map(File::from), text: Vec::new() });
    while pipes.iter().any(|pipe| pipe.file.is_some()) {
        let Some(ready) = wait(&pipes, deadline)? else { return Ok(None) };
        for (pipe, _) in pipes.iter_mut().filter(|pipe| pipe.file.is_some()).zip(ready).filter(|(_, ready)| *ready) {
            pipe.read()?;
        }
    }
    let Some(status) = end(child, deadline)? else { return Ok(None) };
    let [stdout, stderr] = pipes.map(|pipe| pipe.text);
    Ok(Some(Output { status, stdout, stderr }))
}

/// An output of the program.
struct Pipe {
    /// `None`: the program has closed it.
    file: Option<File>,
    text: Vec<u8>,
}

impl Pipe {
    /// Reads what is there.
    fn read(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut buffer = [0; 4096];
        match file.read(&mut buffer)? {
            0 => self.file = None,
            length => self.text.extend_from_slice(&buffer[..length]),
        }
        Ok(())
    }
}

/// Waits until an open pipe has something to read; which of the open ones have. `None`: the deadline came first.
fn wait(pipes: &[Pipe], deadline: Instant) -> io::Result<Option<Vec<bool>>> {
    let open = pipes.iter().filter_map(|pipe| pipe.file.as_ref());
    let mut fds: Vec<_> = open.map(|file| PollFd::new(file.as_fd(), PollFlags::POLLIN)).collect();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match poll(&mut fds, timeout(left)) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(fds.iter().map(|fd| fd.any().unwrap_or(true)).collect())),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// As poll(2) has it, which counts milliseconds: never shorter than `time`, up to 24 days.
pub(super) fn timeout(time: Duration) -> PollTimeout {
    let up = if time.is_zero() { time } else { time.saturating_add(Duration::from_millis(1)) };
    PollTimeout::try_from(up).unwrap_or(PollTimeout::MAX)
}

/// Waits for the end of the program; `None`: the deadline came first.
fn end(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, input: &[u8], limit: Duration) -> Option<Output> {
        run(Path::new("/bin/sh"), &["-c", script], input, limit).unwrap()
    }

    #[test]
    fn a_program_is_fed_and_read_whatever_it_does_first() {
        let long = vec![b'x'; 300_000];
        for script in ["cat; cat >&2 </dev/null", "exec 2>&-; cat", "head -c 300000 /dev/zero >&2; cat"] {
            let output = sh(script, &long, Duration::from_mins(1)).unwrap();
            assert!(output.status.success(), "{script}: {:?}", output.status);
            assert_eq!(output.stdout, long, "{script}");
        }
        let output = sh("echo $PWD $HOME; echo no >&2; exit 3", &long, Duration::from_mins(1)).unwrap();
        assert_eq!(
            (output.status.code(), &output.stdout[..], &output.stderr[..]),
            (Some(3), &b"/\n"[..], &b"no\n"[..])
        );
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        for script in ["exec sleep 600", "exec sleep 600 >&- 2>&-", "exec yes"] {
            assert_eq!(sh(script, b"", Duration::from_millis(300)), None, "{script}");
        }
        assert!(run(Path::new("/nonexistent"), &[], b"", Duration::from_secs(1)).is_err());
    }
}
