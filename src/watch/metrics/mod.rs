//! Metrics in Prometheus' text format (docs/metrics.md): how the links are, what they carry, and what mh-watch has seen
//! and done. `mhctl metrics` prints them, `mh-watch --metrics` keeps them in a file.

mod counts;
mod file;
mod links;
mod page;

use std::path::Path;

pub use counts::Counts;
pub(super) use file::Textfile;
use links::Seen;
use page::{Kind, Page, sample};

use super::memory::Report;
use crate::config::Config;
use crate::kernel::{self, Kernel, Linux};
use crate::model::observed::Scope;
use crate::reconcile::link_state::LinkStates;
use crate::reconcile::plan::Plan;
use crate::state::records::Store;

/// Looks at everything, and says what is there. `report` is what mh-watch knows, if it runs; `counts` is what only it
/// knows itself.
///
/// # Errors
/// The kernel cannot be read.
pub fn text(
    config: &Config,
    state_dir: &Path,
    report: Option<&Report>,
    counts: Option<&Counts>,
) -> Result<String, kernel::Error> {
    // Records that cannot be read are those of links that are down; status and the log say so.
    let (mut records, _) = Store::new(state_dir).load(config);
    let observed = Linux::open()?.observe(&Scope::new(config, &records))?;
    records.follow_names(&observed);
    let states = LinkStates::new(config, &records, &observed);
    let plan = Plan::new(config, &states.routed(), &observed);
    let mut page = Page::default();
    let version = sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.add("multihome_build_info", Kind::Gauge, "Version of multihome.", vec![version]);
    Seen::new(config, &records, &states, report).add_to(&mut page)?;
    let in_sync = u8::from(plan.changes.is_empty() && plan.problems.is_empty());
    for (name, help, value) in [
        ("multihome_in_sync", "Whether the kernel holds what is wanted.", in_sync.into()),
        ("multihome_pending_changes", "Changes that an apply would make.", plan.changes.len()),
        ("multihome_mh_watch_running", "Whether mh-watch runs.", usize::from(report.is_some())),
    ] {
        page.add(name, Kind::Gauge, help, vec![sample(&[], value)]);
    }
    if let Some(counts) = counts {
        counts.add_to(&mut page);
    }
    Ok(page.text())
}
