//! MaintainedView views: a result, its query, and what keeps it up to date from epoch to epoch.

mod key_proof;
mod key_rule;
mod keyed_output;
mod left_out;
mod maintained_view;
mod maintenance;
pub(crate) mod reads;
mod windows;

pub(crate) use key_proof::KeyProof;
pub(crate) use left_out::LeftOut;
pub(crate) use maintained_view::{MaintainedView, PlannedQuery, Upkeep, ViewState};
pub use maintenance::Maintenance;
