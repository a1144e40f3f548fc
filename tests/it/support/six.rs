//! IPv6 of a line: the addresses that pppd's IPV6CP and a router's advertisement leave, and its hooks ipv6-up and
//! ipv6-down.

use std::process::Command;

use super::{DOWN, Line, Server, UP, finish, ip, ok, shown, start};

/// IPv6 of a line whose device the IPv4 of it has made.
#[derive(Clone, Copy)]
pub struct Six {
    pub line: Line,
    /// Ours, link-local.
    pub local: &'static str,
    /// The peer's.
    pub remote: &'static str,
    /// Ours, global, with its prefix length.
    pub global: &'static str,
}

pub const SIX1: Six = Six { line: super::ISP1, local: "fe80::a", remote: "fe80::1", global: "2001:db8:1::10/64" };
pub const SIX2: Six = Six { line: super::ISP2, local: "fe80::b", remote: "fe80::2", global: "2001:db8:2::10/64" };

impl Six {
    /// The addresses on the device, as at ipv6-up.
    pub fn create(&self) {
        let Self { line: Line { device, .. }, local, global, .. } = self;
        ip(&format!("-6 addr replace {local}/64 dev {device} nodad"));
        ip(&format!("-6 addr replace {global} dev {device} nodad"));
    }

    /// A hook as pppd runs it for IPv6.
    pub fn hook(&self, server: &Server, program: &str) -> Command {
        let Line { device, link, pid, .. } = self.line;
        let mut command = server.bare(program);
        command.env("PPPD_PID", pid.to_string()).env("LINKNAME", link).env("IFNAME", device);
        command.env("LLLOCAL", self.local).env("LLREMOTE", self.remote);
        command.args([device, "/dev/pts/7", "115200", self.local, self.remote, link]);
        command
    }

    /// ipv6-up, which has to succeed.
    pub fn up(&self, server: &Server) {
        self.create();
        ok(&mut self.hook(server, UP));
    }

    /// The line ends with IPv6 only: pppd takes the addresses first, then runs ipv6-down.
    pub fn lose(&self, server: &Server) {
        ip(&format!("-6 addr flush dev {}", self.line.device));
        finish(start(&mut self.hook(server, DOWN)));
    }
}

/// All that ip(8) shows of IPv6 routing that is ours or a rule: each on a line of its own.
pub fn held6() -> Vec<String> {
    // ip(8) of Debian 12 and 13 differ in what they write as numbers.
    let rules = shown("-6 rule");
    let mut all: Vec<_> =
        rules.iter().map(|line| line.replace("ipproto-", "").replace(" 7 proto", " unreachable proto")).collect();
    all.extend(routes6().into_iter().filter(|line| line.contains(" proto 77 ")));
    all
}

/// The IPv6 default routes of main, one a line.
pub fn defaults6() -> Vec<String> {
    routes6().into_iter().filter(|line| line.starts_with("default ") && !line.contains(" table ")).collect()
}

fn routes6() -> Vec<String> {
    let lines = shown("-6 -o route show table all");
    lines
        .iter()
        .map(|line| line.replace("\\\t", " ").replace(" pref medium", "").trim_end().replace("  ", " "))
        .collect()
}
