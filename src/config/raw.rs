//! The file as serde reads it: which keys there are, and each value with its place. Values are
//! taken whatever their type, so that validation can say for each key what to write instead.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

/// A value that may not be given.
pub(super) type Entry = Option<Spanned<Value>>;

/// The whole file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawConfig {
    #[serde(default)]
    pub uplink: Vec<Spanned<Table<RawLink>>>,
    #[serde(default)]
    pub tunnel: Vec<Spanned<Table<RawLink>>>,
    #[serde(default)]
    pub policy: Vec<Spanned<Table<RawPolicy>>>,
    #[serde(default)]
    pub settings: Table<RawSettings>,
}

/// `[[uplink]]` or `[[tunnel]]`: a tunnel's `weight` is known here to be refused with a reason.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawLink {
    pub name: Entry,
    pub interface: Entry,
    pub ipparam: Entry,
    pub weight: Entry,
    pub tier: Entry,
    pub table: Entry,
    pub mark: Entry,
    pub masquerade: Entry,
    pub gateway: Entry,
}

/// `[[policy]]`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawPolicy {
    pub name: Entry,
    pub from: Entry,
    pub to: Entry,
    pub iif: Entry,
    pub proto: Entry,
    pub sport: Entry,
    pub dport: Entry,
    pub uid: Entry,
    pub dscp: Entry,
    pub fwmark: Entry,
    pub via: Entry,
    pub otherwise: Entry,
}

/// `[settings]`.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawSettings {
    pub rule_priority: Entry,
    pub metric: Entry,
    pub protocol: Entry,
    pub nexthop_id: Entry,
    pub nexthops: Entry,
    pub settle_timeout: Entry,
    pub lock_timeout: Entry,
    pub firewall: Entry,
    pub device_group: Entry,
    pub hash_policy: Entry,
}

/// A table and nothing else: a derived `Deserialize` alone would also read a list, by position.
#[derive(Default)]
pub(super) struct Table<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TableVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for TableVisitor<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a single table of keys and values")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(TableVisitor(PhantomData)).map(Self)
    }
}

/// Any value of TOML.
pub(super) enum Value {
    Int(i64),
    Text(String),
    Bool(bool),
    List(Vec<Spanned<Value>>),
    /// What no key takes, in words.
    Other(&'static str),
}

/// As an error shows it: escaped, and not longer than a line can bear.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(n) => write!(f, "{n}"),
            Self::Text(s) => write!(f, "{:?}", s.chars().take(64).collect::<String>()),
            Self::Bool(b) => write!(f, "{b}"),
            Self::List(_) => f.write_str("a list"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;

        impl<'de> Visitor<'de> for ValueVisitor {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_i64<E>(self, n: i64) -> Result<Value, E> {
                Ok(Value::Int(n))
            }

            // toml hands over as these only what i64 cannot hold.
            fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
                Ok(Value::Other("so large a number"))
            }

            fn visit_i128<E>(self, _: i128) -> Result<Value, E> {
                Ok(Value::Other("so large a number"))
            }

            fn visit_u128<E>(self, _: u128) -> Result<Value, E> {
                Ok(Value::Other("so large a number"))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
                Ok(Value::Other("a fraction"))
            }

            fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
                Ok(Value::Bool(b))
            }

            fn visit_str<E>(self, s: &str) -> Result<Value, E> {
                Ok(Value::Text(s.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Value::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Value::Other("a table or date"))
            }
        }

        deserializer.deserialize_any(ValueVisitor)
    }
}
