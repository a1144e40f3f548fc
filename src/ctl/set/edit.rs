//! What a set needs so that it holds some elements, or does not. Pure.

use thiserror::Error;

use crate::model::firewall::nft::Command;
use crate::model::firewall::set::{AddressSet, Element};
use crate::model::names::SetName;

/// Elements of one command: netlink gives a list of them 64 KiB.
const MOST: usize = 400;

/// Changes of sets, and what there is to say of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) commands: Vec<Command>,
    pub(super) notes: Vec<String>,
}

/// Why elements cannot be added or deleted as they are: those of a set do not overlap.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Overlap {
    #[error("{0} and {1} overlap: write one of them")]
    Given(String, String),
    #[error("{given} overlaps {found}, which is in {name}: delete that first (mhctl set del {name} {found})")]
    Added { name: SetName, given: String, found: String },
    #[error("{given} is not in {name}; nothing was deleted. `mhctl set list {name}` shows what is")]
    Absent { name: SetName, given: String },
    #[error("{given} is not in {name} by itself, but {found} is; nothing was deleted. Delete that, or leave it")]
    Part { name: SetName, given: String, found: String },
}

impl Edit {
    pub(super) fn extend(&mut self, other: Self) {
        self.commands.extend(other.commands);
        self.notes.extend(other.notes);
    }

    /// Those of `elements` that are of the set's family are in it, which holds `found`. What is there already gets its
    /// timeout anew.
    pub(super) fn adding(
        name: &SetName,
        set: &AddressSet,
        elements: &[Element],
        found: &[Element],
    ) -> Result<Self, Overlap> {
        let mut edit = Self::default();
        let (mut renewed, mut added) = (Vec::new(), Vec::new());
        for element in of_family(set, elements)? {
            match found.iter().find(|found| found.meets(&element)) {
                None => added.push(element),
                Some(found) if found.is_of(&element) => {
                    if found.timeout.is_some() || element.timeout.is_some() {
                        renewed.push(Element { timeout: None, ..element.clone() });
                        added.push(element);
                    }
                }
                Some(found) if found.timeout.is_none() && found.covers(&element) => {
                    edit.notes.push(format!("{} is in {name} by {}", element.addresses(), found.addresses()));
                }
                Some(found) => {
                    let (given, found) = (element.addresses(), found.addresses());
                    return Err(Overlap::Added { name: name.clone(), given, found });
                }
            }
        }
        for elements in renewed.chunks(MOST) {
            edit.commands.push(Command::DeleteElements(set.clone(), elements.to_vec()));
        }
        for (at, elements) in added.chunks(MOST).enumerate() {
            let is_empty = at == 0 && found.is_empty();
            let command = Command::AddElements { set: set.clone(), elements: elements.to_vec(), is_empty };
            edit.commands.push(command);
        }
        Ok(edit)
    }

    /// None of those of `elements` that are of the set's family is in it, which holds `found`.
    pub(super) fn deleting(
        name: &SetName,
        set: &AddressSet,
        elements: &[Element],
        found: &[Element],
    ) -> Result<Self, Overlap> {
        let mut edit = Self::default();
        let elements = of_family(set, elements)?;
        for element in &elements {
            let (name, given) = (name.clone(), element.addresses());
            match found.iter().find(|found| found.meets(element)) {
                None => return Err(Overlap::Absent { name, given }),
                Some(found) if !found.is_of(element) => {
                    return Err(Overlap::Part { name, given, found: found.addresses() });
                }
                Some(_) => {}
            }
        }
        for elements in elements.chunks(MOST) {
            edit.commands.push(Command::DeleteElements(set.clone(), elements.to_vec()));
        }
        Ok(edit)
    }

    pub(super) fn flushing(set: &AddressSet) -> Self {
        Self { commands: vec![Command::FlushSet(set.clone())], notes: Vec::new() }
    }
}

