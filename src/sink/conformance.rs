//! What every sink must do, as functions that both implementations run. They panic where a sink
//! does something else; nothing but tests calls them.

mod bootstrap;
mod keys;
mod large;
mod newest_rows;
mod truncate;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::array::{Decimal128Array, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use bytes::Bytes;

use super::{Sink, SinkError};
use crate::model::{
    Changelog, Channel, Column, DeadLetter, Epoch, EpochCommit, ErrorType, Landing, Offset,
    OffsetSet, Operation, Position, ResultChanges, ResultMode, ResultTable, SchemaChange,
    SchemaChangeKind, Scn, SeenType, SourceTable, SpoolOrder, Table, TableOptions, Truncation,
};
use crate::resilience::Recovery;

/// The pipeline of all sinks of a [`Stage`].
pub const PIPELINE: &str = "conformance";
/// The queue of the epochs that [`epoch`] builds.
pub const QUEUE: &str = "changes";
/// The landing table of [`orders`]: `order_id bigint, status text, amount numeric(15,2)`.
pub const LANDING: &str = "orders_history";
/// The target of [`totals`]: `order_id bigint primary key, status text`.
pub const KEYED: &str = "order_totals";
/// The target of [`log`]: `order_id bigint, status text`.
pub const APPENDED: &str = "order_log";
pub const DEAD_LETTERS: &str = "cdc_dlq";

/// Epoch times in the tests count from here: 2024-01-01 in microseconds.
pub const START: i64 = 1_704_067_200_000_000;

/// A target in its first state, and what a test can do with it besides writing epochs.
#[async_trait]
pub trait Stage: Send {
    /// A sink value of its own run on [`PIPELINE`], as a restarted processor has it.
    async fn sink(&mut self, queue: &str) -> Box<dyn Sink>;

    /// Columns of all rows of a target as text, sorted; [`DEAD_LETTERS`] has `event_id`.
    async fn rows(&mut self, target: &str, columns: &[&str]) -> Vec<Vec<Option<String>>>;

