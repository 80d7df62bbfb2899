//! Landing tables of current rows: what PostgreSQL refuses, tables that are not made for it, and what is remembered of deletes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidemark::model::{Cell, Epoch, EpochCommit, Landing, Table, TableOptions};
use tidemark::sink::conformance::{KEPT, PIPELINE, QUEUE, SPOOL, epoch, kept_orders};
use tidemark::sink::postgres::{LandingPruner, PostgresConfig, PostgresSink};
use tidemark::sink::{PreflightLevel, Sink, SinkError, TakeRows};
use tokio_postgres::Client;

use crate::postgres::Durability;
use crate::{Database, count};

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

async fn rows(client: &Client) -> Vec<(i64, Option<String>)> {
    let sql = "SELECT order_id, status FROM orders_kept ORDER BY 1";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

fn fine(key: i64) -> (i64, Option<String>) {
    (key, Some("fine".to_owned()))
}

/// Every tenth row is `bad`; all keys are there already, or none.
fn some_bad(number: u64, first: u64, keys: u64) -> EpochCommit {
    let mut builder = epoch(number);
    for key in 0..keys {
        let status = if key % 10 == 7 { "bad" } else { "fine" };
        builder = builder.updated(first + key, key as i64, status);
    }
    builder.build_kept()
}

/// The ids of the messages whose rows the error names.
fn refused(error: SinkError) -> Vec<u64> {
    let told = format!("{error:?}");
    let rows = if let SinkError::RowsRefused { rows } = error { rows } else { Vec::new() };
    assert!(!rows.is_empty(), "{told}");
    let mut ids: Vec<u64> = rows.iter().map(|row| row.offset.id).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn a_refused_row_costs_no_neighbour() {
    let take = "CREATE FUNCTION take() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF NEW.status = 'bad' THEN RETURN NULL; END IF; RETURN NEW; END $$;";
    let classes = [
        "ALTER TABLE orders_kept ADD CHECK (status <> 'bad')".to_owned(),
        format!("{take} CREATE TRIGGER take BEFORE INSERT ON orders_kept FOR EACH ROW EXECUTE FUNCTION take()"),
        format!("{take} CREATE TRIGGER take BEFORE UPDATE ON orders_kept FOR EACH ROW EXECUTE FUNCTION take()"),
        "CREATE TABLE states (status text PRIMARY KEY); INSERT INTO states VALUES ('fine');
         ALTER TABLE orders_kept ADD FOREIGN KEY (status) REFERENCES states DEFERRABLE INITIALLY DEFERRED".to_owned(),
    ];
    for (ddl, keys) in classes.iter().flat_map(|ddl| [20, 1000].map(|keys| (ddl, keys))) {
        let (_database, client, mut sink) = started().await;
        let mut all = epoch(1);
        for key in 0..keys {
            all = all.created(1 + key, key as i64, "fine");
        }
        sink.commit(&all.build_kept()).await.unwrap();
        client.batch_execute(ddl).await.unwrap();
        sink.check_targets(&[kept_orders()], &[]).await.unwrap();
        let commit = some_bad(2, 10_000, keys);
        let error = sink.commit(&commit).await.unwrap_err();
        let expected: Vec<u64> =
            (0..keys).filter(|key| key % 10 == 7).map(|key| 10_000 + key).collect();
        assert_eq!(refused(error), expected, "{ddl}");
        // A look before says the same, and changes nothing.
        let levels = [("kept_orders".to_owned(), PreflightLevel::Trial)];
        sink.raise_preflight(&levels);
        let told = sink.refused(&commit.landing).await.unwrap();
        assert_eq!(refused(SinkError::RowsRefused { rows: told }), expected, "{ddl}");
        assert_eq!(count(&client, KEPT).await, keys as i64);
        let is_bad: Vec<bool> =
            commit.landing[0].offsets.iter().map(|it| expected.contains(&it.id)).collect();
        let landing = vec![commit.landing[0].clone().without(&is_bad)];
        sink.commit(&EpochCommit { landing, ..commit }).await.unwrap();
        let expected: Vec<_> = (0..keys as i64).map(fine).collect();
        assert_eq!(rows(&client).await, expected);
        let old =
            client.query_one("SELECT count(*) FROM orders_kept WHERE change_seq < 10000", &[]);
        assert_eq!(old.await.unwrap().get::<_, i64>(0), keys as i64 / 10, "they kept their rows");
    }
}

#[tokio::test]
async fn deletes_make_room_in_other_unique_indexes_also_where_rows_are_tried_out() {
    let (_database, client, mut sink) = started().await;
    client.batch_execute("CREATE UNIQUE INDEX ON orders_kept (status)").await.unwrap();
    sink.commit(&epoch(1).created(1, 1, "x").build_kept()).await.unwrap();
    let commit = epoch(2).deleted(2, 1).created(3, 2, "x").build_kept();
    sink.raise_preflight(&[("kept_orders".to_owned(), PreflightLevel::Trial)]);
    assert_eq!(sink.refused(&commit.landing).await.unwrap(), []);
    sink.commit(&commit).await.unwrap();
    assert_eq!(rows(&client).await, [(2, Some("x".to_owned()))]);
}

#[tokio::test]
async fn a_delete_that_a_trigger_swallows_is_told() {
    let (_database, client, mut sink) = started().await;
    sink.commit(&epoch(1).created(1, 1, "bad").created(2, 2, "fine").build_kept()).await.unwrap();
    client
        .batch_execute(
            "CREATE FUNCTION take() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN IF OLD.status = 'bad' THEN RETURN NULL; END IF; RETURN OLD; END $$;
             CREATE TRIGGER take BEFORE DELETE ON orders_kept FOR EACH ROW EXECUTE FUNCTION take()",
        )
        .await
        .unwrap();
    let commit = epoch(2).deleted(3, 1).deleted(4, 2).build_kept();
    assert_eq!(refused(sink.commit(&commit).await.unwrap_err()), [3]);
    assert_eq!(count(&client, KEPT).await, 2);
    assert_eq!(count(&client, "tidemark_deleted").await, 0, "nothing of the epoch is there");
}

#[tokio::test]
async fn a_delete_needs_nothing_but_its_key() {
    let (_database, client, mut sink) = started().await;
    let alter =
        "ALTER TABLE orders_kept ALTER status SET NOT NULL, ALTER order_id TYPE numeric(20,5)";
    client.batch_execute(alter).await.unwrap();
    sink.check_targets(&[kept_orders()], &[]).await.unwrap();
    sink.commit(&epoch(1).created(1, 1, "x").created(2, 2, "x").build_kept()).await.unwrap();
    let commit = epoch(2).deleted(3, 1).truncated(4).build_kept();
    assert_eq!(sink.refused(&commit.landing).await.unwrap(), []);
    sink.commit(&commit).await.unwrap();
    // Whatever digits the key was written with.
    sink.commit(&epoch(3).deleted(5, 1).deleted(6, 2).build_kept()).await.unwrap();
    assert_eq!(count(&client, KEPT).await, 0);
    assert_eq!(count(&client, "tidemark_deleted").await, 2);
}

#[tokio::test]
async fn a_table_without_the_key_is_refused_and_a_missing_one_is_made() {
    let (database, client, mut sink) = started().await;
    client.batch_execute("ALTER TABLE orders_kept DROP CONSTRAINT orders_kept_pkey").await.unwrap();
    let error = sink.check_targets(&[kept_orders()], &[]).await.unwrap_err();
    let told = tidemark::resilience::chain(&error);
    assert!(
        told.contains("orders_kept: needs a primary key or unique index on exactly (order_id)"),
        "{told}"
    );

    client.batch_execute("ALTER TABLE orders_kept ADD PRIMARY KEY (order_id)").await.unwrap();

    let Table { options, .. } = Arc::unwrap_or_clone(kept_orders());
    let options = TableOptions { landing: Landing::Current("made".to_owned()), ..options };
    let made = Arc::new(Table { options, ..Arc::unwrap_or_clone(kept_orders()) });
    sink.schema_admin().create_landing(&[Arc::clone(&made)]).await.unwrap();
    let mut sink = database.sink().await;
    sink.check_targets(&[Arc::clone(&made)], &[]).await.unwrap();
    let mut commit = epoch(1).created(1, 1, "a").created(2, 2, "a").deleted(3, 2).build_kept();
    commit.landing[0].table = made;
    sink.commit(&commit).await.unwrap();
    let shown = client.query("SELECT order_id, status FROM made_current", &[]).await.unwrap();
    let shown: Vec<(i64, &str)> = shown.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(shown, [(1, "a")]);
}

#[tokio::test]
async fn columns_may_have_any_name() {
    let (database, client, _) = started().await;
    let names = [
        ["name", "given", "kept"],
        ["key", "missing", "known"],
        ["gone", "was", "change"],
        ["landing", "epoch", "newest"],
        ["wanted", "noted", "rows"],
        ["event_id", "change_seq", "operation"],
    ];
    for (at, names) in (1..).zip(names) {
        let mut table = Arc::unwrap_or_clone(kept_orders());
        for (column, name) in table.columns.iter_mut().zip(names) {
            column.name = name.to_owned();
        }
        table.options.landing = Landing::Current(format!("made_{at}"));
        let table = Arc::new(table);
        let mut sink = database.sink().await;
        sink.schema_admin().create_landing(&[Arc::clone(&table)]).await.unwrap();
        sink.check_targets(&[Arc::clone(&table)], &[]).await.unwrap();
        let first = 10 * at;
        let commits = [
            epoch(3 * at).created(first, 1, "a").created(first + 1, 2, "a").created(
                first + 2,
                3,
                "a",
            ),
            epoch(3 * at + 1).updated(first + 3, 1, "not sent").deleted(first + 4, 2),
            epoch(3 * at + 2).truncated(first + 5).created(first + 6, 3, "b"),
        ];
        for (number, commit) in commits.iter().enumerate() {
            let mut commit = commit.build_kept();
            commit.landing[0].table = Arc::clone(&table);
            if number == 1 {
                commit.landing[0].unchanged = vec![Cell { row: 0, column: 1 }];
            }
            sink.commit(&commit).await.unwrap();
            if number == 1 {
                let sql =
                    format!("SELECT \"{}\" FROM made_{at} WHERE \"{}\" = 1", names[1], names[0]);
                assert_eq!(client.query_one(&sql, &[]).await.unwrap().get::<_, String>(0), "a");
            }
        }
        let told = sink.bootstrap(&table, None).await.unwrap();
        let mut ids: Vec<u64> = told[0].offsets.iter().map(|offset| offset.id).collect();
        ids.sort_unstable();
        assert_eq!(ids, [first + 4, first + 5, first + 6], "{names:?}");
        let keys = told[0].batch.project(&[0]).unwrap();
        assert_eq!(sink.history(&table, &keys).await.unwrap()[0].len(), 3, "{names:?}");
        let since = told[0].offsets.iter().copied().collect();
        let mut changes = 0;
        let take: TakeRows<'_> = &mut |part| {
            changes += part.len();
            std::ops::ControlFlow::Continue(())
        };
        sink.each_change(&table, &since, take).await.unwrap();
        assert_eq!(changes, 3, "{names:?}");
    }
}

/// Epochs in the ledger are those that a state on disk may lack.
#[tokio::test]
async fn a_delete_is_remembered_until_no_state_and_no_letter_needs_it() {
    let (database, client, mut sink) = started().await;
    let config = PostgresConfig::from_url(database.server.url());
    let mut pruner = LandingPruner::new(config, PIPELINE).unwrap();
    sink.commit(&epoch(1).created(1, 1, "a").created(2, 2, "a").created(3, 3, "a").build_kept())
        .await
        .unwrap();
    sink.commit(&epoch(2).deleted(4, 1).dead(5).build_kept()).await.unwrap();
    sink.commit(&epoch(3).deleted(6, 2).build_kept()).await.unwrap();
    sink.commit(&epoch(4).deleted(7, 3).build_kept()).await.unwrap();
    let (now, later) = (SystemTime::now(), SystemTime::now() + Duration::from_secs(90_000));
    let mut forget = async |now| pruner.prune_some(&kept_orders(), now).await.unwrap().rows;
    client.execute("UPDATE cdc_dlq SET source_table = NULL", &[]).await.unwrap();
    assert_eq!(forget(later).await, 0, "the ledger has all epochs");
    sink.ledger_reader().compact_ledger(Epoch(3)).await.unwrap();
    assert_eq!(forget(now).await, 0, "older changes may still come");
    assert_eq!(forget(later).await, 0, "a letter of no table is open");
    client.execute("UPDATE cdc_dlq SET source_table = 'SALES.OTHERS'", &[]).await.unwrap();
    assert_eq!(forget(later).await, 2);
    let left = client.query_one("SELECT event_id FROM tidemark_deleted", &[]).await.unwrap();
    let last = tidemark::model::Offset::new(SPOOL, 7).to_string();
    assert_eq!(left.get::<_, String>(0), last);
}
