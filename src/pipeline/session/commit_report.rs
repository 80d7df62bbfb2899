//! What the log says of committed epochs: a line a minute, and one for each kind of dead letter in that time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use crate::model::EpochCommit;

/// How often there is a line.
const EVERY: Duration = Duration::from_secs(60);

/// Epochs since the last line.
#[derive(Debug)]
pub(super) struct CommitReport {
    since: Instant,
    /// The log names the first epoch of a session at once.
    is_first: bool,
    epochs: u64,
    messages: u64,
    landed: u64,
    written: u64,
    dead_letters: u64,
    slowest: Duration,
    /// By the type of a dead letter: when the log may say so again.
    letters: BTreeMap<&'static str, DeadLetterLine>,
}

#[derive(Debug)]
struct DeadLetterLine {
    told_at: Instant,
    untold: u64,
}

impl CommitReport {
    pub(super) fn start() -> Self {
        Self {
            since: Instant::now(),
            is_first: true,
            epochs: 0,
            messages: 0,
            landed: 0,
            written: 0,
            dead_letters: 0,
            slowest: Duration::ZERO,
            letters: BTreeMap::new(),
        }
    }

    pub(super) fn committed(&mut self, commit: &EpochCommit, took: Duration) {
        let messages = commit.offsets.count();
        let landed: usize = commit.landing.iter().map(|changes| changes.len()).sum();
        let written: usize =
            commit.results.iter().map(|r| r.upserts.num_rows() + r.deletes.num_rows()).sum();
        let process = commit.closed_at.duration_since(commit.opened_at).unwrap_or_default();
        debug!(
            epoch = %commit.epoch,
            messages,
            landed,
            written,
            dead_letters = commit.dead_letters.len(),
            process_ms = process.as_millis() as u64,
            commit_ms = took.as_millis() as u64,
            "epoch committed"
        );
        self.epochs += 1;
        self.messages += messages;
        self.landed += landed as u64;
        self.written += written as u64;
        self.dead_letters += commit.dead_letters.len() as u64;
        self.slowest = self.slowest.max(took);
        self.tell_letters(commit, Instant::now());
        if self.is_first || self.since.elapsed() >= EVERY {
            self.tell(&commit.epoch.to_string());
        }
    }

    /// What was not told yet, at the end.
    pub(super) fn finish(&mut self, last: &str) {
        if self.epochs > 0 {
            self.tell(last);
        }
    }

    fn tell(&mut self, last: &str) {
        info!(
            last,
            epochs = self.epochs,
            messages = self.messages,
            landed = self.landed,
            written = self.written,
            dead_letters = self.dead_letters,
            slowest_commit_ms = self.slowest.as_millis() as u64,
            "epochs committed"
        );
        let letters = std::mem::take(&mut self.letters);
        *self = Self { is_first: false, letters, ..Self::start() };
    }

    /// What a letter says of its event may have values of rows in it: it is in the table, and not in the log.
    fn tell_letters(&mut self, commit: &EpochCommit, now: Instant) {
        for (error_type, line) in self.due_letters(commit, now) {
            let found = commit.dead_letters.iter().find(|l| l.error_type.as_str() == error_type);
            let Some(first) = found else { continue };
            warn!(
                error_type,
                count = line,
                event_id = %first.offset,
                table = first.table.as_deref().unwrap_or_default(),
                column = first.column.as_deref().unwrap_or_default(),
                "dead letters: `tidemark dlq list` says why"
            );
        }
    }

    /// The types that the log is to name, and how many letters of each it has not told.
    fn due_letters(&mut self, commit: &EpochCommit, now: Instant) -> Vec<(&'static str, u64)> {
        let mut came: BTreeMap<&'static str, u64> = BTreeMap::new();
        for letter in &commit.dead_letters {
            *came.entry(letter.error_type.as_str()).or_default() += 1;
        }
        let mut due = Vec::new();
        for (error_type, count) in came {
            match self.letters.get_mut(error_type) {
                Some(line) if now.duration_since(line.told_at) < EVERY => line.untold += count,
                known => {
                    let untold = known.map_or(0, |line| line.untold);
                    due.push((error_type, count + untold));
                    self.letters.insert(error_type, DeadLetterLine { told_at: now, untold: 0 });
                }
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::conformance::epoch;

    #[test]
    fn a_kind_of_dead_letter_is_told_once_a_minute_with_all_that_came() {
        let mut report = CommitReport::start();
        let letters = |count: u64| (0..count).fold(epoch(1), |epoch, id| epoch.dead(id)).build();
        let (now, kind) = (Instant::now(), letters(1).dead_letters[0].error_type.as_str());
        assert_eq!(report.due_letters(&letters(3), now), [(kind, 3)]);
        let soon = now + EVERY / 2;
        assert_eq!(report.due_letters(&letters(5), soon), []);
        assert_eq!(report.due_letters(&letters(0), soon), []);
        assert_eq!(report.due_letters(&letters(2), now + EVERY), [(kind, 7)]);
    }

    #[test]
    fn epochs_are_summed_up_between_two_lines() {
        let mut report = CommitReport::start();
        let commit = epoch(1).created(1, 1, "x").build();
        report.committed(&commit, Duration::from_millis(1));
        assert_eq!(report.epochs, 0, "the log names the first one at once");
        report.committed(&commit, Duration::from_millis(9));
        report.committed(&commit, Duration::from_millis(2));
        assert_eq!((report.epochs, report.landed), (2, 2));
        assert_eq!(report.slowest, Duration::from_millis(9));
        report.finish("1");
        assert_eq!(report.epochs, 0);
    }
}
