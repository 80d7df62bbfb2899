//! Which event makes a query fail: an overflow, a division by zero, a cast of what is no number. And which
//! events have rows that the target refused at the commit.
//!
//! A failed query leaves the state half changed, so that the session starts over from the ledger. The
//! failed batch comes again in halves, until an epoch of one event fails: that event becomes a dead letter.
//! Epochs that succeed grow again.

use std::collections::{BTreeMap, HashMap};

use tracing::{error, warn};

use crate::model::{Message, Offset};
use crate::pipeline::epoch::diversion::Diversion;
use crate::pipeline::error::{PipelineError, Stopped};
use crate::resilience::{Recovery, chain};
use crate::sink::{PreflightLevel, RefusedRow};
use crate::transform::TransformError;

/// So many events in a row are not bad events, but bad SQL, and nothing is diverted for that.
const MOST_IN_A_ROW: usize = 20;

/// What became of an epoch.
#[derive(Debug)]
pub(crate) enum Attempt<T> {
    Done(T),
    /// The state is half changed: the messages come again, from the ledger, as the search wants them.
    QueryFailed,
    /// The same, and the events are not to blame.
    GivenUp(TransformError),
}

/// What is known about failing events; it outlives sessions.
#[derive(Debug, Default)]
pub(crate) struct PoisonSearch {
    /// The most messages in an epoch, while a failure is narrowed down.
    limit: Option<usize>,
    /// Why events can't be processed.
    reasons: HashMap<Offset, Diversion>,
    /// Tables whose landing rows were refused when they were committed, and what would have told before.
    preflight_levels: BTreeMap<String, PreflightLevel>,
    in_a_row: usize,
}

impl PoisonSearch {
    /// Tables whose rows are to be looked at before they are applied, and how.
    pub(crate) fn preflight_levels(&self) -> impl Iterator<Item = (&String, PreflightLevel)> {
        self.preflight_levels.iter().map(|(table, level)| (table, *level))
    }

    /// The target refused these rows at the commit, each of them alone.
    pub(crate) fn refused(&mut self, rows: Vec<RefusedRow>) {
        for row in rows {
            warn!(offset = %row.offset, table = row.table, reason = row.told, "the target refuses a row of this event: it becomes a dead letter");
            let known = self.preflight_levels.entry(row.table.clone()).or_insert(row.level);
            *known = row.level.max(*known);
            self.reasons.insert(row.offset, Diversion::refused(row));
        }
    }

    /// The most messages in the next epoch, if there is a limit.
    pub(crate) fn limit(&self) -> Option<usize> {
        self.limit
    }

    /// What was known about these events is settled: they are dead letters.
    pub(crate) fn forget(&mut self, offsets: &[Offset]) {
        self.reasons.retain(|offset, _| !offsets.contains(offset));
    }

    /// Takes the messages of the next epoch.
    pub(crate) fn next_part(&self, messages: &mut Vec<Message>) -> Vec<Message> {
        let count = self.limit.unwrap_or(messages.len()).min(messages.len());
        let rest = messages.split_off(count);
        std::mem::replace(messages, rest)
    }

    /// One epoch of messages with these offsets, while looking for those that make a query fail. `epoch` is
    /// given what is known to fail.
    pub(crate) async fn attempt<T>(
        &mut self,
        offsets: &[Offset],
        epoch: impl AsyncFnOnce(&HashMap<Offset, Diversion>) -> Result<T, Stopped>,
    ) -> Result<Attempt<T>, Stopped> {
        match epoch(&self.reasons).await {
            Ok(done) => {
                self.succeeded(offsets);
                Ok(Attempt::Done(done))
            }
            Err(Stopped::Failed(PipelineError::Transform(error)))
                if error.recovery() == Recovery::DeadLetter =>
            {
                match self.failed(offsets, error) {
                    Ok(()) => Ok(Attempt::QueryFailed),
                    Err(error) => Ok(Attempt::GivenUp(error)),
                }
            }
            Err(stopped) => Err(stopped),
        }
    }

