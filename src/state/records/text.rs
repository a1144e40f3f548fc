//! The file format of records and drains: flat TOML, read and written key by key.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

use toml::de::{DeTable, DeValue};
use toml_writer::ToTomlValue;

use super::{LinkRecord, Record};
use crate::event::resolvers::MOST;
use crate::event::{Addresses, Family};
use crate::model::names::HostAddr;
use crate::state::clock::Moment;
use crate::state::deprecated::Deprecated;
use crate::state::drain::{Drain, Level};

/// The content of a file in the state directory.
pub(super) trait Readable: Sized {
    fn from_table(table: &DeTable<'_>) -> Result<Self, FieldError>;
}

/// Content that is also written.
pub(super) trait Stored: Readable {
    fn to_text(&self) -> String;
}

/// A key that is missing or has an invalid value.
pub(super) struct FieldError(&'static str);

/// Parses `text`; the error is the reason.
pub(super) fn read<T: Readable>(text: &str) -> Result<T, String> {
    let table = DeTable::parse(text).map_err(|e| e.message().to_owned())?;
    T::from_table(table.get_ref()).map_err(|FieldError(key)| format!("{key} is missing or makes no sense"))
}

impl Stored for Record {
    fn to_text(&self) -> String {
        let names: Vec<_> = self.names.iter().map(ToTomlValue::to_toml_value).collect();
        let mut lines = vec![
            text("interface", &self.interface),
            line("index", self.index),
            line("names", format_args!("[{}]", names.join(", "))),
        ];
        lines.extend(self.session.map(|pid| line("session", pid)));
        let Moment { unix, since_boot, boot } = &self.since;
        lines.extend([line("since", unix), line("since-boot", since_boot), text("boot", boot)]);
        lines.extend(self.link.as_ref().map(|link| text("link", link)));
        let Addresses { family, local, gateway, prefixes, resolvers } = &self.addresses;
        lines.push(if *family == Family::V4 { "[v4]\n" } else { "[v6]\n" }.to_owned());
        lines.extend(local.map(|a| text("local", a)));
        lines.extend(gateway.map(|a| text("gateway", a)));
        lines.extend(list("prefixes", prefixes));
        lines.extend(list("resolvers", resolvers));
        lines.concat()
    }
}

impl Readable for Record {
    fn from_table(table: &DeTable<'_>) -> Result<Self, FieldError> {
        let ((Some(addresses), None) | (None, Some(addresses))) = (v4(table)?, v6(table)?) else {
            return Err(FieldError("v4 or v6"));
        };
        Ok(Self {
            interface: required(table, "interface", word)?,
            index: required(table, "index", number)?,
            names: required(table, "names", words)?,
            session: optional(table, "session", number)?,
            since: Moment {
                unix: required(table, "since", number)?,
                since_boot: required(table, "since-boot", number)?,
                boot: required(table, "boot", word)?,
            },
            link: optional(table, "link", word)?,
            addresses,
        })
    }
}

/// A file of version 0.1, which had one for each link.
impl FromStr for LinkRecord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        read(text)
    }
}

impl Readable for LinkRecord {
    fn from_table(table: &DeTable<'_>) -> Result<Self, FieldError> {
        Ok(Self {
            interface: required(table, "interface", word)?,
            index: required(table, "index", number)?,
            session: optional(table, "session", number)?,
            since: required(table, "since", number)?,
            v4: v4(table)?,
            v6: v6(table)?,
        })
    }
}

fn v4(table: &DeTable<'_>) -> Result<Option<Addresses>, FieldError> {
    let Some(table) = optional(table, "v4", DeValue::as_table)? else { return Ok(None) };
    let (local, gateway) = (address(table, "local", Family::V4)?, address(table, "gateway", Family::V4)?);
    let resolvers = resolvers(table, Family::V4)?;
    Ok(Some(Addresses { local, gateway, resolvers, ..Addresses::none(Family::V4) }))
}

