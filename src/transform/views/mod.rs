//! MaintainedView views: a result, its query, and what keeps it up to date from epoch to epoch.

mod keyed_output;
mod maintained_view;
mod maintenance;
pub(crate) mod reads;
mod windows;

pub(crate) use maintained_view::{Emit, MaintainedView, PlannedQuery, Upkeep, ViewState};
pub use maintenance::Maintenance;