    /// While broken, commits that land rows fail with an error to be retried, late in the epoch.
    async fn set_broken(&mut self, is_broken: bool);
}

/// Runs everything, each on a stage of its own.
pub async fn check_all<S: Stage>(stage: impl AsyncFn() -> S) {
    rewriting_an_epoch_changes_nothing(&mut stage().await).await;
    an_epoch_of_another_run_is_fenced(&mut stage().await).await;
    resume_returns_exact_offsets(&mut stage().await).await;
    queues_have_their_own_offsets(&mut stage().await).await;
    bootstrap::bootstrap_gives_the_newest_row_per_key(&mut stage().await).await;
    newest_rows::the_newest_rows_of_keys_are_found_unless_they_are_deleted(&mut stage().await)
        .await;
    truncate::a_truncate_deletes_what_is_older(&mut stage().await).await;
    truncate::what_an_event_did_not_carry_is_found_in_earlier_ones(&mut stage().await).await;
    newest_rows::the_history_of_keys_is_told_in_order(&mut stage().await).await;
    a_failed_epoch_leaves_no_trace(&mut stage().await).await;
    keys::a_key_that_comes_back_ends_as_it_says(&mut stage().await).await;
    an_epoch_without_rows_still_moves_on(&mut stage().await).await;
    a_new_definition_replaces_the_rows_and_is_remembered(&mut stage().await).await;
    the_schema_registry_grows_with_the_epochs(&mut stage().await).await;
    large::changes_of_a_key_stay_in_their_order(&mut stage().await).await;
    large::an_epoch_of_a_hundred_thousand_rows_is_whole(&mut stage().await, 100_000).await;
}

/// Runs what holds for a target that is told of changes and keeps no table: it is told nothing when a result
/// has a new definition.
pub async fn check_posted<S: Stage>(stage: impl AsyncFn() -> S) {
    rewriting_an_epoch_changes_nothing(&mut stage().await).await;
    an_epoch_of_another_run_is_fenced(&mut stage().await).await;
    a_failed_epoch_leaves_no_trace(&mut stage().await).await;
    keys::a_key_that_comes_back_ends_as_it_says(&mut stage().await).await;
    an_epoch_without_rows_still_moves_on(&mut stage().await).await;
    large::changes_of_a_key_stay_in_their_order(&mut stage().await).await;
    large::an_epoch_of_a_hundred_thousand_rows_is_whole(&mut stage().await, 1_000).await;
}

async fn rewriting_an_epoch_changes_nothing(stage: &mut dyn Stage) {
    let mut sink = stage.sink(QUEUE).await;
    let first = epoch(1).created(1, 7, "new").dead(2).upserted(7, "new").logged(7, "new").build();
    for _ in 0..3 {
        sink.commit(&first).await.expect("the epoch is committed, again and again");
    }
    let second = epoch(2).created(3, 8, "new").build();
    sink.commit(&second).await.expect("the next epoch");
    assert_eq!(stage.rows(LANDING, &["order_id"]).await, texts(&[&["7"], &["8"]]));
    assert_eq!(stage.rows(KEYED, &["order_id", "status"]).await, texts(&[&["7", "new"]]));
    assert_eq!(stage.rows(APPENDED, &["order_id", "status"]).await, texts(&[&["7", "new"]]));
    let dead = Offset::new(SPOOL, 2).to_string();
    assert_eq!(stage.rows(DEAD_LETTERS, &["event_id"]).await, texts(&[&[&dead]]));
}

async fn an_epoch_of_another_run_is_fenced(stage: &mut dyn Stage) {
    let mut first = stage.sink(QUEUE).await;
    let mut second = stage.sink(QUEUE).await;
    for number in 1..=2 {
        let commit = epoch(number).created(number, number as i64, "first").build();
        first.commit(&commit).await.expect("the first run is alone");
    }
    for number in 1..=2 {
        let commit = epoch(number).created(10 + number, 9, "second").build();
        let error = second.commit(&commit).await.expect_err("another run has this epoch");
        assert!(matches!(error, SinkError::Fenced { .. }), "{error:?}");
        assert_eq!(error.recovery(), Recovery::Stop);
    }
    assert_eq!(
        stage.rows(LANDING, &["order_id", "status"]).await,
        texts(&[&["1", "first"], &["2", "first"]])
    );
    second.commit(&epoch(3).build()).await.expect("an epoch above all others");
    let error = first.commit(&epoch(3).build()).await.expect_err("the second run has epoch 3");
    assert!(matches!(error, SinkError::Fenced { .. }), "{error:?}");
}

async fn resume_returns_exact_offsets(stage: &mut dyn Stage) {
    let mut sink = stage.sink(QUEUE).await;
    let nothing = sink.resume().await.expect("an empty ledger can be read");
    assert_eq!(nothing.epoch, None);
    assert!(nothing.offsets.is_empty() && nothing.spools.spools().is_empty());
    assert_eq!(nothing.watermark, None);

    // With holes, out of order, over two spools, one of which has the highest bit set.
    let other = u64::MAX - 1;
    let offsets = [(SPOOL, 5), (SPOOL, 6), (SPOOL, 9), (other, 1)];
    let later = [(SPOOL, 7), (other, 2), (other, 4), (SPOOL, 1)];
    let mut expected = OffsetSet::default();
    for (number, ids) in [(1, offsets), (2, later)] {
        let mut commit = epoch(number).build();
        commit.offsets = ids.iter().map(|(spool, id)| Offset::new(*spool, *id)).collect();
        commit.spools = SpoolOrder::new(vec![other, SPOOL]);
        commit.watermark = Some(START + number as i64);
        expected.extend(&commit.offsets);
        sink.commit(&commit).await.expect("the epoch is committed");
    }
    let position = stage.sink(QUEUE).await.resume().await.expect("the ledger can be read");
    assert_eq!(position.epoch, Some(Epoch(2)));
    assert_eq!(position.offsets, expected);
    assert_eq!(position.spools.spools(), [other, SPOOL]);
    assert_eq!(position.watermark, Some(START + 2));
}

async fn queues_have_their_own_offsets(stage: &mut dyn Stage) {
    let mut sink = stage.sink(QUEUE).await;
    sink.commit(&epoch(1).created(1, 1, "new").build()).await.expect("the epoch is committed");
    let position = stage.sink("another").await.resume().await.expect("the ledger can be read");
    assert_eq!(position.epoch, Some(Epoch(1)));
    assert!(position.offsets.is_empty() && position.spools.spools().is_empty());
}

async fn a_failed_epoch_leaves_no_trace(stage: &mut dyn Stage) {
    let mut sink = stage.sink(QUEUE).await;
    let commit = epoch(1).upserted(1, "x").logged(1, "x").dead(2).created(1, 1, "x").build();
    stage.set_broken(true).await;
    for _ in 0..2 {
        let error = sink.commit(&commit).await.expect_err("the target is broken");
        assert_eq!(error.recovery(), Recovery::Retry, "{error:?}");
    }
    for target in [LANDING, KEYED, APPENDED] {
        assert!(stage.rows(target, &["order_id"]).await.is_empty(), "{target}");
    }
    assert!(stage.rows(DEAD_LETTERS, &["event_id"]).await.is_empty());
    let position = stage.sink(QUEUE).await.resume().await.expect("the ledger can be read");
    assert!(position.epoch.is_none() && position.offsets.is_empty());

    stage.set_broken(false).await;
    sink.commit(&commit).await.expect("the target is repaired");
    for target in [LANDING, KEYED, APPENDED] {
        assert_eq!(stage.rows(target, &["order_id"]).await, texts(&[&["1"]]), "{target}");
    }
    let position = sink.resume().await.expect("the ledger can be read");
    assert_eq!((position.epoch, position.offsets.count()), (Some(Epoch(1)), 2));
}

async fn an_epoch_without_rows_still_moves_on(stage: &mut dyn Stage) {
    let mut sink = stage.sink(QUEUE).await;
    let mut commit = epoch(5).build();
    commit.offsets.insert_range(Offset::new(SPOOL, 10), 19);
    sink.commit(&commit).await.expect("an epoch of tombstones");
    let position = sink.resume().await.expect("the ledger can be read");
    assert_eq!((position.epoch, position.offsets.count()), (Some(Epoch(5)), 10));
}

async fn a_new_definition_replaces_the_rows_and_is_remembered(stage: &mut dyn Stage) {
    let mut sink = stage.sink(QUEUE).await;
    let old = epoch(1).upserted(1, "old").upserted(2, "old").build();
    sink.commit(&old).await.expect("rows of the old definition");
    let mut commit = epoch(2).upserted(2, "new").upserted(3, "new").build();
    for changes in &mut commit.results {
        let table = ResultTable { definition: "SELECT new".to_owned(), ..(*changes.table).clone() };
        (changes.table, changes.is_new_definition) = (Arc::new(table), true);
    }
    sink.commit(&commit).await.expect("rows of the new definition");
    let expected = texts(&[&["2", "new"], &["3", "new"]]);
    assert_eq!(stage.rows(KEYED, &["order_id", "status"]).await, expected);
    let position = stage.sink(QUEUE).await.resume().await.expect("the ledger can be read");
    assert_eq!(position.definitions.get("totals").map(String::as_str), Some("SELECT new"));

    let mut commit = epoch(3).build();
    commit.retired = vec!["totals".to_owned()];
    sink.commit(&commit).await.expect("an epoch without the result");
    assert_eq!(stage.rows(KEYED, &["order_id", "status"]).await, expected, "the rows stay");
    let position = stage.sink(QUEUE).await.resume().await.expect("the ledger can be read");
    assert_eq!(position.definitions.get("totals"), None, "the definition is forgotten");
}

async fn the_schema_registry_grows_with_the_epochs(stage: &mut dyn Stage) {
    let mut sink = stage.sink(QUEUE).await;
    let learned = |column: &str, kind, seen| SchemaChange {
        source: orders().source.clone(),
        column: column.to_owned(),
        kind,
        seen,
        offset: offset(3),
    };
    let changes = [
        learned("Points \"!\"", SchemaChangeKind::Added, SeenType::Integer),
        learned("EMAIL", SchemaChangeKind::Missing, SeenType::Null),
        learned("Points \"!\"", SchemaChangeKind::Widened, SeenType::Json),
    ];
    for (number, changes) in (1..).zip([&changes[..2], &[], &changes[2..]]) {
        let commit = EpochCommit { schema_changes: changes.to_vec(), ..epoch(number).build() };
        sink.commit(&commit).await.expect("an epoch");
        sink.commit(&commit).await.expect("the same epoch again");
    }
    let position =
        stage.sink("another queue").await.resume().await.expect("the ledger can be read");
    assert_eq!(position.schema_changes, changes);
}

fn texts(rows: &[&[&str]]) -> Vec<Vec<Option<String>>> {
    rows.iter().map(|row| row.iter().map(|cell| Some((*cell).to_owned())).collect()).collect()
}

/// The one spool of [`epoch`], so that positions are message ids.
pub const SPOOL: u64 = 0x1234_5000_00ab_cdef;

/// The source table whose changes [`epoch`] lands.
pub fn orders() -> Arc<Table> {
    let column = |name: &str, data_type: DataType, nullable| Column {
        name: name.to_owned(),
        data_type,
        nullable,
    };
    Arc::new(Table {
        name: "orders".to_owned(),
        source: SourceTable { schema: "SALES".to_owned(), table: "ORDERS".to_owned() },
        columns: vec![
            column("order_id", DataType::Int64, false),
            column("status", DataType::Utf8, true),
            column("amount", DataType::Decimal128(15, 2), true),
        ],
        key: vec![0],
        options: TableOptions {
            landing: Landing::History(LANDING.to_owned()),
            ..TableOptions::default()
        },
    })
}

/// The keyed result.
pub fn totals() -> Arc<ResultTable> {
    result("totals", KEYED, ResultMode::Keyed { key: vec![0] })
}

/// The appended result.
pub fn log() -> Arc<ResultTable> {
    result("log", APPENDED, ResultMode::Append)
}

fn result(name: &str, target: &str, mode: ResultMode) -> Arc<ResultTable> {
    let fields = vec![
        Field::new("order_id", DataType::Int64, false),
        Field::new("status", DataType::Utf8, true),
    ];
    let schema = Arc::new(Schema::new(fields));
    let (name, target, definition) = (name.to_owned(), target.to_owned(), String::new());
    let channel = Channel::Table;
    Arc::new(ResultTable { name, target, channel, schema, mode, definition })
}

/// Starts an epoch; every message of it has the spool [`SPOOL`].
pub fn epoch(number: u64) -> EpochBuilder {
    EpochBuilder { number, ..EpochBuilder::default() }
}

/// Collects the contents of one epoch.
#[derive(Default)]
pub struct EpochBuilder {
    number: u64,
    changes: Vec<(u64, i64, Option<String>, Operation)>,
    upserts: Vec<(i64, String)>,
    removed: Vec<i64>,
    logged: Vec<(i64, String)>,
    dead: Vec<u64>,
    truncated: Vec<u64>,
}

impl EpochBuilder {
    pub fn created(self, id: u64, key: i64, status: &str) -> Self {
        self.change(id, key, Some(status), Operation::Create)
    }

