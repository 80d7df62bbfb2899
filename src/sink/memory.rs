//! A sink in memory, with the semantics of the real one, for tests of other parts.

mod landed;
mod mended;
mod truncate;

pub use landed::{TextRow, text_row};

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use async_trait::async_trait;

use self::landed::{changes, history, newest};
use super::history::messages_since;
use super::{LedgerRow, Sink, SinkError, TakeRows, landed_counts, new_run_id, result_counts};
use crate::model::{
    Changelog, Channel, CommittedEpoch, DeadLetter, Epoch, EpochCommit, EventId, Generations,
    Landing, LedgerPosition, Offset, OffsetSet, Replayed, ResultChanges, ResultLetter, ResultMode,
    ResultTable, SchemaChange, SchemaChangeKind, Table,
};

/// What the sinks of a test write to. Clones share it, so that a test can look inside while a
/// pipeline owns the sink, and "restart" by asking for another sink.
#[derive(Debug, Clone, Default)]
pub struct MemoryTarget(Arc<Mutex<TargetState>>);

/// What happens to the commits to come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CommitFault {
    #[default]
    None,
    /// Refused with a retryable error, as look-ups are; nothing is written.
    Unavailable,
    /// Written, but the caller gets a retryable error, once.
    LosesAnswer,
}

#[derive(Debug, Default, Clone)]
struct TargetState {
    /// Landed changelogs by landing table.
    landing: HashMap<String, Vec<Changelog>>,
    results: HashMap<String, ResultRows>,
    dead_letters: Vec<DeadLetter>,
    result_letters: Vec<ResultLetter>,
    replayed: Vec<Replayed>,
    /// By pipeline.
    ledger: HashMap<String, Vec<LedgerRow>>,
    /// By pipeline: the definitions of results.
    definitions: HashMap<String, BTreeMap<String, String>>,
    /// By pipeline: the schema registry.
    schema_changes: HashMap<String, Vec<SchemaChange>>,
    /// By pipeline and queue.
    generations: HashMap<(String, String), Generations>,
    fault: CommitFault,
    rows_read: RowsRead,
}

/// How many landed rows were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowsRead {
    /// As the newest of their keys.
    pub newest: usize,
    /// As changes of given messages.
    pub changes: usize,
}

/// The rows of a result target, each as a batch of one row.
#[derive(Debug, Clone)]
enum ResultRows {
    Appended(Vec<RecordBatch>),
    ByKey(BTreeMap<TextRow, RecordBatch>),
}

impl MemoryTarget {
    /// A sink value of its own run.
    pub fn sink(&self, pipeline: impl Into<String>, queue: impl Into<String>) -> MemorySink {
        let (pipeline, queue) = (pipeline.into(), queue.into());
        MemorySink { target: self.clone(), pipeline, queue, run_id: new_run_id(), newest: None }
    }

    /// Lets the next commits fail, until it is set to [`CommitFault::None`] again.
    pub fn set_fault(&self, fault: CommitFault) {
        self.state().fault = fault;
    }

    /// What was landed in a landing table, epoch by epoch.
    pub fn landed(&self, landing: &str) -> Vec<Changelog> {
        self.state().landing.get(landing).cloned().unwrap_or_default()
    }

    /// The rows of a result target: in order of their keys, or as they were appended.
    pub fn result(&self, target: &str) -> Vec<RecordBatch> {
        match self.state().results.get(target) {
            None => Vec::new(),
            Some(ResultRows::Appended(rows)) => rows.clone(),
            Some(ResultRows::ByKey(rows)) => rows.values().cloned().collect(),
        }
    }

    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.state().dead_letters.clone()
    }

    /// Those about rows of results.
    pub fn result_letters(&self) -> Vec<ResultLetter> {
        self.state().result_letters.clone()
    }

    /// What became of dead letters that were processed again.
    pub fn replayed(&self) -> Vec<Replayed> {
        self.state().replayed.clone()
    }

    /// How many landed rows were read since this was asked last.
    pub fn take_rows_read(&self) -> RowsRead {
        std::mem::take(&mut self.state().rows_read)
    }

    /// The ledger rows of a pipeline, lowest epoch first.
    pub fn ledger(&self, pipeline: &str) -> Vec<LedgerRow> {
        self.state().ledger.get(pipeline).cloned().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, TargetState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`MemoryTarget::sink`].
