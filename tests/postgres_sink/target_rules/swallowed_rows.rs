//! Triggers that take rows away or send them elsewhere: each such row is a dead letter, and nothing is lost without a word.

use tidemark::model::EpochCommit;
use tidemark::sink::conformance::{APPENDED, KEYED, LANDING, QUEUE, epoch};
use tidemark::sink::postgres::{PostgresConfig, PostgresSink};
use tidemark::sink::{PreflightLevel, Sink, SinkError};
use tokio_postgres::Client;

use crate::postgres::Durability;
use crate::{Database, count};

/// A trigger before each `event` on a table, which takes away the rows with the status `bad`.
fn taking_away(event: &str, table: &str) -> String {
    let (row, kept) = if event == "DELETE" { ("OLD", "OLD") } else { ("NEW", "NEW") };
    format!(
        "CREATE FUNCTION take_{event}() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN IF {row}.status = 'bad' THEN RETURN NULL; END IF; RETURN {kept}; END $$;
         CREATE TRIGGER take BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION take_{event}()"
    )
}

/// As partitions were made before PostgreSQL 10: rows of even keys go to a table that inherits.
const OLD_PARTITIONS: &str = "
    CREATE TABLE even (LIKE order_log);
    CREATE FUNCTION route() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN IF NEW.order_id % 2 = 0 THEN INSERT INTO even VALUES (NEW.*); RETURN NULL; END IF; RETURN NEW; END $$;
    CREATE TRIGGER route BEFORE INSERT ON order_log FOR EACH ROW EXECUTE FUNCTION route()";

async fn started() -> (Database, Client, PostgresSink) {
    let database = Database::start(Durability::Off).await;
    let config = PostgresConfig {
        max_refused_percent: 100,
        ..PostgresConfig::from_url(database.server.url())
    };
    let sink = database.sink_at(config, QUEUE).await;
    let client = database.server.client().await;
    (database, client, sink)
}