    pub fn updated(self, id: u64, key: i64, status: &str) -> Self {
        self.change(id, key, Some(status), Operation::Update)
    }

    /// A delete that carries only the key.
    pub fn deleted(self, id: u64, key: i64) -> Self {
        self.change(id, key, None, Operation::Delete)
    }

    /// An update, of which the event may have carried the key alone.
    pub fn changed(self, id: u64, key: i64, status: Option<&str>) -> Self {
        self.change(id, key, status, Operation::Update)
    }

    /// The source emptied the table.
    pub fn truncated(mut self, id: u64) -> Self {
        self.truncated.push(id);
        self
    }

    fn change(mut self, id: u64, key: i64, status: Option<&str>, operation: Operation) -> Self {
        self.changes.push((id, key, status.map(str::to_owned), operation));
        self
    }

    pub fn upserted(mut self, key: i64, status: &str) -> Self {
        self.upserts.push((key, status.to_owned()));
        self
    }

    pub fn removed(mut self, key: i64) -> Self {
        self.removed.push(key);
        self
    }

    pub fn logged(mut self, key: i64, status: &str) -> Self {
        self.logged.push((key, status.to_owned()));
        self
    }

    pub fn dead(mut self, id: u64) -> Self {
        self.dead.push(id);
        self
    }

