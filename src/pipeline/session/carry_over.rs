//! What outlives a session, for the next one.

use std::sync::Arc;

use crate::pipeline::epoch::poison_search::PoisonSearch;
use crate::pipeline::epoch::result_letters::ResultLetters;
use crate::pipeline::history::KnownHistory;
use crate::pipeline::schema::column_promotion::PromotionRetry;
use crate::pipeline::schema::failed_results::FailedResults;
use crate::pipeline::sql_folder::{SqlFiles, SqlPlan};
use crate::pipeline::tasks::replay_watcher::ReplayWatcher;
use crate::pipeline::tasks::sql_watcher::SqlWatcher;
use crate::state::StateFolder;

/// What sessions leave to the next one.
pub(crate) struct CarryOver {
    /// Of the SQL, until a session runs it.
    pub(crate) plan: Option<SqlPlan>,
    pub(crate) sql_watcher: SqlWatcher,
    pub(crate) replay_watcher: ReplayWatcher,
    pub(crate) poison_search: PoisonSearch,
    pub(crate) promotion_retry: PromotionRetry,
    pub(crate) history: KnownHistory,
    pub(crate) result_letters: ResultLetters,
    pub(crate) failed_results: FailedResults,
    /// The SQL files that the database knows to run.
    pub(crate) noted_files: Option<SqlFiles>,
    /// Where rows go that are not in memory, once the first session has its queue.
    pub(crate) state_folder: Option<Arc<StateFolder>>,
    /// Where the source's clock is set at the next start; microseconds since 1970.
    pub(crate) start_time: Option<i64>,
    /// A start has succeeded: from now on nothing but its operator and another processor end this one.
    pub(crate) has_started: bool,
}

impl CarryOver {
    /// Before the first session.
    pub(crate) fn new(
        plan: Option<SqlPlan>,
        sql_watcher: SqlWatcher,
        replay_watcher: ReplayWatcher,
        history: KnownHistory,
    ) -> Self {
        Self {
            plan,
            sql_watcher,
            replay_watcher,
            poison_search: PoisonSearch::default(),
            promotion_retry: PromotionRetry::default(),
            history,
            result_letters: ResultLetters::default(),
            failed_results: FailedResults::default(),
            noted_files: None,
            state_folder: None,
            start_time: None,
            has_started: false,
        }
    }
}
