//! A sink in memory, with the semantics of the real one, for tests of other parts.

mod mended;
mod truncate;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;
use async_trait::async_trait;

use super::{BOOTSTRAP_ROWS, LedgerRow, Sink, SinkError, landed_counts, new_run_id, result_counts};
use crate::model::{
    Changelog, Channel, DeadLetter, EpochCommit, Landing, LedgerPosition, Offset, Operation,
    Position, Replayed, ResultChanges, ResultMode, ResultTable, SchemaChange, Scn, SpoolOrder,
    SystemColumn, Table, extract,
};

/// The values of some columns of one row, as text.
pub type TextRow = Vec<Option<String>>;

/// What the sinks of a test write to. Clones share it, so that a test can look inside while a
/// pipeline owns the sink, and "restart" by asking for another sink.
#[derive(Debug, Clone, Default)]
pub struct MemoryTarget(Arc<Mutex<State>>);

/// What happens to the commits to come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// Refused with a retryable error, as look-ups are; nothing is written.
    Unavailable,
    /// Written, but the caller gets a retryable error, once.
    LosesAnswer,
}

#[derive(Debug, Default, Clone)]
struct State {
    /// Landed changelogs by landing table.
    landing: HashMap<String, Vec<Changelog>>,
    results: HashMap<String, Rows>,
    dead_letters: Vec<DeadLetter>,
    replayed: Vec<Replayed>,
    /// By pipeline.
    ledger: HashMap<String, Vec<LedgerRow>>,
    /// By pipeline: the definitions of results.
    definitions: HashMap<String, BTreeMap<String, String>>,
    /// By pipeline: the schema registry.
    schema_changes: HashMap<String, Vec<SchemaChange>>,
    /// By pipeline and queue.
    spools: HashMap<(String, String), SpoolOrder>,
    fault: Fault,
}

/// The rows of a result target, each as a batch of one row.
#[derive(Debug, Clone)]
enum Rows {
    Appended(Vec<RecordBatch>),
    ByKey(BTreeMap<TextRow, RecordBatch>),
}

impl MemoryTarget {
    /// A sink value of its own run.
    pub fn sink(&self, pipeline: impl Into<String>, queue: impl Into<String>) -> MemorySink {
        let (pipeline, queue) = (pipeline.into(), queue.into());
        MemorySink { target: self.clone(), pipeline, queue, run_id: new_run_id() }
    }

    /// Lets the next commits fail, until it is set to [`Fault::None`] again.
    pub fn set_fault(&self, fault: Fault) {
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
            Some(Rows::Appended(rows)) => rows.clone(),
            Some(Rows::ByKey(rows)) => rows.values().cloned().collect(),
        }
    }

    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.state().dead_letters.clone()
    }

    /// What became of dead letters that were processed again.
    pub fn replayed(&self) -> Vec<Replayed> {
        self.state().replayed.clone()
    }

    /// The ledger rows of a pipeline, lowest epoch first.
    pub fn ledger(&self, pipeline: &str) -> Vec<LedgerRow> {
        self.state().ledger.get(pipeline).cloned().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`MemoryTarget::sink`].
pub struct MemorySink {
    target: MemoryTarget,
    pipeline: String,
    queue: String,
    run_id: String,
}

#[async_trait]
impl Sink for MemorySink {
    fn name(&self) -> &str {
        "memory"
    }

    async fn resume(&mut self) -> Result<LedgerPosition, SinkError> {
        let state = self.target.state();
        let mut position = LedgerPosition::default();
        for row in state.ledger.get(&self.pipeline).into_iter().flatten() {
            (position.epoch, position.watermark) = (Some(row.epoch), row.watermark);
            if row.queue == self.queue {
                position.offsets.extend(&row.offsets);
            }
        }
        position.definitions = state.definitions.get(&self.pipeline).cloned().unwrap_or_default();
        position.schema_changes =
            state.schema_changes.get(&self.pipeline).cloned().unwrap_or_default();
        let place = (self.pipeline.clone(), self.queue.clone());
        position.spools = state.spools.get(&place).cloned().unwrap_or_default();
        Ok(position)
    }

