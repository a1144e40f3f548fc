//! Records and drains as the text of their files: flat TOML, read and written key by key. The types
//! check each value again.

use std::fmt::Display;
use std::str::FromStr;

use toml::de::{DeTable, DeValue};
use toml_writer::ToTomlValue;

use super::{Record, V4, V6};
use crate::state::drain::Drain;

/// What a file in the state directory holds.
pub(super) trait Stored: Sized {
    fn to_text(&self) -> String;
    fn from_table(table: &DeTable<'_>) -> Result<Self, Wrong>;
}

/// A key that is missing, or whose value makes no sense.
pub(super) struct Wrong(&'static str);

impl FromStr for Record {
    type Err = String;

    /// A record from the text of its file; the error says what is wrong with it.
    fn from_str(text: &str) -> Result<Self, String> {
        read(text)
    }
}

/// Reads `text`; the error says what is wrong with it.
pub(super) fn read<T: Stored>(text: &str) -> Result<T, String> {
    let table = DeTable::parse(text).map_err(|e| e.message().to_owned())?;
    T::from_table(table.get_ref()).map_err(|Wrong(key)| format!("{key} is missing or makes no sense"))
}

impl Stored for Record {
    fn to_text(&self) -> String {
        let mut lines = vec![text("interface", &self.interface), line("index", self.index)];
        lines.extend(self.session.map(|pid| line("session", pid)));
        lines.push(line("since", self.since));
        if let Some(V4 { local, gateway }) = self.v4 {
            lines.push("[v4]\n".to_owned());
            lines.extend(local.map(|a| text("local", a)));
            lines.extend(gateway.map(|a| text("gateway", a)));
        }
        if let Some(V6 { local, remote }) = self.v6 {
            lines.extend(["[v6]\n".to_owned(), text("local", local), text("remote", remote)]);
        }
        lines.concat()
    }

    fn from_table(table: &DeTable<'_>) -> Result<Self, Wrong> {
        let v4 = |table: &DeTable<'_>| {
            Ok(V4 { local: optional(table, "local", word)?, gateway: optional(table, "gateway", word)? })
        };
        let v6 = |table: &DeTable<'_>| {
            Ok(V6 { local: required(table, "local", word)?, remote: required(table, "remote", word)? })
        };
        Ok(Self {
            interface: required(table, "interface", word)?,
            index: required(table, "index", number)?,
            session: optional(table, "session", number)?,
            since: required(table, "since", number)?,
            v4: optional(table, "v4", DeValue::as_table)?.map(v4).transpose()?,
            v6: optional(table, "v6", DeValue::as_table)?.map(v6).transpose()?,
        })
    }
}

impl Stored for Drain {
    fn to_text(&self) -> String {
        let Self { pid, until, force } = self;
        [line("pid", pid), line("until", until), line("force", force)].concat()
    }

    fn from_table(table: &DeTable<'_>) -> Result<Self, Wrong> {
        Ok(Self {
            pid: required(table, "pid", number)?,
            until: required(table, "until", number)?,
            // Older ones lack it.
            force: optional(table, "force", DeValue::as_bool)?.unwrap_or_default(),
        })
    }
}

fn line(key: &str, value: impl Display) -> String {
    format!("{key} = {value}\n")
}

/// An interface's name may hold a quote.
fn text(key: &str, value: impl Display) -> String {
    line(key, value.to_string().to_toml_value())
}

/// A key that may be missing, but not make no sense.
fn optional<'a, 't, T>(
    table: &'a DeTable<'t>,
    key: &'static str,
    read: impl FnOnce(&'a DeValue<'t>) -> Option<T>,
) -> Result<Option<T>, Wrong> {
    table.get(key).map(|value| read(value.get_ref()).ok_or(Wrong(key))).transpose()
}

fn required<'a, 't, T>(
    table: &'a DeTable<'t>,
    key: &'static str,
    read: impl FnOnce(&'a DeValue<'t>) -> Option<T>,
) -> Result<T, Wrong> {
    optional(table, key, read)?.ok_or(Wrong(key))
}

fn word<T: FromStr>(value: &DeValue<'_>) -> Option<T> {
    value.as_str()?.parse().ok()
}

fn number<T: FromStr>(value: &DeValue<'_>) -> Option<T> {
    value.as_integer().filter(|n| n.radix() == 10)?.as_str().parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::names::HostAddr;

    /// A key can be left out, but not be wrong.
    const RECORD: &str = "interface = \"ppp0\"\nindex = 5\nsession = 77\nsince = 1700000000\n\
                          [v4]\nlocal = \"198.51.100.10\"\ngateway = \"198.51.100.1\"\n\
                          [v6]\nlocal = \"fe80::1\"\nremote = \"fe80::2\"\n";

    #[test]
    fn a_record_reads_as_it_was_written() {
        let record: Record = read(RECORD).unwrap();
        assert_eq!(record.to_text(), RECORD);
        let drain = "pid = 7\nuntil = 100\nforce = true\n";
        assert_eq!(read::<Drain>(drain).unwrap().to_text(), drain);
        let older = read::<Drain>("pid = 7\nstarted = 500\nuntil = 100\n");
        assert_eq!(older, Ok(Drain { pid: 7, until: 100, force: false }));
    }

    #[test]
    fn what_makes_no_sense_is_no_record() {
        for (from, to) in [
            ("\"ppp0\"", "\"../x\""),
            ("interface = \"ppp0\"\n", ""),
            ("index = 5", "index = -5"),
            ("index = 5", "index = 99999999999"),
            ("index = 5", "index = \"5\""),
            ("session = 77", "session = 7.7"),
            ("198.51.100.10", "127.0.0.1"),
            ("[v4]", "[[v4]]"),
            ("remote = \"fe80::2\"\n", ""),
            ("[v6]", "[v6"),
        ] {
            assert!(RECORD.contains(from), "{from}");
            assert!(read::<Record>(&RECORD.replace(from, to)).is_err(), "{from} -> {to}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_record_reads_as_it_was_written(
            name in "[!-.0-9;-~]{1,15}",
            numbers in any::<(u32, Option<u32>, u64)>(),
            local in any::<Option<[u8; 4]>>(),
            v6 in any::<Option<(u128, u128)>>(),
        ) {
            let Ok(interface) = name.parse() else { return Ok(()) };
            let (index, session, since) = numbers;
            // TOML's numbers, as the kernel's time, end at i64's.
            let since = since >> 1;
            let local = local.and_then(|octets| HostAddr::new(octets.into()).ok());
            let v6 = v6.map(|(a, b)| V6 { local: a.into(), remote: b.into() });
            let record = Record { interface, index, session, since, v4: Some(V4 { local, gateway: local }), v6 };
            prop_assert_eq!(read::<Record>(&record.to_text()), Ok(record));
        }
    }
}
