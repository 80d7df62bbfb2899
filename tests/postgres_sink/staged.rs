//! Many refused rows of one epoch: the server looks for them itself, and says the same as row by row.

use std::sync::Arc;
use std::time::Duration;

use tidemark::model::{Changelog, EpochCommit, Landing, Table, TableOptions};
use tidemark::resilience::Recovery;
use tidemark::sink::conformance::{KEYED, LANDING, PIPELINE, QUEUE, epoch, log, orders, totals};
use tidemark::sink::postgres::{PostgresConfig, PostgresSink};
use tidemark::sink::{PreflightLevel, RefusedRow, Sink, SinkError};
use tokio_postgres::Client;

use crate::postgres::{Durability, PostgresServer};
use crate::refused::Scene;
use crate::types::{changes, keyed, sink_with};
use crate::{TARGETS, count, files};

const ROWS: u64 = 5_000;

/// The first and the last, neighbours, and otherwise one in a hundred.
fn is_bad(id: u64) -> bool {
    id % 100 == 7 || [1, 8, 9, ROWS].contains(&id)
}

/// Ways to refuse the rows with the status `bad`, and what is said of them.
const WAYS: [(&str, &str, &str); 5] = [
    (
        "trigger",
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN IF NEW.status = 'bad' THEN RAISE 'no bad rows' USING HINT = 'be good'; END IF; RETURN NEW; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION refuse()",
        "no bad rows (P0001), be good",
    ),
    (
        "domain",
        "CREATE FUNCTION is_good(text) RETURNS boolean VOLATILE LANGUAGE sql AS $$ SELECT $1 <> 'bad' $$;
         CREATE DOMAIN state AS varchar(40) CHECK (is_good(VALUE)); ALTER TABLE {} ALTER status TYPE state",
        "violates check constraint \"state_check\" (23514)",
    ),
    (
        "unique",
        "CREATE UNIQUE INDEX once ON {} ((true)) WHERE status = 'bad' AND order_id <> 1",
        "violates unique constraint \"once\" (23505), Key ((true))=(t) already exists.",
    ),
    (
        "parent",
        "CREATE TABLE states (status varchar(40) PRIMARY KEY); INSERT INTO states VALUES ('fine');
         ALTER TABLE {} ADD FOREIGN KEY (status) REFERENCES states DEFERRABLE INITIALLY DEFERRED",
        "(23503), Key (status)=(bad) is not present in table \"states\".",
    ),
    (
        "enum",
        "CREATE TYPE state AS ENUM ('fine'); ALTER TABLE {} ALTER status TYPE state USING status::state",
        "invalid input value for enum state: \"bad\" (22P02)",
    ),
];

fn landing() -> EpochCommit {
    let status = |id| if is_bad(id) { "bad" } else { "fine" };
    (1..=ROWS).fold(epoch(1), |epoch, id| epoch.created(id, id as i64, status(id))).build()
}

/// Of a unique index the first row is none too many; the index of [`WAYS`] leaves out the very first.
fn expected(way: &str) -> Vec<u64> {
    let first_of_index = |id: &u64| way == "unique" && [1, 7].contains(id);
    (1..=ROWS).filter(|id| is_bad(*id) && !first_of_index(id)).collect()
}

/// Counts the temporary tables that were made, also those that were rolled back.
async fn count_tables(client: &Client) {
    let sql = "CREATE SEQUENCE public.tables_made;
        CREATE FUNCTION public.count_made() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS
          $$ BEGIN PERFORM nextval('public.tables_made'); END $$;
        CREATE EVENT TRIGGER count_made ON ddl_command_end WHEN TAG IN ('CREATE TABLE')
          EXECUTE FUNCTION public.count_made();";
    client.batch_execute(sql).await.unwrap();
}

async fn tables_made(client: &Client) -> bool {
    let sql = "SELECT is_called FROM public.tables_made";
    let is_called = client.query_one(sql, &[]).await.unwrap().get(0);
    let restart = "SELECT setval('public.tables_made', 1, false)";
    client.execute(restart, &[]).await.unwrap();
    is_called
}

