//! The state directory with its records: one small file for each interface and address family, replaced atomically. The
//! link of a record is derived each time that it is read.

pub(crate) mod derive;
mod legacy;
mod record;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use thiserror::Error;

use crate::config::Config;
use crate::event::{Addresses, Family};
use crate::model::names::{IfName, LinkName};
use crate::model::observed::Observed;
use crate::state::clock::boot_id;
use crate::state::deprecated::Deprecated;
use crate::state::drain::{Drain, DrainLock, Level};
use crate::state::files;
pub use record::{Effect, Record, Records};
use text::{Readable, Stored};

/// Default state directory.
pub const DEFAULT_DIR: &str = "/run/multihome";

/// What the records say about a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRecord {
    pub interface: IfName,
    /// The index tells it from a later interface of the same name.
    pub index: u32,
    /// Process of the caller that brought the link up.
    pub session: Option<u32>,
    /// When it came up, in seconds since 1970.
    pub since: u64,
    /// `None`: not up with IPv4.
    pub v4: Option<Addresses>,
    /// `None`: not up with IPv6.
    pub v6: Option<Addresses>,
}

impl LinkRecord {
    /// Whether the link is up with the address family.
    pub(crate) fn has(&self, family: Family) -> bool {
        self.said(family).is_some()
    }

    /// What its caller has said of the address family.
    pub(crate) fn said(&self, family: Family) -> Option<&Addresses> {
        match family {
            Family::V4 => self.v4.as_ref(),
            Family::V6 => self.v6.as_ref(),
        }
    }
}

/// Link records by link, and the drains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkRecords {
    records: BTreeMap<LinkName, LinkRecord>,
    /// IPv6 of links that are up with IPv4 on another interface: one of the two is gone, or the link has a connection of
    /// its own for each.
    pub(super) v6_elsewhere: BTreeMap<LinkName, LinkRecord>,
    /// Links that are drained now.
    pub drained: BTreeMap<LinkName, Drain>,
    /// Addresses of the LAN that we have deprecated.
    pub deprecated: Deprecated,
}

impl LinkRecords {
    /// No link is up, and none is drained.
    pub fn new() -> Self {
        Self::default()
    }

    /// The record of a link that says something of the family.
    pub(crate) fn record(&self, link: &LinkName, family: Family) -> Option<&LinkRecord> {
        let elsewhere = || self.v6_elsewhere.get(link).filter(|_| family == Family::V6);
        self.records.get(link).filter(|record| record.has(family)).or_else(elsewhere)
    }

    /// The drain of a link, if it is about the family, and how far that is out of use.
    pub(crate) fn drain(&self, link: &LinkName, family: Family) -> Option<(Drain, Level)> {
        let drain = self.drained.get(link)?;
        Some((*drain, drain.level(family)?))
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &LinkRecord> {
        self.records.values().chain(self.v6_elsewhere.values())
    }

    /// Calls each interface by its present name, for people: it may have been renamed since the event.
    pub(crate) fn follow_names(&mut self, observed: &Observed) {
        for record in self.records.values_mut().chain(self.v6_elsewhere.values_mut()) {
            let mut interfaces = observed.interfaces.values();
            if let Some(found) = interfaces.find(|interface| interface.device.index == record.index) {
                record.interface = found.device.name.clone();
            }
        }
    }
}

impl FromIterator<(LinkName, LinkRecord)> for LinkRecords {
    fn from_iter<I: IntoIterator<Item = (LinkName, LinkRecord)>>(iter: I) -> Self {
        Self { records: iter.into_iter().collect(), ..Self::default() }
    }
}

impl Deref for LinkRecords {
    type Target = BTreeMap<LinkName, LinkRecord>;

    fn deref(&self) -> &Self::Target {
        &self.records
    }
}

impl DerefMut for LinkRecords {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.records
    }
}

/// Why a record could not be read or written.
#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// Another user could write there.
    #[error(
        "state directory {} is not safe: it must belong to root or to you and be writable by its owner only; \
         remove it, or name another with --state-dir", .0.display()
    )]
    Unsafe(PathBuf),
    /// If another user made it, root's hooks would refuse it.
    #[error("there is no {} yet, and only root may make it: `mhctl apply` at boot does (multihome.service)", .0.display())]
    Absent(PathBuf),
    #[error("{} is not a valid record: {reason}; remove it", path.display())]
    Malformed { path: PathBuf, reason: String },
}

