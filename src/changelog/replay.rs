use super::{DeadLetter, Message};

/// A dead letter that somebody wants processed again. Its message has no receipt: the broker has forgotten it.
#[derive(Debug, Clone)]
pub struct ReplayRequest {
    /// Its number among the dead letters.
    pub id: i64,
    pub message: Message,
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
    /// It was not looked at; the text says why.
    NotTried(String),
}

impl ReplayOutcome {
    /// The text that metrics are counted by.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Applied => "replayed",
            Self::Superseded => "superseded",
            Self::Failed(_) => "failed",
            Self::NotTried(_) => "not_tried",
        }
    }
}
