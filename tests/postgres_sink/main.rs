//! The Postgres sink against a real server.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "../support/certificates.rs"]
mod certificates;
mod checks;
mod differences;
#[path = "../support/fault_proxy.rs"]
mod fault_proxy;
mod faults;
mod landing;
mod large_values;
mod ledger;
mod pooled;
#[path = "../support/pooler.rs"]
mod pooler;
#[path = "../support/postgres.rs"]
mod postgres;
mod refused;
mod rest;
mod roles;
mod schema_repairs;
mod server_faults;
#[path = "../support/small_disk.rs"]
mod small_disk;
mod staged;
mod swaps;
mod target_rules;
mod tls;
mod types;

use async_trait::async_trait;
use tidemark::model::Generations;
use tidemark::resilience::Recovery;
use tidemark::sink::conformance::{
    self, APPENDED, KEYED, LANDING, PIPELINE, QUEUE, SPOOL, START, Stage, epoch, kept_orders, log,
    orders, totals,
};
use tidemark::sink::postgres::{PostgresConfig, PostgresSink, SchemaAdmin};
use tidemark::sink::{ResultCounts, Sink, SinkError};
use tokio_postgres::Client;

use fault_proxy::{Fault, FaultProxy, Step};
use postgres::{Durability, PostgresServer};

