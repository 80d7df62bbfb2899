//! CHECK constraints, which tell refused rows before anything is written.

use tidemark::model::EpochCommit;
use tidemark::sink::conformance::{EpochBuilder, LANDING, epoch};
use tidemark::sink::{PreflightLevel, Sink, SinkError};

use crate::count;
use crate::postgres::{Durability, PostgresServer};
use crate::refused::Scene;

/// Of the rows 1 to 7.
const STATUSES: [Option<&str>; 7] =
    [Some("fine"), Some("bad"), None, Some(""), Some(" bad"), Some("BAD"), Some("x")];

/// What a table is like, the rows that it refuses, and what finds them before they are applied.
struct Case {
    ddl: String,
    refused: &'static [u64],
    found_by: PreflightLevel,
}

fn told(ddl: &str, refused: &'static [u64]) -> Case {
    Case { ddl: ddl.to_owned(), refused, found_by: PreflightLevel::Checks }
}

/// Left to the server.
fn tried(ddl: &str, refused: &'static [u64]) -> Case {
    Case { ddl: ddl.to_owned(), refused, found_by: PreflightLevel::Trial }
}

const IS_GOOD: &str =
    "CREATE FUNCTION is_good(text) RETURNS boolean LANGUAGE sql AS $$ SELECT $1 <> 'bad' $$;
    ALTER TABLE orders_history ADD CHECK (is_good(status))";
const PARTITIONED: &str = "DROP TABLE orders_history; CREATE TABLE orders_history (
       order_id bigint NOT NULL, status varchar(40), amount numeric(15,2), operation text NOT NULL,
       source_ts timestamp, extra_fields jsonb, event_id text, change_seq bigint NOT NULL)
       PARTITION BY LIST (operation);
     CREATE TABLE part PARTITION OF orders_history DEFAULT;
     ALTER TABLE orders_history ADD CHECK (status NOT IN ('bad', 'x'));";
/// A trigger that comes before the constraint.
const MENDED: &str = "CREATE FUNCTION mend() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN IF NEW.status = 'bad' THEN NEW.status := 'fine'; END IF; RETURN NEW; END $$;
    CREATE TRIGGER mend BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION mend();";

fn cases() -> Vec<Case> {
    let not_bad = "ALTER TABLE orders_history ADD CHECK (status NOT IN ('bad', 'x'));";
    let mended = |table: &str| MENDED.replace("{}", table);
    vec![
        told(not_bad, &[2, 7]),
        told("ALTER TABLE orders_history ADD CHECK (status <> 'bad') NOT VALID", &[2]),
        told("ALTER TABLE orders_history ADD CHECK (amount <= 3.25)", &[4, 5, 6, 7]),
        told(
            "ALTER TABLE orders_history ADD CHECK (extra_fields ->> 'NOTE' <> 'new column' OR order_id < 6)",
            &[6, 7],
        ),
        told("ALTER TABLE orders_history ADD \"#\" integer, ADD CHECK (status <> 'bad')", &[2]),
        told(
            "CREATE TYPE state AS ENUM ('', 'x', 'fine', 'bad', ' bad', 'BAD');
             ALTER TABLE orders_history ALTER status TYPE state USING status::state,
               ADD CHECK (status > 'x')",
            &[4, 7],
        ),
        told(&IS_GOOD.replace("LANGUAGE", "IMMUTABLE LANGUAGE"), &[2]),
        told(PARTITIONED, &[2, 7]),
        // It could look at other rows.
        tried(IS_GOOD, &[2]),
        // Nothing is sent for `other`.
        tried(
            "ALTER TABLE orders_history ADD other integer DEFAULT 5, ADD CHECK (other > 10 OR status <> 'bad')",
            &[2],
        ),
        tried(
            "ALTER TABLE orders_history ADD CHECK (1 / (order_id - 3) < 5 AND status <> 'bad')",
            &[2, 3],
        ),
        tried(
            "CREATE DOMAIN state AS text;
             ALTER TABLE orders_history ALTER status TYPE state, ADD CHECK (status <> 'bad')",
            &[2],
        ),
        tried(
            "ALTER TABLE orders_history ALTER status TYPE text COLLATE \"C\", ADD CHECK (status > 'B')",
            &[4, 5],
        ),
        tried(&format!("{PARTITIONED} ALTER TABLE part ADD CHECK (status <> 'BAD')"), &[2, 6, 7]),
        tried(&format!("{not_bad} {}", mended("orders_history")), &[7]),
        tried(&format!("{PARTITIONED} {}", mended("part")), &[7]),
    ]
}

