//! What epochs do to the state of a view, and how that is taken back.

use datafusion::error::Result;

use crate::model::EpochLog;

/// State that an epoch changes, and that can be what it was before.
pub(crate) trait EpochState {
    fn step(&mut self, step: EpochStep) -> Result<()>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EpochStep {
    /// From here on everything can be taken back.
    Begin,
    /// All of the epoch is computed; it waits for its commit.
    Finish,
    /// The oldest finished epoch stays for good.
    Commit,
    /// Everything is what it was when the newest epoch began.
    Abort,
}

/// The changes of each epoch that may still be taken back, in their order.
#[derive(Debug)]
pub(crate) struct UndoLog<T>(EpochLog<Vec<T>>);

impl<T> Default for UndoLog<T> {
    fn default() -> Self {
        Self(EpochLog::default())
    }
}

impl<T> UndoLog<T> {
    /// Notes a change, if an epoch is open.
    pub(crate) fn note(&mut self, change: impl FnOnce() -> T) {
        if let Some(log) = self.0.open() {
            log.push(change());
        }
    }

    /// The changes to take back, the last one first; none but after an abort.
    pub(crate) fn step(&mut self, step: EpochStep) -> impl Iterator<Item = T> + use<T> {
        let mut aborted = None;
        match step {
            EpochStep::Begin => self.0.begin(Vec::new()),
            EpochStep::Finish => self.0.finish(),
            EpochStep::Commit => drop(self.0.commit()),
            EpochStep::Abort => aborted = self.0.abort(),
        }
        aborted.into_iter().flatten().rev()
    }
}
