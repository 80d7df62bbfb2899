//! Dead letters that are processed again, and what became of them.

use super::DeadLetter;
use crate::model::{Message, ResultChanges};

/// A dead letter that somebody wants processed again. Its message has no receipt: the broker has forgotten it.
#[derive(Debug, Clone)]
pub struct ReplayRequest {
    /// Its number among the dead letters.
    pub id: i64,
    pub message: Message,
}

/// The dead letter of a row that the target of a result has refused, which somebody wants put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedResultRow {
    pub letter: RowLetter,
    /// The name of the result.
    pub result: String,
    /// The row as [`super::row_json`] writes it; of a deletion, its key.
    pub row: String,
}

/// A dead letter about a row of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowLetter {
    pub id: i64,
    /// The target refused to delete the row.
    pub is_deletion: bool,
}

/// What rows that the target of a result has refused are today: it is to hold just that.
#[derive(Debug, Clone)]
pub struct Mending {
    /// The rows that are there, and the keys that have none.
    pub changes: ResultChanges,
    /// Per row of the upserts: the letters about it, the newest first.
    pub of_upserts: Vec<Vec<RowLetter>>,
    /// Per row of the deletes.
    pub of_deletes: Vec<Vec<RowLetter>>,
}

/// The dead letter of a request that the API has refused, which somebody wants posted again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRequest {
    pub id: i64,
    /// The name of its result.
    pub result: String,
    /// The letter tells its place among the requests of its key.
    pub has_place: bool,
}

/// A refused request on its way back to the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resent {
    /// The number of its letter.
    pub id: i64,
    /// It says what a row is, so that a newer one of its key takes its place.
    pub is_version: bool,
    /// Its key is never posted twice.
    pub is_once: bool,
}

/// What became of a dead letter that was processed again; written with the epoch that did it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    pub id: i64,
    pub outcome: ReplayOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayOutcome {
    /// Its rows are landed and part of the results, but those with newer versions.
    Applied,
    /// A newer version of each of its rows has landed: nothing was done.
    Superseded,
    /// It is a dead letter once more, with today's reason.
    Failed(Box<DeadLetter>),
    /// Its row of a result is refused once more.
    RefusedAgain { column: Option<String>, message: String },
    /// It was not looked at; the text says why.
    NotTried(String),
}

impl ReplayOutcome {
    /// The text that metrics are counted by.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Applied => "replayed",
            Self::Superseded => "superseded",
            Self::Failed(_) | Self::RefusedAgain { .. } => "failed",
            Self::NotTried(_) => "not_tried",
        }
    }
}
