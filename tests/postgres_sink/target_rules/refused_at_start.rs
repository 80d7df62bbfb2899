//! Columns that change values and keys that are equal where ours are not are refused at a start; PostgreSQL itself is the
//! referee.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use tidemark::model::{Channel, Landing, ResultMode, ResultTable, Table, TableOptions};
use tidemark::sink::conformance::{PIPELINE, QUEUE, epoch, orders, totals};
use tidemark::sink::postgres::{PostgresConfig, PostgresSink};
use tidemark::sink::{Sink, SinkError};
use tokio_postgres::Client;

use crate::files;
use crate::postgres::{Durability, PostgresServer};
use crate::types::{changes, keyed, sink_with};

const OWN_TYPES: &str = "
CREATE EXTENSION citext;
CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TYPE mood AS ENUM ('happy', 'sad');
CREATE DOMAIN code AS character(4);
CREATE DOMAIN price AS numeric(10,2);
CREATE DOMAIN whole_second AS timestamp(0);
CREATE DOMAIN loose AS text COLLATE ci;
CREATE DOMAIN word AS citext;";

/// Types, and a text that each of them takes.
const TEXTS: [(&str, &str); 24] = [
    ("text", "DE  "),
    ("varchar", "DE  "),
    ("varchar(8)", "DE  "),
    ("character(4)", "DE  "),
    ("code", "DE  "),
    ("citext", "De  "),
    ("word", "De  "),
    ("mood", "happy"),
    ("json", "{\"b\":1,   \"a\":2}"),
    ("jsonb", "{\"b\":1,   \"a\":2}"),
    ("name", "a name of more than 63 bytes, which PostgreSQL cuts off without a word"),
    ("\"char\"", "ab"),
    ("money", "12.345"),
    ("inet", "10.0.0.1"),
    ("uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"),
    ("interval", "P1D"),
    ("time", "12:00"),
    ("time(0)", "12:00:00.6"),
    ("interval(0)", "12:00:00.6"),
    ("bit varying(8)", "xA"),
    ("xml", "<?xml version=\"1.0\" encoding=\"UTF-8\"?><a/>"),
    ("text[]", "{a,  b}"),
    ("numeric(4,1)[]", "{1.25}"),
    ("tsvector", "b a"),
];

async fn told(
    sink: &PostgresSink,
    tables: &[Arc<Table>],
    results: &[Arc<ResultTable>],
) -> Vec<String> {
    let checked = sink.schema_admin().check_targets(tables, results).await;
    let Err(error) = checked else { return Vec::new() };
    let SinkError::Targets { problems } = error else { return vec![format!("{error:?}")] };
    problems
}

async fn text(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.expect(sql).get(0)
}

async fn set_up() -> (PostgresServer, Client, PostgresSink) {
    let server = PostgresServer::start(Durability::Off).await;
    let sink = sink_with(&server, OWN_TYPES).await;
    let client = server.client().await;
    (server, client, sink)
}

/// The landing table of the conformance tests with another type of its status.
async fn landing(client: &Client, status: &str) {
    let ddl = format!(
        "DROP TABLE IF EXISTS orders_history; CREATE TABLE orders_history (order_id bigint NOT NULL, status {status}, \
         amount numeric(15,2), operation text NOT NULL, source_ts timestamp, extra_fields jsonb, event_id text UNIQUE, \
         change_seq bigint NOT NULL, unavailable_columns jsonb)"
    );
    client.batch_execute(&ddl).await.unwrap();
}

