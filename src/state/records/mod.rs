//! The record of which link is up on which interface: one small file per link in the state
//! directory, replaced atomically.

mod adopt;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::net::Ipv6Addr;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use thiserror::Error;

use crate::config::Config;
use crate::event::{Addresses, Change, Event, Family, Occupant};
use crate::model::names::{HostAddr, IfName, LinkName};
use crate::state::drain::{Drain, DrainLock};
pub use adopt::Adopted;
use text::Stored;

/// Default state directory.
pub const DEFAULT_DIR: &str = "/run/multihome";

/// What a caller said of a link that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Interface it is on.
    pub interface: IfName,
    /// Index of that interface: another one by the same name is another line.
    pub index: u32,
    /// Process that brought it up.
    pub session: Option<u32>,
    /// Seconds since 1970 at which it came up.
    pub since: u64,
    /// Its IPv4 side, if that is up.
    pub v4: Option<V4>,
    /// Its IPv6 side, if that is up: recorded, not yet routed.
    pub v6: Option<V6>,
}

/// IPv4 addresses of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct V4 {
    /// Our address.
    pub local: Option<HostAddr>,
    /// Gateway; `None`: the device itself.
    pub gateway: Option<HostAddr>,
}

/// IPv6 addresses of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct V6 {
    /// Our address.
    pub local: Ipv6Addr,
    /// The peer's.
    pub remote: Ipv6Addr,
}

/// Records by link: a map of them, with the drains beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    records: BTreeMap<LinkName, Record>,
    /// Links that are kept out of use now.
    pub drained: BTreeMap<LinkName, Drain>,
}

impl Records {
    /// No link is up, and none is drained.
    pub fn new() -> Self {
        Self::default()
    }

    /// The link that is recorded on `interface`.
    pub fn on<'a>(&self, interface: &IfName, config: &'a Config) -> Option<Occupant<'a>> {
        let (name, record) = self.records.iter().find(|(_, record)| record.interface == *interface)?;
        let link = config.links.iter().find(|link| link.name == *name)?;
        Some(Occupant { link, session: record.session })
    }
}

impl FromIterator<(LinkName, Record)> for Records {
    fn from_iter<I: IntoIterator<Item = (LinkName, Record)>>(iter: I) -> Self {
        Self { records: iter.into_iter().collect(), drained: BTreeMap::new() }
    }
}

impl Deref for Records {
    type Target = BTreeMap<LinkName, Record>;

    fn deref(&self) -> &Self::Target {
        &self.records
    }
}

impl DerefMut for Records {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.records
    }
}

/// What an event does to the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The record becomes this.
    Put(Record),
    /// The record goes; here it is once more.
    Remove(Record),
    /// Nothing: the link is not recorded as up for this family.
    NotUp,
    /// Nothing: the link has come up again in another session, and the event is late.
    Late(Record),
}

/// What `event` does to the record of its link. `index` is that of the event's interface, if it
/// exists; an interface that does not exist cannot come up, so then *up* does nothing.
pub fn effect(event: &Event, record: Option<&Record>, index: Option<u32>) -> Effect {
    match event.change {
        Change::Up(addresses) => {
            let Some(index) = index else { return Effect::NotUp };
            let mut new = Record {
                interface: event.interface.clone(),
                index,
                session: event.session,
                since: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
                v4: None,
                v6: None,
            };
            // The other family of the same connection stays.
            if let Some(old) = record.filter(|r| r.index == index && r.interface == event.interface) {
                new = Record { session: event.session.or(old.session), ..old.clone() };
            }
            match addresses {
                Addresses::V4 { local, gateway } => new.v4 = Some(V4 { local, gateway }),
                Addresses::V6 { local, remote } => new.v6 = Some(V6 { local, remote }),
            }
            Effect::Put(new)
        }
        Change::Down(family) => {
            let Some(old) = record else { return Effect::NotUp };
            let other_session = matches!((old.session, event.session), (Some(a), Some(b)) if a != b);
            if other_session || old.interface != event.interface {
                return Effect::Late(old.clone());
            }
            let mut left = old.clone();
            match family {
                Family::V4 => left.v4 = None,
                Family::V6 => left.v6 = None,
            }
            if left == *old {
                Effect::NotUp
            } else if left.v4.is_none() && left.v6.is_none() {
                Effect::Remove(old.clone())
            } else {
                Effect::Put(left)
            }
        }
    }
}