    pub fn build(&self) -> EpochCommit {
        let changed = self.changes.iter().map(|change| change.0);
        let others = self.dead.iter().chain(&self.truncated).copied();
        let opened_at = SystemTime::UNIX_EPOCH + Duration::from_micros(START as u64);
        EpochCommit {
            epoch: Epoch(self.number),
            queue: QUEUE.to_owned(),
            offsets: changed.chain(others).map(offset).collect(),
            spools: SpoolOrder::new(vec![SPOOL]),
            landing: vec![self.changelog()],
            results: vec![
                changes_of(totals(), &self.upserts, &self.removed),
                changes_of(log(), &self.logged, &[]),
            ],
            retired: Vec::new(),
            dead_letters: self.dead.iter().map(|id| dead_letter(*id)).collect(),
            replayed: Vec::new(),
            mended: Vec::new(),
            resent: Vec::new(),
            schema_changes: Vec::new(),
            watermark: None,
            opened_at,
            closed_at: opened_at + Duration::from_millis(20),
        }
    }

    fn changelog(&self) -> Changelog {
        let table = orders();
        let (changes, count) = (&self.changes, self.changes.len());
        let ids = || changes.iter().map(|change| change.0 as i64);
        let time: ArrayRef =
            Arc::new(TimestampMicrosecondArray::from_iter_values(ids().map(|id| START + id)));
        let amount = Decimal128Array::from_iter_values(ids().map(|id| i128::from(id) * 100 + 25));
        let amount = amount.with_precision_and_scale(15, 2).expect("fits 15 digits");
        let letters = changes.iter().map(|change| change.3.letter());
        let event_ids = changes.iter().map(|change| offset(change.0).to_string());
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(changes.iter().map(|change| change.1))),
            Arc::new(changes.iter().map(|change| change.2.as_deref()).collect::<StringArray>()),
            Arc::new(amount),
            Arc::new(StringArray::from_iter_values(letters)),
            ArrayRef::clone(&time),
            time,
            Arc::new(StringArray::from_iter_values(event_ids)),
            Arc::new(StringArray::from(vec!["cdc/orders"; count])),
            Arc::new(StringArray::from(vec![Some("{\"NOTE\": \"new column\"}"); count])),
        ];
        let spools = SpoolOrder::new(vec![SPOOL]);
        let position = |id| spools.position(offset(id)).expect("the one spool, a small id");
        Changelog {
            batch: RecordBatch::try_new(table.changelog_schema(), columns)
                .expect("the columns are in the order of the schema"),
            table,
            offsets: changes.iter().map(|change| offset(change.0)).collect(),
            positions: changes.iter().map(|change| position(change.0)).collect(),
            operations: changes.iter().map(|change| change.3).collect(),
            scns: changes.iter().map(|change| scn(change.0)).collect(),
            unchanged: Vec::new(),
            truncations: self.truncated.iter().map(|id| truncation(*id, position(*id))).collect(),
        }
    }
}

