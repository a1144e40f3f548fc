//! Files of a test's own in the machine's places.

use std::fs;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// From here on the thread may write to /etc and /usr, and has a /run, a /mnt and a /var/lib of its own: nothing reaches
/// the machine's.
pub fn own_files() {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    for fresh in ["/mnt", "/run", "/var/lib"] {
        mount(Some("tmpfs"), fresh, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    }
    for dir in ["etc", "usr"] {
        let [upper, work] = ["upper", "work"].map(|part| format!("/mnt/{dir}/{part}"));
        fs::create_dir_all(&upper).unwrap();
        fs::create_dir_all(&work).unwrap();
        let options = format!("lowerdir=/{dir},upperdir={upper},workdir={work}");
        mount(Some("overlay"), &*format!("/{dir}"), Some("overlay"), MsFlags::empty(), Some(&*options))
            .expect("the kernel lets root of a namespace mount overlayfs (Linux 5.11)");
    }
}