impl Error {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// Whether the reason is a lack of privileges.
    pub fn is_permission(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            Self::Absent(_) => true,
            Self::Unsafe(_) | Self::Malformed { .. } => false,
        }
    }
}

/// The state directory.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// `dir` need not exist.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The directory: created if it is missing, otherwise checked.
    pub fn prepare(&self) -> Result<&Path, Error> {
        let look = || fs::symlink_metadata(&self.dir);
        let meta = match look() {
            // An OpenVPN that is not root could create it with CAP_DAC_OVERRIDE, which some distributions' units grant.
            Err(e)
                if e.kind() == io::ErrorKind::NotFound
                    && self.dir == Path::new(DEFAULT_DIR)
                    && !geteuid().is_root() =>
            {
                return Err(Error::Absent(self.dir.clone()));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                files::make_dir(&self.dir).map_err(Error::io("create directory", &self.dir))?;
                look()
            }
            found => found,
        };
        let meta = meta.map_err(Error::io("look at", &self.dir))?;
        let is_trusted = meta.uid() == geteuid().as_raw() || meta.uid() == 0;
        let safe = meta.is_dir() && is_trusted && meta.mode() & 0o022 == 0;
        if safe { Ok(&self.dir) } else { Err(Error::Unsafe(self.dir.clone())) }
    }

    /// The file of a record.
    pub fn path(&self, interface: &IfName, family: Family) -> PathBuf {
        let family = if family == Family::V4 { "ipv4" } else { "ipv6" };
        self.dir.join(format!("{interface}.{family}"))
    }

    fn drain_path(&self, link: &LinkName) -> PathBuf {
        self.dir.join(format!("{link}.hold"))
    }

    fn drain_lock_path(&self, link: &LinkName) -> PathBuf {
        self.dir.join(format!("{link}.hold.lock"))
    }

    /// The records since boot. An unreadable file is skipped, and its error returned, so that the other links are still
    /// served.
    pub fn records(&self) -> (Records, Vec<Error>) {
        let mut records = Records::default();
        let mut errors = Vec::new();
        let mut old = Vec::new();
        let names = fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|found| found.file_name());
        for name in names.filter_map(|name| name.into_string().ok()) {
            if let Some((interface, family)) = interface_of(&name) {
                match self.record(&interface, family) {
                    Ok(record) => records.all.extend(record),
                    Err(error) => errors.push(error),
                }
            } else if let Some(link) = name.strip_suffix(".toml").and_then(|link| link.parse().ok()) {
                old.push(link);
            }
        }
        let boot = boot_id();
        records.all.retain(|record| record.since.boot == boot);
        self.add_old(&old, &boot, &mut records, &mut errors);
        (records, errors)
    }

    /// The record of an interface and family.
    fn record(&self, interface: &IfName, family: Family) -> Result<Option<Record>, Error> {
        let path = self.path(interface, family);
        let record: Option<Record> = read(path.clone())?;
        match record {
            Some(record) if record.interface != *interface || record.family() != family => {
                Err(Error::Malformed { path, reason: "it is about another interface or family".to_owned() })
            }
            record => Ok(record),
        }
    }

    /// The link records, with the drains.
    pub fn load(&self, config: &Config) -> (LinkRecords, Vec<Error>) {
        self.load_after(&[], config)
    }

    /// The same as if `effects` were carried out.
    pub(crate) fn load_after(&self, effects: &[Effect], config: &Config) -> (LinkRecords, Vec<Error>) {
        let (mut records, mut errors) = self.records();
        for effect in effects {
            records.carry_out(effect);
        }
        let mut link_records = records.by_link(config);
        errors.extend(self.add_drained(config, &mut link_records));
        match read(self.deprecated_path()) {
            Ok(found) => link_records.deprecated = found.unwrap_or_default(),
            Err(error) => errors.push(error),
        }
        (link_records, errors)
    }

    /// Adds the drains; returns the errors of unreadable files.
    pub fn add_drained(&self, config: &Config, link_records: &mut LinkRecords) -> Vec<Error> {
        let mut errors = Vec::new();
        for link in &config.links {
            match read::<Drain>(self.drain_path(&link.name)) {
                Ok(Some(drain)) if drain.is_in_force(&self.drain_lock_path(&link.name)) => {
                    link_records.drained.insert(link.name.clone(), drain);
                }
                Ok(_) => {}
                Err(e) => errors.push(e),
            }
        }
        errors
    }

    /// Writes or removes the file of a record, atomically. The caller holds the lock of the records.
    pub fn write(&self, effect: &Effect) -> Result<(), Error> {
        match effect {
            Effect::Put(record) => {
                self.replace(record.interface.as_str(), &self.path(&record.interface, record.family()), record)
            }
            Effect::Remove(record) => remove(&self.path(&record.interface, record.family())),
            Effect::NotUp | Effect::Stale(_) => Ok(()),
        }
    }

    /// Drains `link` until the lock is dropped; `None`: another process drains it already.
    pub fn drain(&self, link: &LinkName, drain: &Drain) -> Result<Option<DrainLock>, Error> {
        let path = self.drain_lock_path(link);
        let Some(lock) = DrainLock::take(&path).map_err(Error::io("lock", &path))? else { return Ok(None) };
        self.replace(link.as_str(), &self.drain_path(link), drain)?;
        Ok(Some(lock))
    }

    /// Changes the drain of `link`, which holds `lock`.
    pub(crate) fn redrain(&self, link: &LinkName, drain: &Drain, _lock: &DrainLock) -> Result<(), Error> {
        self.replace(link.as_str(), &self.drain_path(link), drain)
    }

    /// Ends the drain of `link` that holds `lock`.
    pub fn undrain(&self, link: &LinkName, lock: DrainLock) -> Result<(), Error> {
        remove(&self.drain_path(link))?;
        remove(&self.drain_lock_path(link))?;
        drop(lock);
        Ok(())
    }

    fn deprecated_path(&self) -> PathBuf {
        self.dir.join("deprecated")
    }

    /// Writes down which addresses we have deprecated. The caller holds the lock of passes.
    pub(crate) fn write_deprecated(&self, deprecated: &Deprecated) -> Result<(), Error> {
        self.replace("deprecated", &self.deprecated_path(), deprecated)
    }

    /// The text of a file that is no record; `None`: it does not exist.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Error> {
        text_of(&self.dir.join(name), LARGEST_TEXT)
    }

    /// Writes such a file atomically. One process at a time does.
    pub(crate) fn write_text(&self, name: &str, text: &str) -> Result<(), Error> {
        self.prepare()?;
        self.replace_text(name, &self.dir.join(name), text)
    }

    fn replace(&self, name: &str, path: &Path, value: &impl Stored) -> Result<(), Error> {
        self.replace_text(name, path, &value.to_text())
    }

    fn replace_text(&self, name: &str, path: &Path, text: &str) -> Result<(), Error> {
        // Under the lock no other process uses this name. A file with it was left by a hook that died.
        let temporary = self.dir.join(format!(".{name}.new"));
        remove(&temporary)?;
        files::make(&temporary, text).map_err(Error::io("write", &temporary))?;
        fs::rename(&temporary, path).map_err(Error::io("replace", path))
    }
}

