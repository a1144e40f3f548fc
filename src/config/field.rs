//! Conversion of one key's value to its type, or to an error that names the key and says what to write.

use std::collections::HashSet;
use std::fmt::Display;
use std::hash::Hash;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;
use std::time::Duration;

use toml::de::DeValue;

use super::error::SpannedError;
use super::raw::{self, Entry, Shown, Value};
use crate::model::names::InvalidValue;

/// A key with its value, or with one value of its list.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    key: &'static str,
    value: &'a Value<'a>,
}

/// The value of `key`, converted by `read`; `None`: the key is not given.
pub(super) fn optional<'a, T>(
    key: &'static str,
    entry: &'a Entry<'a>,
    read: impl FnOnce(Field<'a>) -> Result<T, SpannedError>,
) -> Result<Option<T>, SpannedError> {
    entry.as_ref().map(|value| read(Field { key, value })).transpose()
}

/// The same for a required key; `header` is the place of its table, for the error.
pub(super) fn required<'a, T>(
    key: &'static str,
    entry: &'a Entry<'a>,
    header: &Range<usize>,
    read: impl FnOnce(Field<'a>) -> Result<T, SpannedError>,
) -> Result<T, SpannedError> {
    optional(key, entry, read)?.ok_or_else(|| {
        let message = format!("is missing here: write {key} = \"...\"");
        SpannedError { key: Some(key), span: header.clone(), message }
    })
}

/// Fails if `key` is given.
pub(super) fn refused(key: &'static str, entry: &Entry<'_>, message: &str) -> Result<(), SpannedError> {
    optional(key, entry, |field| Err(field.error(message.to_owned()))).map(|_: Option<()>| ())
}

/// The values of a selector; empty if it is not given.
pub(super) fn selector<'a, T: Clone + Eq + Hash>(
    key: &'static str,
    entry: &'a Entry<'a>,
    read: impl Fn(Field<'a>) -> Result<T, SpannedError>,
) -> Result<Vec<T>, SpannedError> {
    optional(key, entry, |field| field.list(read)).map(Option::unwrap_or_default)
}

impl<'a> Field<'a> {
    pub fn value(self) -> &'a DeValue<'a> {
        self.value.get_ref()
    }

