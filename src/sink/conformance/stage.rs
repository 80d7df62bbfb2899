//! What conformance tests write and where: a stage, its tables and results, and epochs built row by row.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::array::{Decimal128Array, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use bytes::Bytes;

use crate::model::{
    Changelog, Channel, Column, DeadLetter, Epoch, EpochCommit, ErrorType, Generations, Landing,
    LearnedColumns, Offset, Operation, Position, ResultChanges, ResultMode, ResultTable, Scn,
    SourceTable, Table, TableOptions, TableOrigin, Truncation,
};
use crate::sink::Sink;

/// The pipeline of all sinks of a [`Stage`].
pub const PIPELINE: &str = "conformance";
/// The queue of the epochs that [`epoch`] builds.
pub const QUEUE: &str = "changes";
/// The landing table of [`orders`]: `order_id bigint, status text, amount numeric(15,2)`.
pub const LANDING: &str = "orders_history";
/// The landing table of [`kept_orders`], with the same columns and `order_id` as its primary key.
pub const KEPT: &str = "orders_kept";
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

pub(super) fn texts(rows: &[&[&str]]) -> Vec<Vec<Option<String>>> {
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
        origin: TableOrigin::Declared,
        learned: LearnedColumns::default(),
    })
}

/// The same, with a landing table of current rows.
pub fn kept_orders() -> Arc<Table> {
    let Table { columns, key, origin, learned, .. } = Arc::unwrap_or_clone(orders());
    Arc::new(Table {
        name: "kept_orders".to_owned(),
        source: SourceTable { schema: "SALES".to_owned(), table: "KEPT_ORDERS".to_owned() },
        columns,
        key,
        options: TableOptions {
            landing: Landing::Current(KEPT.to_owned()),
            ..TableOptions::default()
        },
        origin,
        learned,
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
            generations: Generations::of_spool(SPOOL),
            landing: vec![self.changelog(orders())],
            results: vec![
                changes_of(totals(), &self.upserts, &self.removed),
                changes_of(log(), &self.logged, &[]),
            ],
            retired: Vec::new(),
            dead_letters: self.dead.iter().map(|id| dead_letter(*id)).collect(),
            result_letters: Vec::new(),
            replayed: Vec::new(),
            mended: Vec::new(),
            resent: Vec::new(),
            schema_changes: Vec::new(),
            accepted_loss: None,
            watermark: None,
            opened_at,
            closed_at: opened_at + Duration::from_millis(20),
        }
    }

    /// The same changes, of [`kept_orders`] instead of [`orders`].
    pub fn build_kept(&self) -> EpochCommit {
        EpochCommit { landing: vec![self.changelog(kept_orders())], ..self.build() }
    }

    fn changelog(&self, table: Arc<Table>) -> Changelog {
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
        let spools = Generations::of_spool(SPOOL);
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
pub(super) fn scn(id: u64) -> Option<Scn> {
    Scn::new(1000 + id as i64).filter(|_| !id.is_multiple_of(3))
}

pub(super) fn offset(id: u64) -> Offset {
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
