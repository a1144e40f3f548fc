//! ICMP echo (RFC 792, RFC 4443), as a socket of `SOCK_DGRAM` sends and receives it: without a header of IP; checksum and
//! identifier are the kernel's, which delivers the answers with the identifier of the socket.

use crate::model::names::Family;

/// Header and the random number. Some networks drop an echo without a payload.
const LEN: usize = 16;

/// An echo request with a random number, whose lower bits are its sequence number, too.
pub(super) fn question(family: Family, random: u64) -> Vec<u8> {
    let mut packet = vec![0; 4];
    if let Some(kind) = packet.first_mut() {
        *kind = if family == Family::V4 { 8 } else { 128 };
    }
    packet.extend([0, 0]);
    packet.extend(sequence(random));
    packet.extend(random.to_be_bytes());
    packet
}

fn sequence(random: u64) -> [u8; 2] {
    let [.., high, low] = random.to_be_bytes();
    [high, low]
}

/// The random number that a packet gives back; `None`: it is no echo of ours.
pub(super) fn answered(family: Family, packet: &[u8]) -> Option<u64> {
    let packet: &[u8; LEN] = packet.try_into().ok()?;
    let [kind, code, _, _, _, _, high, low, random @ ..] = *packet;
    let random = u64::from_be_bytes(random);
    let expected = if family == Family::V4 { 0 } else { 129 };
    (kind == expected && code == 0 && sequence(random) == [high, low]).then_some(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_echo_of_the_whole_question_is_an_answer() {
        let random = 0x0123_4567_89ab_cdef;
        for (family, request, reply) in [(Family::V4, 8, 0), (Family::V6, 128, 129)] {
            let mut packet = question(family, random);
            assert_eq!(packet, [&[request, 0, 0, 0, 0, 0, 0xcd, 0xef][..], &random.to_be_bytes()].concat());
            assert_eq!(answered(family, &packet), None);
            packet[0] = reply;
            // The kernel fills in checksum and identifier.
            packet[2..6].copy_from_slice(&[1, 2, 3, 4]);
            assert_eq!(answered(family, &packet), Some(random));
            for at in [0, 1, 6, 7, 15] {
                let mut other = packet.clone();
                other[at] ^= 0x80;
                assert_eq!(answered(family, &other), None, "{at}");
            }
            assert_eq!(answered(family, &packet[..15]), None);
            assert_eq!(answered(family, &[&packet[..], &[0]].concat()), None);
        }
    }
}