pub struct MemorySink {
    target: MemoryTarget,
    pipeline: String,
    queue: String,
    run_id: String,
    /// Epoch and run that the next epoch is to follow.
    newest: Option<(Epoch, String)>,
}

#[async_trait]
impl Sink for MemorySink {
    fn name(&self) -> &str {
        "memory"
    }

    fn run_id(&self) -> &str {
        &self.run_id
    }

    async fn resume(&mut self) -> Result<LedgerPosition, SinkError> {
        let state = self.target.state();
        let mut position = LedgerPosition::default();
        self.newest = None;
        for row in state.ledger.get(&self.pipeline).into_iter().flatten() {
            (position.epoch, position.watermark) = (Some(row.epoch), row.watermark);
            self.newest = Some((row.epoch, row.run_id.clone()));
            position.run_id = Some(row.run_id.clone());
            if row.queue == self.queue {
                position.offsets.extend(&row.offsets);
            }
        }
        position.definitions = state.definitions.get(&self.pipeline).cloned().unwrap_or_default();
        position.schema_changes =
            state.schema_changes.get(&self.pipeline).cloned().unwrap_or_default();
        let place = (self.pipeline.clone(), self.queue.clone());
        position.generations = state.generations.get(&place).cloned().unwrap_or_default();
        Ok(position)
    }

    async fn each_newest(
        &mut self,
        table: &Arc<Table>,
        since: Option<i64>,
        take: TakeRows<'_>,
    ) -> Result<(), SinkError> {
        let Some(name) = table.options.landing.target() else { return Ok(()) };
        let newest = newest(table, &self.target.landed(name), since);
        let newest = newest.map_err(|error| SinkError::Unreadable {
            table: name.to_owned(),
            what: error.to_string(),
        })?;
        self.target.state().rows_read.newest += newest.iter().map(Changelog::len).sum::<usize>();
        let _is_enough = newest.into_iter().try_for_each(take);
        Ok(())
    }

    async fn committed_since(
        &mut self,
        kept: &CommittedEpoch,
    ) -> Result<Option<OffsetSet>, SinkError> {
        let mut rows = self.target.ledger(&self.pipeline);
        rows.retain(|row| row.epoch >= kept.epoch);
        Ok(messages_since(kept, &rows))
    }

    async fn each_change(
        &mut self,
        table: &Arc<Table>,
        messages: &OffsetSet,
        take: TakeRows<'_>,
    ) -> Result<(), SinkError> {
        let Some(name) = table.options.landing.target() else { return Ok(()) };
        let changes = changes(table, &self.target.landed(name), messages);
        let changes = changes.map_err(|error| SinkError::Unreadable {
            table: name.to_owned(),
            what: error.to_string(),
        })?;
        self.target.state().rows_read.changes += changes.iter().map(Changelog::len).sum::<usize>();
        let _is_enough = changes.into_iter().try_for_each(take);
        Ok(())
    }

    async fn history(
        &mut self,
        table: &Arc<Table>,
        keys: &RecordBatch,
    ) -> Result<Vec<Changelog>, SinkError> {
        if self.target.state().fault == CommitFault::Unavailable {
            return Err(unavailable(format!("reading the history of {}", table.name)));
        }
        let Some(name) = table.options.landing.target() else { return Ok(Vec::new()) };
        let rows = history(table, &self.target.landed(name), keys);
        rows.map_err(|error| SinkError::Unreadable {
            table: name.to_owned(),
            what: error.to_string(),
        })
    }

    async fn committed(&mut self, events: &[EventId]) -> Result<HashSet<Offset>, SinkError> {
        let state = self.target.state();
        if state.fault == CommitFault::Unavailable {
            return Err(unavailable("looking for events that are committed".to_owned()));
        }
        let landed = state.landing.values().flatten().flat_map(|changes| {
            let rows = changes.offsets.iter().zip(&changes.positions);
            rows.map(|(offset, position)| EventId::new(*offset, *position))
        });
        // A letter is of a message, whose id is that of its first event.
        let dead = state.dead_letters.iter().flat_map(|letter| EventId::all(letter.offset, 1));
        let known: HashSet<EventId> = landed.chain(dead).collect();
        Ok(events.iter().filter(|event| known.contains(event)).map(EventId::offset).collect())
    }