/// Why a record could not be read or written.
#[derive(Debug, Error)]
pub enum Error {
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else could write there.
    #[error(
        "state directory {} is not safe: it must belong to root or to you and be writable by its owner only; \
         remove it, or name another with --state-dir", .0.display()
    )]
    Unsafe(PathBuf),
    /// One of another user in its place would keep root's hooks out.
    #[error("there is no {} yet, and only root may make it: `mhctl apply` at boot does (multihome.service)", .0.display())]
    Absent(PathBuf),
    /// Not a record of ours.
    #[error("{} is not a record of ours: {reason}; remove it", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
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
    /// The store in `dir`, which need not exist.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// A file in the directory, which is made if it does not exist and checked if it does.
    pub fn prepare(&self) -> Result<&Path, Error> {
        let look = || fs::symlink_metadata(&self.dir);
        let meta = match look() {
            // With CAP_DAC_OVERRIDE, which some distributions' units give to an OpenVPN that is not root, it could.
            Err(e)
                if e.kind() == io::ErrorKind::NotFound
                    && self.dir == Path::new(DEFAULT_DIR)
                    && !geteuid().is_root() =>
            {
                return Err(Error::Absent(self.dir.clone()));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                make_dir(&self.dir).map_err(Error::io("create directory", &self.dir))?;
                look()
            }
            found => found,
        };
        let meta = meta.map_err(Error::io("look at", &self.dir))?;
        let ours = meta.uid() == geteuid().as_raw() || meta.uid() == 0;
        let safe = meta.is_dir() && ours && meta.mode() & 0o022 == 0;
        if safe { Ok(&self.dir) } else { Err(Error::Unsafe(self.dir.clone())) }
    }

    /// File of a link's record.
    pub fn path(&self, link: &LinkName) -> PathBuf {
        self.dir.join(format!("{link}.toml"))
    }

    fn drain_path(&self, link: &LinkName) -> PathBuf {
        self.dir.join(format!("{link}.hold"))
    }

    fn drain_lock_path(&self, link: &LinkName) -> PathBuf {
        self.dir.join(format!("{link}.hold.lock"))
    }

    /// The records of the configured links, with those that renamed ones had under their old names: see
    /// [`Store::adopt`], which writes that down. One that cannot be read counts as none, and is told
    /// of beside the others: it must not keep the other links from being served.
    pub fn load(&self, config: &Config) -> (Records, Vec<Error>) {
        // Before the others: one that is being adopted meanwhile is then seen under one name at least.
        let orphans = self.orphans(config);
        let (mut records, unread, errors) = self.own(config);
        adopt::adopt(config, &mut records, &unread, orphans);
        (records, errors)
    }

    /// What the configured links have under their own names; whose record cannot be read; and why.
    fn own(&self, config: &Config) -> (Records, BTreeSet<LinkName>, Vec<Error>) {
        let mut records = Records::new();
        let mut unread = BTreeSet::new();
        let mut errors = Vec::new();
        for link in &config.links {
            match read(self.path(&link.name)) {
                Ok(Some(record)) => drop(records.insert(link.name.clone(), record)),
                Ok(None) => {}
                Err(e) => {
                    unread.insert(link.name.clone());
                    errors.push(e);
                }
            }
            match read::<Drain>(self.drain_path(&link.name)) {
                Ok(Some(drain)) if drain.is_in_force(&self.drain_lock_path(&link.name)) => {
                    records.drained.insert(link.name.clone(), drain);
                }
                Ok(_) => {}
                Err(e) => errors.push(e),
            }
        }
        (records, unread, errors)
    }

    /// Carries out `effect` for `link`: the file is there as a whole or not at all at every instant.
    pub fn apply(&self, link: &LinkName, effect: &Effect) -> Result<(), Error> {
        match effect {
            Effect::Put(record) => self.replace(link, &self.path(link), record),
            Effect::Remove(_) => remove(&self.path(link)),
            Effect::NotUp | Effect::Late(_) => Ok(()),
        }
    }

    /// Keeps `link` out of use as `drain` says, while the lock lives; `None`: another process does already.
    pub fn drain(&self, link: &LinkName, drain: &Drain) -> Result<Option<DrainLock>, Error> {
        let path = self.drain_lock_path(link);
        let Some(lock) = DrainLock::take(&path).map_err(Error::io("lock", &path))? else { return Ok(None) };
        self.replace(link, &self.drain_path(link), drain)?;
        Ok(Some(lock))
    }

    /// Ends the drain of `link` that `lock` belongs to.
    pub fn undrain(&self, link: &LinkName, lock: DrainLock) -> Result<(), Error> {
        remove(&self.drain_path(link))?;
        remove(&self.drain_lock_path(link))?;
        drop(lock);
        Ok(())
    }

    fn replace(&self, link: &LinkName, path: &Path, value: &impl Stored) -> Result<(), Error> {
        // Under the lock nobody else uses this name; what is there was left by a hook that died.
        let temporary = self.dir.join(format!(".{link}.new"));
        remove(&temporary)?;
        let new = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary);
        let fill = |mut file: File| {
            file.set_permissions(Permissions::from_mode(0o644))?;
            file.write_all(value.to_text().as_bytes())
        };
        if let Err(e) = new.and_then(fill) {
            // A full disk is full of less without it.
            let _ = remove(&temporary);
            return Err(Error::io("write", &temporary)(e));
        }
        fs::rename(&temporary, path).map_err(Error::io("replace", path))
    }
}

/// A file of ours; `None`: there is none. A record is a hundred bytes; whatever else stands in its place, such as a
/// pipe that nobody writes to, keeps no event waiting.
fn read<T: Stored>(path: PathBuf) -> Result<Option<T>, Error> {
    const LIMIT: u64 = 64 * 1024;
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits()).open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("read", &path)(e)),
    };
    let meta = file.metadata().map_err(Error::io("read", &path))?;
    if !meta.is_file() || meta.len() > LIMIT {
        let reason = if meta.is_file() { "it is too large" } else { "it is no file" }.to_owned();
        return Err(Error::Malformed { path, reason });
    }
    let mut text = String::new();
    file.take(LIMIT).read_to_string(&mut text).map_err(Error::io("read", &path))?;
    text::read(&text).map(Some).map_err(|reason| Error::Malformed { path, reason })
}

/// Makes a directory that all can read whatever the umask (pppd's is 077): `mhctl status` needs no
/// root. One that is there already is left as it is.
fn make_dir(dir: &Path) -> io::Result<()> {
    match (DirBuilder::new().mode(0o755).create(dir), dir.parent()) {
        (Ok(()), _) => fs::set_permissions(dir, Permissions::from_mode(0o755)),
        (Err(e), _) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        (Err(e), Some(parent)) if e.kind() == io::ErrorKind::NotFound => {
            make_dir(parent)?;
            make_dir(dir)
        }
        (failed, _) => failed,
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}