/// Those of the set's family, each once, in the order of their addresses.
fn of_family(set: &AddressSet, elements: &[Element]) -> Result<Vec<Element>, Overlap> {
    let mut sorted: Vec<_> = elements.iter().filter(|element| element.family() == set.family).cloned().collect();
    sorted.sort_by_key(|element| (element.first, element.last));
    sorted.dedup();
    match sorted.windows(2).find(|pair| pair[0].meets(&pair[1])) {
        Some(pair) => Err(Overlap::Given(pair[0].addresses(), pair[1].addresses())),
        None => Ok(sorted),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::names::Family;

    fn set() -> AddressSet {
        AddressSet::of(&"tv".parse().unwrap(), Family::V4, 1)
    }

    fn elements(all: &[(&str, u64)]) -> Vec<Element> {
        let element = |(net, seconds): &(&str, u64)| {
            let timeout = (*seconds > 0).then(|| Duration::from_secs(*seconds));
            Element::new(net.parse().unwrap(), timeout)
        };
        all.iter().map(element).collect()
    }

    fn told(edit: Result<Edit, Overlap>) -> Vec<String> {
        match edit {
            Ok(Edit { commands, notes }) => commands.iter().map(ToString::to_string).chain(notes).collect(),
            Err(overlap) => vec![overlap.to_string()],
        }
    }

    #[test]
    fn what_is_added_is_what_is_not_there() {
        let found = elements(&[("192.0.2.0/24", 0), ("198.51.100.7/32", 60), ("203.0.113.1/32", 0)]);
        let adding = |all: &[(&str, u64)]| told(Edit::adding(&"tv".parse().unwrap(), &set(), &elements(all), &found));
        let add = "add element inet multihome tv4";
        assert_eq!(
            adding(&[("10.0.0.9/32", 0), ("2001:db8::/32", 0), ("10.0.0.1/32", 0), ("10.0.0.1/32", 0)]),
            [format!("{add} {{ 10.0.0.1, 10.0.0.9 }}")]
        );
        assert_eq!(adding(&[("192.0.2.9/32", 0)]), ["192.0.2.9 is in tv by 192.0.2.0/24"]);
        assert_eq!(adding(&[("203.0.113.1/32", 0)]), [""; 0]);
        assert_eq!(
            adding(&[("198.51.100.7/32", 3600)]),
            [
                "delete element inet multihome tv4 { 198.51.100.7 }".to_owned(),
                format!("{add} {{ 198.51.100.7 timeout 1h }}")
            ]
        );
        for (given, expected) in [
            (
                vec![("198.51.100.0/24", 0)],
                "198.51.100.0/24 overlaps 198.51.100.7, which is in tv: delete that first (mhctl set del tv 198.51.100.7)",
            ),
            (vec![("10.0.0.0/8", 0), ("10.1.0.0/16", 0)], "10.0.0.0/8 and 10.1.0.0/16 overlap: write one of them"),
        ] {
            assert_eq!(adding(&given), [expected]);
        }
    }

    #[test]
    fn what_is_deleted_is_there() {
        let found = elements(&[("192.0.2.0/24", 0), ("203.0.113.1/32", 0)]);
        let deleting =
            |all: &[(&str, u64)]| told(Edit::deleting(&"tv".parse().unwrap(), &set(), &elements(all), &found));
        assert_eq!(deleting(&[("203.0.113.1/32", 0)]), ["delete element inet multihome tv4 { 203.0.113.1 }"]);
        assert_eq!(
            deleting(&[("10.0.0.1/32", 0)]),
            ["10.0.0.1 is not in tv; nothing was deleted. `mhctl set list tv` shows what is"]
        );
        assert_eq!(
            deleting(&[("192.0.2.1/32", 0)]),
            ["192.0.2.1 is not in tv by itself, but 192.0.2.0/24 is; nothing was deleted. Delete that, or leave it"]
        );
    }

    #[test]
    fn a_long_list_is_several_commands_the_first_of_which_begins_the_set() {
        let nets: Vec<_> = (0..1000_u32).map(|n| (format!("10.0.{}.{}/32", n / 256, n % 256), 0)).collect();
        let nets: Vec<_> = nets.iter().map(|(net, seconds)| (net.as_str(), *seconds)).collect();
        let edit = Edit::adding(&"tv".parse().unwrap(), &set(), &elements(&nets), &[]).unwrap();
        let begins = |command: &Command| matches!(command, Command::AddElements { is_empty: true, .. });
        assert_eq!(edit.commands.iter().map(begins).collect::<Vec<_>>(), [true, false, false]);
    }
}