/// A clerk who may write, and by default make temporary tables.
async fn clerk(server: &PostgresServer, schema: &str) -> PostgresSink {
    let url = server.url().replace("postgres@", "clerk@");
    let config = PostgresConfig { schema: schema.to_owned(), ..PostgresConfig::from_url(url) };
    let mut sink = PostgresSink::new(config, PIPELINE, QUEUE).unwrap();
    sink.schema_admin().apply_ods(&files(&[("01_targets.sql", TARGETS)])).await.unwrap();
    sink.check_targets(&[orders()], &[totals(), log()]).await.unwrap();
    sink.raise_preflight(&[("orders".to_owned(), PreflightLevel::Trial)]);
    sink
}

/// What is said without the line of a COPY that the row was in, and without the column: an INSERT of one row does not
/// tell it.
fn said(rows: &[RefusedRow]) -> Vec<(u64, String)> {
    let message = |row: &RefusedRow| {
        let message = row.message.replace(", column status", "");
        match message.split_once(", COPY ") {
            Some((before, after)) => {
                let (_, advice) = after.split_once(": correct").unwrap();
                format!("{before}: correct{advice}")
            }
            None => message,
        }
    };
    rows.iter().map(|row| (row.offset.id, message(row))).collect()
}

#[tokio::test]
async fn the_server_finds_the_rows_that_are_found_one_by_one_and_says_the_same() {
    let server = PostgresServer::start(Durability::Off).await;
    let admin = server.client().await;
    admin.batch_execute("CREATE ROLE clerk LOGIN").await.unwrap();
    count_tables(&admin).await;
    let commit = landing();
    for (way, ddl, says) in WAYS {
        let schema = &format!("by_{way}");
        let mut scene = Scene::set(&server, schema, &ddl.replace("{}", LANDING)).await;
        let grant = format!(
            "GRANT ALL ON SCHEMA {schema} TO clerk; GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO clerk;
             GRANT TEMPORARY ON DATABASE postgres TO PUBLIC"
        );
        admin.batch_execute(&grant).await.unwrap();
        let mut sink = clerk(&server, schema).await;
        tables_made(&admin).await;
        let by_server = sink.refused(&commit.landing).await.unwrap();
        assert!(tables_made(&admin).await, "{way}: the server looks for them");
        let found: Vec<u64> = by_server.iter().map(|row| row.offset.id).collect();
        assert_eq!(found, expected(way), "{way}");
        for row in &by_server {
            assert!(row.message.contains(says), "{way}: {says} in {}", row.message);
            assert!(!row.message.contains("inline_code_block"), "{way}: {}", row.message);
            let column = ["domain", "enum"].contains(&way).then_some("status");
            assert_eq!(row.column.as_deref(), column, "{way}");
        }

        let revoke = "REVOKE TEMPORARY ON DATABASE postgres FROM PUBLIC";
        admin.batch_execute(revoke).await.unwrap();
        let one_by_one = sink.refused(&commit.landing).await.unwrap();
        assert!(!tables_made(&admin).await, "{way}: it must not make tables");
        assert_eq!(said(&by_server), said(&one_by_one), "{way}");
        assert_eq!(count(&scene.client, LANDING).await, 0, "{way}: a trial writes nothing");

        // The same at the commit, by somebody who may.
        let error = scene.sink.commit(&commit).await.unwrap_err();
        assert!(tables_made(&admin).await, "{way}: the server looks for them");
        let SinkError::RowsRefused { rows } = error else { panic!("{way}: {error:?}") };
        assert_eq!(said(&by_server), said(&rows), "{way}");
        assert_eq!(count(&scene.client, LANDING).await, 0, "{way}");
    }
}