    async fn bootstrap(
        &mut self,
        table: &Arc<Table>,
        since: Option<i64>,
    ) -> Result<Vec<Changelog>, SinkError> {
        let Landing::History(name) = &table.options.landing else { return Ok(Vec::new()) };
        let landed = self.target.landed(name);
        newest(table, &landed, since)
            .map_err(|error| SinkError::Unreadable { table: name.clone(), what: error.to_string() })
    }

    async fn newest_rows(
        &mut self,
        table: &Arc<Table>,
        asked: (&[usize], &RecordBatch),
        limit: usize,
    ) -> Result<Option<Vec<Changelog>>, SinkError> {
        if self.target.state().fault == Fault::Unavailable {
            return Err(unavailable(format!("looking for rows of {}", table.name)));
        }
        let Landing::History(name) = &table.options.landing else { return Ok(Some(Vec::new())) };
        let rows = holding(table, &self.target.landed(name), asked);
        let rows = rows.map_err(|error| SinkError::Unreadable {
            table: name.clone(),
            what: error.to_string(),
        })?;
        let count: usize = rows.iter().map(Changelog::len).sum();
        Ok((count <= limit).then_some(rows))
    }

    async fn history(
        &mut self,
        table: &Arc<Table>,
        keys: &RecordBatch,
    ) -> Result<Vec<Changelog>, SinkError> {
        if self.target.state().fault == Fault::Unavailable {
            return Err(unavailable(format!("reading the history of {}", table.name)));
        }
        let Landing::History(name) = &table.options.landing else { return Ok(Vec::new()) };
        let rows = history(table, &self.target.landed(name), keys);
        rows.map_err(|error| SinkError::Unreadable { table: name.clone(), what: error.to_string() })
    }

