//! What setup has made, written down so that unsetup takes back just that.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Error;
use super::distribution::Distribution;
use crate::ctl::tree::Tree;

/// Where it is written down.
pub const PATH: &str = "/var/lib/multihome/setup.toml";

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// A symbolic link to this.
    Link(String),
    /// A file with this text.
    Text(String),
    /// An executable file with this text.
    Script(String),
}

/// A file or a link, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub path: String,
    pub content: Content,
}

/// Everything that was made, by its path on the system (not under the root).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// Directories, parents first.
    pub directories: Vec<String>,
    /// How pppd finds its hooks here, where it was said with `--distribution`.
    pub distribution: Option<Distribution>,
    /// Files and links.
    pub made: BTreeMap<String, Content>,
}

impl Tree {
    /// What is at `path`; `Ok(None)`: nothing, or nothing that we could have made.
    pub fn content(&self, path: &str) -> Result<Option<Content>, Error> {
        let at = self.at(path);
        let io = Error::io("read", &at);
        let meta = match at.symlink_metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(&io)?,
        };
        if meta.is_symlink() {
            let target = fs::read_link(&at).map_err(&io)?;
            return Ok(target.to_str().map(|target| Content::Link(target.to_owned())));
        }
        // Nothing of ours is longer than a few pages.
        if !meta.is_file() || meta.len() > 1 << 20 {
            return Ok(None);
        }
        let bytes = fs::read(&at).map_err(&io)?;
        let make = if meta.permissions().mode() & 0o111 == 0 { Content::Text } else { Content::Script };
        Ok(String::from_utf8(bytes).ok().map(make))
    }

    /// Puts `content` at `path`, in the place of what is there; whoever looks sees one or the other.
    pub fn put(&self, path: &str, content: &Content) -> Result<(), Error> {
        let at = self.at(path);
        // run-parts and the like pass over a name with a dot in front.
        let name = at.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let new = at.with_file_name(format!(".{name}.new"));
        let _ = fs::remove_file(&new);
        let written = match content {
            Content::Link(target) => symlink(target, &new),
            Content::Text(text) => write(&new, text, 0o644),
            Content::Script(text) => write(&new, text, 0o755),
        };
        written.and_then(|()| fs::rename(&new, &at)).map_err(|e| {
            let _ = fs::remove_file(&new);
            Error::io("write", &at)(e)
        })
    }

    /// Takes `path` away, if it is there.
    pub fn remove(&self, path: &str) -> Result<(), Error> {
        let at = self.at(path);
        match fs::remove_file(&at) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &at)(e)),
            _ => Ok(()),
        }
    }

    /// Directories above `path` that are missing, parents first.
    pub fn missing_directories(&self, path: &str) -> Vec<String> {
        let parents = Path::new(path).ancestors().skip(1).filter_map(Path::to_str);
        let mut missing: Vec<_> = parents.filter(|dir| !self.at(dir).is_dir()).map(str::to_owned).collect();
        missing.reverse();
        missing
    }

    /// Makes a directory whose parent is there.
    pub fn make_directory(&self, path: &str) -> Result<(), Error> {
        let at = self.at(path);
        let made = match fs::create_dir(&at) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            other => other,
        };
        made.and_then(|()| fs::set_permissions(&at, fs::Permissions::from_mode(0o755)))
            .map_err(Error::io("create", &at))
    }

    /// Takes a directory away if it is empty; whether it has gone.
    pub fn remove_directory(&self, path: &str) -> bool {
        fs::remove_dir(self.at(path)).is_ok()
    }
}

/// Writes a new file of this mode, whatever the umask is.
fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.set_permissions(fs::Permissions::from_mode(mode))
}

impl Manifest {
    /// What the tree's manifest says; nothing if there is none.
    pub fn load(tree: &Tree) -> Result<Self, Error> {
        let at = tree.at(PATH);
        match fs::read_to_string(&at) {
            Ok(text) => toml::from_str(&text).map_err(|why| Error::Manifest(at, why.message().to_owned())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(Error::io("read", &at)(e)),
        }
    }

    /// Writes it down; one that names nothing is taken away.
    pub fn save(&self, tree: &Tree) -> Result<(), Error> {
        if self.made.is_empty() {
            return tree.remove(PATH);
        }
        let text = toml::to_string(self).map_err(|e| Error::io("write", &tree.at(PATH))(io::Error::other(e)))?;
        tree.put(PATH, &Content::Text(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_reads_as_it_was_written_and_as_it_always_was() {
        let text = "directories = [\"/etc/ppp\", \"/x'y\"]\ndistribution = \"openwrt\"\n\n\
                    [made.\"/etc/a file \\\"x\\\"\"]\ntext = \"one\\ntwo \\\\ 'three' \\\"\\\"\\\"\\n\"\n\n\
                    [made.\"/etc/ppp/ip-up.d/0multihome\"]\nlink = \"/usr/sbin/mh-ip-up\"\n\n\
                    [made.\"/etc/ppp/ip-up.local\"]\nscript = \"\"\n";
        let made = [
            ("/etc/ppp/ip-up.d/0multihome", Content::Link("/usr/sbin/mh-ip-up".to_owned())),
            ("/etc/a file \"x\"", Content::Text("one\ntwo \\ 'three' \"\"\"\n".to_owned())),
            ("/etc/ppp/ip-up.local", Content::Script(String::new())),
        ];
        let manifest = Manifest {
            directories: vec!["/etc/ppp".to_owned(), "/x'y".to_owned()],
            distribution: Some(Distribution::Openwrt),
            made: made.map(|(path, content)| (path.to_owned(), content)).into(),
        };
        assert_eq!(toml::from_str(text), Ok(manifest.clone()));
        assert_eq!(toml::from_str(&toml::to_string(&manifest).unwrap()), Ok(manifest));
        assert_eq!(toml::from_str(""), Ok(Manifest::default()));
        for wrong in ["distribution = \"x\"", "directories = [1]", "[made]\nx = 1", "[made.x]\nlink = 1", "[made.x]"] {
            assert!(toml::from_str::<Manifest>(wrong).is_err(), "{wrong}");
        }
    }
}