/// The interface and family that a file name stands for.
fn interface_of(name: &str) -> Option<(IfName, Family)> {
    let (interface, family) = name.rsplit_once('.')?;
    let family = match family {
        "ipv4" => Family::V4,
        "ipv6" => Family::V6,
        _ => return None,
    };
    Some((interface.parse().ok()?, family))
}

/// Reads a record; `None`: it does not exist.
fn read<T: Readable>(path: PathBuf) -> Result<Option<T>, Error> {
    let Some(text) = text_of(&path, LARGEST_RECORD)? else { return Ok(None) };
    text::read(&text).map(Some).map_err(|reason| Error::Malformed { path, reason })
}

/// In bytes. A record has a few hundred; what `mh-watch` knows of 31 uplinks takes a quarter of the other.
const LARGEST_RECORD: u64 = 64 << 10;
const LARGEST_TEXT: u64 = 1 << 20;

/// Reads a file of at most `limit` bytes; `None`: it does not exist. Anything else in its place, such as a pipe without a
/// writer, must not block an event.
fn text_of(path: &Path, limit: u64) -> Result<Option<String>, Error> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits()).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("read", path)(e)),
    };
    let meta = file.metadata().map_err(Error::io("read", path))?;
    if !meta.is_file() || meta.len() > limit {
        let reason = if meta.is_file() { "it is too large" } else { "it is no file" }.to_owned();
        return Err(Error::Malformed { path: path.to_owned(), reason });
    }
    let mut text = String::with_capacity(1024);
    file.take(limit).read_to_string(&mut text).map_err(Error::io("read", path))?;
    Ok(Some(text))
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}