fn v6(table: &DeTable<'_>) -> Result<Option<Addresses>, FieldError> {
    let Some(table) = optional(table, "v6", DeValue::as_table)? else { return Ok(None) };
    // Before IPv6 was routed, the gateway was called remote, and `::` stood for none.
    let gateway = if table.get("remote").is_some() { "remote" } else { "gateway" };
    Ok(Some(Addresses {
        family: Family::V6,
        local: address(table, "local", Family::V6)?,
        gateway: address(table, gateway, Family::V6)?,
        prefixes: optional(table, "prefixes", all)?.unwrap_or_default(),
        resolvers: resolvers(table, Family::V6)?,
    }))
}

/// An address of the family; `None`: it is missing or unspecified.
fn address(table: &DeTable<'_>, key: &'static str, family: Family) -> Result<Option<HostAddr>, FieldError> {
    match optional(table, key, word::<IpAddr>)? {
        Some(address) if Family::of(address) != family => Err(FieldError(key)),
        Some(address) if !address.is_unspecified() => HostAddr::new(address).map(Some).map_err(|_| FieldError(key)),
        _ => Ok(None),
    }
}

/// Resolvers of the family; older versions did not write any.
fn resolvers(table: &DeTable<'_>, family: Family) -> Result<Vec<HostAddr>, FieldError> {
    let found: Vec<HostAddr> = optional(table, "resolvers", all)?.unwrap_or_default();
    let are_possible = found.len() <= MOST && found.iter().all(|address| address.family() == family);
    if are_possible { Ok(found) } else { Err(FieldError("resolvers")) }
}

fn all<T: FromStr>(value: &DeValue<'_>) -> Option<Vec<T>> {
    value.as_array()?.iter().map(|one| word(one.get_ref())).collect()
}

impl Stored for Drain {
    fn to_text(&self) -> String {
        let Self { pid, until, force, v4, v6 } = self;
        let mut lines = vec![line("pid", pid), line("until", until), line("force", force)];
        if [*v4, *v6] != [Some(Level::Held); 2] {
            let levels = LEVELS.into_iter().zip([v4, v6]);
            lines.extend(levels.filter_map(|(key, level)| Some(text(key, word_of((*level)?)))));
        }
        lines.concat()
    }
}

/// The keys of a drain's levels. Without either the link is held in both families: a drill says no more.
const LEVELS: [&str; 2] = ["ipv4", "ipv6"];

fn word_of(level: Level) -> &'static str {
    match level {
        Level::Drained => "drained",
        Level::Cut => "cut",
        Level::Held => "held",
    }
}

fn level(value: &DeValue<'_>) -> Option<Level> {
    let word = value.as_str()?;
    [Level::Drained, Level::Cut, Level::Held].into_iter().find(|level| word_of(*level) == word)
}

impl Readable for Drain {
    fn from_table(table: &DeTable<'_>) -> Result<Self, FieldError> {
        let [v4, v6] = LEVELS.map(|key| optional(table, key, level));
        let (mut v4, mut v6) = (v4?, v6?);
        if v4.is_none() && v6.is_none() {
            (v4, v6) = (Some(Level::Held), Some(Level::Held));
        }
        Ok(Self {
            pid: required(table, "pid", number)?,
            until: required(table, "until", number)?,
            // Older versions did not write it.
            force: optional(table, "force", DeValue::as_bool)?.unwrap_or_default(),
            v4,
            v6,
        })
    }
}

impl Stored for Deprecated {
    fn to_text(&self) -> String {
        let addresses = self.0.iter().map(|(index, address)| format!("{{ index = {index}, address = \"{address}\" }}"));
        line("addresses", format_args!("[{}]", addresses.collect::<Vec<_>>().join(", ")))
    }
}

impl Readable for Deprecated {
    fn from_table(table: &DeTable<'_>) -> Result<Self, FieldError> {
        let mut all = BTreeSet::new();
        for entry in required(table, "addresses", DeValue::as_array)? {
            let entry = entry.get_ref().as_table().ok_or(FieldError("addresses"))?;
            all.insert((required(entry, "index", number)?, required(entry, "address", word)?));
        }
        Ok(Self(all))
    }
}

