//! mhctl in a server of a test.

use std::process::Command;

use serde_json::Value;

use super::{CTL, Server, ok, shown, without_spares};

/// How the default route by two lines begins.
pub const BOTH: &str = "default nhid 7100 proto 77";

pub fn ctl(server: &Server, args: &str) -> Command {
    let mut command = server.bare(CTL);
    command.args(args.split_whitespace());
    command
}

pub fn said(server: &Server, args: &str) -> String {
    String::from_utf8(ok(&mut ctl(server, args)).stdout).unwrap()
}

pub fn json(server: &Server, args: &str) -> Value {
    serde_json::from_str(&said(server, args)).unwrap()
}

/// Status of exit and standard error.
pub fn refused(server: &Server, args: &str) -> (Option<i32>, String) {
    let output = ctl(server, args).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

pub fn default_route() -> String {
    without_spares(shown("route show default")).join("\n")
}

/// Everything that can be of ours. IPv6 comes and goes by itself.
pub fn held_by_the_kernel() -> [Vec<String>; 3] {
    [shown("-4 route show table all"), shown("-4 rule show"), shown("nexthop show")]
}
