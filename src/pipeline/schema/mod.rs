//! Tables, columns and targets that change while the processor runs.

pub(super) mod column_promotion;
pub(super) mod discovered_tables;
pub(super) mod failed_results;
pub(super) mod pending_transforms;
pub(super) mod result_repair;
pub(super) mod schema_change_log;
pub(super) mod target_compatibility;
