//! The order-free property: however a stream is cut into batches, redelivered and interrupted by
//! restarts, and whatever leaves memory, every result is its SELECT over the current rows.

mod arrays;
mod cold_rows;
mod discovered_tables;
mod extracted;
mod kept_state;
mod late_events;
mod offsets;
mod replays;
mod shipped_tables;
mod stale_snapshots;
mod temporal_join;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;
use bytes::Bytes;
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use crate::decode::{Decoder, DecoderSetup};
use crate::model::{Message, Offset, Receipt};
use crate::pipeline::epoch::job::Job;
use crate::pipeline::epoch::landing_reader::LandingReader;
use crate::pipeline::epoch::processor::{Processor, ProcessorParts};
use crate::pipeline::epoch::result_letters::ResultLetters;
use crate::pipeline::error::Stopped;
use crate::pipeline::session::resume::resume;
use crate::pipeline::sql_folder::{Sql, load_sql};
use crate::pipeline::target_retry::TargetRetry;
use crate::resilience::CircuitBreaker;
use crate::sink::Sink;
use crate::sink::memory::{MemorySink, MemoryTarget};
use crate::state::{StateFolder, StateStores};
use crate::telemetry::Health;
use crate::transform::{PlanRequest, Transforms};

const DELAY: Duration = Duration::from_secs(10);

/// A change of one of the four tables that the shipped transforms read.
#[derive(Debug, Clone)]
enum Change {
    Upsert {
        table: usize,
        id: u8,
        parent: u8,
        value: u8,
    },
    Delete {
        table: usize,
        id: u8,
    },
    Truncate {
        table: usize,
    },
    /// An update of an order that does not carry its LOB.
    Unavailable {
        id: u8,
        parent: u8,
        value: u8,
    },
    /// As Debezium sends a change of the key: delete, a tombstone in one of its forms, create.
    Move {
        table: usize,
        from: u8,
        to: u8,
        value: u8,
    },
    /// Another source might send one update.
    Rename {
        table: usize,
        from: u8,
        to: u8,
        value: u8,
    },
}

fn change() -> impl Strategy<Value = Change> {
    let (table, id) = (0usize..4, 0u8..6);
    prop_oneof![
        6 => (table.clone(), id.clone(), 0u8..6, any::<u8>())
            .prop_map(|(table, id, parent, value)| Change::Upsert { table, id, parent, value }),
        2 => (table.clone(), id.clone()).prop_map(|(table, id)| Change::Delete { table, id }),
        1 => table.clone().prop_map(|table| Change::Truncate { table }),
        2 => (id.clone(), 0u8..6, any::<u8>())
            .prop_map(|(id, parent, value)| Change::Unavailable { id, parent, value }),
        1 => (table.clone(), id.clone(), id.clone(), any::<u8>())
            .prop_map(|(table, from, to, value)| Change::Move { table, from, to, value }),
        1 => (table, id.clone(), id, any::<u8>())
            .prop_map(|(table, from, to, value)| Change::Rename { table, from, to, value }),
    ]
}

/// What happens between two batches.
#[derive(Debug, Clone, Copy)]
enum Border {
    Nothing,
    /// The last messages of the batch come once more.
    Redelivery(usize),
    /// The processor dies after the commit.
    Restart,
    /// The processor dies before the commit, so the batch comes again.
    Lost,
    /// A query fails when all of the epoch is computed: it is aborted, and the batch comes again.
    Aborted,
    /// Everything leaves memory.
    Evicted,
    /// All that is committed is on disk.
    Flushed,
    /// The target refuses a row when the next epoch is computed already: both are aborted, and come again.
    Refused,
}

fn border() -> impl Strategy<Value = (usize, Border)> {
    let what = prop_oneof![
        4 => Just(Border::Nothing),
        1 => (1usize..5).prop_map(Border::Redelivery),
        3 => Just(Border::Restart),
        1 => Just(Border::Lost),
        2 => Just(Border::Aborted),
        4 => Just(Border::Evicted),
        4 => Just(Border::Flushed),
        2 => Just(Border::Refused),
    ];
    (1usize..8, what)
}

