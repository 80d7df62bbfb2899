//! Rows of results by what their targets hold: only what differs is written.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use tidemark::model::{
    Channel, ColumnSet, EpochCommit, PriorRow, ResultChanges, ResultMode, ResultTable,
};
use tidemark::sink::Sink;
use tidemark::sink::conformance::{PIPELINE, QUEUE, epoch};
use tidemark::sink::postgres::{PostgresConfig, PostgresSink};
use tokio_postgres::Client;

use crate::postgres::{Durability, PostgresServer};

const DDL: &str =
    "CREATE TABLE people (id bigint PRIMARY KEY, name text, tier text, city text, note text)";
/// More than a statement of their own is worth.
const ROWS: i64 = 200;

fn people() -> Arc<ResultTable> {
    kept_in("people")
}

fn kept_in(target: &str) -> Arc<ResultTable> {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let id = Field::new("id", DataType::Int64, false);
    let fields = vec![id, text("name"), text("tier"), text("city"), text("note")];
    Arc::new(ResultTable {
        name: target.to_owned(),
        target: target.to_owned(),
        channel: Channel::Table,
        schema: Arc::new(Schema::new(fields)),
        mode: ResultMode::Keyed { key: vec![0] },
        definition: "the query".to_owned(),
    })
}

/// Rows `ids`, all of one tier.
fn changes(ids: std::ops::Range<i64>, tier: &str, held: PriorRow) -> ResultChanges {
    let table = people();
    let count = ids.clone().count();
    let text = |value: &str| Arc::new(StringArray::from(vec![value; count])) as ArrayRef;
    let id = Arc::new(Int64Array::from_iter_values(ids));
    let columns = vec![id, text("Ada"), text(tier), text("Paris"), text("-")];
    let key = Arc::new(table.schema.project(&[0]).unwrap());
    ResultChanges {
        upserts: RecordBatch::try_new(Arc::clone(&table.schema), columns).unwrap(),
        held: vec![held; count],
        deletes: RecordBatch::new_empty(key),
        table,
        is_new_definition: false,
    }
}

/// All that differs is the tier.
fn tier() -> PriorRow {
    PriorRow::Other(ColumnSet::NONE.with(2))
}

/// An epoch without anything.
fn epoch_of(number: u64) -> EpochCommit {
    let mut commit = epoch(number).build();
    commit.landing.clear();
    commit
}

struct Scene {
    sink: PostgresSink,
    client: Client,
    epochs: u64,
}

impl Scene {
    /// With `ROWS` people of tier `old`.
    async fn set(server: &PostgresServer) -> Self {
        let client = server.client().await;
        let mut scene = Self { sink: Self::start(server).await, client, epochs: 0 };
        scene.commit(changes(0..ROWS, "old", PriorRow::Nothing)).await;
        assert_eq!(scene.tiers().await, "old 200");
        scene
    }

    async fn start(server: &PostgresServer) -> PostgresSink {
        let config = PostgresConfig::from_url(server.url());
        let mut sink = PostgresSink::new(config, PIPELINE, QUEUE).unwrap();
        sink.schema_admin().apply_ods(&crate::files(&[("01_people.sql", DDL)])).await.unwrap();
        sink.check_targets(&[], &[people()]).await.unwrap();
        sink.resume().await.unwrap();
        sink
    }

    async fn commit(&mut self, changes: ResultChanges) {
        self.epochs += 1;
        let mut commit = epoch_of(self.epochs);
        commit.results = vec![changes];
        self.sink.commit(&commit).await.unwrap();
    }

    async fn text(&self, sql: &str) -> String {
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }

    async fn tiers(&self) -> String {
        self.text(
            "SELECT string_agg(tier || ' ' || count, ', ' ORDER BY tier) \
             FROM (SELECT tier, count(*) FROM people GROUP BY tier) AS t",
        )
        .await
    }

    /// Rows that are not as they should be, apart from their tiers.
    async fn odd(&self) -> i64 {
        let sql = "SELECT count(*) FROM people WHERE (name, city, note) IS DISTINCT FROM ('Ada', 'Paris', '-')";
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }
}