const TARGETS: &str = "
CREATE TABLE orders_history (
  order_id bigint NOT NULL, status varchar(40), amount numeric(15,2),
  operation text NOT NULL, source_ts timestamp, extra_fields jsonb, event_id text UNIQUE,
  change_seq bigint NOT NULL, unavailable_columns jsonb, source_scn bigint,
  processed_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE orders_kept (
  order_id bigint PRIMARY KEY, status varchar(40), amount numeric(15,2),
  operation text NOT NULL, source_ts timestamp, extra_fields jsonb, event_id text UNIQUE,
  change_seq bigint NOT NULL, unavailable_columns jsonb, source_scn bigint,
  processed_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE order_totals (
  order_id bigint PRIMARY KEY, status text, processed_at timestamptz);
CREATE TABLE order_log (order_id integer, status text);
";

/// A database of its own on a server of its own.
struct Database {
    server: PostgresServer,
}

impl Database {
    async fn start(durability: Durability) -> Self {
        let database = Self { server: PostgresServer::start(durability).await };
        database.sink().await;
        database
    }

    async fn sink(&self) -> PostgresSink {
        self.sink_at(PostgresConfig::from_url(self.server.url()), QUEUE).await
    }

    async fn sink_at(&self, config: PostgresConfig, queue: &str) -> PostgresSink {
        let mut sink = PostgresSink::new(config, PIPELINE, queue).unwrap();
        sink.schema_admin().apply_ods(&files(&[("01_targets.sql", TARGETS)])).await.unwrap();
        sink.check_targets(&[orders(), kept_orders()], &[totals(), log()]).await.unwrap();
        sink.resume().await.unwrap();
        sink
    }

    async fn count(&self, table: &str) -> i64 {
        count(&self.server.client().await, table).await
    }
}

async fn count(client: &Client, table: &str) -> i64 {
    client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0)
}

fn files(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

struct PostgresStage {
    config: PostgresConfig,
    schema: String,
    client: Client,
}

#[async_trait]
impl Stage for PostgresStage {
    async fn sink(&mut self, queue: &str) -> Box<dyn Sink> {
        let schema = self.schema.clone();
        let config = PostgresConfig { schema, ..self.config.clone() };
        let mut sink = PostgresSink::new(config, PIPELINE, queue).unwrap();
        sink.schema_admin().apply_ods(&files(&[("01_targets.sql", TARGETS)])).await.unwrap();
        sink.check_targets(&[orders(), kept_orders()], &[totals(), log()]).await.unwrap();
        Box::new(sink)
    }

    async fn rows(&mut self, target: &str, columns: &[&str]) -> Vec<Vec<Option<String>>> {
        let list: Vec<String> = columns.iter().map(|name| format!("{name}::text")).collect();
        let sql = format!("SELECT {} FROM {}.{target}", list.join(", "), self.schema);
        let rows = self.client.query(&sql, &[]).await.unwrap();
        let mut rows: Vec<Vec<Option<String>>> =
            rows.iter().map(|row| (0..columns.len()).map(|at| row.get(at)).collect()).collect();
        rows.sort();
        rows
    }

    async fn set_broken(&mut self, is_broken: bool) {
        // The serialization failure comes with the last statement of all: at COMMIT.
        let schema = &self.schema;
        let sql = if is_broken {
            format!(
                "CREATE FUNCTION {schema}.refuse() RETURNS trigger LANGUAGE plpgsql AS
                   $$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '40001'; END $$;
                 CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON {schema}.{LANDING}
                   INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {schema}.refuse()"
            )
        } else {
            format!("DROP TRIGGER refuse ON {schema}.{LANDING}")
        };
        self.client.batch_execute(&sql).await.unwrap();
    }
}

#[tokio::test]
async fn the_postgres_sink_conforms() {
    let server = PostgresServer::start(Durability::Off).await;
    let next = std::sync::atomic::AtomicUsize::new(0);
    conformance::check_all(async || PostgresStage {
        config: PostgresConfig::from_url(server.url()),
        schema: format!("stage_{}", next.fetch_add(1, std::sync::atomic::Ordering::SeqCst)),
        client: server.client().await,
    })
    .await;
}

#[tokio::test]
async fn rows_land_with_everything_that_the_event_had() {
    let database = Database::start(Durability::Off).await;
    let mut sink = database.sink().await;
    let mut commit = epoch(1).created(1, 7, "new").deleted(2, 7).dead(3).upserted(7, "x").build();
    commit.dead_letters[0].payload = vec![b'{', 0, 0xff].into();
    commit.dead_letters[0].topic = "with\0nul".to_owned();
    commit.watermark = Some(START);
    sink.commit(&commit).await.unwrap();
    let client = database.server.client().await;
    let sql = "SELECT array_agg(concat_ws('|', order_id, status, amount, operation, source_ts, \
               extra_fields ->> 'NOTE', event_id, change_seq) ORDER BY change_seq), \
               bool_and(processed_at = $1) FROM orders_history";
    let row = client.query_one(sql, &[&commit.closed_at]).await.unwrap();
    assert_eq!(
        row.get::<_, Vec<String>>(0),
        [
            "7|new|1.25|c|2024-01-01 00:00:00.000001|new column|rmid1:12345-00000abcdef-00000000-00000001|1",
            "7|2.25|d|2024-01-01 00:00:00.000002|new column|rmid1:12345-00000abcdef-00000000-00000002|2",
        ]
    );
    assert!(row.get::<_, bool>(1));
    let sql = "SELECT original_topic, original_payload, payload IS NULL, error_type, phase, \
               properties ->> 'tenant', event_id, retry_count, first_failure = $1 FROM cdc_dlq";
    let row = client.query_one(sql, &[&commit.closed_at]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "with\u{fffd}nul");
    assert_eq!(row.get::<_, &[u8]>(1), [b'{', 0, 0xff]);
    assert!(row.get::<_, bool>(2) && row.get::<_, bool>(8));
    assert_eq!([3, 4, 5].map(|at| row.get::<_, &str>(at)), ["UNKNOWN_ENVELOPE", "decode", "a"]);
    assert_eq!(row.get::<_, i32>(7), 0);

    let rows = sink.ledger_reader().committed_epochs(None, 10).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].epoch, &*rows[0].queue, rows[0].dead_letters), (commit.epoch, QUEUE, 1));
    assert_eq!(rows[0].offsets, commit.offsets);
    assert_eq!(rows[0].landed["orders"], 2);
    assert_eq!(rows[0].results["totals"], ResultCounts { upserts: 1, deletes: 0 });
    assert_eq!(rows[0].watermark, Some(START));
    assert_eq!((rows[0].opened_at, rows[0].closed_at), (commit.opened_at, commit.closed_at));
}

