//! Netlink attributes (`struct nlattr`, netlink(7)).

use netlink_packet_core::{DecodeError, DefaultNla, Emitable, NLA_F_NESTED};

/// The body of a message: a header of `N` bytes, and attributes.
#[derive(Debug, Clone)]
pub(crate) struct Body<const N: usize> {
    pub(crate) header: [u8; N],
    pub(crate) attributes: Vec<DefaultNla>,
}

impl<const N: usize> Body<N> {
    pub(crate) fn new(header: [u8; N]) -> Self {
        Self { header, attributes: Vec::new() }
    }

    pub(crate) fn push(&mut self, kind: u16, value: &[u8]) {
        self.attributes.push(DefaultNla::new(kind, value.to_vec()));
    }
}

impl<const N: usize> Emitable for Body<N> {
    fn buffer_len(&self) -> usize {
        N + self.attributes.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        let (header, attributes) = buffer.split_at_mut(N);
        header.copy_from_slice(&self.header);
        self.attributes.as_slice().emit(attributes);
    }
}

/// The bytes of a message body.
pub(crate) fn bytes(body: &impl Emitable) -> Vec<u8> {
    let mut bytes = vec![0; body.buffer_len()];
    body.emit(&mut bytes);
    bytes
}

/// A nested attribute.
pub(crate) fn nested(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    DefaultNla::new(kind | NLA_F_NESTED, bytes(&attributes))
}

/// An attribute with a NUL-terminated string.
pub(crate) fn text(kind: u16, text: &str) -> DefaultNla {
    DefaultNla::new(kind, [text.as_bytes(), &[0]].concat())
}

/// Kinds and values of attributes, read in place. A malformed one is an error and ends the iteration.
pub(crate) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    pub(crate) fn new(nlas: &'a [u8]) -> Self {
        Self(nlas)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, &'a [u8]), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = std::mem::take(&mut self.0);
        if rest.is_empty() {
            return None;
        }
        let next = rest.first_chunk::<4>().and_then(|&[l0, l1, k0, k1]| {
            let length = usize::from(u16::from_ne_bytes([l0, l1]));
            let value = rest.get(4..length)?;
            self.0 = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            // The two upper bits are flags.
            Some((u16::from_ne_bytes([k0, k1]) & 0x3fff, value))
        });
        Some(next.ok_or_else(|| DecodeError::from("an attribute that is cut short")))
    }
}

/// The value of the first attribute of that kind.
pub(crate) fn attribute(nlas: &[u8], kind: u16) -> Option<&[u8]> {
    Attributes::new(nlas).map_while(Result::ok).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// The string of an attribute, with or without a NUL.
pub(crate) fn string(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}
