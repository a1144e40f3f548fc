//! What systemd is told (`sd_notify(3)`): a datagram of a few lines.

use std::env;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tracing::debug;

/// The way to systemd, if it has started us.
#[derive(Debug, Default)]
pub(super) struct Service {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
    status: String,
}

impl Service {
    /// As the environment says.
    pub(super) fn new() -> Self {
        let Some(path) = env::var_os("NOTIFY_SOCKET") else { return Self::default() };
        let path = path.as_bytes();
        // Abstract: the name begins with a NUL, which no variable can hold.
        let address = match path.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path)),
        };
        let socket = address.and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            socket.connect_addr(&address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        let socket = socket.inspect_err(|e| debug!("systemd is not told: {e}")).ok();
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| is_ours && *usec > 0).map(Duration::from_micros);
        Self { socket, watchdog, status: String::new() }
    }

    /// How often [`Self::alive`] has to be called, if at all.
    pub(super) fn pulse(&self) -> Option<Duration> {
        self.socket.as_ref().and(self.watchdog).map(|watchdog| watchdog / 2)
    }

    pub(super) fn ready(&self) {
        self.send("READY=1");
    }

    /// The configuration is read again; [`Self::ready`] says when it is.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
    }

    pub(super) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    pub(super) fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// One line for `systemctl status`.
    pub(super) fn status(&mut self, status: String) {
        if status != self.status {
            self.send(&format!("STATUS={status}"));
            self.status = status;
        }
    }

    /// Nothing depends on its arrival, but for the watchdog, which the next one satisfies as well.
    fn send(&self, text: &str) {
        if let Some(socket) = &self.socket
            && let Err(e) = socket.send(text.as_bytes())
        {
            debug!("systemd is not told: {e}");
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}