#[tokio::test]
async fn a_column_that_does_not_differ_is_not_written() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut scene = Scene::set(&server).await;
    // Nobody should; it shows what is written.
    scene.client.batch_execute("UPDATE people SET note = 'mine' WHERE id = 7").await.unwrap();
    scene.commit(changes(0..ROWS, "new", tier())).await;
    assert_eq!((scene.tiers().await.as_str(), scene.odd().await), ("new 200", 1));
    // Few rows, and rows that nobody remembers, are written whole.
    scene.commit(changes(5..9, "newer", tier())).await;
    assert_eq!((scene.tiers().await.as_str(), scene.odd().await), ("new 196, newer 4", 0));
    scene.client.batch_execute("UPDATE people SET note = 'mine'").await.unwrap();
    scene.commit(changes(0..ROWS, "newest", PriorRow::Unknown)).await;
    assert_eq!((scene.tiers().await.as_str(), scene.odd().await), ("newest 200", 0));
}

#[tokio::test]
async fn a_row_that_is_gone_from_the_target_comes_back_whole() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut scene = Scene::set(&server).await;
    scene.client.batch_execute("DELETE FROM people WHERE id = 7").await.unwrap();
    scene.commit(changes(0..ROWS, "new", tier())).await;
    assert_eq!((scene.tiers().await.as_str(), scene.odd().await), ("new 200", 0));
}

#[tokio::test]
async fn a_row_that_is_new_and_there_already_is_replaced() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut scene = Scene::set(&server).await;
    for (name, count) in [("few", 10), ("many", 2000)] {
        let insert = format!("INSERT INTO people VALUES ({}, 'x', 'x')", ROWS + 5);
        scene.client.batch_execute("DELETE FROM people WHERE id >= 200").await.unwrap();
        scene.client.batch_execute(&insert).await.unwrap();
        // What surprised it once is not relied on: a new process is needed to see it again.
        scene.sink = Scene::start(&server).await;
        scene.commit(changes(ROWS..ROWS + count, name, PriorRow::Nothing)).await;
        assert_eq!(scene.tiers().await, format!("{name} {count}, old 200"));
        assert_eq!(scene.odd().await, 0, "{name}");
    }
}

#[tokio::test]
async fn after_a_refused_row_rows_are_written_whole_until_the_result_is_anew() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut scene = Scene::set(&server).await;
    let refuse = "ALTER TABLE people ADD CONSTRAINT c CHECK (id <> 7 OR name = 'Ada')";
    scene.client.batch_execute(refuse).await.unwrap();
    let mut renamed = changes(0..ROWS, "old", PriorRow::Other(ColumnSet::NONE.with(1)));
    let mut columns = renamed.upserts.columns().to_vec();
    columns[1] = Arc::new(StringArray::from(vec!["Eva"; ROWS as usize]));
    renamed.upserts = RecordBatch::try_new(renamed.upserts.schema(), columns).unwrap();
    scene.commit(renamed).await;
    let names =
        "SELECT string_agg(DISTINCT name, ',') || count(*) FILTER (WHERE name = 'Ada') FROM people";
    assert_eq!(scene.text(names).await, "Ada,Eva1", "the target keeps the row that it had");

    // Also by a later process, and after the constraint is gone.
    scene.client.batch_execute("ALTER TABLE people DROP CONSTRAINT c").await.unwrap();
    scene.sink = Scene::start(&server).await;
    let gaps = "SELECT string_agg(result, ',') FROM tidemark_gaps";
    assert_eq!(scene.text(gaps).await, "people");
    scene.client.batch_execute("UPDATE people SET note = 'mine'").await.unwrap();
    scene.commit(changes(0..ROWS, "new", tier())).await;
    assert_eq!((scene.tiers().await.as_str(), scene.odd().await), ("new 200", 0));

    let mut anew = changes(0..ROWS, "anew", PriorRow::Unknown);
    (anew.held, anew.is_new_definition) = (Vec::new(), true);
    scene.commit(anew).await;
    let gaps = "SELECT count(*)::text FROM tidemark_gaps";
    assert_eq!((scene.tiers().await.as_str(), scene.text(gaps).await.as_str()), ("anew 200", "0"));
}

