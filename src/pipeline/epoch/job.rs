//! What the processing side hands to the committer.

use crate::model::{EpochCommit, Receipt};

/// An epoch to commit, then messages to acknowledge.
#[derive(Debug)]
pub(in crate::pipeline) struct Job {
    /// `None` if every message was committed before.
    pub(in crate::pipeline) commit: Option<EpochCommit>,
    pub(in crate::pipeline) receipts: Vec<Receipt>,
}
