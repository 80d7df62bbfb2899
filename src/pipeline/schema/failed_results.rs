//! Results whose queries fail over the events that come, so that they wait until they are corrected.

use std::collections::BTreeMap;

use tracing::error;

use crate::resilience::chain;
use crate::transform::{TransformError, Transforms};

/// By result, why it waits. It outlives sessions, until the SQL files are edited.
#[derive(Debug, Default)]
pub(crate) struct FailedResults(BTreeMap<String, String>);

impl FailedResults {
    /// Lets a result wait from the next session on.
    pub(crate) fn add(&mut self, error: &TransformError) {
        let (result, why) = (&error.result, chain(error));
        error!(
            result,
            error = why,
            "a query fails over many events in a row: its result waits, the others go on"
        );
        let reason = format!(
            "its query failed over too many events in a row, so it does not run, and its target keeps the rows that \
             it has: {}; correct the query, or the rows; it is tried again at the next start and after an edit of \
             the SQL files",
            chain(&error.source)
        );
        self.0.insert(result.clone(), reason);
    }

    /// Takes them, and those that read them, out of what runs.
    pub(crate) fn set_aside(&self, transforms: &mut Transforms) {
        if !self.0.is_empty() {
            transforms.set_aside(&self.0);
        }
    }

    /// They are tried again.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