/// Nothing, as the converter writes it without and with the schema section.
const TOMBSTONES: [&str; 3] = ["", "null", r#"{"schema":null,"payload":null}"#];

const NAMES: [&str; 4] = ["ORDERS", "ORDER_ITEMS", "CUSTOMERS", "PRODUCTS"];

pub(crate) fn row(table: usize, id: u8, parent: u8, value: u8) -> String {
    let minute = 60_000_000 * i64::from(value);
    match table {
        0 => format!(
            r#"{{"ORDER_ID":{id},"CUSTOMER_ID":{parent},"ORDER_DATE":{},"STATUS":"S{}","TOTAL_AMOUNT":"{value}.50"}}"#,
            1_700_000_000_000_000 + minute,
            value % 3
        ),
        1 => format!(
            r#"{{"ITEM_ID":{id},"ORDER_ID":{parent},"PRODUCT_ID":{},"QUANTITY":{value},"UNIT_PRICE":"1.25","SUBTOTAL":"{value}.25"}}"#,
            value % 6
        ),
        2 => format!(r#"{{"CUSTOMER_ID":{id},"NAME":"n{value}","TIER":"T{}"}}"#, value % 2),
        _ => format!(
            r#"{{"PRODUCT_ID":{id},"NAME":"p","CATEGORY":"C{}","STOCK_QTY":{value}}}"#,
            value % 2
        ),
    }
}

pub(crate) fn event(table: usize, op: &str, before: &str, after: &str) -> String {
    let name = NAMES[table];
    format!(
        r#"{{"before":{before},"after":{after},"source":{{"schema":"SALES","table":"{name}","ts_ms":1700000000000}},"op":"{op}"}}"#
    )
}

/// The payloads of a stream, and which keys each one touches in the end.
fn payloads(changes: &[Change]) -> Vec<String> {
    let mut payloads = Vec::new();
    for change in changes {
        match change {
            Change::Upsert { table, id, parent, value } => {
                payloads.push(event(*table, "u", "null", &row(*table, *id, *parent, *value)));
            }
            Change::Delete { table, id } => {
                payloads.push(event(*table, "d", &row(*table, *id, 0, 0), "null"));
                payloads.push(String::new());
            }
            Change::Truncate { table } => {
                payloads.push(event(*table, "t", "null", "null"));
            }
            Change::Unavailable { id, parent, value } => {
                let row = row(0, *id, *parent, *value)
                    .replace(&format!("S{}", value % 3), "__debezium_unavailable_value");
                payloads.push(event(0, "u", "null", &row));
            }
            Change::Move { table, from, to, value } => {
                payloads.push(event(*table, "d", &row(*table, *from, 0, 0), "null"));
                payloads.push(TOMBSTONES[usize::from(*value) % TOMBSTONES.len()].to_owned());
                payloads.push(event(*table, "c", "null", &row(*table, *to, 1, *value)));
            }
            Change::Rename { table, from, to, value } => {
                let (before, after) = (row(*table, *from, 0, 0), row(*table, *to, 1, *value));
                payloads.push(event(*table, "u", &before, &after));
            }
        }
    }
    payloads
}

fn messages(payloads: &[String]) -> Vec<Message> {
    let message = |(at, payload): (usize, &String)| Message {
        offset: Offset::new(7, at as u64 + 1),
        receipt: Receipt { flow: 1, id: at as u64 + 1 },
        topic: "cdc/oracle".to_owned(),
        payload: Bytes::from(payload.clone()),
        redelivered: false,
        properties: Vec::new(),
    };
    payloads.iter().enumerate().map(message).collect()
}

pub(crate) async fn sql() -> Sql {
    load_sql(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/sql"))).await.unwrap()
}

/// With a folder of its own, so that nothing of a process before is there.
pub(crate) async fn processor(sql: &Sql, target: &MemoryTarget) -> (Processor, MemorySink) {
    processor_in(sql, target, &StateFolder::temporary(1 << 20).unwrap()).await
}

/// With what a process before has left.
async fn processor_in(
    sql: &Sql,
    target: &MemoryTarget,
    folder: &Arc<StateFolder>,
) -> (Processor, MemorySink) {
    let (health, shutdown) = (Health::default(), CancellationToken::new());
    processor_with(sql, target, (&health, &shutdown), folder).await
}

async fn processor_with(
    sql: &Sql,
    target: &MemoryTarget,
    (health, shutdown): (&Health, &CancellationToken),
    folder: &Arc<StateFolder>,
) -> (Processor, MemorySink) {
    let (mut sink, landing) = (target.sink("sales", "cdc"), target.sink("sales", "cdc"));
    let transforms =
        Transforms::plan(PlanRequest::new(&sql.tables, &sql.transforms)).await.unwrap();
    let mut stores = StateStores::new(&sql.tables, DELAY).unwrap();
    stores.use_folder(folder);
    stores.flush_only_if_asked();
    let breaker = CircuitBreaker::new(5, Duration::from_millis(50));
    let retry = TargetRetry::new(breaker, health.clone(), "read");
    let landing_reader = LandingReader::new(Box::new(landing), retry, shutdown.clone());
    let decoder = Decoder::new(DecoderSetup {
        tables: sql.tables.clone(),
        extractions: sql.extractions.clone(),
        ..DecoderSetup::default()
    });
    let (pipeline, queue) = ("sales".to_owned(), "cdc".to_owned());
    let result_letters = ResultLetters::default();
    let parts = ProcessorParts {
        pipeline,
        queue,
        decoder,
        stores,
        transforms,
        landing_reader,
        result_letters,
    };
    let processor = Box::pin(resume(&mut sink, parts, Vec::new())).await.unwrap();
    (processor, sink)
}

type Rows = BTreeSet<Vec<String>>;

fn as_text(batches: &[RecordBatch]) -> Rows {
    let mut rows = Rows::new();
    for batch in batches {
        for at in 0..batch.num_rows() {
            rows.insert(
                batch.columns().iter().map(|c| array_value_to_string(c, at).unwrap()).collect(),
            );
        }
    }
    rows
}

/// The stream through batches, redeliveries and restarts: what the target shows.
async fn run_in_batches(
    sql: &Sql,
    stream: &[Message],
    borders: &[(usize, Border)],
) -> MemoryTarget {
    let (target, folder) = (MemoryTarget::default(), StateFolder::temporary(1 << 20).unwrap());
    let (mut processor, mut sink) = processor_in(sql, &target, &folder).await;
    let mut borders = borders.iter().cycle();
    let mut at = 0;
    while at < stream.len() {
        let (size, border) = *borders.next().unwrap();
        let end = (at + size).min(stream.len());
        if matches!(border, Border::Aborted) {
            abort(&mut processor, &stream[at..end]).await;
        }
        let mut job =
            processor.process(stream[at..end].to_vec().into(), &HashMap::new()).await.unwrap();
        if matches!(border, Border::Refused) {
            let next = stream[end..(end + size).min(stream.len())].to_vec();
            let next = processor.process(next.into(), &HashMap::new()).await.unwrap();
            processor.flush_all();
            processor.abort().unwrap();
            let again =
                processor.process(stream[at..end].to_vec().into(), &HashMap::new()).await.unwrap();
            let epoch = |job: &Job| job.commit.as_ref().map(|commit| commit.epoch);
            assert_eq!(epoch(&again), epoch(&job), "its number is used again");
            assert!(epoch(&next) != epoch(&again));
            job = again;
        }
        if matches!(border, Border::Lost) {
            // What is not committed is not in it.
            processor.flush_all();
            (processor, sink) = processor_in(sql, &target, &folder).await;
            job =
                processor.process(stream[at..end].to_vec().into(), &HashMap::new()).await.unwrap();
        }
        let epoch = job.commit.as_ref().map(|commit| commit.epoch);
        commit(&mut sink, job).await;
        if let Some(epoch) = epoch {
            processor.committed(epoch).unwrap();
        }
        match border {
            Border::Redelivery(count) => {
                let again = stream[end.saturating_sub(count)..end].to_vec();
                let job = processor.process(again.into(), &HashMap::new()).await.unwrap();
                assert!(job.commit.is_none(), "redelivered messages must not be an epoch");
            }
            Border::Restart => (processor, sink) = processor_in(sql, &target, &folder).await,
            Border::Evicted => processor.evict_all(),
            Border::Flushed => processor.flush_all(),
            Border::Nothing | Border::Lost | Border::Aborted | Border::Refused => {}
        }
        at = end;
    }
    target
}

/// An epoch whose query fails.
async fn abort(processor: &mut Processor, batch: &[Message]) {
    processor.fail_next();
    let failed = processor.process(batch.to_vec().into(), &HashMap::new()).await;
    assert!(failed.is_err_and(|error| matches!(error, Stopped::Failed(_))));
}

async fn commit(sink: &mut MemorySink, job: Job) {
    if let Some(commit) = job.commit {
        sink.commit(&commit).await.unwrap();
    }
}

/// Every SELECT, once, over the newest row of each key.
async fn from_scratch(sql: &Sql, stream: &[Message]) -> BTreeMap<String, Rows> {
    from_scratch_at(sql, stream, None).await
}

/// The same as of another watermark than that of the stream.
async fn from_scratch_at(
    sql: &Sql,
    stream: &[Message],
    watermark: Option<i64>,
) -> BTreeMap<String, Rows> {
    let mut stores = StateStores::new(&sql.tables, DELAY).unwrap();
    let mut spools = crate::model::Generations::default();
    spools.register(stream[0].offset);
    let decoded =
        Decoder::new(DecoderSetup { tables: sql.tables.clone(), ..DecoderSetup::default() })
            .decode(stream, &spools)
            .unwrap();
    assert_eq!(decoded.dead_letters, vec![]);
    stores.advance(&decoded.changes);
    for changelog in decoded.changes {
        stores.fold(changelog).unwrap();
    }
    let transforms =
        Transforms::plan(PlanRequest::new(&sql.tables, &sql.transforms)).await.unwrap();
    let watermark = watermark.or(stores.clock().watermark);
    let results = transforms.recomputed(&stores, watermark).await.unwrap();
    results.iter().map(|(t, rows)| (t.name.clone(), as_text(std::slice::from_ref(rows)))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn batches_redelivery_and_restarts_make_no_difference(
        changes in prop::collection::vec(change(), 1..60),
        borders in prop::collection::vec(border(), 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let sql = sql().await;
            let stream = messages(&payloads(&changes));
            let expected = from_scratch(&sql, &stream).await;
            let target = run_in_batches(&sql, &stream, &borders).await;
            for file in &sql.transforms {
                let shown = as_text(&target.result(&format!("cdc_{}", file.name)));
                let scratch = expected.get(&file.name).cloned().unwrap_or_default();
                assert_eq!(shown, scratch, "{}", file.name);
            }
        });
    }
}