#[tokio::test]
async fn a_landing_column_gives_back_what_was_written_or_is_refused() {
    let (_server, client, mut sink) = set_up().await;
    for (number, (sql_type, written)) in (1..).zip(TEXTS) {
        landing(&client, sql_type).await;
        let stored = format!(
            "CREATE TEMPORARY TABLE stored (value {sql_type}); INSERT INTO stored VALUES ('{written}')"
        );
        // What is too long is refused, and then it is no question.
        client.batch_execute(&stored).await.unwrap();
        let read = text(&client, "SELECT value::text FROM stored").await;
        client.batch_execute("DROP TABLE stored").await.unwrap();
        let problems = told(&sink, &[orders()], &[]).await;
        assert_eq!(
            problems.is_empty(),
            read == written,
            "{sql_type}: {written} {read} {problems:?}"
        );
        if !problems.is_empty() {
            assert!(
                problems[0].starts_with("orders_history.status: the column is "),
                "{problems:?}"
            );
            continue;
        }
        sink.check_targets(&[orders()], &[]).await.unwrap();
        let commit = epoch(number).created(number, 7, written).build();
        sink.commit(&commit).await.unwrap();
        let landed = sink.bootstrap(&orders(), None).await.unwrap();
        assert_eq!(landed[0].batch.column(1), commit.landing[0].batch.column(1), "{sql_type}");
    }
}

#[tokio::test]
async fn blanks_that_a_varchar_would_cut_off_make_a_row_a_dead_letter() {
    let (_server, client, mut sink) = set_up().await;
    landing(&client, "varchar(4)").await;
    sink.check_targets(&[orders()], &[]).await.unwrap();
    let commit = epoch(1).created(1, 7, "DE  ").created(2, 8, "DE   ").build();
    let refused = sink.refused(&commit.landing).await.unwrap();
    let offsets: Vec<u64> = refused.iter().map(|row| row.offset.id).collect();
    assert_eq!(offsets, [2], "{refused:?}");
    assert!(refused[0].message.contains("too long for 4 (22001)"), "{refused:?}");
}

/// A result with one column beside its key.
fn result(data_type: DataType) -> Arc<ResultTable> {
    let fields =
        vec![Field::new("id", DataType::Int64, false), Field::new("value", data_type, true)];
    Arc::new(ResultTable {
        name: "r".to_owned(),
        target: "r".to_owned(),
        channel: Channel::Table,
        schema: Arc::new(Schema::new(fields)),
        mode: ResultMode::Keyed { key: vec![0] },
        definition: String::new(),
    })
}

/// Types of targets, types of values, and a value that shows what is lost.
fn digits() -> Vec<(&'static str, DataType, &'static str)> {
    let decimal = |scale| DataType::Decimal128(10, scale);
    let time = || DataType::Timestamp(TimeUnit::Microsecond, None);
    let instant = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let list = |item| DataType::List(Arc::new(Field::new("item", item, true)));
    let (decimals, second) = ("1.2345", "2024-12-31 23:59:59.600001");
    vec![
        ("numeric(10,2)", decimal(4), decimals),
        ("numeric(10,4)", decimal(4), decimals),
        ("numeric", decimal(4), decimals),
        ("price", decimal(4), decimals),
        ("price", decimal(2), "1.23"),
        ("numeric(3,-2)", DataType::Int64, "12345"),
        ("numeric(19)", DataType::Int64, "12345"),
        ("numeric(10,2)[]", list(decimal(4)), "{1.2345}"),
        ("numeric[]", list(decimal(4)), "{1.2345}"),
        ("timestamp", time(), second),
        ("timestamp(6)", time(), second),
        ("timestamp(5)", time(), second),
        ("timestamp(0)", time(), second),
        ("whole_second", time(), second),
        ("timestamptz(3)", instant(), second),
        ("timestamptz", instant(), second),
        ("time(0)", DataType::Utf8, "12:00:00.6"),
        ("time", DataType::Utf8, "12:00:00.6"),
        ("interval(2)", DataType::Utf8, "00:00:00.123"),
        ("interval hour", DataType::Utf8, "12:34:56"),
        ("interval", DataType::Utf8, "12:34:56.123456"),
        ("money", DataType::Utf8, "$12.345"),
        (
            "name",
            DataType::Utf8,
            "a name of more than 63 bytes, which PostgreSQL cuts off without a word",
        ),
        ("jsonb", DataType::Utf8, "{\"a\": 1}"),
        ("character(4)", DataType::Utf8, "DE  "),
    ]
}

