//! What the processing side hands to the committer.

use crate::model::{EpochCommit, Receipt};

/// An epoch to commit, then messages to acknowledge.
#[derive(Debug)]
pub(crate) struct Job {
    /// `None` if every message was committed before.
    pub(crate) commit: Option<EpochCommit>,
    pub(crate) receipts: Vec<Receipt>,
}

impl Job {
    pub(crate) fn without_messages(commit: EpochCommit) -> Self {
        Self { commit: Some(commit), receipts: Vec::new() }
    }
}