#[tokio::test]
async fn many_refused_rows_of_results_are_letters_and_the_rest_is_committed() {
    let server = PostgresServer::start(Durability::Off).await;
    let (_, trigger, says) = WAYS[0];
    let ddl = trigger.replace("{}", KEYED).replace("BEFORE INSERT", "BEFORE INSERT OR DELETE");
    let ddl = ddl.replace("IF NEW", "IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; IF NEW");
    let mut scene = Scene::set(&server, "results", &ddl).await;
    let status = |id| if is_bad(id) { "bad" } else { "fine" };
    let upserts = (1..=ROWS).fold(epoch(1), |epoch, id| epoch.upserted(id as i64, status(id)));
    scene.sink.commit(&upserts.build()).await.unwrap();
    let bad = (1..=ROWS).filter(|id| is_bad(*id)).count() as i64;
    assert_eq!(count(&scene.client, KEYED).await, ROWS as i64 - bad);
    let sql =
        "SELECT count(*), count(DISTINCT payload->>'order_id'), min(error_message) FROM cdc_dlq";
    let letters = scene.client.query_one(sql, &[]).await.unwrap();
    assert_eq!((letters.get(0), letters.get(1)), (bad, bad));
    assert!(letters.get::<_, &str>(2).contains(says));

    // Deletes of which many are refused.
    let ddl = "CREATE TABLE bills (order_id bigint REFERENCES order_totals);
        INSERT INTO bills SELECT order_id FROM order_totals WHERE order_id % 50 = 0";
    scene.client.batch_execute(ddl).await.unwrap();
    let gone = (1..=ROWS as i64).fold(epoch(2), |epoch, id| epoch.removed(id)).build();
    scene.sink.commit(&gone).await.unwrap();
    assert_eq!(count(&scene.client, KEYED).await, count(&scene.client, "bills").await);
    let letters = count(&scene.client, "cdc_dlq WHERE error_message LIKE 'the deletion %'").await;
    assert_eq!(letters, count(&scene.client, "bills").await);
}

#[tokio::test]
async fn names_are_nothing_but_names() {
    let server = PostgresServer::start(Durability::Off).await;
    // Those of the block's variables, of its table's columns, and what could end a text.
    let names = ["first_row", "n", "c1", "step", "told_code", "a'b$$\"\\c", "half"];
    let quoted = names.map(|name| format!("\"{}\"", name.replace('"', "\"\"")));
    let columns = quoted.iter().map(|name| format!("{name} text")).collect::<Vec<_>>().join(", ");
    let ddl = format!(
        "CREATE TABLE \"its $$ 'name\" ({columns}, PRIMARY KEY ({}, {}));
         CREATE UNIQUE INDEX ON \"its $$ 'name\" ((true)) WHERE half = 'bad'",
        quoted[0], quoted[5]
    );
    let mut sink = sink_with(&server, &ddl).await;
    let order = ["first_row", "a'b$$\"\\c", "n", "c1", "step", "told_code", "half"];
    let result = keyed("its $$ 'name", &order, 2);
    sink.check_targets(&[], std::slice::from_ref(&result)).await.unwrap();
    let keys: Vec<String> = (0..1000).map(|row| row.to_string()).collect();
    let rows: Vec<[Option<&str>; 7]> = (0..1000)
        .map(|row| {
            let half = if row % 100 == 7 { "bad" } else { "fine" };
            let value = Some("it's $$ \\");
            [Some(keys[row].as_str()), Some("k"), value, value, None, value, Some(half)]
        })
        .collect();
    let rows: Vec<&[Option<&str>]> = rows.iter().map(|row| &row[..]).collect();
    let mut commit = epoch(1).build();
    commit.results = vec![changes(&result, &rows, &[])];
    sink.commit(&commit).await.unwrap();
    let client = server.client().await;
    assert_eq!(count(&client, "\"its $$ 'name\"").await, 991, "ten are bad, and one of them fits");
    assert_eq!(count(&client, "cdc_dlq").await, 9);
    let values = "\"its $$ 'name\" WHERE n = 'it''s $$ \\' AND step IS NULL AND told_code = n";
    assert_eq!(count(&client, values).await, 991);
}

