//! What outlives a session, for the next one.

use crate::pipeline::epoch::poison_search::PoisonSearch;
use crate::pipeline::schema::column_promotion::PromotionRetry;
use crate::pipeline::tasks::replay_watcher::ReplayWatcher;
use crate::pipeline::tasks::sql_watcher::SqlWatcher;

/// What sessions leave to the next one.
pub(in crate::pipeline) struct CarryOver {
    pub(in crate::pipeline) edits: SqlWatcher,
    pub(in crate::pipeline) replays: ReplayWatcher,
    pub(in crate::pipeline) poison_search: PoisonSearch,
    pub(in crate::pipeline) altering: PromotionRetry,
    /// A start has succeeded: from now on nothing but its operator and another processor end this one.
    pub(in crate::pipeline) has_started: bool,
}