    async fn commit(&mut self, commit: &EpochCommit) -> Result<(), SinkError> {
        let mut state = self.target.state();
        let unavailable = || unavailable(format!("committing epoch {}", commit.epoch));
        if state.fault == Fault::Unavailable {
            return Err(unavailable());
        }
        let ledger = state.ledger.get(&self.pipeline).map_or(&[][..], Vec::as_slice);
        if let Some(row) = ledger.iter().find(|row| row.epoch == commit.epoch)
            && row.run_id == self.run_id
        {
            return Ok(());
        }
        if ledger.last().is_some_and(|row| row.epoch >= commit.epoch) {
            let (pipeline, epoch) = (self.pipeline.clone(), commit.epoch);
            return Err(SinkError::Fenced { pipeline, epoch });
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
        schema_changes.extend_from_slice(&commit.schema_changes);
        next.ledger.entry(self.pipeline.clone()).or_default().push(self.ledger_row(commit));
        let place = (self.pipeline.clone(), commit.queue.clone());
        next.spools.insert(place, commit.spools.clone());
        next.fault = Fault::None;
        let answer = match state.fault {
            Fault::LosesAnswer => Err(unavailable()),
            Fault::None | Fault::Unavailable => Ok(()),
        };
        *state = next;
        answer
    }
}

impl MemorySink {
    fn ledger_row(&self, commit: &EpochCommit) -> LedgerRow {
        LedgerRow {
            epoch: commit.epoch,
            queue: commit.queue.clone(),
            run_id: self.run_id.clone(),
            offsets: commit.offsets.clone(),
            landed: landed_counts(commit),
            results: result_counts(commit),
            dead_letters: commit.dead_letters.len() as u64,
            watermark: commit.watermark,
            opened_at: commit.opened_at,
            closed_at: commit.closed_at,
            committed_at: commit.closed_at,
        }
    }
}

impl State {
    fn apply(&mut self, commit: &EpochCommit) -> Result<(), ArrowError> {
        for changelog in commit.landing.iter().filter(|changelog| !changelog.is_empty()) {
            if let Landing::History(name) = &changelog.table.options.landing {
                let landed = self.landing.entry(name.clone()).or_default();
                landed.push(changelog.clone());
                for truncation in &changelog.truncations {
                    let deletes = truncate::deletes(landed, truncation)?;
                    landed.extend(deletes);
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
        self.replayed.extend(commit.replayed.iter().cloned());
        Ok(())
    }

    fn apply_result(&mut self, changes: &ResultChanges) -> Result<(), ArrowError> {
        let name = place(&changes.table).to_owned();
        let upserts = (0..changes.upserts.num_rows()).map(|row| changes.upserts.slice(row, 1));
        match &changes.table.mode {
            ResultMode::Append => {
                let rows = self.results.entry(name).or_insert_with(|| Rows::Appended(Vec::new()));
                if let Rows::Appended(rows) = rows {
                    rows.extend(upserts);
                }
            }
            ResultMode::Keyed { key } => {
                let rows = self.results.entry(name).or_insert_with(|| Rows::ByKey(BTreeMap::new()));
                let Rows::ByKey(rows) = rows else { return Ok(()) };
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

/// Some columns of a row as text.
pub fn text_row(batch: &RecordBatch, row: usize, columns: &[usize]) -> Result<TextRow, ArrowError> {
    let text = |array: &ArrayRef| {
        array.is_valid(row).then(|| array_value_to_string(array, row)).transpose()
    };
    columns.iter().map(|column| text(batch.column(*column))).collect()
}

fn unavailable(doing: String) -> SinkError {
    SinkError::Unavailable { doing, source: "the test wants this to fail".into() }
}

/// The newest row per key, of those that hold one of the keys in some columns.
fn holding(
    table: &Arc<Table>,
    landed: &[Changelog],
    (columns, keys): (&[usize], &RecordBatch),
) -> Result<Vec<Changelog>, ArrowError> {
    let all: Vec<usize> = (0..keys.num_columns()).collect();
    let asked = (0..keys.num_rows()).map(|row| text_row(keys, row, &all));
    let asked: BTreeSet<TextRow> = asked.collect::<Result<_, _>>()?;
    let mut holding = Vec::new();
    for changelog in newest(table, landed, None)? {
        let is_gone = (0..changelog.len()).map(|row| {
            let held = text_row(&changelog.batch, row, columns)?;
            let is_asked = asked.contains(&held) && held.iter().all(Option::is_some);
            Ok(!is_asked || changelog.operations[row] == Operation::Delete)
        });
        let rest = changelog.clone().without(&is_gone.collect::<Result<Vec<_>, ArrowError>>()?);
        holding.extend((!rest.is_empty()).then_some(rest));
    }
    Ok(holding)
}

/// The newest row per key by position, of those whose time is not before `since`.
fn newest(
    table: &Arc<Table>,
    landed: &[Changelog],
    since: Option<i64>,
) -> Result<Vec<Changelog>, ArrowError> {
    let (all, rows) = landed_rows(table, landed)?;
    let mut by_key: BTreeMap<TextRow, usize> = BTreeMap::new();
    for (row, (position, ..)) in rows.iter().enumerate() {
        let newest = by_key.entry(text_row(&all, row, &table.key)?).or_insert(row);
        if rows[*newest].0 < *position {
            *newest = row;
        }
    }
    let times = all.column(table.system_column(SystemColumn::SourceTs));
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let is_recent = |row: &u64| {
        since.is_none_or(|since| {
            times.is_valid(*row as usize) && times.value(*row as usize) >= since
        })
    };
    let chosen: Vec<u64> = by_key.into_values().map(|row| row as u64).filter(is_recent).collect();
    chosen.chunks(BOOTSTRAP_ROWS).map(|chosen| picked(table, (&all, &rows), chosen)).collect()
}

/// All rows of some keys, by key and position.
fn history(
    table: &Arc<Table>,
    landed: &[Changelog],
    keys: &RecordBatch,
) -> Result<Vec<Changelog>, ArrowError> {
    let (all, rows) = landed_rows(table, landed)?;
    let columns: Vec<usize> = (0..keys.num_columns()).collect();
    let asked = (0..keys.num_rows()).map(|row| text_row(keys, row, &columns));
    let asked: BTreeSet<TextRow> = asked.collect::<Result<_, _>>()?;
    let mut chosen = Vec::new();
    for (row, (position, ..)) in rows.iter().enumerate() {
        let key = text_row(&all, row, &table.key)?;
        if asked.contains(&key) {
            chosen.push((key, *position, row as u64));
        }
    }
    chosen.sort_unstable();
    let chosen: Vec<u64> = chosen.into_iter().map(|(.., row)| row).collect();
    chosen.chunks(BOOTSTRAP_ROWS).map(|chosen| picked(table, (&all, &rows), chosen)).collect()
}

/// What a landed row has besides its columns.
type LandedRow = (Position, Offset, Operation, Option<Scn>);

fn landed_rows(
    table: &Table,
    landed: &[Changelog],
) -> Result<(RecordBatch, Vec<LandedRow>), ArrowError> {
    let landed_batches = landed.iter().map(|changelog| as_landed(table, changelog));
    let landed_batches = landed_batches.collect::<Result<Vec<_>, _>>()?;
    let all = concat_batches(&table.changelog_schema(), &landed_batches)?;
    let of_rows = |changelog: &Changelog| -> Vec<LandedRow> {
        let Changelog { positions, offsets, operations, scns, .. } = changelog;
        (0..changelog.len())
            .map(|row| (positions[row], offsets[row], operations[row], scns[row]))
            .collect()
    };
    Ok((all, landed.iter().flat_map(of_rows).collect()))
}

/// Landing tables hold the declared columns; what queries read of `extra_fields` may be others now.
fn as_landed(table: &Table, changelog: &Changelog) -> Result<RecordBatch, ArrowError> {
    let (batch, of) = (&changelog.batch, &changelog.table);
    let extra_fields = batch.column(of.system_column(SystemColumn::ExtraFields));
    let mut columns = batch.columns()[..of.declared().len()].to_vec();
    columns.extend(extract(table, extra_fields.as_string()));
    columns.extend_from_slice(&batch.columns()[of.columns.len()..]);
    RecordBatch::try_new(table.changelog_schema(), columns)
}

fn picked(
    table: &Arc<Table>,
    (all, rows): (&RecordBatch, &[LandedRow]),
    chosen: &[u64],
) -> Result<Changelog, ArrowError> {
    let batch = take_record_batch(all, &UInt64Array::from(chosen.to_vec()))?;
    let mut columns = batch.columns().to_vec();
    columns[table.system_column(SystemColumn::Topic)] =
        Arc::new(StringArray::from(vec![""; chosen.len()]));
    let chosen: Vec<_> = chosen.iter().map(|row| rows[*row as usize]).collect();
    Ok(Changelog {
        table: Arc::clone(table),
        batch: RecordBatch::try_new(batch.schema(), columns)?,
        offsets: chosen.iter().map(|row| row.1).collect(),
        positions: chosen.iter().map(|row| row.0).collect(),
        operations: chosen.iter().map(|row| row.2).collect(),
        scns: chosen.iter().map(|row| row.3).collect(),
        unchanged: Vec::new(),
        truncations: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
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
            let landed = self.0.landed(target).into_iter().map(|changelog| changelog.batch);
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
            self.0.set_fault(if is_broken { Fault::Unavailable } else { Fault::None });
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
        target.set_fault(Fault::LosesAnswer);
        sink.commit(&epoch).await.unwrap_err();
        assert_eq!(target.ledger("p").len(), 1);
        sink.commit(&epoch).await.unwrap();
        assert_eq!(target.landed(conformance::LANDING)[0].len(), 1);
        assert_eq!(target.landed(conformance::LANDING).len(), 1);
    }
}
