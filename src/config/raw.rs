//! The file before validation: the known keys of each table, and each value with its place. Values may have any type
//! here; validation says for each key what to write instead.

use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::SpannedError;

/// A value and its place.
pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// A value that may be missing.
pub(super) type Entry<'t> = Option<Value<'t>>;

/// A table with a field for each known key.
pub(super) trait Table<'t>: Sized {
    fn read(table: DeTable<'t>) -> Result<Self, SpannedError>;
}

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $key:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Default)]
        pub(super) struct $name<'t> {
            $(pub $field: Entry<'t>,)*
        }

        impl<'t> Table<'t> for $name<'t> {
            fn read(mut table: DeTable<'t>) -> Result<Self, SpannedError> {
                let read = Self { $($field: table.remove($key),)* };
                reject_unknown_keys(&table, &[$($key),*])?;
                Ok(read)
            }
        }
    )*};
}

tables! {
    /// The top level.
    RawFile {
        uplink: "uplink",
        tunnel: "tunnel",
        policy: "policy",
        check: "check",
        settings: "settings",
    }

    /// `[[uplink]]` or `[[tunnel]]`. Keys of uplinks are known for tunnels, too, to be refused with a reason.
    RawLink {
        name: "name",
        interface: "interface",
        ipparam: "ipparam",
        weight: "weight",
        tier: "tier",
        table: "table",
        mark: "mark",
        masquerade: "masquerade",
        gateway: "gateway",
        gateway6: "gateway6",
        prefixes: "prefixes",
        ipv6: "ipv6",
        nat6: "nat6",
        check: "check",
        metered: "metered",
    }

    /// `[[policy]]`.
    RawPolicy {
        name: "name",
        from: "from",
        to: "to",
        from_set: "from-set",
        to_set: "to-set",
        iif: "iif",
        proto: "proto",
        sport: "sport",
        dport: "dport",
        uid: "uid",
        dscp: "dscp",
        fwmark: "fwmark",
        via: "via",
        otherwise: "otherwise",
    }

    /// `[check]`.
    RawCheck {
        targets: "targets",
        interval: "interval",
        down_after: "down-after",
        cut_after: "cut-after",
        up_after: "up-after",
    }

    RawSettings {
        rule_priority: "rule-priority",
        metric: "metric",
        spare_metric: "spare-metric",
        protocol: "protocol",
        nexthop_id: "nexthop-id",
        nexthops: "nexthops",
        settle_timeout: "settle-timeout",
        lock_timeout: "lock-timeout",
        firewall: "firewall",
        device_group: "device-group",
        hash_policy: "hash-policy",
        event_command: "event-command",
    }
}

/// The whole file.
pub(super) struct RawConfig<'t> {
    pub uplink: Vec<Spanned<RawLink<'t>>>,
    pub tunnel: Vec<Spanned<RawLink<'t>>>,
    pub policy: Vec<Spanned<RawPolicy<'t>>>,
    /// Read by those who need it.
    pub check: Entry<'t>,
    pub settings: RawSettings<'t>,
}

impl<'t> RawConfig<'t> {
    pub fn read(text: &'t str) -> Result<Self, SpannedError> {
        let file = DeTable::parse(text).map_err(|e| SpannedError::from_toml(&e, text))?;
        let file = RawFile::read(file.into_inner())?;
        Ok(Self {
            uplink: tables("[[uplink]]", file.uplink)?,
            tunnel: tables("[[tunnel]]", file.tunnel)?,
            policy: tables("[[policy]]", file.policy)?,
            check: file.check,
            settings: table("[settings]", file.settings)?.unwrap_or_default(),
        })
    }
}

fn tables<'t, T: Table<'t>>(header: &str, entry: Entry<'t>) -> Result<Vec<Spanned<T>>, SpannedError> {
    let Some(entry) = entry else { return Ok(Vec::new()) };
    let place = entry.span();
    let wrong = |span| SpannedError { key: None, span, message: format!("write each in double brackets, {header}") };
    let DeValue::Array(items) = entry.into_inner() else { return Err(wrong(place)) };
    let mut tables = Vec::with_capacity(items.len());
    for item in items {
        let span = item.span();
        let DeValue::Table(table) = item.into_inner() else { return Err(wrong(span)) };
        tables.push(Spanned::new(span, T::read(table)?));
    }
    Ok(tables)
}

/// A table of which there is one at most.
pub(super) fn table<'t, T: Table<'t>>(header: &str, entry: Entry<'t>) -> Result<Option<T>, SpannedError> {
    let Some(entry) = entry else { return Ok(None) };
    match (entry.span(), entry.into_inner()) {
        (_, DeValue::Table(table)) => T::read(table).map(Some),
        (span, _) => {
            let message = format!("write it once, in single brackets, {header}");
            Err(SpannedError { key: None, span, message })
        }
    }
}

/// Fails with the first unknown key of the table.
fn reject_unknown_keys(left: &DeTable<'_>, known: &[&str]) -> Result<(), SpannedError> {
    let Some(key) = left.keys().min_by_key(|key| key.span().start) else { return Ok(()) };
    let known = known.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    let shown: String = key.get_ref().chars().take(64).collect();
    Err(SpannedError {
        key: None,
        span: key.span(),
        message: format!("unknown key `{shown}`, expected one of {known}"),
    })
}

/// A value for an error message, escaped and shortened.
pub(super) struct Shown<'a>(pub &'a DeValue<'a>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            DeValue::Integer(n) if int(self.0).is_some() => write!(f, "{n}"),
            DeValue::Integer(_) => f.write_str("so large a number"),
            DeValue::String(s) => write!(f, "{:?}", s.chars().take(64).collect::<String>()),
            DeValue::Boolean(b) => write!(f, "{b}"),
            DeValue::Array(_) => f.write_str("a list"),
            DeValue::Float(_) => f.write_str("a fraction"),
            DeValue::Datetime(_) => f.write_str("a date"),
            DeValue::Table(_) => f.write_str("a table"),
        }
    }
}

/// The value of an integer.
pub(super) fn int(value: &DeValue<'_>) -> Option<i64> {
    value.as_integer().and_then(|n| i64::from_str_radix(n.as_str(), n.radix()).ok())
}
