//! What travels through a tunnel of OpenVPN, or would be sent in the clear.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::openvpn::HOST;

/// Asks the host behind the tunnel who we are to it. Sends again where no answer comes.
pub fn ask() -> io::Result<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(300)))?;
    let mut answer = [0; 64];
    let mut last = io::ErrorKind::TimedOut.into();
    for _ in 0..10 {
        socket.send_to(b"who", SocketAddr::new(HOST.parse().unwrap(), 7))?;
        match socket.recv_from(&mut answer) {
            Ok((length, _)) => return Ok(String::from_utf8_lossy(&answer[..length]).parse().unwrap()),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// Sends to the host behind the tunnel without a pause, from the thread's namespace, for as long as it lives.
pub struct Chatter {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Chatter {
    pub fn start() -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // A socket for each, so that none sticks to an address; refusals are what is wanted.
                let _ = UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"who", (HOST, 7));
                thread::sleep(Duration::from_micros(200));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Chatter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It panics only where the machine has no socket left, and has said so then.
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}