fn truncation(id: u64, position: Position) -> Truncation {
    Truncation { offset: offset(id), position, source_ts: Some(START + id as i64), scn: scn(id) }
}

/// Every third change does not say.
fn scn(id: u64) -> Option<Scn> {
    Scn::new(1000 + id as i64).filter(|_| !id.is_multiple_of(3))
}

fn offset(id: u64) -> Offset {
    Offset::new(SPOOL, id)
}

fn dead_letter(id: u64) -> DeadLetter {
    DeadLetter {
        offset: offset(id),
        topic: "cdc/orders".to_owned(),
        payload: Bytes::from_static(b"{\"op\": \"x\"}"),
        properties: vec![("tenant".to_owned(), "a".to_owned())],
        error_type: ErrorType::UnknownEnvelope,
        message: "there is no operation 'x'".to_owned(),
        table: Some("SALES.ORDERS".to_owned()),
        column: None,
    }
}

fn changes_of(table: Arc<ResultTable>, rows: &[(i64, String)], gone: &[i64]) -> ResultChanges {
    let keys = Int64Array::from_iter_values(rows.iter().map(|row| row.0));
    let status = StringArray::from_iter_values(rows.iter().map(|row| &row.1));
    let upserts =
        RecordBatch::try_new(Arc::clone(&table.schema), vec![Arc::new(keys), Arc::new(status)])
            .expect("key and status");
    let key = Arc::new(table.schema.project(&[0]).expect("the first column"));
    let gone = Int64Array::from_iter_values(gone.iter().copied());
    let deletes = RecordBatch::try_new(key, vec![Arc::new(gone)]).expect("the key alone");
    let held = Vec::new();
    ResultChanges { table, upserts, held, deletes, is_new_definition: false }
}
