//! What epochs changed that may still be taken back.

use std::collections::VecDeque;

/// One log per epoch that may still be taken back: of the open one, and of those that wait for their commit.
///
/// An epoch begins, is finished when all of it is computed, and is committed when the target has it. Until
/// then it can be aborted, the newest first.
#[derive(Debug)]
pub struct EpochLog<L> {
    open: Option<L>,
    /// The oldest first.
    finished: VecDeque<L>,
}

impl<L> Default for EpochLog<L> {
    fn default() -> Self {
        Self { open: None, finished: VecDeque::new() }
    }
}

impl<L> EpochLog<L> {
    pub fn begin(&mut self, log: L) {
        self.open = Some(log);
    }

    /// The log of the open epoch; `None` if what happens is not to be taken back.
    pub fn open(&mut self) -> Option<&mut L> {
        self.open.as_mut()
    }

    /// All that may still be taken back, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &L> {
        self.finished.iter().chain(&self.open)
    }

    /// The open epoch waits for its commit.
    pub fn finish(&mut self) {
        self.finished.extend(self.open.take());
    }

    /// The oldest finished epoch stays for good; its log.
    pub fn commit(&mut self) -> Option<L> {
        self.finished.pop_front()
    }

    /// The log of the newest epoch, which is to be taken back.
    pub fn abort(&mut self) -> Option<L> {
        self.open.take().or_else(|| self.finished.pop_back())
    }
}

#[cfg(test)]
mod tests {
    use super::EpochLog;

    #[test]
    fn the_oldest_is_committed_and_the_newest_aborted() {
        let mut log = EpochLog::default();
        for epoch in 1..=3 {
            log.begin(epoch);
            log.finish();
        }
        log.begin(4);
        assert_eq!((log.abort(), log.open().copied()), (Some(4), None));
        assert_eq!((log.commit(), log.abort()), (Some(1), Some(3)));
        assert_eq!((log.commit(), log.commit(), log.abort()), (Some(2), None, None));
    }
}
