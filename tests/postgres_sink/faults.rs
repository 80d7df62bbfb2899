//! Faults of the connection at every step of an epoch: whatever happens, each row is there once.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use tidemark::model::{Changelog, EpochCommit, NewColumns};
use tidemark::resilience::Recovery;
use tidemark::sink::conformance::{APPENDED, KEYED, LANDING, epoch, log, orders, totals};
use tidemark::sink::postgres::{Outbox, Pooler, PostgresConfig, PostgresSink};
use tidemark::sink::{Sink, SinkError};
use tokio_postgres::Client;

use crate::fault_proxy::{Fault, FaultProxy, Step};
use crate::postgres::Durability;
use crate::rest::posted;
use crate::{Database, PIPELINE, QUEUE, TARGETS, count, files};

/// The steps of an epoch, in their order.
pub(crate) const STEPS: [(&str, Step); 11] = [
    ("BEGIN", Step::Query("BEGIN")),
    ("the ledger row", Step::Statement(&["INSERT INTO \"public\".\"tidemark_ledger\""])),
    ("a result's deletes", Step::Statement(&["DELETE FROM \"public\".\"order_totals\""])),
    (
        "a result's upserts",
        Step::Statement(&["INSERT INTO \"public\".\"order_totals\"", "CONFLICT"]),
    ),
    ("the outbox", Step::Statement(&["INSERT INTO \"public\".\"tidemark_outbox\""])),
    ("a dead letter", Step::Statement(&["INSERT INTO \"public\".\"cdc_dlq\""])),
    ("the lock before COPY", Step::Query("LOCK TABLE")),
    ("COPY", Step::Statement(&["COPY \"public\".\"orders_history\""])),
    ("the first rows of COPY", Step::CopyData(1)),
    ("the middle of COPY", Step::CopyData(3)),
    ("COMMIT", Step::Query("COMMIT")),
];

/// So many rows are several messages of COPY.
pub(crate) const ROWS: u64 = 4000;

/// An epoch with something for each step: it lands [`ROWS`] rows, adds ten rows to the keyed result and
/// takes the first of the ten before it, posts one row, and has one dead letter.
pub(crate) fn everything(number: u64) -> EpochCommit {
    let first = number * 10_000;
    let landed = (0..ROWS).fold(epoch(number), |epoch, row| {
        epoch.created(first + row, (first + row) as i64, "a status of some length")
    });
    let key = |number: u64, row: u64| (number * 10_000 + row) as i64;
    let kept = (0..10).fold(landed, |epoch, row| epoch.upserted(key(number, row), "x"));
    let changed = kept.removed(key(number - 1, 0)).logged(1, "posted").dead(first + 9999);
    posted(&changed.build(), APPENDED)
}

/// What must be there after epochs 1 to `number` of [`everything`].
pub(crate) async fn everything_is_there(client: &Client, number: u64, what: &str) {
    let number = number as i64;
    let distinct = "(SELECT DISTINCT order_id FROM orders_history)";
    for (table, rows) in [
        (LANDING, number * ROWS as i64),
        (&format!("{distinct} AS each"), number * ROWS as i64),
        (KEYED, number * 9 + 1),
        ("tidemark_outbox", number),
        ("cdc_dlq", number),
        ("tidemark_ledger", number),
    ] {
        assert_eq!(count(client, table).await, rows, "{what}: {table}");
    }
}

/// A server that says nothing is given up after a second.
fn impatient(url: String) -> PostgresConfig {
    let time = Duration::from_millis(500);
    PostgresConfig {
        statement_timeout: time,
        connect_timeout: time,
        ..PostgresConfig::from_url(url)
    }
}

