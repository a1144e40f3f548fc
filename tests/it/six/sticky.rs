//! Sticky connections in IPv6.

use super::internet::*;
use crate::support::*;

/// The server and the first line, then both.
fn scene(config: &str) -> (Server, Six) {
    let server = Server::new(config);
    let six = Six::new();
    for line in [SIX1, SIX2] {
        six.begin(&server, line);
    }
    (server, six)
}

#[test]
fn unbound_sockets_of_the_server_have_a_source_of_the_line_that_they_leave_by() {
    let (_server, _six) = scene(LINKS);
    let seen: Vec<_> = (0..36).map(|n| ask_from("::", &format!("2001:db8:f::{n:x}")).expect("an answer")).collect();
    let by = [SIX1, SIX2].map(|line| seen.iter().filter(|addr| line.has(**addr)).count());
    assert_eq!(by[0] + by[1], 36, "{seen:?}");
    assert!(by.iter().all(|n| *n > 5), "{by:?}");
}