#[tokio::test]
async fn large_epochs_go_by_copy_and_in_several_statements() {
    let database = Database::start(Durability::Off).await;
    let mut sink = database.sink().await;
    let count = 10_000;
    let mut builder = epoch(1);
    for id in 1..=count {
        builder = builder.created(id, id as i64, "new").upserted(id as i64, "x").logged(1, "y");
    }
    sink.commit(&builder.build()).await.unwrap();
    let mut builder = epoch(2);
    for key in 1..count {
        builder = builder.removed(key as i64);
    }
    sink.commit(&builder.build()).await.unwrap();
    assert_eq!(database.count(LANDING).await, count as i64);
    assert_eq!(database.count(APPENDED).await, count as i64);
    assert_eq!(database.count(KEYED).await, 1);
    let chunks = sink.bootstrap(&orders(), None).await.unwrap();
    assert_eq!(chunks.iter().map(|chunk| chunk.len()).collect::<Vec<_>>(), [8192, 1808]);
}

/// At a start, a look for the older value of a column that was not sent makes a plan dear, and each column has its own.
#[tokio::test]
async fn no_plan_is_compiled() {
    let told = [
        ("jit_above_cost", "0"),
        ("shared_preload_libraries", "auto_explain"),
        ("auto_explain.log_min_duration", "0"),
        ("auto_explain.log_analyze", "on"),
    ];
    let told = told.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let server = PostgresServer::start_with(Durability::Off, &[], |_| told).await;
    let compiled = |server: &PostgresServer| server.log().matches("JIT:").count();
    let client = server.client().await;
    client.query("SELECT sum(n) FROM generate_series(1, 10) AS n", &[]).await.unwrap();
    drop(client);
    let before = compiled(&server);
    assert!(before > 0, "this server would compile, and tell: {}", server.log());
    let database = Database { server };
    let mut sink = database.sink().await;
    sink.commit(&epoch(1).created(1, 7, "new").upserted(7, "x").build()).await.unwrap();
    sink.commit(&epoch(2).created(2, 7, "new").removed(7).build()).await.unwrap();
    assert_eq!(sink.bootstrap(&orders(), None).await.unwrap()[0].len(), 1);
    let log = database.server.log();
    assert!(log.contains("FROM \"public\".\"orders_history\""), "{log}");
    assert_eq!(compiled(&database.server), before, "{log}");
}

#[tokio::test]
async fn compaction_changes_nothing_but_the_number_of_ledger_rows() {
    let database = Database::start(Durability::Off).await;
    let mut sink = database.sink().await;
    for number in 1..=6 {
        let id = if number == 4 { 40 } else { number };
        sink.commit(&epoch(number).created(id, 1, "x").build()).await.unwrap();
    }
    let before = sink.resume().await.unwrap();
    assert_eq!(
        sink.ledger_reader().compact_ledger(conformance::epoch(3).build().epoch).await.unwrap(),
        3
    );
    assert_eq!(sink.ledger_reader().compact_ledger(epoch(100).build().epoch).await.unwrap(), 2);
    let after = sink.resume().await.unwrap();
    assert_eq!((before.epoch, &before.offsets), (after.epoch, &after.offsets));
    assert_eq!(before.generations, after.generations);
    assert_eq!(database.count("tidemark_committed").await, 1);
    // A straggler comes with an epoch whose ledger row is gone.
    let mut straggler = database.sink().await;
    let error = straggler.commit(&epoch(2).created(2, 1, "x").build()).await.unwrap_err();
    assert!(matches!(error, SinkError::Fenced { .. }), "{error:?}");
    assert_eq!(database.count(LANDING).await, 6);
}