async fn every_fault_at_every_step(pooler: Pooler) {
    let database = Database::start(Durability::Off).await;
    let proxy = FaultProxy::start(database.server.port()).await;
    let url = database.server.url_through(proxy.port);
    let config = PostgresConfig { pooler, ..impatient(url) };
    let mut sink = database.sink_at(config, QUEUE).await;
    let client = database.server.client().await;
    let mut number = 0;
    let mut run = async |what: &str, step: &Step, fault: Fault| {
        number += 1;
        let commit = everything(number);
        let before = proxy.fired();
        proxy.arm(step.clone(), fault);
        let mut attempts = 0;
        while let Err(error) = sink.commit(&commit).await {
            assert_eq!(error.recovery(), Recovery::Retry, "{what}: {error:?}");
            attempts += 1;
            assert!(attempts < 100, "{what}: {error:?}");
        }
        assert_eq!(proxy.fired(), before + 1, "{what}: the step is there");
        everything_is_there(&client, number, what).await;
        // Only a lost answer of COMMIT, and a delay, can go unnoticed.
        attempts
    };
    for (name, step) in STEPS {
        for fault in [Fault::Cut, Fault::CutAfter, Fault::Reset, Fault::BlackHole] {
            let attempts = run(&format!("{fault:?} at {name}"), &step, fault).await;
            let may_be_found_out = name == "COMMIT" && fault == Fault::CutAfter;
            assert!(attempts > 0 || may_be_found_out, "{fault:?} at {name} was noticed");
        }
        let delay = Fault::Delay(Duration::from_millis(5));
        assert_eq!(run(&format!("a delay from {name} on"), &step, delay).await, 0);
    }
    let position = sink.resume().await.unwrap();
    assert_eq!(position.offsets.count(), number * (ROWS + 1));
}

#[tokio::test]
async fn every_fault_of_the_connection_at_every_step_leaves_each_row_once() {
    every_fault_at_every_step(Pooler::Session).await;
}

#[tokio::test]
async fn the_same_with_transactions_for_a_pooler() {
    every_fault_at_every_step(Pooler::Transaction).await;
}

#[tokio::test]
async fn a_fault_while_reading_is_tried_again() {
    let database = Database::start(Durability::Off).await;
    let proxy = FaultProxy::start(database.server.port()).await;
    let config = impatient(database.server.url_through(proxy.port));
    let mut sink = database.sink_at(config.clone(), QUEUE).await;
    sink.commit(&everything(1)).await.unwrap();
    let outbox = Outbox::new(config, PIPELINE);
    for fault in [Fault::Cut, Fault::CutAfter, Fault::Reset, Fault::BlackHole] {
        proxy.arm(Step::Statement(&["tidemark_spools"]), fault);
        assert_eq!(sink.resume().await.unwrap_err().recovery(), Recovery::Retry, "{fault:?}");
        assert_eq!(sink.resume().await.unwrap().offsets.count(), ROWS + 1, "{fault:?}");
        proxy.arm(Step::Statement(&["DISTINCT ON"]), fault);
        let orders = orders();
        let error = sink.bootstrap(&orders, None).await.unwrap_err();
        assert_eq!(error.recovery(), Recovery::Retry, "{fault:?}");
        let read = sink.bootstrap(&orders, None).await.unwrap();
        assert_eq!(read.iter().map(|part| part.len() as u64).sum::<u64>(), ROWS, "{fault:?}");
    }
    // The delivery asks again, so it may not wait for ever either.
    for fault in [Fault::Cut, Fault::CutAfter, Fault::Reset, Fault::BlackHole] {
        let mut turn = outbox.turn().await.unwrap();
        while turn.is_none() {
            turn = outbox.turn().await.unwrap();
        }
        proxy.arm(Step::Statement(&["ORDER BY id LIMIT"]), fault);
        let error = turn.unwrap().read(0, 10).await.unwrap_err();
        assert_eq!(error.recovery(), Recovery::Retry, "{fault:?}");
    }
    assert_eq!(proxy.fired(), 12);
}

/// What the sink asks, and a part of the statement that asks it.
const QUESTIONS: [(&str, &[&str]); 9] = [
    ("the files that are applied", &["tidemark_migrations", "checksum"]),
    ("columns", &["pg_attribute", "attidentity"]),
    ("the ledger", &["tidemark_spools"]),
    ("the newest rows", &["DISTINCT ON"]),
    ("the history of keys", &["ORDER BY newest.\"order_id\""]),
    ("rows of the ledger", &["LIMIT", "tidemark_ledger"]),
    ("schema changes", &["tidemark_schema_changes", "SELECT"]),
    ("a table that no file declares", &["pg_attribute", "attidentity"]),
    ("fields that no file declares", &["pg_attribute", "attidentity"]),
];

