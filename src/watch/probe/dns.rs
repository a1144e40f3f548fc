//! The shortest question of DNS (RFC 1035): who are the name servers of the root?

/// Header of a question: recursion is desired, since a resolver answers from what it knows, and there is one question.
const ASKED: [u8; 10] = [1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
/// The root, NS, IN.
const QUESTION: [u8; 5] = [0, 0, 2, 0, 1];

pub(super) const PORT: u16 = 53;

pub(super) fn question(id: u16) -> Vec<u8> {
    [&id.to_be_bytes()[..], &ASKED, &QUESTION].concat()
}

/// The id that a message answers; `None`: it is no answer to our question. Whatever the server says, it is there: an error
/// may come as a header alone.
pub(super) fn answered(message: &[u8]) -> Option<u16> {
    let (header, rest) = message.split_at_checked(12)?;
    let &[high, low, flags, ..] = header else { return None };
    // A response to a standard query.
    let is_response = flags & 0xf8 == 0x80;
    (is_response && (rest.is_empty() || rest.starts_with(&QUESTION))).then_some(u16::from_be_bytes([high, low]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_response_to_the_question_is_an_answer() {
        let asked = question(0xabcd);
        assert_eq!(asked, [0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1]);
        assert_eq!(answered(&asked), None);
        let mut refused = asked;
        refused[2..4].copy_from_slice(&[0x81, 0x85]);
        assert_eq!(answered(&refused), Some(0xabcd));
        assert_eq!(answered(&[&refused[..], &[0xc0, 12]].concat()), Some(0xabcd));
        assert_eq!(answered(&refused[..12]), Some(0xabcd));
        assert_eq!(answered(&refused[..11]), None);
        assert_eq!(answered(&refused[..14]), None);
        let mut other = refused.clone();
        other[14] = 1;
        assert_eq!(answered(&other), None);
        refused[2] = 0xa9;
        assert_eq!(answered(&refused), None);
    }
}
