//! pppd's options, as it reads them from files and from its command line. Pure.

/// The words of an options file as pppd reads them (`getword()`): a comment begins anywhere, and what stands in quotes
/// is one word. Backslashes are left as they are.
pub(super) fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '#' => ("", rest.find('\n').map_or("", |end| &rest[end..])),
            '"' | '\'' => {
                let inside = &rest[1..];
                inside.split_once(first).unwrap_or((inside, ""))
            }
            _ => rest.split_at(rest.find(|c: char| c.is_whitespace() || c == '#').unwrap_or(rest.len())),
        };
        if first != '#' {
            words.push(word);
        }
        rest = after.trim_start();
    }
    words
}

/// What pppd does about the default route after some options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum DefaultRoute {
    /// Nothing.
    #[default]
    None,
    /// It adds one.
    Added,
    /// It ends: `defaultroute` after `nodefaultroute` is an error.
    Refused,
}

impl DefaultRoute {
    /// After the words of /etc/ppp/options and those of a peer. `nodefaultroute` wins over what stands before it.
    /// `replacedefaultroute` by itself does nothing.
    pub(super) fn after<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut state = Self::None;
        let mut forbidden = false;
        for word in words {
            match word {
                "nodefaultroute" | "-defaultroute" => (state, forbidden) = (Self::None, true),
                "defaultroute" if forbidden => return Self::Refused,
                "defaultroute" => state = Self::Added,
                _ => {}
            }
        }
        state
    }
}

/// Whether a peer is one of those that Debian's packages install to be filled in: `provider` dials no
/// number, `dsl-provider` has its user commented out.
pub(super) fn is_example(text: &str) -> bool {
    text.contains("********") || text.contains("\n#user myusername@myprovider.net")
}

/// The word after `option`, of the last time that it is given.
pub(super) fn value<'a>(words: &[&'a str], option: &str) -> Option<&'a str> {
    let at = words.iter().rposition(|word| *word == option)?;
    words.get(at + 1).copied()
}