fn line(key: &str, value: impl Display) -> String {
    format!("{key} = {value}\n")
}

/// `None`: there is nothing to list.
fn list<T: ToString>(key: &str, values: &[T]) -> Option<String> {
    let values: Vec<_> = values.iter().map(|value| value.to_string().to_toml_value()).collect();
    (!values.is_empty()).then(|| line(key, format_args!("[{}]", values.join(", "))))
}

/// The name of an interface may contain a quote.
fn text(key: &str, value: impl Display) -> String {
    line(key, value.to_string().to_toml_value())
}

/// A key that may be missing, but not be invalid.
fn optional<'a, 't, T>(
    table: &'a DeTable<'t>,
    key: &'static str,
    read: impl FnOnce(&'a DeValue<'t>) -> Option<T>,
) -> Result<Option<T>, FieldError> {
    table.get(key).map(|value| read(value.get_ref()).ok_or(FieldError(key))).transpose()
}

fn required<'a, 't, T>(
    table: &'a DeTable<'t>,
    key: &'static str,
    read: impl FnOnce(&'a DeValue<'t>) -> Option<T>,
) -> Result<T, FieldError> {
    optional(table, key, read)?.ok_or(FieldError(key))
}

fn word<T: FromStr>(value: &DeValue<'_>) -> Option<T> {
    value.as_str()?.parse().ok()
}

fn words(value: &DeValue<'_>) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|one| one.get_ref().as_str().map(str::to_owned)).collect()
}

fn number<T: FromStr>(value: &DeValue<'_>) -> Option<T> {
    value.as_integer().filter(|n| n.radix() == 10)?.as_str().parse().ok()
}

#[cfg(test)]
mod tests {
    use ipnet::Ipv6Net;
    use proptest::prelude::*;

    use super::*;

    /// A key can be left out, but not be wrong.
    const ENTRY: &str = "interface = \"ppp0\"\nindex = 5\nnames = [\"isp1\", \"a\\u007Fb\"]\nsession = 77\n\
                         since = 1700000000\nsince-boot = 12345\nboot = \"0fb9b4b8\"\nlink = \"isp1\"\n\
                         [v4]\nlocal = \"198.51.100.10\"\ngateway = \"198.51.100.1\"\n\
                         resolvers = [\"198.51.100.53\", \"192.0.2.53\"]\n";
    const V6: &str = "[v6]\nlocal = \"fe80::1\"\ngateway = \"fe80::2\"\nprefixes = [\"2001:db8::/56\"]\n\
                      resolvers = [\"2001:db8:53::1\"]\n";

    const OLD_V6: &str = "[v6]\nlocal = \"fe80::1\"\nremote = \"fe80::2\"\n";

    fn with_v6() -> String {
        let (head, _) = ENTRY.split_once("[v4]").unwrap();
        format!("{head}{V6}")
    }

    #[test]
    fn an_entry_reads_as_it_was_written() {
        // Older versions did not write resolvers.
        let older = ENTRY.split_once("resolvers").unwrap().0;
        for text in [ENTRY, &with_v6(), older] {
            let record: Record = read(text).unwrap();
            assert_eq!(record.to_text(), text);
        }
        let drain = "pid = 7\nuntil = 100\nforce = true\n";
        assert_eq!(read::<Drain>(drain).unwrap().to_text(), drain);
        let deprecated =
            "addresses = [{ index = 7, address = \"2001:db8::1\" }, { index = 9, address = \"2001:db8::2\" }]\n";
        assert_eq!(read::<Deprecated>(deprecated).unwrap().to_text(), deprecated);
        let older = read::<Drain>("pid = 7\nstarted = 500\nuntil = 100\n");
        let held = Some(Level::Held);
        assert_eq!(older, Ok(Drain { pid: 7, until: 100, force: false, v4: held, v6: held }));
        for levels in ["ipv4 = \"cut\"\nipv6 = \"drained\"\n", "ipv6 = \"cut\"\n"] {
            let drain = format!("pid = 7\nuntil = 100\nforce = false\n{levels}");
            assert_eq!(read::<Drain>(&drain).unwrap().to_text(), drain);
        }
        assert!(read::<Drain>("pid = 7\nuntil = 100\nipv4 = \"gone\"\n").is_err());
    }