#[tokio::test]
async fn what_is_not_about_a_row_is_not_looked_for_in_the_rows() {
    let server = PostgresServer::start(Durability::Off).await;
    let ddl = "CREATE TABLE faults (code text); INSERT INTO faults VALUES ('P0001');
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN IF NEW.status = 'bad' THEN
            RAISE 'a fault' USING ERRCODE = (SELECT code FROM night.faults); END IF; RETURN NEW; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON orders_history FOR EACH ROW EXECUTE FUNCTION refuse()";
    let mut scene = Scene::set(&server, "night", ddl).await;
    let commit = landing();
    scene.sink.raise_preflight(&[("orders".to_owned(), PreflightLevel::Trial)]);
    for (code, recovery) in
        [("40P01", Recovery::Retry), ("53100", Recovery::Hold), ("55P03", Recovery::Retry)]
    {
        let set = format!("UPDATE faults SET code = '{code}'");
        scene.client.batch_execute(&set).await.unwrap();
        for error in [
            scene.sink.refused(&commit.landing).await.unwrap_err(),
            scene.sink.commit(&commit).await.unwrap_err(),
        ] {
            assert_eq!(error.recovery(), recovery, "{code}: {error:?}");
        }
    }
    scene.client.batch_execute("UPDATE faults SET code = 'P0001'").await.unwrap();
    assert_eq!(scene.sink.refused(&commit.landing).await.unwrap().len(), 54);

    // A statement that takes too long is one, and not its rows.
    let slow = "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END $$";
    scene.client.batch_execute(slow).await.unwrap();
    let mut config = PostgresConfig::from_url(server.url());
    (config.schema, config.statement_timeout) = ("night".to_owned(), Duration::from_millis(300));
    let mut sink = PostgresSink::new(config, PIPELINE, QUEUE).unwrap();
    sink.check_targets(&[orders()], &[totals(), log()]).await.unwrap();
    sink.raise_preflight(&[("orders".to_owned(), PreflightLevel::Trial)]);
    let error = sink.refused(&commit.landing).await.unwrap_err();
    assert!(matches!(error, SinkError::Interrupted { .. }), "{error:?}");
}

/// Who comes second waits for who came first; they meet if they are on their way at the same time.
const MEETING: &str = "
    CREATE TABLE others_history (LIKE orders_history INCLUDING ALL);
    CREATE FUNCTION is_there(who text) RETURNS boolean LANGUAGE sql AS $$ SELECT EXISTS (SELECT FROM pg_locks
      WHERE locktype = 'advisory' AND objid = who::oid AND granted AND pid <> pg_backend_pid()) $$;
    CREATE FUNCTION meet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      IF NEW.order_id = 1 THEN
        PERFORM pg_advisory_xact_lock(TG_ARGV[0]::bigint);
        WHILE NOT ways.is_there(TG_ARGV[1]) LOOP
          PERFORM pg_sleep(0.01);
        END LOOP;
        PERFORM pg_advisory_xact_lock(TG_ARGV[1]::bigint);
      END IF;
      RETURN NEW; END $$;
    CREATE TRIGGER meet BEFORE INSERT ON orders_history FOR EACH ROW EXECUTE FUNCTION meet('1', '2');
    CREATE TRIGGER meet BEFORE INSERT ON others_history FOR EACH ROW EXECUTE FUNCTION meet('2', '1');";

#[tokio::test]
async fn tables_whose_triggers_wait_for_each_other_are_looked_at_one_after_the_other() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut scene = Scene::set(&server, "ways", MEETING).await;
    let landing_of = |name: &str| TableOptions {
        landing: Landing::History(format!("{name}_history")),
        ..orders().options.clone()
    };
    let others = Arc::new(Table {
        name: "others".to_owned(),
        options: landing_of("others"),
        ..Arc::unwrap_or_clone(orders())
    });
    scene.sink.check_targets(&[orders(), Arc::clone(&others)], &[totals(), log()]).await.unwrap();
    let mut commit = landing();
    commit.landing.push(Changelog { table: others, ..commit.landing[0].clone() });
    for name in ["orders", "others"] {
        scene.sink.raise_preflight(&[(name.to_owned(), PreflightLevel::Trial)]);
    }
    let error = scene.sink.refused(&commit.landing).await.unwrap_err();
    assert!(matches!(error, SinkError::Interrupted { .. }), "{error:?}");
    assert!(error.to_string().contains("deadlock"), "{error}");

    // They would not meet any more.
    let together = "CREATE OR REPLACE FUNCTION meet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_advisory_xact_lock(TG_ARGV[0]::bigint);
        IF ways.is_there(TG_ARGV[1]) THEN RAISE 'together' USING ERRCODE = '40P01'; END IF;
        RETURN NEW; END $$";
    scene.client.batch_execute(together).await.unwrap();
    assert!(scene.sink.refused(&commit.landing).await.unwrap().is_empty());
    assert_eq!(count(&scene.client, LANDING).await, 0);
}
