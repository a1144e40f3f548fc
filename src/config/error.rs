//! Errors of the configuration: one line with the place, the reason and what to write instead.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Shown as `FILE:LINE: KEY: MESSAGE`, in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    pub file: PathBuf,
    /// `None`: the file could not be read.
    pub place: Option<Place>,
    /// The key whose value is invalid.
    pub key: Option<String>,
    pub message: String,
}

/// A place in the text of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Range of bytes in the text.
    pub span: Range<usize>,
}

impl Place {
    pub(super) fn new(span: Range<usize>, text: &str) -> Self {
        Places::new(text).place(span)
    }
}

/// Converts spans to places. Each search continues where the last one ended: thousands of spans in the order of the
/// text need one pass over it.
pub(super) struct Places<'a> {
    text: &'a str,
    /// Offset up to which the text has been searched, and the line and column there.
    at: usize,
    line: usize,
    column: usize,
}

impl<'a> Places<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, line: 1, column: 1 }
    }

    pub fn place(&mut self, span: Range<usize>) -> Place {
        if span.start < self.at {
            *self = Self::new(self.text);
        }
        let passed = self.text.get(self.at..span.start).unwrap_or_else(|| self.text.get(self.at..).unwrap_or_default());
        self.line += passed.matches('\n').count();
        self.column = match passed.rsplit_once('\n') {
            Some((_, begun)) => begun.chars().count() + 1,
            None => self.column + passed.chars().count(),
        };
        self.at += passed.len();
        Place { line: self.line, column: self.column, span }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{}:{}: ", one_line(&self.file.to_string_lossy()), place.line)?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl Error {
    /// An error about the file as a whole; `message` names it.
    pub(super) fn unread(file: &Path, message: &str) -> Self {
        Self { file: file.to_owned(), place: None, key: None, message: one_line(message) }
    }

    pub(super) fn new(error: SpannedError, text: &str, file: &Path) -> Self {
        let SpannedError { key, span, message } = error;
        let place = Place::new(span, text);
        Self { file: file.to_owned(), place: Some(place), key: key.map(str::to_owned), message: one_line(&message) }
    }
}

/// An error without its file: key, range of bytes, and what to write instead.
#[derive(Debug)]
pub(super) struct SpannedError {
    pub key: Option<&'static str>,
    pub span: Range<usize>,
    pub message: String,
}

impl SpannedError {
    /// A syntax error of TOML.
    pub(crate) fn from_toml(error: &toml::de::Error, text: &str) -> Self {
        let span = error.span().unwrap_or_default();
        let message = match (error.message(), unquoted(text, span.start)) {
            ("duplicate key", _) => {
                let key = text.get(span.clone()).unwrap_or_default();
                format!("duplicate key {:?}: keep one of them", key.chars().take(64).collect::<String>())
            }
            (_, Some(word)) if word.starts_with(TYPOGRAPHIC) => {
                let quote: String = word.chars().take(1).collect();
                format!("{quote} is no quotation mark here: write \" before the text and after it")
            }
            (_, Some(word)) => format!("text needs quotes: write {:?}", word.chars().take(64).collect::<String>()),
            (message, None) => message.chars().take(500).collect(),
        };
        Self { key: None, span, message }
    }
}

/// Typographic quotation marks, which word processors and web pages make of `"`.
const TYPOGRAPHIC: [char; 6] = ['“', '”', '„', '‘', '’', '«'];

/// The value at `at` if it is a word without quotes rather than a bad number. The TOML parser takes `isp1` for an
/// infinite float.
fn unquoted(text: &str, at: usize) -> Option<&str> {
    const AROUND: &str = "=,[]{}#\"'";
    let is_outside = |c: char| c.is_whitespace() || AROUND.contains(c);
    let (before, after) = text.split_at_checked(at)?;
    let start = before.rfind(is_outside).map_or(0, |at| at + before[at..].chars().next().map_or(0, char::len_utf8));
    let end = at + after.find(is_outside).unwrap_or(after.len());
    let word = &text[start..end];
    let is_value = text[..start].trim_end().ends_with(['=', ',', '[']);
    let is_number = word.chars().all(|c| c.is_ascii_digit() || c == '_');
    (is_value && !is_number).then_some(word)
}

/// Escapes line ends and other control characters.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}