    async fn commit(&mut self, commit: &EpochCommit) -> Result<(), SinkError> {
        let mut state = self.target.state();
        let unavailable = || unavailable(format!("committing epoch {}", commit.epoch));
        if state.fault == CommitFault::Unavailable {
            return Err(unavailable());
        }
        let ledger = state.ledger.get(&self.pipeline).map_or(&[][..], Vec::as_slice);
        if let Some(row) = ledger.iter().find(|row| row.epoch == commit.epoch)
            && row.run_id == self.run_id
        {
            return Ok(());
        }
        let newest = ledger.last().map(|row| (row.epoch, row.run_id.clone()));
        if newest != self.newest {
            return Err(self.refusal(newest.map(|(epoch, _)| epoch), commit.epoch));
        }
        // All or nothing: the copy replaces the state only when it is complete.
        let mut next = state.clone();
        next.apply(commit).map_err(|error| SinkError::Unreadable {
            table: "the epoch".to_owned(),
            what: error.to_string(),
        })?;
        let definitions = next.definitions.entry(self.pipeline.clone()).or_default();
        for changes in commit.results.iter().filter(|changes| changes.is_new_definition) {
            definitions.insert(changes.table.name.clone(), changes.table.definition.clone());
        }
        definitions.retain(|name, _| !commit.retired.contains(name));
        let schema_changes = next.schema_changes.entry(self.pipeline.clone()).or_default();
        for change in &commit.schema_changes {
            let is_about_it = |it: &&SchemaChange| {
                (&it.source, it.kind) == (&change.source, change.kind)
                    && (it.kind == SchemaChangeKind::Key || it.column == change.column)
            };
            let said = |it: &SchemaChange| (&it.column, it.seen) == (&change.column, change.seen);
            let newest = schema_changes.iter().rfind(is_about_it);
            if !newest.is_some_and(said) {
                schema_changes.push(change.clone());
            }
        }
        next.ledger.entry(self.pipeline.clone()).or_default().push(self.ledger_row(commit));
        let place = (self.pipeline.clone(), commit.queue.clone());
        next.generations.insert(place, commit.generations.clone());
        next.fault = CommitFault::None;
        let answer = match state.fault {
            CommitFault::LosesAnswer => Err(unavailable()),
            CommitFault::None | CommitFault::Unavailable => Ok(()),
        };
        *state = next;
        self.newest = Some((commit.epoch, self.run_id.clone()));
        answer
    }
}

impl MemorySink {
    /// Why an epoch is not taken, as that of the real sink.
    fn refusal(&self, newest: Option<Epoch>, epoch: Epoch) -> SinkError {
        let pipeline = self.pipeline.clone();
        match &self.newest {
            Some((expected, _)) if newest.is_none_or(|newest| newest <= *expected) => {
                SinkError::Forgotten { pipeline, newest, expected: *expected }
            }
            _ => SinkError::Fenced { pipeline, epoch },
        }
    }

    fn ledger_row(&self, commit: &EpochCommit) -> LedgerRow {
        LedgerRow {
            epoch: commit.epoch,
            queue: commit.queue.clone(),
            run_id: self.run_id.clone(),
            offsets: commit.offsets.clone(),
            landed: landed_counts(commit),
            results: result_counts(commit),
            dead_letters: commit.letters() as u64,
            watermark: commit.watermark,
            opened_at: commit.opened_at,
            closed_at: commit.closed_at,
            committed_at: commit.closed_at,
        }
    }
}

impl TargetState {
    fn apply(&mut self, commit: &EpochCommit) -> Result<(), ArrowError> {
        for changelog in commit.landing.iter().filter(|changelog| !changelog.is_empty()) {
            if let Some(name) = changelog.table.options.landing.target() {
                let landed = self.landing.entry(name.to_owned()).or_default();
                landed.push(changelog.clone());
                for truncation in &changelog.truncations {
                    let deletes = truncate::deletes(landed, truncation)?;
                    landed.extend(deletes);
                }
                if let Landing::Current(_) = changelog.table.options.landing {
                    // With deletes, which the real one has in another table.
                    *landed = newest(&changelog.table, landed, None)?;
                }
            }
        }
        for changes in &commit.results {
            self.apply_result(changes)?;
        }
        for mending in &commit.mended {
            self.apply_result(&mending.changes)?;
            self.replayed.extend(mended::settled(mending));
        }
        self.dead_letters.extend(commit.dead_letters.iter().cloned());
        self.result_letters.extend(commit.result_letters.iter().cloned());
        self.replayed.extend(commit.replayed.iter().cloned());
        Ok(())
    }

