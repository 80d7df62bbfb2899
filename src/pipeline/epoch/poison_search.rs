//! Which event makes a query fail: an overflow, a division by zero, a cast of what is no number; or anything else that an
//! epoch goes through. And which events have rows that the target refused at the commit.
//!
//! An epoch whose query fails, or whose rows are refused, is aborted, and the state is what it was before it. Its batch comes again in
//! halves, until an epoch of one event fails: that event becomes a dead letter. Epochs that succeed grow again.
//! The target says itself which rows it has refused.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tracing::{error, warn};

use crate::model::{Message, Offset};
use crate::pipeline::epoch::diversion::Diversion;
use crate::pipeline::error::{PipelineError, Stopped};
use crate::resilience::chain;
use crate::sink::{PreflightLevel, RefusedRow};

/// So many events in a row are not bad events, but bad SQL, and nothing is diverted for that.
const MOST_IN_A_ROW: usize = 20;

/// What became of an epoch.
#[derive(Debug)]
pub(crate) enum Attempt<T> {
    Done(T),
    /// The epoch was aborted: its messages are to come again, as the search wants them.
    QueryFailed,
    /// The same, and the events are not to blame.
    GivenUp(PipelineError),
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
    /// Those of the last epoch that failed, as long as nothing is known of them.
    suspects: BTreeSet<Offset>,
    in_a_row: usize,
}

impl PoisonSearch {
    /// Tables whose rows are to be looked at before they are applied, and how.
    pub(crate) fn preflight_levels(&self) -> Vec<(String, PreflightLevel)> {
        self.preflight_levels.iter().map(|(table, level)| (table.clone(), *level)).collect()
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
    pub(crate) fn forget(&mut self, offsets: impl IntoIterator<Item = Offset>) {
        if !self.reasons.is_empty() {
            offsets.into_iter().for_each(|offset| drop(self.reasons.remove(&offset)));
        }
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
        let outcome = AssertUnwindSafe(epoch(&self.reasons)).catch_unwind().await;
        match outcome.unwrap_or_else(|panicked| Err(Stopped::Failed(crashed(&*panicked)))) {
            Ok(done) => {
                self.succeeded(offsets);
                Ok(Attempt::Done(done))
            }
            Err(Stopped::Failed(error)) if error.may_be_of_an_event() => {
                match self.failed(offsets, error) {
                    Ok(()) => Ok(Attempt::QueryFailed),
                    Err(error) => Ok(Attempt::GivenUp(error)),
                }
            }
            Err(stopped) => Err(stopped),
        }
    }

    /// An epoch of these messages went through.
    ///
    /// Each session begins with messages that were committed by the ones before, if the source has not heard of that: these
    /// say nothing while suspects are left.
    fn succeeded(&mut self, offsets: &[Offset]) {
        let suspects = self.suspects.len();
        self.suspects.retain(|suspect| !offsets.contains(suspect));
        let is_past_them = offsets.iter().max() > self.suspects.last();
        if is_past_them {
            self.suspects.clear();
        }
        let says_something = is_past_them || self.suspects.len() < suspects;
        if says_something && offsets.iter().any(|offset| !self.reasons.contains_key(offset)) {
            self.in_a_row = 0;
            // Nobody collects more than this anyway.
            self.limit = self.limit.map(|limit| limit * 2).filter(|limit| *limit < 1 << 20);
        }
    }

    /// Whatever is done about the error, what comes is not judged by it.
    fn given_up(&mut self, error: PipelineError) -> PipelineError {
        (self.in_a_row, self.limit) = (0, None);
        error
    }

    /// An epoch of these messages failed.
    ///
    /// # Errors
    /// The error itself, if the events are not to blame.
    fn failed(&mut self, offsets: &[Offset], error: PipelineError) -> Result<(), PipelineError> {
        let suspects: Vec<&Offset> =
            offsets.iter().filter(|offset| !self.reasons.contains_key(offset)).collect();
        self.suspects = suspects.iter().map(|offset| **offset).collect();
        match suspects.as_slice() {
            [] => return Err(self.given_up(error)),
            [offset] => {
                self.in_a_row += 1;
                if self.in_a_row > MOST_IN_A_ROW {
                    error!("{MOST_IN_A_ROW} events in a row make a query fail: is it the query?");
                    return Err(self.given_up(error));
                }
                let reason = chain(&error);
                // Why it fails may quote the row: the dead letter says it.
                warn!(%offset, %error, "this event can't be processed: it becomes a dead letter");
                self.reasons.insert(**offset, Diversion::failed(&reason));
                self.limit = Some(1);
            }
            many => {
                warn!(
                    messages = many.len(),
                    %error,
                    "an epoch fails: looking for the event that makes it fail"
                );
                self.limit = Some(many.len() / 2);
            }
        }
        Ok(())
    }
}

/// What a panic has said.
fn crashed(panicked: &(dyn std::any::Any + Send)) -> PipelineError {
    let text = panicked.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panicked.downcast_ref::<&str>().copied());
    PipelineError::Crashed { what: text.unwrap_or("without a message").to_owned() }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use datafusion::error::DataFusionError;

    use super::*;
    use crate::model::Receipt;
    use crate::transform::TransformError;

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
        TransformError { result: "a".to_owned(), path: "a.sql".to_owned(), source }
    }

    /// Epochs until all messages are through, or the search gives up; how many failed.
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

    /// The same with a source that begins at its beginning each time; what was committed is passed.
    async fn run_from_the_beginning(
        poison_search: &mut PoisonSearch,
        is_bad: impl Fn(u64) -> bool,
    ) -> Result<usize, ()> {
        let (mut committed, mut sessions) = (0, 0);
        while committed < 40 {
            sessions += 1;
            assert!(sessions < 60, "it goes round in circles");
            let mut rest: Vec<Message> = (0..40).map(message).collect();
            while !rest.is_empty() {
                let part = poison_search.next_part(&mut rest);
                let offsets: Vec<Offset> = part.iter().map(|m| m.offset).collect();
                let epoch = async |failing: &HashMap<Offset, Diversion>| {
                    let fails = |offset: &Offset| {
                        offset.id >= committed && is_bad(offset.id) && !failing.contains_key(offset)
                    };
                    if offsets.iter().any(fails) { Err(error().into()) } else { Ok(()) }
                };
                match poison_search.attempt(&offsets, epoch).await.expect("no other error") {
                    Attempt::Done(()) => {}
                    Attempt::QueryFailed => break,
                    Attempt::GivenUp(_) => return Err(()),
                }
                committed = committed.max(offsets.iter().map(|it| it.id + 1).max().unwrap());
            }
        }
        Ok(sessions)
    }

    #[tokio::test]
    async fn messages_that_were_committed_before_and_come_again_are_no_success() {
        let mut poison_search = PoisonSearch::default();
        let few = run_from_the_beginning(&mut poison_search, |id| (1..20).contains(&id)).await;
        assert!(few.is_ok());
        assert_eq!(poison_search.reasons.len(), 19);
        let mut poison_search = PoisonSearch::default();
        let many = run_from_the_beginning(&mut poison_search, |id| id > 0).await;
        assert!(many.is_err(), "the query is to blame");
        assert_eq!(poison_search.reasons.len(), MOST_IN_A_ROW);
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
