//! What callers have said of interfaces that are up: one small file for each interface and address family in the state
//! directory, replaced atomically. Which link that is, is derived anew by each who reads them.

pub(crate) mod derive;
mod legacy;
mod record;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::net::Ipv6Addr;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use thiserror::Error;

use crate::config::Config;
use crate::event::Family;
use crate::model::names::{HostAddr, IfName, LinkName};
use crate::state::clock::boot_id;
use crate::state::drain::{Drain, DrainLock};
pub use record::{Effect, Record, Records};
use text::{Readable, Stored};

/// Default state directory.
pub const DEFAULT_DIR: &str = "/run/multihome";

/// What was said last of a link that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRecord {
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

impl LinkRecord {
    /// Whether the link is up with the address family.
    pub(crate) fn has(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4.is_some(),
            Family::V6 => self.v6.is_some(),
        }
    }
}

/// IPv4 addresses of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct V4 {
    pub local: Option<HostAddr>,
    /// Gateway; `None`: the device itself.
    pub gateway: Option<HostAddr>,
}

/// IPv6 addresses of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct V6 {
    pub local: Ipv6Addr,
    pub remote: Ipv6Addr,
}

/// Records by link: a map of them, with the drains beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkRecords {
    records: BTreeMap<LinkName, LinkRecord>,
    /// Links that are kept out of use now.
    pub drained: BTreeMap<LinkName, Drain>,
}

impl LinkRecords {
    /// No link is up, and none is drained.
    pub fn new() -> Self {
        Self::default()
    }
}

impl FromIterator<(LinkName, LinkRecord)> for LinkRecords {
    fn from_iter<I: IntoIterator<Item = (LinkName, LinkRecord)>>(iter: I) -> Self {
        Self { records: iter.into_iter().collect(), drained: BTreeMap::new() }
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
    /// Somebody else could write there.
    #[error(
        "state directory {} is not safe: it must belong to root or to you and be writable by its owner only; \
         remove it, or name another with --state-dir", .0.display()
    )]
    Unsafe(PathBuf),
    /// One of another user in its place would keep root's hooks out.
    #[error("there is no {} yet, and only root may make it: `mhctl apply` at boot does (multihome.service)", .0.display())]
    Absent(PathBuf),
    #[error("{} is not a record of ours: {reason}; remove it", path.display())]
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

    /// File of what is said of a family of an interface.
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

    /// What callers have said since boot. A file that cannot be read counts as none, and is told of beside the others: it
    /// must not keep the other links from being served.
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

    /// What is said of a family of an interface.
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

    /// What callers have said, by link, with the links that are drained.
    pub fn load(&self, config: &Config) -> (LinkRecords, Vec<Error>) {
        let (records, mut errors) = self.records();
        let mut link_records = records.by_link(config);
        errors.extend(self.add_drained(config, &mut link_records));
        (link_records, errors)
    }

    /// Adds the links that are drained; what cannot be read is returned.
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

    /// Writes `effect` down, under the lock of the records: the file is there as a whole or not at all at every instant.
    pub fn write(&self, effect: &Effect) -> Result<(), Error> {
        match effect {
            Effect::Put(record) => {
                self.replace(record.interface.as_str(), &self.path(&record.interface, record.family()), record)
            }
            Effect::Remove(record) => remove(&self.path(&record.interface, record.family())),
            Effect::NotUp | Effect::Stale(_) => Ok(()),
        }
    }

    /// Keeps `link` out of use as `drain` says, while the lock lives; `None`: another process does already.
    pub fn drain(&self, link: &LinkName, drain: &Drain) -> Result<Option<DrainLock>, Error> {
        let path = self.drain_lock_path(link);
        let Some(lock) = DrainLock::take(&path).map_err(Error::io("lock", &path))? else { return Ok(None) };
        self.replace(link.as_str(), &self.drain_path(link), drain)?;
        Ok(Some(lock))
    }

    /// Ends the drain of `link` that `lock` belongs to.
    pub fn undrain(&self, link: &LinkName, lock: DrainLock) -> Result<(), Error> {
        remove(&self.drain_path(link))?;
        remove(&self.drain_lock_path(link))?;
        drop(lock);
        Ok(())
    }

    fn replace(&self, name: &str, path: &Path, value: &impl Stored) -> Result<(), Error> {
        // Under the lock nobody else uses this name; what is there was left by a hook that died.
        let temporary = self.dir.join(format!(".{name}.new"));
        remove(&temporary)?;
        let new = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary);
        if let Err(e) = new.and_then(|file| fill(&file, &value.to_text())) {
            // A full disk is full of less without it.
            let _ = remove(&temporary);
            return Err(Error::io("write", &temporary)(e));
        }
        fs::rename(&temporary, path).map_err(Error::io("replace", path))
    }
}

fn fill(mut file: &File, text: &str) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())
}

/// Whose file this is by its name.
fn interface_of(name: &str) -> Option<(IfName, Family)> {
    let (interface, family) = name.rsplit_once('.')?;
    let family = match family {
        "ipv4" => Family::V4,
        "ipv6" => Family::V6,
        _ => return None,
    };
    Some((interface.parse().ok()?, family))
}

/// A file of ours; `None`: there is none. A record is a hundred bytes; whatever else stands in its place, such as a
/// pipe that nobody writes to, keeps no event waiting.
fn read<T: Readable>(path: PathBuf) -> Result<Option<T>, Error> {
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
    let mut text = String::with_capacity(1024);
    file.take(LIMIT).read_to_string(&mut text).map_err(Error::io("read", &path))?;
    text::read(&text).map(Some).map_err(|reason| Error::Malformed { path, reason })
}

/// Makes a directory that all can read whatever the umask (pppd's is 077): `mhctl status` needs no
/// root. Those above it are made as well; one that is there already is left as it is.
fn make_dir(dir: &Path) -> io::Result<()> {
    let mut missing: Vec<_> = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
    while let Some(dir) = missing.pop() {
        match DirBuilder::new().mode(0o755).create(dir) {
            Ok(()) => fs::set_permissions(dir, Permissions::from_mode(0o755))?,
            // Another hook was quicker.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}
