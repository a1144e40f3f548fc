//! Netlink attributes, of the routing and of the netfilter side alike (`struct nlattr`, netlink(7)).

use netlink_packet_core::{DefaultNla, Emitable};

/// What goes into a request.
pub(crate) fn bytes(body: &impl Emitable) -> Vec<u8> {
    let mut bytes = vec![0; body.buffer_len()];
    body.emit(&mut bytes);
    bytes
}

/// An attribute that holds others.
pub(crate) fn nested(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    DefaultNla::new(kind, bytes(&attributes))
}

/// A string, NUL-terminated as the kernel wants it.
pub(crate) fn text(kind: u16, text: &str) -> DefaultNla {
    DefaultNla::new(kind, [text.as_bytes(), &[0]].concat())
}

/// The value of the first attribute of that kind.
pub(crate) fn attribute(nlas: &[u8], kind: u16) -> Option<&[u8]> {
    // An attribute that cannot be read ends the list.
    let mut rest = nlas;
    while let Some(&[l0, l1, k0, k1]) = rest.first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = rest.get(4..length)?;
        // The two upper bits are flags.
        if u16::from_ne_bytes([k0, k1]) & 0x3fff == kind {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// A string, which ends with a NUL or not.
pub(crate) fn string(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}