#[tokio::test]
async fn a_target_that_loses_digits_without_a_word_is_refused_for_results_too() {
    let (_server, client, sink) = set_up().await;
    for (sql_type, data_type, written) in digits() {
        client.batch_execute("DROP TABLE IF EXISTS r; DROP TABLE IF EXISTS wide").await.unwrap();
        let ddl = format!(
            "CREATE TABLE r (id bigint PRIMARY KEY, value {sql_type}); INSERT INTO r VALUES (1, '{written}')"
        );
        client.batch_execute(&ddl).await.unwrap();
        // The same type without its modifier has everything.
        let bare = "SELECT format_type(coalesce(nullif(t.typbasetype, 0), a.atttypid), -1) FROM pg_attribute a \
                    JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = 'r'::regclass AND a.attname = 'value'";
        let bare = text(&client, bare).await;
        let bare = if matches!(sql_type, "money" | "name") { "text" } else { bare.as_str() };
        let same = text(
            &client,
            &format!("SELECT (value::text = ('{written}'::{bare})::text)::text FROM r"),
        )
        .await;
        let keeps = same == "true" || sql_type == "character(4)";
        let problems = told(&sink, &[], &[result(data_type)]).await;
        assert_eq!(problems.is_empty(), keeps, "{sql_type}: {written} {problems:?}");
        let is_said = |problem: &String| {
            problem.contains("would round") || problem.contains("keeps only a part")
        };
        assert!(problems.iter().all(is_said), "{problems:?}");
    }
}

/// Types of keys, and two texts.
const KEYS: [(&str, &str, &str); 12] = [
    ("text", "AB", "AB "),
    ("text", "spring", "SPRING"),
    ("varchar(9)", "AB", "AB "),
    ("character(10)", "AB", "AB "),
    ("code", "AB", "AB "),
    ("citext", "spring", "SPRING"),
    ("word", "spring", "SPRING"),
    ("text COLLATE ci", "spring", "SPRING"),
    ("loose", "spring", "SPRING"),
    ("text COLLATE \"C\"", "spring", "SPRING"),
    ("mood", "happy", "sad"),
    ("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"),
];

#[tokio::test]
async fn a_key_whose_equality_is_another_is_refused() {
    let (_server, client, sink) = set_up().await;
    let live = keyed("live", &["code", "value"], 1);
    let table = Arc::new(Table {
        options: TableOptions {
            landing: Landing::History("landed".to_owned()),
            ..TableOptions::default()
        },
        key: vec![1],
        ..Arc::unwrap_or_clone(orders())
    });
    for (sql_type, one, other) in KEYS {
        client.batch_execute("DROP TABLE IF EXISTS live, landed").await.unwrap();
        let ddl = format!(
            "CREATE TABLE live (code {sql_type} PRIMARY KEY, value text); \
             CREATE TABLE landed (order_id bigint, status {sql_type}, amount numeric(15,2), operation text, \
             source_ts timestamp, extra_fields jsonb, event_id text, change_seq bigint)"
        );
        client.batch_execute(&ddl).await.unwrap();
        client.batch_execute(&format!("INSERT INTO live VALUES ('{one}')")).await.unwrap();
        let taken = client.batch_execute(&format!("INSERT INTO live VALUES ('{other}')")).await;
        for problems in [
            told(&sink, &[], &[Arc::clone(&live)]).await,
            told(&sink, &[Arc::clone(&table)], &[]).await,
        ] {
            assert_eq!(problems.is_empty(), taken.is_ok(), "{sql_type}: {problems:?}");
            assert!(problems.len() <= 1, "{problems:?}");
        }
        let problems = told(&sink, &[], &[Arc::clone(&live)]).await;
        let is_said = |problem: &String| {
            problem.contains("rows of different keys would overwrite each other")
        };
        assert!(problems.iter().all(is_said), "{problems:?}");
    }
    // The column's own collation is a plain one.
    let index = "DROP TABLE live; CREATE TABLE live (code text NOT NULL, value text); \
                 CREATE UNIQUE INDEX ON live (code COLLATE ci)";
    client.batch_execute(index).await.unwrap();
    let problems = told(&sink, &[], &[live]).await;
    assert!(
        problems[0].contains("its unique index on (code) has the collation ci"),
        "{problems:?}"
    );
}

