//! Quoting for sh(1), of everything that is printed to be pasted.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;

/// One word of sh(1), quoted where necessary. The result has no control characters and stays on one line, except for
/// trailing line ends, which `$(...)` would strip.
pub(crate) fn quoted<Word: AsRef<OsStr> + ?Sized>(word: &Word) -> Cow<'_, str> {
    let word = word.as_ref();
    match word.to_str() {
        Some(text) if !text.is_empty() && text.chars().all(is_bare) => text.into(),
        Some(text) if text.chars().all(is_shown) => format!("'{}'", text.replace('\'', "'\\''")).into(),
        _ => printed(word.as_bytes()).into(),
    }
}

/// Has no meaning to a shell in any position.
fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._@/-".contains(c)
}

/// Is visible. Some invisible characters, or ones that change the direction of text, are no control characters.
pub(super) fn is_shown(c: char) -> bool {
    c.is_alphanumeric() || c.is_ascii_graphic() || c == ' '
}

/// For bytes that quotes cannot show: POSIX printf takes octal numbers, and not every shell has `$'...'`.
fn printed(bytes: &[u8]) -> String {
    let ends = bytes.iter().rev().take_while(|byte| **byte == b'\n').count();
    let mut word = "\"$(printf '".to_owned();
    for byte in &bytes[..bytes.len() - ends] {
        // Writing to a String cannot fail.
        let _ = match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'.' | b'_' | b'/' => word.write_char(char::from(*byte)),
            byte => write!(word, "\\{byte:03o}"),
        };
    }
    word += "')\"";
    if ends > 0 {
        // Writing to a String cannot fail.
        let _ = write!(word, "'{}'", "\n".repeat(ends));
    }
    word
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    /// What a shell makes of the words, each with a NUL behind it.
    fn taken(shell: &str, words: &[OsString]) -> Vec<u8> {
        let line = words.iter().map(|word| quoted(word).into_owned()).collect::<Vec<_>>().join(" ");
        let said = Command::new(shell).args(["-c", &format!("printf '%s\\0' {line}")]).output().unwrap();
        assert!(said.status.success() && said.stderr.is_empty(), "{line:?}: {said:?}");
        said.stdout
    }

    fn expected(words: &[OsString]) -> Vec<u8> {
        words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect()
    }

    #[test]
    fn what_needs_no_quotes_has_none() {
        for word in ["ppp0", "eth0.100", "a@b", "/etc/ppp/peers/isp1", "-x"] {
            assert_eq!(quoted(word), word);
        }
        for (word, expected) in [
            ("", "''"),
            ("it's", "'it'\\''s'"),
            ("$(id)", "'$(id)'"),
            ("Café 1", "'Café 1'"),
            ("~", "'~'"),
            ("a\nb", "\"$(printf 'a\\012b')\""),
            ("\u{202e}", "\"$(printf '\\342\\200\\256')\""),
        ] {
            assert_eq!(quoted(word), expected);
        }
        assert_eq!(quoted(OsStr::from_bytes(b"/x\xff")), "\"$(printf '/x\\377')\"");
    }

    fn word() -> impl Strategy<Value = OsString> {
        let hostile = prop::sample::select(vec![
            "",
            "-",
            "--",
            "-h\"'",
            "$(touch /tmp/pwned)",
            "`id`",
            "x;id&",
            "*",
            "?",
            "[a-z]",
            "~",
            "!x",
            "!!",
            "#y",
            "{a,b}",
            "a\\b",
            "\\",
            "\\n",
            "%s",
            "\n",
            "a\n",
            "\n\n",
            "\r",
            "\t",
            "\u{1b}[2J",
            "''",
            "'",
            "\"",
            "$IFS",
            "${x",
            "=ls",
            "x=y",
            "1>x",
            "|",
            "&&",
            "\u{202e}",
            "\u{7f}",
            "(",
            "done",
        ]);
        prop_oneof![
            hostile.prop_map(OsString::from),
            "[ -~]{0,12}".prop_map(OsString::from),
            "\\PC{0,8}".prop_map(OsString::from),
            prop::collection::vec(1_u8.., 0..12).prop_map(OsString::from_vec),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_shell_takes_each_word_as_one_and_as_it_is(words in prop::collection::vec(word(), 1..20)) {
            for shell in ["sh", "bash"] {
                prop_assert_eq!(taken(shell, &words), expected(&words), "{} {:?}", shell, words);
            }
        }

        #[test]
        fn it_is_on_one_line_and_harmless_to_a_terminal(word in word()) {
            let text = quoted(&word).into_owned();
            let line = if word.as_bytes().ends_with(b"\n") { text.trim_end_matches(['\n', '\'']) } else { &text };
            prop_assert!(line.chars().all(is_shown), "{line:?}");
        }
    }
}