async fn asked(sink: &mut PostgresSink, question: &str) -> Result<usize, SinkError> {
    let (table, key) = (orders(), Arc::new(Int64Array::from(vec![10_001])) as ArrayRef);
    let keys = RecordBatch::try_from_iter([("order_id", key)]).unwrap();
    let rows = |parts: Vec<Changelog>| parts.iter().map(Changelog::len).sum();
    Ok(match question {
        "the files that are applied" => {
            sink.schema_admin().apply_ods(&files(&[("01_targets.sql", TARGETS)])).await?;
            1
        }
        "columns" => {
            sink.check_targets(&[orders()], &[totals(), log()]).await?;
            1
        }
        "the ledger" => sink.resume().await?.offsets.count() as usize,
        "the newest rows" => rows(sink.bootstrap(&table, None).await?),
        "the history of keys" => rows(sink.history(&table, &keys).await?),
        "rows of the ledger" => sink.ledger_reader().committed_epochs(None, 10).await?.len(),
        "schema changes" => sink.ledger_reader().schema_changes().await?.len() + 1,
        "a table that no file declares" => {
            sink.schema_admin().admit(&table).await?;
            1
        }
        _ => {
            let mut altering = (*table).clone();
            altering.options.new_columns = NewColumns::Alter;
            sink.schema_admin().alter(&[Arc::new(altering)], &[]).await?.tables.len()
        }
    })
}

#[tokio::test]
async fn nothing_waits_for_ever_behind_a_proxy_that_forwards_nothing() {
    let database = Database::start(Durability::Off).await;
    let proxy = FaultProxy::start(database.server.port()).await;
    let config = impatient(database.server.url_through(proxy.port));
    let mut sink = database.sink_at(config, QUEUE).await;
    sink.commit(&everything(1)).await.unwrap();
    for (question, parts) in QUESTIONS {
        let before = proxy.fired();
        proxy.arm(Step::Statement(parts), Fault::BlackHole);
        let error = asked(&mut sink, question).await.unwrap_err();
        assert_eq!(proxy.fired(), before + 1, "{question}");
        assert_eq!(error.recovery(), Recovery::Retry, "{question}: {error:?}");
        let why = tidemark::resilience::chain(&error);
        assert!(why.contains("no answer for 1s"), "{question}: {why}");
        assert!(asked(&mut sink, question).await.unwrap() > 0, "{question}");
    }
}

#[tokio::test]
async fn a_read_may_take_the_server_longer_than_any_silence() {
    let database = Database::start(Durability::Off).await;
    let proxy = FaultProxy::start(database.server.port()).await;
    let config = impatient(database.server.url_through(proxy.port));
    let mut sink = database.sink_at(config, QUEUE).await;
    sink.commit(&everything(1)).await.unwrap();
    // Reading the table takes 3 seconds, of which nothing is heard: three times as long as a silence may last.
    let slow =
        "ALTER TABLE orders_history RENAME TO landed; ALTER TABLE landed ALTER status TYPE text;
        CREATE FUNCTION slowly() RETURNS boolean VOLATILE LANGUAGE plpgsql AS
          $$ BEGIN PERFORM pg_sleep(3); RETURN true; END $$;
        CREATE VIEW orders_history AS SELECT * FROM landed WHERE (SELECT slowly())";
    let client = database.server.client().await;
    client.batch_execute(slow).await.unwrap();
    let started = std::time::Instant::now();
    let read = sink.bootstrap(&orders(), None).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(read.iter().map(|part| part.len() as u64).sum::<u64>(), ROWS);
    // Its answer is lost on the way: the server is no longer at it.
    proxy.arm(Step::Statement(&["DISTINCT ON"]), Fault::BlackHole);
    let error = sink.bootstrap(&orders(), None).await.unwrap_err();
    assert_eq!(error.recovery(), Recovery::Retry, "{error:?}");
}