fn cases_of_domains() -> Vec<Case> {
    let mended = MENDED.replace("{}", "orders_history");
    vec![
        told(
            "CREATE DOMAIN text_only AS varchar(40) CHECK (VALUE <> 'x');
             CREATE DOMAIN state AS text_only CHECK (VALUE IS NOT NULL) CHECK (lower(VALUE) <> 'bad');
             ALTER TABLE orders_history ALTER status TYPE state, ADD CHECK (order_id <> 5)",
            &[2, 3, 5, 6, 7],
        ),
        told(
            "CREATE DOMAIN price AS numeric(15,2) CHECK (VALUE <> 3.25);
             ALTER TABLE orders_history ALTER amount TYPE price",
            &[3],
        ),
        told("CREATE DOMAIN short AS varchar(3); ALTER TABLE orders_history ALTER status TYPE short", &[1, 5]),
        told(
            "CREATE DOMAIN \"it's \"\"a\"\" type\" AS varchar(40) CHECK (VALUE NOT IN ('x', 'bad'));
             ALTER TABLE orders_history ALTER status TYPE \"it's \"\"a\"\" type\"",
            &[2, 7],
        ),
        // A trigger comes too late for a domain.
        told(
            &format!(
                "CREATE DOMAIN state AS text CHECK (VALUE <> 'bad');
                 ALTER TABLE orders_history ALTER status TYPE state; {}",
                mended
            ),
            &[2],
        ),
        tried(
            "CREATE FUNCTION is_good(text) RETURNS boolean LANGUAGE sql AS $$ SELECT $1 <> 'bad' $$;
             CREATE DOMAIN state AS text CHECK (is_good(VALUE));
             ALTER TABLE orders_history ALTER status TYPE state",
            &[2],
        ),
    ]
}

fn landing() -> EpochCommit {
    let rows = (1..).zip(STATUSES);
    rows.fold(epoch(1), |epoch, (id, status)| epoch.changed(id, id as i64, status)).build()
}

/// The rows that the sink says it would refuse.
async fn foretold(scene: &mut Scene, commit: &EpochCommit, level: PreflightLevel) -> Vec<u64> {
    scene.sink.raise_preflight(&[("orders".to_owned(), level)]);
    let rows = scene.sink.refused(&commit.landing).await.unwrap();
    rows.iter().map(|row| row.offset.id).collect()
}

#[tokio::test]
async fn a_row_is_refused_beforehand_exactly_if_the_server_refuses_it() {
    let server = PostgresServer::start(Durability::Off).await;
    for (number, Case { ddl, refused, found_by }) in
        cases().into_iter().chain(cases_of_domains()).enumerate()
    {
        let mut scene = Scene::set(&server, &format!("case_{number}"), &ddl).await;
        let commit = landing();
        let before = if found_by == PreflightLevel::Checks { refused } else { &[] };
        let by_checks = foretold(&mut scene, &commit, PreflightLevel::Checks).await;
        let is_part = by_checks.iter().all(|id| refused.contains(id));
        match found_by {
            PreflightLevel::Checks => assert_eq!(by_checks, before, "{ddl}"),
            PreflightLevel::Trial => assert!(is_part && by_checks.len() < refused.len(), "{ddl}"),
        }
        assert_eq!(foretold(&mut scene, &commit, PreflightLevel::Trial).await, refused, "{ddl}");
        let SinkError::RowsRefused { rows } = scene.sink.commit(&commit).await.unwrap_err() else {
            panic!("{ddl}: another error")
        };
        let of_commit: Vec<u64> = rows.iter().map(|row| row.offset.id).collect();
        assert_eq!(of_commit, refused, "{ddl}");
        assert_eq!(rows.iter().map(|row| row.level).max(), Some(found_by), "{ddl}");
        assert_eq!(count(&scene.client, LANDING).await, 0, "{ddl}");
    }
}