#[tokio::test]
async fn rows_are_found_by_the_index_however_many_there_are() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut scene = Scene::set(&server).await;
    // Planned while the table is small.
    scene.commit(changes(0..ROWS, "new", tier())).await;
    scene.commit(changes(ROWS..50_000, "old", PriorRow::Nothing)).await;
    for _ in 0..7 {
        scene.commit(changes(0..20_000, "new", tier())).await;
    }
    // The server counts what a session did a moment after it has ended.
    scene.sink = Scene::start(&server).await;
    let counted =
        "SELECT (n_tup_upd = 140200)::text FROM pg_stat_user_tables WHERE relname = 'people'";
    while scene.text(counted).await != "true" {
        tokio::task::yield_now().await;
    }
    // Each row by the index, and the table as a whole by the set-up alone: its index, and `tiers`.
    let scans = "SELECT (idx_scan >= 140200 AND seq_scan <= 2)::text FROM pg_stat_user_tables WHERE relname = 'people'";
    assert_eq!(scene.text(scans).await, "true");
    assert_eq!(scene.tiers().await, "new 20000, old 30000");
}

/// How epochs of which a row is refused delete from a table that held `rows` rows when they began to, and
/// many later.
async fn deletes_beside_a_refused_row(rows: i64) {
    const MANY: i64 = 50_000;
    const GONE: i64 = 2_000;
    let server = PostgresServer::start(Durability::Off).await;
    let mut scene = Scene::set(&server).await;
    scene
        .client
        .batch_execute(
            "ALTER TABLE people ADD CONSTRAINT c CHECK (tier <> 'refused');
             CREATE TABLE guests (LIKE people INCLUDING ALL)",
        )
        .await
        .unwrap();
    scene.sink.check_targets(&[], &[people(), kept_in("guests")]).await.unwrap();
    let fill = |ids: &str| {
        let insert = format!("INSERT INTO guests SELECT g FROM generate_series({ids}) AS g");
        let client = &scene.client;
        async move { client.batch_execute(&insert).await.unwrap() }
    };
    fill(&format!("1, {rows}")).await;
    // Making the indexes has scanned the table: that is to be counted before the epochs are.
    scene.client.batch_execute("SELECT pg_stat_force_next_flush()").await.unwrap();
    let scans = "SELECT seq_scan::text FROM pg_stat_user_tables WHERE relname = 'guests'";
    let before = scene.text(scans).await;
    for epoch in 0..4 {
        // The refused row comes first, so that the deletion is planned where rows are isolated.
        let refused = changes(7..8, "refused", PriorRow::Unknown);
        let mut gone = changes(0..0, "", PriorRow::Unknown);
        gone.table = kept_in("guests");
        let first = 1 + epoch * GONE;
        let ids = Arc::new(Int64Array::from_iter_values(first..first + GONE)) as ArrayRef;
        gone.deletes = RecordBatch::try_new(gone.deletes.schema(), vec![ids]).unwrap();
        scene.epochs += 1;
        let mut commit = epoch_of(scene.epochs);
        commit.results = vec![refused, gone];
        scene.sink.commit(&commit).await.unwrap();
        if epoch == 0 {
            fill(&format!("{}, {MANY}", rows.max(GONE) + 1)).await;
        }
    }
    // The server counts what a session did a moment after it has ended.
    scene.sink = Scene::start(&server).await;
    let left = MANY - 4 * GONE;
    let is_counted =
        "SELECT (n_tup_del >= 6000)::text FROM pg_stat_user_tables WHERE relname = 'guests'";
    while scene.text(is_counted).await != "true" {
        tokio::task::yield_now().await;
    }
    assert_eq!(scene.text(scans).await, before, "{rows} rows at first");
    let count = "SELECT count(*)::text FROM guests";
    assert_eq!(scene.text(count).await, left.to_string());
    assert_eq!(scene.text("SELECT count(*)::text FROM cdc_dlq").await, "4");
}

#[tokio::test]
async fn where_rows_are_isolated_the_others_are_found_by_the_index_in_a_table_that_was_empty() {
    deletes_beside_a_refused_row(0).await;
}

#[tokio::test]
async fn where_rows_are_isolated_the_others_are_found_by_the_index_in_a_table_that_was_small() {
    deletes_beside_a_refused_row(ROWS).await;
}
