//! Somebody changes the tables, the rights or the disk while the processor runs.

use tidemark::model::{Offset, SchemaChange, SchemaChangeKind, SeenType, SourceTable};
use tidemark::resilience::Recovery;
use tidemark::sink::conformance::{APPENDED, KEYED, LANDING, epoch};
use tidemark::sink::postgres::{PostgresConfig, SchemaAdmin};
use tidemark::sink::{Sink, SinkError};

use crate::postgres::{Durability, PostgresServer};
use crate::{Database, QUEUE, count};

/// What somebody does, how it is repaired, and what the operator reads in between.
const BREAKS: [(&str, &str, &str, &str); 5] = [
    (
        "a dropped column",
        "ALTER TABLE orders_history DROP COLUMN status",
        "ALTER TABLE orders_history ADD COLUMN status text",
        "orders_history.status: the column is missing",
    ),
    (
        "a dropped table",
        "ALTER TABLE order_totals RENAME TO away",
        "ALTER TABLE away RENAME TO order_totals",
        "order_totals: there is no such table in schema public",
    ),
    (
        "a column of another type",
        "ALTER TABLE order_log ALTER status TYPE bytea USING status::bytea",
        "ALTER TABLE order_log ALTER status TYPE text USING convert_from(status, 'UTF8')",
        "order_log.status: the column is bytea, which cannot take text",
    ),
    (
        "revoked rights",
        "REVOKE INSERT ON orders_history FROM clerk",
        "GRANT INSERT ON orders_history TO clerk",
        "permission denied for table orders_history (42501); grant the role its rights",
    ),
    (
        "a lost key",
        "ALTER TABLE order_totals DROP CONSTRAINT order_totals_pkey",
        "ALTER TABLE order_totals ADD PRIMARY KEY (order_id)",
        "order_totals: needs a primary key or unique index on exactly (order_id)",
    ),
];

