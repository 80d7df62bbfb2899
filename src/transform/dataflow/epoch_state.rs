//! What an epoch does to the state of a view, and how it is taken back.

use datafusion::error::Result;

use super::operator::Operator;

/// State that an epoch changes, and that can be what it was before.
pub(crate) trait EpochState {
    fn step(&mut self, step: EpochStep) -> Result<()>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EpochStep {
    /// From here on everything can be taken back.
    Begin,
    /// What was done stays.
    Commit,
    /// Everything is what it was when the epoch began.
    Abort,
}

/// Changes in their order, from the first to the last of the open epoch; `None` outside of one.
#[derive(Debug)]
pub(crate) struct UndoLog<T>(Option<Vec<T>>);

impl<T> Default for UndoLog<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> UndoLog<T> {
    /// Notes a change, if an epoch is open.
    pub(crate) fn note(&mut self, change: impl FnOnce() -> T) {
        if let Some(log) = &mut self.0 {
            log.push(change());
        }
    }

    /// The changes to take back, the last one first; none but after an abort.
    pub(crate) fn step(&mut self, step: EpochStep) -> impl Iterator<Item = T> + use<T> {
        let log = std::mem::replace(&mut self.0, (step == EpochStep::Begin).then(Vec::new));
        let is_abort = step == EpochStep::Abort;
        log.filter(|_| is_abort).into_iter().flatten().rev()
    }
}

/// Takes the states of an operator and of all that it reads from through a step.
pub(crate) fn step_all(operator: &mut dyn Operator, step: EpochStep) -> Result<()> {
    if let Some(state) = operator.state() {
        state.step(step)?;
    }
    operator.inputs().into_iter().try_for_each(|input| step_all(&mut **input, step))
}