#[tokio::test]
async fn migrations_are_applied_once_and_never_edited() {
    let server = PostgresServer::start(Durability::Off).await;
    let client = server.client().await;
    let config =
        PostgresConfig { schema: "Ods \"1".to_owned(), ..PostgresConfig::from_url(server.url()) };
    let mut admin = SchemaAdmin::new(config, PIPELINE).unwrap();
    let (first, second) =
        ("CREATE TABLE a (i int);", "INSERT INTO a VALUES (1); INSERT INTO a VALUES (2)");
    admin.apply_ods(&files(&[("2.sql", second), ("1.sql", first)])).await.unwrap();
    admin.apply_ods(&files(&[("1.sql", first), ("2.sql", second)])).await.unwrap();
    assert_eq!(count(&client, "\"Ods \"\"1\".a").await, 2);

    let error = admin.apply_ods(&files(&[("1.sql", "CREATE TABLE b (i int)")])).await.unwrap_err();
    assert!(matches!(&error, SinkError::MigrationChanged { file } if file == "1.sql"), "{error:?}");
    assert!(error.to_string().contains("new file"));
    let broken = "INSERT INTO a VALUES (3); INSERT INTO a VALUES ('x')";
    let error = admin.apply_ods(&files(&[("3.sql", broken)])).await.unwrap_err();
    assert!(error.to_string().starts_with("3.sql cannot be applied: invalid input"), "{error}");
    let error = admin.apply_ods(&files(&[("4.sql", "COMMIT; SELECT 1")])).await.unwrap_err();
    assert!(error.to_string().contains("take out its COMMIT"), "{error}");
    assert_eq!(count(&client, "\"Ods \"\"1\".a").await, 2);

    // A file that is being written is not taken for applied.
    for empty in ["", "-- soon\n"] {
        let applied = admin.apply_ods(&files(&[("5.sql", empty)])).await.unwrap();
        assert_eq!(applied, [""; 0], "{empty:?}");
    }
    let whole = files(&[("5.sql", "-- soon\nINSERT INTO a VALUES (5)")]);
    assert_eq!(admin.apply_ods(&whole).await.unwrap(), ["5.sql"]);
    assert_eq!(count(&client, "\"Ods \"\"1\".a").await, 3);
}

#[tokio::test]
async fn tables_that_a_start_has_made_make_room_while_they_are_empty() {
    let server = PostgresServer::start(Durability::Off).await;
    let client = server.client().await;
    let mut sink =
        PostgresSink::new(PostgresConfig::from_url(server.url()), PIPELINE, QUEUE).unwrap();
    let mut admin = sink.schema_admin();
    admin.apply_ods(&[]).await.unwrap();
    admin.create_landing(&[orders()]).await.unwrap();
    admin.create_missing(&[totals()]).await.unwrap();
    let dlq = "CREATE TABLE cdc_dlq (LIKE cdc_dlq INCLUDING ALL); DROP TABLE cdc_dlq; \
               ALTER TABLE cdc_dlq_new RENAME TO cdc_dlq;";
    let dlq = dlq.replacen("cdc_dlq (", "cdc_dlq_new (", 1);
    let all = files(&[("1.sql", TARGETS), ("2.sql", &dlq)]);
    assert_eq!(admin.apply_ods(&all).await.unwrap(), ["1.sql", "2.sql"]);
    sink.check_targets(&[orders(), kept_orders()], &[totals(), log()]).await.unwrap();
    let columns = "SELECT count(*) FROM pg_attribute WHERE attname = 'status' AND atttypmod = 44 \
                   AND attrelid = 'orders_history'::regclass";
    let row = client.query_one(columns, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1, "varchar(40), as the file says");

    // With a row in it, it stays, and the file says why.
    client.batch_execute("DROP TABLE order_totals").await.unwrap();
    admin.create_missing(&[totals()]).await.unwrap();
    client.batch_execute("INSERT INTO order_totals VALUES (1, 'x')").await.unwrap();
    let again = files(&[("3.sql", "CREATE TABLE order_totals (order_id bigint)")]);
    let error = admin.apply_ods(&again).await.unwrap_err().to_string();
    assert!(error.contains("already exists") && error.contains("IF NOT EXISTS"), "{error}");
    assert_eq!(count(&client, "order_totals").await, 1);
}