    /// An epoch of these messages went through.
    fn succeeded(&mut self, offsets: &[Offset]) {
        if offsets.iter().any(|offset| !self.reasons.contains_key(offset)) {
            self.in_a_row = 0;
            // Nobody collects more than this anyway.
            self.limit = self.limit.map(|limit| limit * 2).filter(|limit| *limit < 1 << 20);
        }
    }

    /// An epoch of these messages failed.
    ///
    /// # Errors
    /// The error itself, if the events are not to blame.
    fn failed(&mut self, offsets: &[Offset], error: TransformError) -> Result<(), TransformError> {
        let suspects: Vec<&Offset> =
            offsets.iter().filter(|offset| !self.reasons.contains_key(offset)).collect();
        match suspects.as_slice() {
            [] => return Err(error),
            [offset] => {
                self.in_a_row += 1;
                if self.in_a_row > MOST_IN_A_ROW {
                    error!("{MOST_IN_A_ROW} events in a row make a query fail: is it the query?");
                    return Err(error);
                }
                let reason = chain(&error);
                // Why it fails may quote the row: the dead letter says it.
                warn!(%offset, %error, "this event makes a query fail: it becomes a dead letter");
                self.reasons.insert(**offset, Diversion::failed(&reason));
                self.limit = Some(1);
            }
            many => {
                warn!(
                    messages = many.len(),
                    %error,
                    "a query fails: looking for the event that makes it fail"
                );
                self.limit = Some(many.len() / 2);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use datafusion::error::DataFusionError;

    use super::*;
    use crate::model::Receipt;

    fn message(id: u64) -> Message {
        Message {
            offset: Offset::new(7, id),
            receipt: Receipt { flow: 1, id },
            topic: String::new(),
            payload: Bytes::new(),
            redelivered: false,
            properties: Vec::new(),
        }
    }

    fn error() -> TransformError {
        let source = Box::new(DataFusionError::Execution("Divide by zero".to_owned()));
        TransformError::Run { path: "a.sql".to_owned(), source }
    }

    /// Sessions until all messages are through, or the search gives up; how many sessions failed.
    async fn run(
        poison_search: &mut PoisonSearch,
        count: u64,
        is_bad: impl Fn(u64) -> bool,
    ) -> Result<usize, ()> {
        let (mut done, mut failures) = (0, 0);
        while done < count {
            let mut rest: Vec<Message> = (done..count).map(message).collect();
            while !rest.is_empty() {
                let part = poison_search.next_part(&mut rest);
                let offsets: Vec<Offset> = part.iter().map(|m| m.offset).collect();
                let epoch = async |failing: &HashMap<Offset, Diversion>| {
                    let fails =
                        |offset: &Offset| is_bad(offset.id) && !failing.contains_key(offset);
                    if offsets.iter().any(fails) { Err(error().into()) } else { Ok(()) }
                };
                match poison_search.attempt(&offsets, epoch).await.expect("no other error") {
                    Attempt::Done(()) => {}
                    Attempt::QueryFailed => {
                        failures += 1;
                        break;
                    }
                    Attempt::GivenUp(_) => return Err(()),
                }
                done += offsets.len() as u64;
            }
        }
        Ok(failures)
    }

    #[tokio::test]
    async fn one_bad_event_is_found_by_halving_and_its_neighbours_go_on() {
        let mut poison_search = PoisonSearch::default();
        let failures = run(&mut poison_search, 5000, |id| id == 3210).await.unwrap();
        let found: Vec<u64> = poison_search.reasons.keys().map(|offset| offset.id).collect();
        assert_eq!(found, [3210]);
        assert!(failures <= 40, "{failures} failures");
        assert!(poison_search.reasons[&Offset::new(7, 3210)].message.contains("Divide by zero"));
    }

    #[tokio::test]
    async fn several_bad_events_are_all_found() {
        let mut poison_search = PoisonSearch::default();
        run(&mut poison_search, 2000, |id| id % 301 == 300).await.unwrap();
        assert_eq!(poison_search.reasons.len(), 6);
    }

    #[tokio::test]
    async fn a_query_that_always_fails_diverts_no_more_than_a_few() {
        let mut poison_search = PoisonSearch::default();
        assert!(run(&mut poison_search, 5000, |_| true).await.is_err());
        assert_eq!(poison_search.reasons.len(), MOST_IN_A_ROW);
    }
}
