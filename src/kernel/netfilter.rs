//! What connection tracking and `nf_tables` have in common on the wire: `struct nfgenmsg`, and
//! attributes in network byte order (`nfnetlink.h`).

use netlink_packet_core::{DefaultNla, Emitable};

/// `struct nfgenmsg`.
pub(super) const HEADER_LEN: usize = 4;
const AF_INET: u8 = 2;

/// A request.
pub(super) struct Message {
    /// `NFNETLINK_V1` has ctnetlink heed the family where it flushes (5.3, `ctnetlink_del_conntrack`).
    pub(super) version: u8,
    /// 0: any.
    pub(super) family: u8,
    pub(super) attributes: Vec<DefaultNla>,
}

impl Message {
    /// A request about IPv4.
    pub(super) fn new(attributes: Vec<DefaultNla>) -> Self {
        Self { version: 0, family: AF_INET, attributes }
    }
}

impl Emitable for Message {
    fn buffer_len(&self) -> usize {
        HEADER_LEN + self.attributes.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        buffer[..HEADER_LEN].copy_from_slice(&[self.family, self.version, 0, 0]);
        self.attributes.as_slice().emit(&mut buffer[HEADER_LEN..]);
    }
}

/// A string, NUL-terminated as `nf_tables` wants it.
pub(super) fn text(kind: u16, text: &str) -> DefaultNla {
    DefaultNla::new(kind, [text.as_bytes(), &[0]].concat())
}

/// A number.
pub(super) fn number(kind: u16, n: u32) -> DefaultNla {
    DefaultNla::new(kind, n.to_be_bytes().to_vec())
}

/// What follows the header of an answer.
pub(super) fn payload(body: &[u8]) -> &[u8] {
    body.get(HEADER_LEN..).unwrap_or_default()
}

/// The value of the first attribute of that kind.
pub(super) fn attribute(nlas: &[u8], kind: u16) -> Option<&[u8]> {
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
pub(super) fn string(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}