#[tokio::test]
async fn wrong_targets_are_all_named_at_once() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut sink =
        PostgresSink::new(PostgresConfig::from_url(server.url()), PIPELINE, QUEUE).unwrap();
    let targets = "
        CREATE TABLE orders_history (order_id text, status text, amount numeric(15,1),
          operation text, source_ts timestamp, extra_fields jsonb, event_id text,
          region text NOT NULL);
        CREATE TABLE order_totals (order_id bigint UNIQUE, status text);";
    sink.schema_admin().apply_ods(&files(&[("1.sql", targets)])).await.unwrap();
    let error = sink.check_targets(&[orders()], &[totals(), log()]).await.unwrap_err();
    assert_eq!(error.recovery(), Recovery::Hold);
    let SinkError::Targets { problems } = error else { panic!("{error:?}") };
    assert_eq!(
        problems,
        [
            "orders_history.order_id: the column is text, which cannot take int8",
            "orders_history.amount: the column is numeric(15,1), which would round numeric(15,2)",
            "orders_history.change_seq: the column is missing; its type would be int8",
            "orders_history.region: is NOT NULL without a default, and nothing fills it",
            "order_totals: (order_id) must be NOT NULL, or its unique index NULLS NOT DISTINCT",
            "order_log: there is no such table in schema public; create it:\nCREATE TABLE IF NOT EXISTS \
             \"public\".\"order_log\" (\n  \"order_id\" int8,\n  \"status\" text,\n  \"processed_at\" timestamptz \
             NOT NULL DEFAULT now()\n);\n",
        ]
    );
    // A domain rounds as the type that it is made of.
    let domain =
        "CREATE DOMAIN price AS numeric(15,1); ALTER TABLE orders_history ALTER amount TYPE price";
    server.client().await.batch_execute(domain).await.unwrap();
    let error =
        sink.check_targets(&[orders(), kept_orders()], &[totals(), log()]).await.unwrap_err();
    let SinkError::Targets { problems } = error else { panic!("{error:?}") };
    assert_eq!(
        problems[1],
        "orders_history.amount: the column is price, which would round numeric(15,2)"
    );
}

#[tokio::test]
async fn a_lock_is_waited_for_and_then_retried() {
    let database = Database::start(Durability::Off).await;
    let mut config = PostgresConfig::from_url(database.server.url());
    config.lock_timeout = std::time::Duration::from_millis(50);
    let mut sink = database.sink_at(config, QUEUE).await;
    let client = database.server.client().await;
    client.batch_execute("BEGIN; LOCK TABLE orders_history").await.unwrap();
    let commit = epoch(1).created(1, 1, "x").build();
    let error = sink.commit(&commit).await.unwrap_err();
    assert!(matches!(error, SinkError::Interrupted { .. }), "{error:?}");
    assert_eq!(error.recovery(), Recovery::Retry);
    client.batch_execute("ROLLBACK").await.unwrap();
    sink.commit(&commit).await.unwrap();
    assert_eq!(database.count(LANDING).await, 1);
}

#[tokio::test]
async fn environment_faults_say_what_to_do() {
    let database = Database::start(Durability::Off).await;
    let client = database.server.client().await;
    let nobody = database.server.url().replace("postgres@", "nobody@");
    let mut sink = PostgresSink::new(PostgresConfig::from_url(nobody), PIPELINE, QUEUE).unwrap();
    let error = sink.resume().await.unwrap_err();
    assert_eq!(error.recovery(), Recovery::Hold);
    assert!(error.to_string().contains("role \"nobody\" does not exist"), "{error}");
    assert!(error.to_string().contains("pg_hba.conf"), "{error}");

    let mut sink = database.sink().await;
    client.batch_execute("ALTER TABLE orders_history RENAME TO away").await.unwrap();
    let error = sink.commit(&epoch(1).created(1, 1, "x").build()).await.unwrap_err();
    assert_eq!(error.recovery(), Recovery::Hold);
    assert!(error.to_string().contains("there is no such table in schema public"), "{error}");
    client.batch_execute("ALTER TABLE away RENAME TO orders_history").await.unwrap();

    // The administrator ends our session: the next commit has a new one.
    sink.commit(&epoch(1).created(1, 1, "x").build()).await.unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE application_name = 'tidemark'";
    client.query(end, &[]).await.unwrap();
    let second = epoch(2).created(2, 1, "x").build();
    while let Err(error) = sink.commit(&second).await {
        assert_eq!(error.recovery(), Recovery::Retry, "{error:?}");
    }
    assert_eq!(database.count(LANDING).await, 2);
}