#[tokio::test]
async fn what_somebody_breaks_holds_the_flow_with_one_sentence_until_it_is_repaired() {
    let database = Database::start(Durability::Off).await;
    let client = database.server.client().await;
    let role = "CREATE ROLE clerk LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO clerk; \
                GRANT CREATE ON SCHEMA public TO clerk";
    client.batch_execute(role).await.unwrap();
    let url = database.server.url().replace("postgres@", "clerk@");
    let mut sink = database.sink_at(PostgresConfig::from_url(url), QUEUE).await;
    for (number, (what, hurt, repair, sentence)) in (1..).zip(BREAKS) {
        client.batch_execute(hurt).await.unwrap();
        for size in [1, 1000] {
            let rows = number * 10_000..number * 10_000 + size;
            let commit = rows.fold(epoch(number), |epoch, id| {
                epoch.created(id, id as i64, "x").upserted(id as i64, "x").logged(1, "x")
            });
            let error = sink.commit(&commit.build()).await.expect_err(what);
            assert_eq!((error.recovery(), error.attempts()), (Recovery::Hold, Some(1)), "{what}");
            assert!(error.to_string().contains(sentence), "{what}: {error}");
        }
        assert_eq!(database.count("cdc_dlq").await, 0, "{what}: nothing is diverted");
        client.batch_execute(repair).await.unwrap();
        let id = number * 10_000;
        let commit =
            epoch(number).created(id, id as i64, "x").upserted(id as i64, "x").logged(1, "x");
        sink.commit(&commit.build()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        for table in [LANDING, KEYED, APPENDED] {
            assert_eq!(count(&client, table).await, number as i64, "{what}: {table}");
        }
    }
}

#[tokio::test]
async fn a_column_that_is_widened_meanwhile_takes_the_row() {
    let database = Database::start(Durability::Off).await;
    let mut sink = database.sink().await;
    let client = database.server.client().await;
    let long = "x".repeat(100);
    let big = |number, id, status: &str| {
        let few = epoch(number).created(id, 1, status).logged(1 << 40, "y");
        (1..1000u64).fold(few, |epoch, more| epoch.created(id + more, 1, "x")).build()
    };
    assert_eq!(sink.refused(&big(1, 1, &long).landing).await.unwrap().len(), 1);
    let widen = "ALTER TABLE orders_history ALTER status TYPE text;
                 ALTER TABLE order_log ALTER order_id TYPE bigint";
    client.batch_execute(widen).await.unwrap();
    assert_eq!(sink.refused(&big(1, 1, &long).landing).await.unwrap(), []);
    sink.commit(&big(1, 1, &long)).await.unwrap();
    let more = "ALTER TABLE orders_history ALTER amount TYPE numeric(30,9);
                ALTER TABLE order_totals ADD COLUMN note text DEFAULT 'x'";
    client.batch_execute(more).await.unwrap();
    sink.commit(&big(2, 2000, &long)).await.unwrap();
    assert_eq!(count(&client, LANDING).await, 2000);
    assert_eq!(count(&client, "cdc_dlq").await, 0);
}

#[tokio::test]
async fn a_commit_that_is_answered_with_a_rollback_is_tried_again() {
    let database = Database::start(Durability::Off).await;
    let mut sink = database.sink().await;
    let client = database.server.client().await;
    // The ledger row is gone at COMMIT, as after a rollback that nobody told.
    let trick = "CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN DELETE FROM tidemark_ledger; RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER undo AFTER INSERT ON tidemark_ledger INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION undo()";
    client.batch_execute(trick).await.unwrap();
    let commit = epoch(1).upserted(1, "x").build();
    let error = sink.commit(&commit).await.unwrap_err();
    assert!(matches!(error, SinkError::RolledBack { .. }), "{error:?}");
    assert_eq!(error.recovery(), Recovery::Retry);
    client.batch_execute("DROP TRIGGER undo ON tidemark_ledger").await.unwrap();
    sink.commit(&commit).await.unwrap();
    assert_eq!(count(&client, KEYED).await, 1);
}

fn learned(column: &str, kind: SchemaChangeKind, seen: SeenType) -> SchemaChange {
    let source = SourceTable { schema: "SALES".to_owned(), table: "ORDERS".to_owned() };
    SchemaChange { source, column: column.to_owned(), kind, seen, offset: Offset::new(1, 1) }
}

#[tokio::test]
async fn the_registry_does_not_grow_with_messages_that_teach_the_same() {
    use SchemaChangeKind::{Added, Key, Renamed, Widened};
    let database = Database::start(Durability::Off).await;
    let mut sink = database.sink().await;
    let lessons = [
        learned("A", Added, SeenType::Integer),
        learned("A", Widened, SeenType::Number),
        learned("B to C", Renamed, SeenType::Null),
        learned(r#"["A"]"#, Key, SeenType::Null),
    ];
    for number in 1..=5 {
        let mut commit = epoch(number).build();
        commit.schema_changes = lessons.to_vec();
        sink.commit(&commit).await.unwrap();
    }
    assert_eq!(sink.resume().await.unwrap().schema_changes, lessons);
    // What differs is something new, also a key that comes back.
    let more = [
        learned("A", Widened, SeenType::Json),
        learned(r#"["B"]"#, Key, SeenType::Null),
        learned(r#"["A"]"#, Key, SeenType::Null),
    ];
    for (number, change) in (6..).zip(&more) {
        let mut commit = epoch(number).build();
        commit.schema_changes = vec![change.clone()];
        sink.commit(&commit).await.unwrap();
    }
    let all = [lessons.as_slice(), more.as_slice()].concat();
    assert_eq!(sink.resume().await.unwrap().schema_changes, all);
}

#[tokio::test]
async fn dead_letters_are_found_by_index_with_and_without_the_shipped_files() {
    let by_us = Database::start(Durability::Off).await;
    let shipped = PostgresServer::start(Durability::Off).await;
    let letters = ["03_dead_letters.sql", "08_dead_letters_that_come_back.sql"];
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/ods");
    let read = |name: &str| (name.to_owned(), std::fs::read_to_string(folder.join(name)).unwrap());
    let mut admin =
        SchemaAdmin::new(PostgresConfig::from_url(shipped.url()), "conformance").unwrap();
    admin.apply_ods(&letters.map(read)).await.unwrap();
    let mut found = Vec::new();
    for server in [&by_us.server, &shipped] {
        let sql = "SELECT indexname::text FROM pg_indexes WHERE tablename = 'cdc_dlq' ORDER BY 1";
        let rows = server.client().await.query(sql, &[]).await.unwrap();
        found.push(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>());
    }
    assert_eq!(found[0], found[1]);
    for name in ["cdc_dlq_newest", "cdc_dlq_type", "cdc_dlq_requested", "cdc_dlq_unpublished"] {
        assert!(found[0].iter().any(|index| index == name), "{name} is not among {found:?}");
    }
}
