//! Rules of iptables(8) that set or compare the links' marks: those of other programs, and those that somebody has
//! written by hand, perhaps before there was multihome. Pure.

use super::Finding;
use crate::model::sh::quoted;

/// Options whose value is a mark and a mask.
const MARK_OPTIONS: [&str; 8] =
    ["--mark", "--set-mark", "--set-xmark", "--or-mark", "--nfmask", "--ctmask", "--restore-mark", "--save-mark"];
/// The kernel's chains of table mangle: programs have chains of their own.
const BY_HAND: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

/// What is wrong about a rule as iptables-save(8) writes it, if it touches bits of `union`.
pub(super) fn judge(table: &str, line: &str, union: u32) -> Option<Finding> {
    let words = words(line);
    let bits = mask(&words) & union;
    if bits == 0 {
        return None;
    }
    let what = format!("iptables: {line}");
    let target = words.iter().position(|word| word == "-j").and_then(|at| words.get(at + 1)).map_or("", |word| word);
    let chain = words.get(1).map_or("", |word| word);
    if table != "mangle" || !BY_HAND.contains(&chain) {
        let fix = if mask(&words) == u32::MAX {
            "use a mask in that rule: it leaves no bit for marks of links"
        } else {
            "use a mask in that rule, or give the links other marks with `mark`"
        };
        let why = format!("it uses bits of multihome's marks ({bits:#x}), and steers connections by them");
        return Some(Finding::trouble(what, why, fix));
    }
    let spec: Vec<_> = words.iter().skip(1).map(|word| quoted(word)).collect();
    let delete = format!("iptables -t mangle -D {}, and where it is loaded from at boot", spec.join(" "));
    match (target, chain) {
        ("MARK", "OUTPUT" | "PREROUTING") => {
            let (value, mask) = set(&words)?;
            // A link's bit, or several: the first of these links that is up takes the connection.
            if mask & !union == 0 {
                return None;
            }
            let mask = if value & union == 0 { value } else { value | union };
            let why = "it overwrites all other bits of the mark, multihome's and those of other programs";
            let fix = match value {
                // It chooses nothing.
                0 => format!("delete it: {delete}"),
                _ => format!(
                    "write a [[policy]] and delete it: {delete}; or give it a mask: --set-xmark {value:#x}/{mask:#x}"
                ),
            };
            Some(Finding::trouble(what, why, fix))
        }
        ("MARK", _) => Some(Finding::trouble(
            what,
            "a packet is routed before it comes there: the mark steers nothing, and hides that of its connection",
            format!("write a [[policy]] and delete it: {delete}"),
        )),
        ("CONNMARK", _) => Some(Finding::trouble(
            what,
            "multihome marks connections itself: this writes over its marks and those of other programs",
            format!("delete it: {delete}"),
        )),
        _ => Some(Finding::trouble(
            what,
            "it keeps packets with a link's mark from multihome's chain, which stands behind it",
            format!("delete it: {delete}"),
        )),
    }
}

/// The words of a line of iptables-save(8), which quotes with `"` and `\`.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut in_word = false;
    let mut in_quotes = false;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == ' ' && !in_quotes {
            in_word = false;
            continue;
        }
        if !in_word {
            words.push(String::new());
            in_word = true;
        }
        let Some(word) = words.last_mut() else { continue };
        match c {
            '"' => in_quotes = !in_quotes,
            '\\' if in_quotes => word.extend(chars.next()),
            c => word.push(c),
        }
    }
    words
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Value and mask that target MARK sets.
fn set(words: &[String]) -> Option<(u32, u32)> {
    let at = words.iter().position(|word| ["--set-xmark", "--set-mark"].contains(&word.as_str()))?;
    let value = words.get(at + 1)?;
    match value.split_once('/') {
        Some((value, mask)) => Some((number(value)?, number(mask)?)),
        None => Some((number(value)?, u32::MAX)),
    }
}