/// The messages of the dead letters of results, in the order of their rows.
async fn letters(client: &Client) -> Vec<String> {
    let sql = "SELECT error_message FROM cdc_dlq ORDER BY id";
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Rows of results, one in ten is taken away: some go by statement, more by COPY, and those that fail are looked for
/// by us or by the server.
fn rows_of_results(number: u64, rows: i64) -> EpochCommit {
    let mut builder = epoch(number);
    for key in 0..rows {
        let status = if key % 10 == 7 { "bad" } else { "fine" };
        builder = builder.upserted(key, status).logged(key, status);
    }
    builder.build()
}

#[tokio::test]
async fn rows_of_results_that_a_trigger_takes_away_are_dead_letters() {
    for rows in [20, 200, 2000] {
        let (_database, client, mut sink) = started().await;
        client.batch_execute(&taking_away("INSERT", KEYED)).await.unwrap();
        client
            .batch_execute(&format!(
                "CREATE TRIGGER take BEFORE INSERT ON {APPENDED} FOR EACH ROW EXECUTE FUNCTION take_INSERT()"
            ))
            .await
            .unwrap();
        sink.commit(&rows_of_results(1, rows)).await.unwrap();
        assert_eq!(count(&client, KEYED).await, rows / 10 * 9, "{rows}");
        assert_eq!(count(&client, APPENDED).await, rows / 10 * 9, "{rows}");
        let letters = letters(&client).await;
        assert_eq!(letters.len() as i64, rows / 5);
        for letter in &letters {
            assert!(letter.contains("refuses the row order_id = "), "{letter}");
            assert!(
                letter.contains("0 of 1 rows were written: a trigger or a rule takes rows away"),
                "{letter}"
            );
            assert!(!letter.contains("inline_code_block"), "{letter}");
        }
    }
}

#[tokio::test]
async fn rows_that_are_sent_to_another_table_are_dead_letters_and_are_not_there_either() {
    let (_database, client, mut sink) = started().await;
    client.batch_execute(OLD_PARTITIONS).await.unwrap();
    sink.commit(&epoch(1).logged(1, "a").logged(2, "b").logged(3, "c").build()).await.unwrap();
    assert_eq!(count(&client, APPENDED).await, 2);
    assert_eq!(count(&client, "even").await, 0, "what is a dead letter is nowhere");
    assert_eq!(letters(&client).await.len(), 1);
}

#[tokio::test]
async fn updates_that_are_taken_away_leave_no_row_behind_unsaid() {
    let (_database, client, mut sink) = started().await;
    sink.commit(&epoch(1).upserted(1, "old").upserted(2, "old").build()).await.unwrap();
    client.batch_execute(&taking_away("UPDATE", KEYED)).await.unwrap();
    sink.commit(&epoch(2).upserted(1, "new").upserted(2, "bad").build()).await.unwrap();
    let sql = "SELECT string_agg(status, ' ' ORDER BY order_id) FROM order_totals";
    let statuses: String = client.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(statuses, "new old");
    let letters = letters(&client).await;
    assert_eq!(letters.len(), 1);
    assert!(letters[0].contains("order_id = 2"), "{letters:?}");
}

#[tokio::test]
async fn deletes_that_are_taken_away_are_dead_letters_and_keys_that_are_gone_are_not() {
    for rows in [20, 2000] {
        let (_database, client, mut sink) = started().await;
        sink.commit(&rows_of_results(1, rows)).await.unwrap();
        client.batch_execute("DELETE FROM order_totals WHERE order_id < 10").await.unwrap();
        let mut gone = epoch(2);
        for key in 0..10 {
            gone = gone.removed(key);
        }
        sink.commit(&gone.build()).await.unwrap();
        assert_eq!(letters(&client).await, [""; 0], "another user has deleted them before");
        client.batch_execute(&taking_away("DELETE", KEYED)).await.unwrap();
        let mut removed = epoch(3);
        for key in 0..rows {
            removed = removed.removed(key);
        }
        sink.commit(&removed.build()).await.unwrap();
        let left = rows / 10 - 1;
        assert_eq!(count(&client, KEYED).await, left);
        let letters = letters(&client).await;
        assert_eq!(letters.len() as i64, left, "{:?}", letters.first());
        assert!(letters[0].contains("order_id = 17"), "{letters:?}");
        assert!(letters[0].starts_with("the deletion is left out"), "{letters:?}");
    }
}

#[tokio::test]
async fn events_whose_landing_rows_are_taken_away_are_refused_and_found_before_the_next_time() {
    for rows in [20, 2000u64] {
        let (_database, client, mut sink) = started().await;
        client.batch_execute(&taking_away("INSERT", LANDING)).await.unwrap();
        let mut builder = epoch(1);
        for id in 1..=rows {
            builder = builder.created(id, id as i64, if id % 10 == 7 { "bad" } else { "fine" });
        }
        let commit = builder.build();
        let error = sink.commit(&commit).await.unwrap_err();
        let SinkError::RowsRefused { rows: refused } = error else { panic!("{error:?}") };
        assert_eq!(refused.len() as u64, rows / 10);
        assert!(refused[0].message.contains("takes rows away"), "{}", refused[0].message);
        assert_eq!(count(&client, LANDING).await, 0);
        sink.raise_preflight(&[("orders".to_owned(), PreflightLevel::Trial)]);
        let found = sink.refused(&commit.landing).await.unwrap();
        assert_eq!(found.len(), refused.len());
        assert_eq!(count(&client, LANDING).await, 0);
    }
}

#[tokio::test]
async fn partitions_take_their_rows() {
    let (_database, client, mut sink) = started().await;
    let ddl = "DROP TABLE order_totals;
               CREATE TABLE order_totals (order_id bigint PRIMARY KEY, status text) PARTITION BY RANGE (order_id);
               CREATE TABLE low PARTITION OF order_totals FOR VALUES FROM (0) TO (100);
               CREATE TABLE high PARTITION OF order_totals FOR VALUES FROM (100) TO (1500)";
    client.batch_execute(ddl).await.unwrap();
    let mut builder = epoch(1);
    for key in 0..1600 {
        builder = builder.upserted(key, "x");
    }
    sink.commit(&builder.build()).await.unwrap();
    assert_eq!(count(&client, KEYED).await, 1500);
    let letters = letters(&client).await;
    assert_eq!(letters.len(), 100);
    assert!(letters[0].contains("no partition"), "{letters:?}");
}