#[tokio::test]
async fn keys_that_become_equal_while_it_runs_are_told_and_the_repair_is_noticed() {
    let (_server, client, mut sink) = set_up().await;
    client.batch_execute("CREATE TABLE live (code text PRIMARY KEY, value text)").await.unwrap();
    let live = keyed("live", &["code", "value"], 1);
    sink.check_targets(&[], &[Arc::clone(&live)]).await.unwrap();
    client.batch_execute("ALTER TABLE live ALTER code TYPE citext").await.unwrap();
    let mut commit = epoch(1).build();
    commit.landing.clear();
    commit.results =
        vec![changes(&live, &[&[Some("spring"), Some("1")], &[Some("SPRING"), Some("2")]], &[])];
    let error = sink.commit(&commit).await.unwrap_err();
    assert!(error.to_string().contains("upper and lower case are equal"), "{error}");
    client.batch_execute("ALTER TABLE live ALTER code TYPE text").await.unwrap();
    sink.commit(&commit).await.unwrap();
    assert_eq!(
        text(&client, "SELECT string_agg(code, ' ' ORDER BY value) FROM live").await,
        "spring SPRING"
    );
}

/// What is done to the table of totals, what the start says, and what the doctor would run.
const TRAITS: [(&str, &str, &str); 3] = [
    (
        "CREATE RULE quiet AS ON DELETE TO order_totals DO INSTEAD NOTHING",
        "order_totals: the rule quiet does something else INSTEAD",
        "DROP RULE quiet ON order_totals",
    ),
    (
        "CREATE TABLE old_totals () INHERITS (order_totals)",
        "order_totals: old_totals inherits from it",
        "ALTER TABLE old_totals NO INHERIT order_totals",
    ),
    (
        "ALTER TABLE order_totals ENABLE ROW LEVEL SECURITY",
        "order_totals: row security is active for the user",
        "ALTER TABLE order_totals DISABLE ROW LEVEL SECURITY",
    ),
];

#[tokio::test]
async fn rules_children_and_row_security_are_refused() {
    let server = PostgresServer::start(Durability::Off).await;
    drop(
        sink_with(&server, "CREATE TABLE order_totals (order_id bigint PRIMARY KEY, status text)")
            .await,
    );
    let client = server.client().await;
    let users = "CREATE ROLE plain LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO plain; \
                 GRANT ALL ON SCHEMA public TO plain";
    client.batch_execute(users).await.unwrap();
    // Row security is not for a superuser.
    let url = server.url().replace("postgres@", "plain@");
    let sink = PostgresSink::new(PostgresConfig::from_url(url), PIPELINE, QUEUE).unwrap();
    sink.schema_admin()
        .apply_ods(&files(&[(
            "1.sql",
            "CREATE TABLE order_totals (order_id bigint PRIMARY KEY, status text)",
        )]))
        .await
        .unwrap();
    for (hurt, says, fix) in TRAITS {
        client.batch_execute(hurt).await.unwrap();
        let problems = told(&sink, &[], &[totals()]).await;
        assert!(problems.len() == 1 && problems[0].starts_with(says), "{problems:?}");
        client.batch_execute(fix).await.unwrap();
        assert_eq!(told(&sink, &[], &[totals()]).await, [""; 0], "{fix}");
    }
}