#[tokio::test]
async fn a_lost_answer_of_commit_is_found_out() {
    let database = Database::start(Durability::Off).await;
    let proxy = FaultProxy::start(database.server.port()).await;
    let config = PostgresConfig::from_url(database.server.url_through(proxy.port));
    let mut sink = database.sink_at(config, QUEUE).await;
    for number in 1..=20 {
        proxy.arm(Step::Query("COMMIT"), Fault::CutAfter);
        let commit = epoch(number).created(number, 1, "x").logged(1, "x").build();
        while let Err(error) = sink.commit(&commit).await {
            assert_eq!(error.recovery(), Recovery::Retry, "{error:?}");
        }
    }
    assert_eq!(proxy.fired(), 20);
    assert_eq!(database.count(LANDING).await, 20);
    assert_eq!(database.count(APPENDED).await, 20);
    assert_eq!(sink.resume().await.unwrap().offsets.count(), 20);
}

/// Where the server dies, and the trigger that holds the epoch there.
const DEATHS: [(&str, &str); 3] = [
    ("at the ledger row", "CREATE TRIGGER pause AFTER INSERT ON tidemark_ledger"),
    ("in the COPY", "CREATE TRIGGER pause AFTER INSERT ON orders_history"),
    (
        "in COMMIT",
        "CREATE CONSTRAINT TRIGGER pause AFTER INSERT ON orders_history INITIALLY DEFERRED",
    ),
];

#[tokio::test]
async fn a_server_killed_in_mid_commit_has_each_epoch_once() {
    let mut database = Database::start(Durability::On).await;
    let mut sink = database.sink().await;
    let pause = "CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_sleep(600); RETURN NULL; END $$";
    database.server.client().await.batch_execute(pause).await.unwrap();
    for (number, (place, trigger)) in (1..).zip(DEATHS) {
        let mut builder = epoch(number);
        for row in 0..1000 {
            let id = number * 10_000 + row;
            builder = builder.created(id, id as i64, "x").upserted(id as i64, "x").logged(1, "x");
        }
        let commit = builder.build();
        let watcher = database.server.client().await;
        let trigger = format!("{trigger} FOR EACH ROW EXECUTE FUNCTION pause()");
        watcher.batch_execute(&trigger).await.unwrap();
        let (died, ()) = tokio::join!(sink.commit(&commit), async {
            let paused = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
            while watcher.query_one(paused, &[]).await.unwrap().get::<_, i64>(0) == 0 {}
            database.server.kill();
        });
        assert!(matches!(died, Err(SinkError::Unavailable { .. })), "{place}: {died:?}");
        database.server.restart().await;
        let client = database.server.client().await;
        let repair = format!(
            "DROP TRIGGER pause ON {}",
            trigger.split(' ').skip_while(|w| *w != "ON").nth(1).unwrap()
        );
        client.batch_execute(&repair).await.unwrap();
        let before = 1000 * (number as i64 - 1);
        for table in [LANDING, APPENDED, KEYED] {
            assert_eq!(count(&client, table).await, before, "{place}: {table} before");
        }
        sink.commit(&commit).await.unwrap();
        sink.commit(&commit).await.unwrap();
        for table in [LANDING, APPENDED, KEYED] {
            assert_eq!(count(&client, table).await, before + 1000, "{place}: {table} after");
        }
        let position = database.sink().await.resume().await.unwrap();
        assert_eq!(position.offsets.count(), before as u64 + 1000);
        assert_eq!(position.generations.all(), Generations::of_spool(SPOOL).all());
    }
}