    #[test]
    fn a_record_of_0_1_is_read() {
        let text =
            format!("interface = \"ppp0\"\nindex = 5\nsince = 1700000000\n[v4]\nlocal = \"198.51.100.10\"\n{OLD_V6}");
        let record: LinkRecord = text.parse().unwrap();
        assert_eq!((record.interface.as_str(), record.index, record.session), ("ppp0", 5, None));
        assert_eq!(record.v4.unwrap().local, "198.51.100.10".parse().ok());
        let v6 = record.v6.unwrap();
        assert_eq!((v6.local, v6.gateway), ("fe80::1".parse().ok(), "fe80::2".parse().ok()));
    }

    #[test]
    fn what_makes_no_sense_is_no_entry() {
        for (from, to) in [
            ("\"ppp0\"", "\"../x\""),
            ("interface = \"ppp0\"\n", ""),
            ("index = 5", "index = -5"),
            ("index = 5", "index = 99999999999"),
            ("index = 5", "index = \"5\""),
            ("[\"isp1\",", "[1,"),
            ("session = 77", "session = 7.7"),
            ("since-boot = 12345\n", ""),
            ("link = \"isp1\"", "link = \"../x\""),
            ("198.51.100.10", "127.0.0.1"),
            ("\"192.0.2.53\"", "\"127.0.0.1\""),
            ("\"192.0.2.53\"", "\"2001:db8::53\""),
            ("\"192.0.2.53\"", "7"),
            ("\"192.0.2.53\"", &"\"192.0.2.53\", ".repeat(8)),
            ("[v4]", "[[v4]]"),
            ("[v4]", "[v5]"),
            ("[v4]", &format!("{V6}[v4]")),
        ] {
            assert!(ENTRY.contains(from), "{from}");
            assert!(read::<Record>(&ENTRY.replace(from, to)).is_err(), "{from} -> {to}");
        }
        for (from, to) in [("fe80::2", "192.0.2.1"), ("db8::/56", "db8::/129"), ("[v6]", "[v6")] {
            assert!(read::<Record>(&with_v6().replace(from, to)).is_err(), "{from} -> {to}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_entry_reads_as_it_was_written(
            name in "[!-.0-9;-~]{1,15}",
            numbers in any::<(u32, Option<u32>, u64, u64)>(),
            names in proptest::collection::vec("\\PC{0,20}|(?s).{0,9}", 0..4),
            local in any::<Option<[u8; 4]>>(),
            v6 in any::<Option<(u128, u128)>>(),
        ) {
            let Ok(interface) = name.parse() else { return Ok(()) };
            let (index, session, unix, since_boot) = numbers;
            // TOML's numbers and the kernel's times fit into an i64.
            let since = Moment { unix: unix >> 1, since_boot: since_boot >> 1, boot: "a-b".to_owned() };
            let local = local.and_then(|octets| HostAddr::new(octets).ok());
            let mut addresses = Addresses { local, gateway: local, ..Addresses::none(Family::V4) };
            if let Some((local, prefix)) = v6 {
                let prefixes = vec![Ipv6Net::new_assert(prefix.into(), 56)];
                let local = HostAddr::new(std::net::Ipv6Addr::from(local)).ok();
                let resolvers = local.into_iter().collect();
                addresses = Addresses { family: Family::V6, local, gateway: None, prefixes, resolvers };
            }
            let record = Record { interface, index, names, session, since, link: None, addresses };
            prop_assert_eq!(read::<Record>(&record.to_text()), Ok(record));
        }
    }
}
