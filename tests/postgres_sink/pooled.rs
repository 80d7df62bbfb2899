//! The sink behind pgbouncer in transaction mode: no transaction finds what the one before it left.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidemark::resilience::Recovery;
use tidemark::sink::conformance::{self, APPENDED, KEYED, LANDING, PIPELINE, QUEUE, epoch, orders};
use tidemark::sink::postgres::{Outbox, Pooler as PoolerMode, PostgresConfig};
use tidemark::sink::{Sink, SinkError};
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::pooler::{Pooler, SERVER_CONNECTIONS};
use crate::postgres::{Durability, PostgresServer};
use crate::{Database, PostgresStage};

async fn before(server: &PostgresServer) -> Pooler {
    Pooler::start((server.port(), "postgres"), server.run_as(), None).await
}

fn pooled(pooler: &Pooler) -> PostgresConfig {
    PostgresConfig { pooler: PoolerMode::Transaction, ..PostgresConfig::from_url(pooler.url()) }
}

/// What each of the pooler's server connections says.
async fn each_server(pooler: &Pooler, sql: &str) -> Vec<String> {
    let (client, connection) = tokio_postgres::connect(&pooler.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let sql = format!("SELECT pg_backend_pid(), ({sql})::text");
    let (mut pids, mut answers) = (HashSet::new(), Vec::new());
    while pids.len() < SERVER_CONNECTIONS {
        for message in client.simple_query(&sql).await.unwrap() {
            let SimpleQueryMessage::Row(row) = message else { continue };
            if pids.insert(row.get(0).unwrap().to_owned()) {
                answers.push(row.get(1).unwrap().to_owned());
            }
        }
    }
    answers
}

#[tokio::test]
async fn the_sink_conforms_behind_a_pooler_and_leaves_nothing_on_its_connections() {
    let server = PostgresServer::start(Durability::Off).await;
    let pooler = before(&server).await;
    let next = AtomicUsize::new(0);
    conformance::check_all(async || PostgresStage {
        config: pooled(&pooler),
        schema: format!("stage_{}", next.fetch_add(1, Ordering::SeqCst)),
        client: server.client().await,
    })
    .await;
    let statements = each_server(
        &pooler,
        "SELECT coalesce(string_agg(statement, E'\n'), 'none') FROM pg_prepared_statements",
    )
    .await;
    assert_eq!(statements, ["none"; SERVER_CONNECTIONS]);
    let path = each_server(&pooler, "current_setting('search_path')").await;
    assert_eq!(path, ["\"$user\", public"; SERVER_CONNECTIONS]);
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    let locks = server.client().await.query_one(locks, &[]).await.unwrap();
    assert_eq!(locks.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn large_epochs_refused_rows_and_kills_are_exact_behind_a_pooler() {
    let database = Database { server: PostgresServer::start(Durability::Off).await };
    let pooler = before(&database.server).await;
    let mut sink = database.sink_at(pooled(&pooler), QUEUE).await;
    let client = database.server.client().await;
    let check = "ALTER TABLE order_totals ADD CHECK (status <> 'bad')";
    client.batch_execute(check).await.unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let rows = 2000;
    for number in 1..=5 {
        let mut builder = epoch(number);
        for row in 0..rows {
            let id = number * 10_000 + row;
            let status = if row == 77 { "bad" } else { "fine" };
            builder =
                builder.created(id, id as i64, "x").upserted(id as i64, status).logged(1, "x");
        }
        let commit = builder.build();
        client.query(end, &[]).await.unwrap();
        while let Err(error) = sink.commit(&commit).await {
            assert_eq!(error.recovery(), Recovery::Retry, "{error:?}");
        }
        sink.commit(&commit).await.unwrap();
    }
    let rows = rows as i64;
    assert_eq!(database.count(LANDING).await, 5 * rows);
    assert_eq!(database.count(APPENDED).await, 5 * rows);
    assert_eq!(database.count(KEYED).await, 5 * rows - 5);
    assert_eq!(database.count("cdc_dlq").await, 5);
    let chunks = sink.bootstrap(&orders(), None).await.unwrap();
    assert_eq!(chunks.iter().map(|chunk| chunk.len()).sum::<usize>() as i64, 5 * rows);
    // The fence holds: a second processor on the same epoch writes nothing.
    let mut second = database.sink_at(pooled(&pooler), QUEUE).await;
    let fenced = second.commit(&epoch(5).created(99, 1, "x").build()).await.unwrap_err();
    assert!(matches!(fenced, SinkError::Fenced { .. }), "{fenced:?}");
    assert_eq!(database.count(LANDING).await, 5 * rows);
}

#[tokio::test]
async fn only_one_process_delivers_at_a_time_behind_a_pooler() {
    let database = Database { server: PostgresServer::start(Durability::Off).await };
    let pooler = before(&database.server).await;
    drop(database.sink_at(pooled(&pooler), QUEUE).await);
    let (first, second) =
        (Outbox::new(pooled(&pooler), PIPELINE), Outbox::new(pooled(&pooler), PIPELINE));
    let mut turn = first.turn().await.unwrap().unwrap();
    assert!(second.turn().await.unwrap().is_none());
    turn.settle(&[], &[]).await.unwrap();
    assert_eq!(turn.read(0, 10).await.unwrap().len(), 0);
    // The open transaction that holds the turn must not keep rows from VACUUM.
    let sql = "SELECT count(*), count(backend_xmin) FROM pg_stat_activity \
               WHERE state = 'idle in transaction'";
    let row = database.server.client().await.query_one(sql, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (1, 0));
    drop(turn);
    while second.turn().await.unwrap().is_none() {}
    // Whose lock is gone has no turn any more.
    let mut turn = first.turn().await.unwrap();
    while turn.is_none() {
        turn = first.turn().await.unwrap();
    }
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE state = 'idle in transaction'";
    database.server.client().await.query(end, &[]).await.unwrap();
    let mut turn = turn.unwrap();
    while turn.read(0, 10).await.is_ok() {}
}

/// What a session of ours sets, and what it would leave prepared. Newer poolers have statements of their own.
const LEFT: &str = "concat_ws(' ', current_setting('search_path'), current_setting('statement_timeout'), \
                    current_setting('jit'), current_setting('plan_cache_mode'), current_setting('lock_timeout'), \
                    (SELECT count(*) FROM pg_prepared_statements WHERE name NOT LIKE 'PGBOUNCER%'))";

#[tokio::test]
async fn a_pooler_that_is_not_configured_is_noticed_and_keeps_nothing_of_ours() {
    let database = Database { server: PostgresServer::start(Durability::Off).await };
    let pooler = before(&database.server).await;
    let before = each_server(&pooler, LEFT).await;
    let mut sink = database.sink_at(PostgresConfig::from_url(pooler.url()), QUEUE).await;
    for number in 1..=20 {
        let id = number as i64;
        sink.commit(&epoch(number).created(number, id, "x").upserted(id, "x").build())
            .await
            .unwrap();
    }
    assert_eq!(database.count(LANDING).await, 20);
    assert_eq!(sink.bootstrap(&orders(), None).await.unwrap()[0].len(), 20);
    assert_eq!(each_server(&pooler, LEFT).await, before);
}

#[tokio::test]
async fn with_the_wrong_option_the_message_names_the_right_one() {
    let database = Database { server: PostgresServer::start(Durability::Off).await };
    drop(database.sink().await);
    let pooler = before(&database.server).await;
    each_server(&pooler, "1").await;
    let config =
        PostgresConfig { pooler: PoolerMode::Session, ..PostgresConfig::from_url(pooler.url()) };
    let mut sink = tidemark::sink::postgres::PostgresSink::new(config, PIPELINE, QUEUE).unwrap();
    let mut number = 0;
    let error = loop {
        number += 1;
        assert!(number < 100, "the pooler goes round");
        let answer = async {
            sink.schema_admin().apply_ods(&[]).await?;
            sink.check_targets(&[orders()], &[conformance::totals()]).await?;
            sink.commit(&epoch(number).created(number, 1, "x").upserted(1, "x").build()).await
        };
        if let Err(error) = answer.await {
            break error;
        }
    };
    assert_eq!(error.recovery(), Recovery::Hold, "{error:?}");
    assert!(error.to_string().contains("pooler = \"transaction\""), "{error}");
}
