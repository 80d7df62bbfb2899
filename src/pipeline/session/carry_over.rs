//! What outlives a session, for the next one.

use crate::pipeline::epoch::poison_search::PoisonSearch;
use crate::pipeline::history::KnownHistory;
use crate::pipeline::schema::column_promotion::PromotionRetry;
use crate::pipeline::sql_folder::SqlPlan;
use crate::pipeline::tasks::replay_watcher::ReplayWatcher;
use crate::pipeline::tasks::sql_watcher::SqlWatcher;

/// What sessions leave to the next one.
pub(crate) struct CarryOver {
    /// Of the SQL, until a session runs it.
    pub(crate) plan: Option<SqlPlan>,
    pub(crate) sql_watcher: SqlWatcher,
    pub(crate) replay_watcher: ReplayWatcher,
    pub(crate) poison_search: PoisonSearch,
    pub(crate) promotion_retry: PromotionRetry,
    pub(crate) history: KnownHistory,
    /// A start has succeeded: from now on nothing but its operator and another processor end this one.
    pub(crate) has_started: bool,
}
