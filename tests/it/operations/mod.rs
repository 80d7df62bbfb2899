//! What an operator meets: kills, a pooler, a growing queue, `doctor`, `try`.

mod crash_matrix;
pub(crate) mod doctor;
mod dry_run;
mod forgotten;
mod kept_state;
mod ods_files;
mod pooled;
mod pruned_history;
mod queue_depth;