    /// The value for a message.
    pub fn shown(self) -> Shown<'a> {
        Shown(self.value())
    }

    pub fn error(self, message: String) -> SpannedError {
        SpannedError { key: Some(self.key), span: self.value.span(), message }
    }

    /// `expected` says what to write instead.
    pub(crate) fn invalid(self, expected: impl Display) -> SpannedError {
        self.error(format!("{} is not valid: {expected}", self.shown()))
    }

    pub fn text(self) -> Result<&'a str, SpannedError> {
        self.value().as_str().ok_or_else(|| self.invalid("write text in quotes"))
    }

    /// Free text without control characters, of at most 64 characters.
    pub(crate) fn label(self) -> Result<String, SpannedError> {
        let text = self.text()?;
        let ok = !text.trim().is_empty() && text.chars().count() <= 64 && !text.contains(char::is_control);
        if ok { Ok(text.to_owned()) } else { Err(self.invalid("write 1 to 64 printable characters")) }
    }

    /// A program by its absolute path, alone or in a list with its arguments. No shell reads it.
    pub(crate) fn command(self) -> Result<Vec<String>, SpannedError> {
        let items = match self.value().as_array() {
            Some(list) => list.iter().collect(),
            None => vec![self.value],
        };
        let mut words: Vec<String> = Vec::with_capacity(items.len());
        for value in items {
            let field = Self { value, ..self };
            let word = field.text()?;
            if words.is_empty() && !word.starts_with('/') {
                return Err(
                    field.invalid("begin with the absolute path of a program, such as \"/usr/local/sbin/tell\"")
                );
            }
            if word.contains('\0') {
                return Err(field.invalid("no argument of a program can have a NUL"));
            }
            words.push(word.to_owned());
        }
        if words.is_empty() { Err(self.error("the list is empty: write a program".to_owned())) } else { Ok(words) }
    }

    /// A type that is parsed from text.
    pub fn word<T: FromStr<Err = InvalidValue>>(self) -> Result<T, SpannedError> {
        self.text()?.parse().map_err(|e: InvalidValue| self.invalid(e.expected()))
    }

    pub(crate) fn int<T: TryFrom<i64>>(self) -> Option<T> {
        raw::int(self.value()).and_then(|n| T::try_from(n).ok())
    }

    /// A type that is made from a number. A value that is no such number is passed as 0, which all these types refuse
    /// with the right message.
    pub fn number<N: TryFrom<i64> + Default, T>(
        self,
        new: impl Fn(N) -> Result<T, InvalidValue>,
    ) -> Result<T, SpannedError> {
        new(self.int().unwrap_or_default()).map_err(|e| self.invalid(e.expected()))
    }

    pub fn within<T: TryFrom<i64> + PartialOrd + Display>(self, range: RangeInclusive<T>) -> Result<T, SpannedError> {
        match self.int() {
            Some(n) if range.contains(&n) => Ok(n),
            _ => Err(self.invalid(format_args!("write a number from {} to {}", range.start(), range.end()))),
        }
    }

    pub(crate) fn flag(self) -> Result<bool, SpannedError> {
        self.value().as_bool().ok_or_else(|| self.invalid("write true or false"))
    }

    /// One of a few words.
    pub fn choice<T: Copy>(self, choices: &[(&str, T)]) -> Result<T, SpannedError> {
        let given = self.text()?;
        if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == given) {
            return Ok(*choice);
        }
        let words: Vec<_> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
        Err(self.invalid(format_args!("write {}", words.join(" or "))))
    }

    /// From `least` to `most` minutes.
    pub(crate) fn duration(self, least: Duration, most: u64) -> Result<Duration, SpannedError> {
        let given = self.value().as_str().and_then(|s| humantime::parse_duration(s).ok());
        given.filter(|d| (least..=Duration::from_mins(most)).contains(d)).ok_or_else(|| {
            let least = humantime::format_duration(least);
            self.invalid(format_args!("write a time such as \"10s\", from {least} to {most}m"))
        })
    }

    /// Both ends of `25`, `"25"` or `"6000-6010"`.
    pub fn range<T: TryFrom<i64> + PartialOrd + Copy + Display>(
        self,
        limits: RangeInclusive<T>,
        example: &str,
    ) -> Result<(T, T), SpannedError> {
        let ends = match self.value().as_str() {
            Some(s) => {
                let (start, end) = s.split_once('-').unwrap_or((s, s));
                digits(start).zip(digits(end))
            }
            None => self.int().map(|n| (n, n)),
        };
        match ends.filter(|(start, end)| limits.contains(start) && limits.contains(end)) {
            Some((start, end)) if start > end => Err(self.invalid("write the lower end first")),
            Some(ends) => Ok(ends),
            None => {
                let (least, most) = (limits.start(), limits.end());
                Err(self.invalid(format_args!("write a number from {least} to {most}, or a range such as {example:?}")))
            }
        }
    }

    /// One value, or a non-empty list without duplicates.
    pub fn list<T: Clone + Eq + Hash>(
        self,
        read: impl Fn(Self) -> Result<T, SpannedError>,
    ) -> Result<Vec<T>, SpannedError> {
        let Some(items) = self.value().as_array() else {
            return Ok(vec![read(self)?]);
        };
        if items.is_empty() {
            return Err(self.error("the list is empty: write at least one value".to_owned()));
        }
        let mut seen = HashSet::new();
        let mut list = Vec::with_capacity(items.len());
        for value in items {
            let field = Self { value, ..self };
            let item = read(field)?;
            if !seen.insert(item.clone()) {
                return Err(field.error(format!("{} is in the list twice: write it once", field.shown())));
            }
            list.push(item);
        }
        Ok(list)
    }
}

/// A number without a sign, which `parse` would accept.
pub(super) fn digits<T: TryFrom<i64>>(text: &str) -> Option<T> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if is_number { T::try_from(text.parse().ok()?).ok() } else { None }
}