#[tokio::test]
async fn the_first_constraint_that_a_row_breaks_is_named_as_the_server_names_it() {
    let server = PostgresServer::start(Durability::Off).await;
    let ddl = "ALTER TABLE orders_history ADD CONSTRAINT second CHECK (status <> 'bad'),
        ADD CONSTRAINT first CHECK (order_id <> 2), ADD CONSTRAINT third CHECK (status <> 'x')";
    let mut scene = Scene::set(&server, "named", ddl).await;
    let commit = landing();
    scene.sink.raise_preflight(&[("orders".to_owned(), PreflightLevel::Checks)]);
    let rows = scene.sink.refused(&commit.landing).await.unwrap();
    let messages: Vec<&str> = rows.iter().map(|row| row.message.as_str()).collect();
    assert_eq!(messages.len(), 2, "{messages:?}");
    for (message, (key, name)) in messages.iter().zip([(2, "first"), (7, "third")]) {
        let says = format!(
            "orders_history refuses the row order_id = {key}: new row for relation \"orders_history\" violates check \
             constraint \"{name}\" (23514)"
        );
        assert!(message.starts_with(&says), "{message}");
    }
}

#[tokio::test]
async fn rows_that_a_constraint_tells_are_not_found_by_writing_their_neighbours() {
    const ROWS: i64 = 10_000;
    let server = PostgresServer::start(Durability::Off).await;
    let ddl = "ALTER TABLE orders_history ADD CHECK (order_id % 100 <> 7);
        ALTER TABLE order_totals ADD CHECK (order_id % 100 <> 7);";
    let mut scene = Scene::set(&server, "counted", ddl).await;
    let fill = |builder: EpochBuilder| {
        (1..=ROWS).fold(builder, |epoch, id| epoch.created(id as u64, id, "x"))
    };
    let commit = fill(epoch(1)).build();
    assert_eq!(foretold(&mut scene, &commit, PreflightLevel::Checks).await.len(), 100);
    let rows = (1..=ROWS).fold(epoch(1), |epoch, id| epoch.upserted(id, "x")).build();
    scene.sink.commit(&rows).await.unwrap();
    assert_eq!(count(&scene.client, "order_totals").await, ROWS - 100);
    assert_eq!(count(&scene.client, "cdc_dlq").await, 100);
    // The server counts what a session did, also what it rolled back, a moment after it has ended.
    drop(scene.sink);
    let inserted = "SELECT sum(n_tup_ins) FILTER (WHERE relname = 'orders_history')::bigint,
         sum(n_tup_ins) FILTER (WHERE relname = 'order_totals')::bigint
       FROM pg_stat_user_tables WHERE schemaname = 'counted'";
    let (landed, results): (i64, i64) = loop {
        let row = scene.client.query_one(inserted, &[]).await.unwrap();
        let counted: (i64, i64) = (row.get(0), row.get(1));
        if counted.1 >= ROWS - 100 {
            break counted;
        }
        tokio::task::yield_now().await;
    };
    // One row to be sure, and the attempt that told that rows are refused.
    assert!(landed <= 1, "{landed} rows were written to find those that are refused");
    assert!(results <= 2 * ROWS, "{results} rows were written for {ROWS}");
}
