//! Files of a test's own in the machine's places, and executables.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::filter::feed;
use super::ok;

/// From here on the thread may write to /etc and /usr, and has a /run, a /mnt and a /var/lib of its own: nothing reaches
/// the machine's.
pub fn own_files() {
    own_files_over(None);
}

/// The same, with the files of a directory that has a /etc and a /usr over the machine's.
pub fn own_files_over(more: Option<&Path>) {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    for fresh in ["/mnt", "/run", "/var/lib"] {
        mount(Some("tmpfs"), fresh, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    }
    if let Some(more) = more {
        // A path of its own, without the signs that mean something among the options of a mount.
        fs::create_dir("/mnt/more").unwrap();
        mount(Some(more), "/mnt/more", none, MsFlags::MS_BIND, none).unwrap();
    }
    for dir in ["etc", "usr"] {
        let [upper, work] = ["upper", "work"].map(|part| format!("/mnt/{dir}/{part}"));
        fs::create_dir_all(&upper).unwrap();
        fs::create_dir_all(&work).unwrap();
        let lower = if more.is_some() { format!("/mnt/more/{dir}:/{dir}") } else { format!("/{dir}") };
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        mount(Some("overlay"), &*format!("/{dir}"), Some("overlay"), MsFlags::empty(), Some(&*options))
            .expect("the kernel lets root of a namespace mount overlayfs (Linux 5.11)");
    }
}

/// Copies an executable. Not by this process: a child that another thread starts meanwhile would hold the copy open for
/// writing, and whoever runs it would hear "text file busy".
pub fn install(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    ok(Command::new("install").arg("--mode=755").arg(from.as_ref()).arg(to.as_ref()));
}

/// A daemon that would start with the machine if it were installed: a copy in the test's own /run, for its directory may
/// be closed.
pub fn unpacked(name: &str) -> String {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/firewalls/usr/sbin").join(name);
    assert!(program.exists(), "there is no {}: run tests/install-tools", program.display());
    let copy = format!("/run/{name}");
    // One that is being started is not replaced.
    if !Path::new(&copy).exists() {
        install(program, &copy);
    }
    copy
}

/// Makes a script that is an executable, not by this process either.
pub fn install_script(text: &str, to: impl AsRef<Path>) {
    feed("install", &["--mode=755", "/dev/stdin", to.as_ref().to_str().unwrap()], text);
}