/// The bits that a rule sets or compares.
fn mask(words: &[String]) -> u32 {
    let has = |option: &str| words.iter().any(|word| word == option);
    let mut all = 0;
    for (at, word) in words.iter().enumerate().filter(|(_, word)| MARK_OPTIONS.contains(&word.as_str())) {
        let value = words.get(at + 1).map_or("", |v| v);
        all |= match (value.split_once('/'), number(value)) {
            (Some((_, mask)), _) => number(mask).unwrap_or(u32::MAX),
            // --or-mark sets the bits of its value; the rest without a mask mean all of them.
            (None, Some(bits)) if ["--or-mark", "--nfmask", "--ctmask"].contains(&word.as_str()) => bits,
            // `--restore-mark` and its like stand alone, and masks may follow.
            (None, None) if has("--nfmask") || has("--ctmask") => 0,
            (None, _) => u32::MAX,
        };
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_of_a_rule_are_those_under_its_mask() {
        for (line, expected) in [
            ("-A PREROUTING -j MARK --set-xmark 0x40000/0xff0000", 0x00ff_0000),
            ("-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000", 0x4000),
            ("-A OUTPUT -m mark --mark 0x1", u32::MAX),
            ("-A OUTPUT -j CONNMARK --restore-mark", u32::MAX),
            ("-A OUTPUT -j CONNMARK --restore-mark --nfmask 0xf0 --ctmask 0xf0", 0xf0),
            ("-A INPUT -p tcp -j ACCEPT", 0),
        ] {
            assert_eq!(mask(&words(line)), expected, "{line}");
        }
    }

    #[test]
    fn marks_are_not_to_be_moved_where_there_is_no_room() {
        let fix = |line: &str| judge("mangle", line, 7).unwrap().fix;
        assert_eq!(
            fix("-A SOMEBODYS -j CONNMARK --restore-mark"),
            "use a mask in that rule: it leaves no bit for marks of links"
        );
        assert!(fix("-A SOMEBODYS -j MARK --set-xmark 0x2/0x2").ends_with("give the links other marks with `mark`"));
    }

    #[test]
    fn a_rule_that_chooses_no_link_is_only_to_be_deleted() {
        let fix = |line: &str| judge("mangle", line, 7).unwrap().fix;
        let none = fix("-A OUTPUT -j MARK --set-xmark 0x0/0xffffffff");
        assert!(
            none.starts_with("delete it: iptables -t mangle -D OUTPUT -j MARK --set-xmark 0x0/0xffffffff"),
            "{none}"
        );
        let some = fix("-A OUTPUT -j MARK --set-xmark 0x2/0xffffffff");
        assert!(some.ends_with("or give it a mask: --set-xmark 0x2/0x7"), "{some}");
    }

    #[test]
    fn what_is_printed_to_be_pasted_is_quoted_for_sh() {
        let line = r#"-A OUTPUT -m comment --comment "it's \"$(id)\" `x`" -j CONNMARK --restore-mark"#;
        let fix = judge("mangle", line, 7).unwrap().fix;
        let expected =
            r#"iptables -t mangle -D OUTPUT -m comment --comment 'it'\''s "$(id)" `x`' -j CONNMARK --restore-mark,"#;
        assert!(fix.contains(expected), "{fix}");
    }

    #[test]
    fn a_link_s_bit_under_a_mask_is_a_mark_of_the_administrators_own() {
        let is_let_be = |line: &str| judge("mangle", line, 7).is_none();
        assert!(is_let_be("-A OUTPUT -p tcp -j MARK --set-xmark 0x2/0x7"));
        assert!(is_let_be("-A PREROUTING -i eth2 -j MARK --set-xmark 0x2/0x2"));
        assert!(!is_let_be("-A OUTPUT -p tcp -j MARK --set-xmark 0x2/0xffffffff"));
        assert!(!is_let_be("-A FORWARD -i eth2 -j MARK --set-xmark 0x2/0x2"));
        assert!(!is_let_be("-A SOMEBODYS -j MARK --set-xmark 0x2/0x2"));
    }
}