    fn apply_result(&mut self, changes: &ResultChanges) -> Result<(), ArrowError> {
        let name = place(&changes.table).to_owned();
        let upserts = (0..changes.upserts.num_rows()).map(|row| changes.upserts.slice(row, 1));
        match &changes.table.mode {
            ResultMode::Append => {
                let rows =
                    self.results.entry(name).or_insert_with(|| ResultRows::Appended(Vec::new()));
                if let ResultRows::Appended(rows) = rows {
                    rows.extend(upserts);
                }
            }
            ResultMode::Keyed { key } => {
                let rows =
                    self.results.entry(name).or_insert_with(|| ResultRows::ByKey(BTreeMap::new()));
                let ResultRows::ByKey(rows) = rows else { return Ok(()) };
                if changes.is_new_definition {
                    rows.clear();
                }
                let all: Vec<usize> = (0..changes.deletes.num_columns()).collect();
                for row in 0..changes.deletes.num_rows() {
                    rows.remove(&text_row(&changes.deletes, row, &all)?);
                }
                for upsert in upserts {
                    rows.insert(text_row(&upsert, 0, key)?, upsert);
                }
            }
        }
        Ok(())
    }
}

/// Under which name a result's rows are kept: several results may go to one path.
pub fn place(result: &ResultTable) -> &str {
    match result.channel {
        Channel::Table => &result.target,
        Channel::Rest(_) => &result.name,
    }
}

fn unavailable(doing: String) -> SinkError {
    SinkError::Unavailable { doing, source: "the test wants this to fail".into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Operation;
    use crate::sink::conformance::{self, Stage};

    struct MemoryStage(MemoryTarget);

    #[async_trait]
    impl Stage for MemoryStage {
        async fn sink(&mut self, queue: &str) -> Box<dyn Sink> {
            Box::new(self.0.sink(conformance::PIPELINE, queue))
        }

        async fn rows(&mut self, target: &str, columns: &[&str]) -> Vec<TextRow> {
            let at = |batch: &RecordBatch| -> Vec<usize> {
                columns.iter().map(|name| batch.schema().index_of(name).unwrap()).collect()
            };
            let landed = self.0.landed(target).into_iter().map(|changelog| {
                let is_gone =
                    |op: &Operation| target == conformance::KEPT && *op == Operation::Delete;
                let is_gone: Vec<bool> = changelog.operations.iter().map(is_gone).collect();
                changelog.without(&is_gone).batch
            });
            let mut rows: Vec<TextRow> = landed
                .chain(self.0.result(target))
                .flat_map(|batch| {
                    let at = at(&batch);
                    (0..batch.num_rows())
                        .map(move |row| text_row(&batch, row, &at).unwrap())
                        .collect::<Vec<_>>()
                })
                .collect();
            if target == conformance::DEAD_LETTERS {
                rows = self
                    .0
                    .dead_letters()
                    .iter()
                    .map(|d| vec![Some(d.offset.to_string())])
                    .collect();
            }
            rows.sort();
            rows
        }

        async fn set_broken(&mut self, is_broken: bool) {
            self.0.set_fault(if is_broken { CommitFault::Unavailable } else { CommitFault::None });
        }
    }

    #[tokio::test]
    async fn the_memory_sink_conforms() {
        conformance::check_all(async || MemoryStage(MemoryTarget::default())).await;
    }

    #[tokio::test]
    async fn a_lost_answer_is_found_out_by_the_next_commit() {
        let target = MemoryTarget::default();
        let mut sink = target.sink("p", "q");
        let epoch = conformance::epoch(1).created(1, 1, "new").build();
        target.set_fault(CommitFault::LosesAnswer);
        sink.commit(&epoch).await.unwrap_err();
        assert_eq!(target.ledger("p").len(), 1);
        sink.commit(&epoch).await.unwrap();
        assert_eq!(target.landed(conformance::LANDING)[0].len(), 1);
        assert_eq!(target.landed(conformance::LANDING).len(), 1);
    }
}
