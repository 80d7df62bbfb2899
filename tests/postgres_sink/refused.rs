//! Rows that Postgres refuses: each costs itself and no neighbour.

use tidemark::model::EpochCommit;
use tidemark::resilience::Recovery;
use tidemark::sink::conformance::{
    APPENDED, EpochBuilder, KEYED, LANDING, PIPELINE, QUEUE, epoch, log, orders, totals,
};
use tidemark::sink::postgres::{PostgresConfig, PostgresSink};
use tidemark::sink::{PreflightLevel, RefusedRow, Sink, SinkError};
use tokio_postgres::Client;

use crate::postgres::{Durability, PostgresServer};
use crate::{TARGETS, count, files};

const ROWS: u64 = 10_000;
/// The bad row among them.
const BAD: u64 = 6_789;
/// No neighbour has this key.
const BAD_KEY: i64 = 1 << 40;

/// What makes the bad row bad.
struct Class {
    code: &'static str,
    /// What the message also says.
    says: &'static str,
    /// Run once, in a schema of its own with [`TARGETS`].
    ddl: &'static str,
    bad_status: &'static str,
    /// Whether the types of the columns tell.
    is_told_before: bool,
}

fn class(
    code: &'static str,
    says: &'static str,
    ddl: &'static str,
    bad_status: &'static str,
    is_told_before: bool,
) -> Class {
    Class { code, says, ddl, bad_status, is_told_before }
}

/// `{}` is the table. All of them refuse only the bad row.
fn classes() -> Vec<Class> {
    let long: &'static str = Box::leak(random_text(41).into_boxed_str());
    vec![
        class("22001", "status", "ALTER TABLE {} ALTER status TYPE varchar(40)", long, true),
        class("22021", "status", "", "a\0b", true),
        class("22003", "order_id", "ALTER TABLE {} ALTER order_id TYPE integer", "fine", true),
        class(
            "23514",
            "status_is_good",
            "ALTER TABLE {} ADD CONSTRAINT status_is_good CHECK (status <> 'bad')",
            "bad",
            false,
        ),
        class(
            "23505",
            "duplicate key",
            "ALTER TABLE {} ADD note text; CREATE UNIQUE INDEX ON {} ((CASE WHEN status = 'bad' THEN 'twice' END));
             INSERT INTO {} SELECT (r).* FROM (SELECT jsonb_populate_record(NULL::{},
               '{\"order_id\": -1, \"status\": \"bad\", \"operation\": \"d\", \"change_seq\": -1, \"processed_at\": \"2024-01-01\"}') AS r) AS x",
            "bad",
            false,
        ),
        class(
            "23503",
            "is not present",
            "CREATE TABLE states (status text PRIMARY KEY); INSERT INTO states VALUES ('fine');
             ALTER TABLE {} ADD FOREIGN KEY (status) REFERENCES states DEFERRABLE INITIALLY DEFERRED",
            "bad",
            false,
        ),
    ]
    .into_iter()
    .chain(classes_of_code_and_types())
    .collect()
}

fn classes_of_code_and_types() -> Vec<Class> {
    let long: &'static str = Box::leak(random_text(6000).into_boxed_str());
    vec![
        class(
            "P0001",
            "no bad rows here",
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN IF NEW.status = 'bad' THEN RAISE 'no bad rows here'; END IF; RETURN NEW; END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION refuse()",
            "bad",
            false,
        ),
        class(
            "54000",
            "index row",
            "ALTER TABLE {} ALTER status TYPE text; CREATE INDEX ON {} (status)",
            long,
            false,
        ),
        class(
            "23502",
            "null value",
            "CREATE DOMAIN state AS text CHECK (VALUE <> 'bad');
             CREATE FUNCTION empty() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN IF NEW.status = 'bad' THEN NEW.status := NULL; END IF; RETURN NEW; END $$;
             CREATE TRIGGER empty BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION empty();
             ALTER TABLE {} ALTER status SET NOT NULL",
            "bad",
            false,
        ),
        class(
            "22P02",
            "enum",
            "CREATE TYPE state AS ENUM ('fine'); ALTER TABLE {} ALTER status TYPE state USING status::state",
            "bad",
            false,
        ),
    ]
}

/// Text that does not compress.
fn random_text(length: usize) -> String {
    let mut state = 7u64;
    let letter = |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + ((state >> 33) % 26) as u8)
    };
    (0..length).map(letter).collect()
}

/// A schema of its own with targets, in which every test is alone.
pub(crate) struct Scene {
    pub(crate) sink: PostgresSink,
    pub(crate) client: Client,
}

impl Scene {
    pub(crate) async fn set(server: &PostgresServer, schema: &str, ddl: &str) -> Self {
        let config =
            PostgresConfig { schema: schema.to_owned(), ..PostgresConfig::from_url(server.url()) };
        let client = server.client().await;
        let sink = PostgresSink::new(config, PIPELINE, QUEUE).unwrap();
        sink.schema_admin().apply_ods(&files(&[("01_targets.sql", TARGETS)])).await.unwrap();
        client.batch_execute(&format!("SET search_path = {schema}; {ddl}")).await.unwrap();
        let mut scene = Self { sink, client };
        scene.check().await;
        scene
    }

    async fn check(&mut self) {
        self.sink.check_targets(&[orders()], &[totals(), log()]).await.unwrap();
    }

    pub(crate) async fn letters(&self) -> Vec<(String, Option<String>, String)> {
        let sql = "SELECT original_topic, event_id, error_message || ' ' || convert_from(original_payload, 'UTF8') \
                   FROM cdc_dlq ORDER BY id";
        let rows = self.client.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }
}

/// An epoch of many rows of which one is bad, by `add` (number, key, status).
fn with_a_bad_row(
    class: &Class,
    add: impl Fn(EpochBuilder, u64, i64, &str) -> EpochBuilder,
) -> EpochCommit {
    let mut builder = epoch(1);
    for id in 1..=ROWS {
        builder = if id == BAD {
            add(builder, id, BAD_KEY, class.bad_status)
        } else {
            add(builder, id, id as i64, "fine")
        };
    }
    builder.build()
}

fn refused(answer: Result<(), SinkError>, class: &Class) -> Vec<RefusedRow> {
    let error = answer.unwrap_err();
    assert_eq!(error.recovery(), Recovery::DeadLetter, "{}: {error:?}", class.code);
    match error {
        SinkError::RowsRefused { rows } => rows,
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn one_bad_landing_row_in_ten_thousand_is_found_and_costs_itself() {
    let server = PostgresServer::start(Durability::Off).await;
    for class in classes() {
        let (code, ddl) = (class.code, class.ddl.replace("{}", LANDING));
        let mut scene =
            Scene::set(&server, &format!("landing_{}", code.to_lowercase()), &ddl).await;
        let before = count(&scene.client, LANDING).await;
        let commit =
            with_a_bad_row(&class, |epoch, id, key, status| epoch.created(id, key, status));
        let rows = refused(scene.sink.commit(&commit).await, &class);
        assert_eq!(count(&scene.client, LANDING).await, before, "{code}: nothing is written");
        let bad = commit.landing[0].offsets[BAD as usize - 1];
        assert_eq!(rows.iter().map(|row| row.offset).collect::<Vec<_>>(), [bad], "{code}");
        let found_by = if class.is_told_before || code == "23514" {
            PreflightLevel::Checks
        } else {
            PreflightLevel::Trial
        };
        assert_eq!(rows[0].level, found_by, "{code}");
        let message = &rows[0].message;
        for part in
            [LANDING, &format!("order_id = {BAD_KEY}"), code, class.says, "tidemark dlq replay"]
        {
            assert!(message.contains(part), "{code}: {part} in {message}");
        }

        let told = scene.sink.refused(&commit.landing).await.unwrap();
        assert_eq!(told.len(), usize::from(class.is_told_before), "{code}: {told:?}");
        scene.sink.raise_preflight(&[("orders".to_owned(), found_by)]);
        let told = scene.sink.refused(&commit.landing).await.unwrap();
        assert_eq!(told.iter().map(|row| row.offset).collect::<Vec<_>>(), [bad], "{code}");
        assert_eq!(count(&scene.client, LANDING).await, before, "{code}: a trial writes nothing");

        let mut rest = commit.clone();
        let is_bad: Vec<bool> = (1..=ROWS).map(|id| id == BAD).collect();
        rest.landing = vec![rest.landing.remove(0).without(&is_bad)];
        scene.sink.commit(&rest).await.unwrap();
        assert_eq!(count(&scene.client, LANDING).await, before + ROWS as i64 - 1, "{code}");
    }
}

#[tokio::test]
async fn one_bad_result_row_in_ten_thousand_is_a_dead_letter_and_the_rest_is_committed() {
    let server = PostgresServer::start(Durability::Off).await;
    for (target, column) in [(KEYED, "upserts"), (APPENDED, "appends")] {
        for class in classes() {
            let (code, ddl) = (class.code, class.ddl.replace("{}", target));
            // What makes the conflict has no place in a result table.
            if code == "23505" {
                continue;
            }
            let widen = "ALTER TABLE order_log ALTER order_id TYPE bigint;";
            let schema = format!("{column}_{}", code.to_lowercase());
            let mut scene = Scene::set(&server, &schema, &format!("{widen} {ddl}")).await;
            let commit = with_a_bad_row(&class, |epoch, _, key, status| match target {
                KEYED => epoch.upserted(key, status),
                _ => epoch.logged(key, status),
            });
            scene.sink.commit(&commit).await.unwrap();
            scene.sink.commit(&commit).await.unwrap();
            assert_eq!(count(&scene.client, target).await, ROWS as i64 - 1, "{code}");
            let letters = scene.letters().await;
            assert_eq!(letters.len(), 1, "{code}: {letters:?}");
            let (topic, event_id, text) = &letters[0];
            assert!(topic.starts_with("result/") && event_id.is_none(), "{code}: {letters:?}");
            for part in [code, class.says, target, &BAD_KEY.to_string()] {
                // NUL in the row: no jsonb.
                assert!(text.contains(part), "{code}: {part} in {text}");
            }
            let row = scene.sink.ledger_reader().committed_epochs(None, 1).await.unwrap().remove(0);
            assert_eq!(row.dead_letters, 1, "{code}");
        }
    }
}

#[tokio::test]
async fn a_delete_that_is_refused_leaves_its_row_and_deletes_the_others() {
    let server = PostgresServer::start(Durability::Off).await;
    let ddl = "CREATE TABLE bills (order_id bigint REFERENCES order_totals);";
    let mut scene = Scene::set(&server, "deletes", ddl).await;
    let keys = || 1..=1000i64;
    let written = keys().fold(epoch(1), |epoch, key| epoch.upserted(key, "x")).build();
    scene.sink.commit(&written).await.unwrap();
    scene.client.batch_execute("INSERT INTO bills VALUES (77)").await.unwrap();
    let gone = keys().fold(epoch(2), EpochBuilder::removed).build();
    scene.sink.commit(&gone).await.unwrap();
    assert_eq!(count(&scene.client, KEYED).await, 1);
    let letters = scene.letters().await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert!(letters[0].2.contains("the deletion") && letters[0].2.contains("{\"order_id\":77}"));
}

#[tokio::test]
async fn what_fits_at_the_end_of_the_epoch_is_not_refused() {
    let server = PostgresServer::start(Durability::Off).await;
    // A row of the appended result needs one of the keyed result, which comes later in the epoch.
    let ddl = "ALTER TABLE order_log ALTER order_id TYPE bigint;
        ALTER TABLE order_totals ADD UNIQUE (status), ADD late boolean;
        ALTER TABLE order_totals ADD CONSTRAINT bad CHECK (status <> 'bad');
        ALTER TABLE orders_history ADD FOREIGN KEY (order_id) REFERENCES order_totals
          DEFERRABLE INITIALLY DEFERRED;";
    let mut scene = Scene::set(&server, "late", ddl).await;
    let first = epoch(1).upserted(1, "a").upserted(2, "b").created(1, 1, "x").build();
    scene.sink.commit(&first).await.unwrap();
    // The landing row needs order 3; the bad row makes it a careful epoch; the name moves on.
    let second = epoch(2)
        .created(2, 3, "x")
        .upserted(1, "b")
        .upserted(2, "c")
        .upserted(3, "d")
        .upserted(4, "bad");
    scene.sink.commit(&second.build()).await.unwrap();
    let sql = "SELECT string_agg(order_id || status, ' ' ORDER BY order_id) FROM order_totals";
    let rows: String = scene.client.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(rows, "1b 2c 3d");
    assert_eq!(scene.letters().await.len(), 1);
    assert_eq!(count(&scene.client, LANDING).await, 2);
}

#[tokio::test]
async fn a_flood_of_refused_rows_diverts_nothing_and_goes_on_after_the_repair() {
    let server = PostgresServer::start(Durability::Off).await;
    let ddl = "ALTER TABLE orders_history ADD CONSTRAINT few CHECK (order_id % 5 > 0);";
    let mut scene = Scene::set(&server, "flood", ddl).await;
    let landing = (1..=1000).fold(epoch(1), |epoch, id| epoch.created(id, id as i64, "x")).build();
    let flood = scene.sink.commit(&landing).await.unwrap_err();
    assert!(matches!(flood, SinkError::Flood { refused: 200, of: 1000, .. }), "{flood:?}");
    assert_eq!((flood.recovery(), flood.attempts()), (Recovery::Hold, Some(1)));
    assert!(flood.to_string().contains("few"), "{flood}");
    scene.sink.raise_preflight(&[("orders".to_owned(), PreflightLevel::Trial)]);
    let flood = scene.sink.refused(&landing.landing).await.unwrap_err();
    assert!(matches!(flood, SinkError::Flood { .. }), "{flood:?}");
    scene.client.batch_execute("ALTER TABLE orders_history DROP CONSTRAINT few").await.unwrap();
    assert!(scene.sink.refused(&landing.landing).await.unwrap().is_empty());
    scene.sink.commit(&landing).await.unwrap();

    let narrow = "ALTER TABLE order_log ALTER status TYPE varchar(3)";
    scene.client.batch_execute(narrow).await.unwrap();
    let logged = (0..1000).fold(epoch(2), |epoch, id| epoch.logged(id, "long")).build();
    let flood = scene.sink.commit(&logged).await.unwrap_err();
    assert!(matches!(flood, SinkError::Flood { .. }), "{flood:?}");
    assert_eq!(
        (count(&scene.client, "cdc_dlq").await, count(&scene.client, APPENDED).await),
        (0, 0)
    );
    scene.client.batch_execute("ALTER TABLE order_log ALTER status TYPE text").await.unwrap();
    scene.sink.commit(&logged).await.unwrap();
    assert_eq!(count(&scene.client, APPENDED).await, 1000);
}

#[tokio::test]
async fn the_share_that_is_a_flood_is_configurable() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut scene = Scene::set(&server, "share", "").await;
    let mut config = PostgresConfig::from_url(server.url());
    (config.schema, config.max_refused_percent) = ("share".to_owned(), 100);
    scene.sink = PostgresSink::new(config, PIPELINE, QUEUE).unwrap();
    scene.check().await;
    let logged = (0..1000).fold(epoch(1), |epoch, id| epoch.logged(id, "a\0")).build();
    scene.sink.commit(&logged).await.unwrap();
    assert_eq!(count(&scene.client, "cdc_dlq").await, 1000);
}

#[tokio::test]
async fn values_of_a_row_are_in_its_dead_letter_and_in_no_message() {
    let server = PostgresServer::start(Durability::Off).await;
    let ddl = "CREATE UNIQUE INDEX ON orders_history (status); CREATE UNIQUE INDEX ON order_totals (status)";
    let mut scene = Scene::set(&server, "quiet", ddl).await;
    let secret = "ada@example.com";
    let twice = epoch(1).created(1, 1, secret).created(2, 2, secret).build();
    let error = scene.sink.commit(&twice).await.unwrap_err();
    let shown = format!("{error} {}", tidemark::resilience::chain(&error));
    assert!(shown.contains("orders_history") && shown.contains("23505"), "{shown}");
    assert!(!shown.contains(secret), "{shown}");
    let SinkError::RowsRefused { rows } = error else { panic!("{error:?}") };
    assert!(rows[0].message.contains(&format!("Key (status)=({secret})")), "{}", rows[0].message);
    assert!(!rows[0].told.contains(secret), "{}", rows[0].told);

    // A row of a result has its letter at once.
    let twice = epoch(1).upserted(1, secret).upserted(2, secret).build();
    scene.sink.commit(&twice).await.unwrap();
    let letters = scene.letters().await;
    assert!(letters[0].2.contains(&format!("Key (status)=({secret})")), "{letters:?}");

    // A fault of the whole table.
    let ddl = "ALTER TABLE order_totals ADD CHECK (status NOT LIKE '%@%') NOT VALID";
    scene.client.batch_execute(ddl).await.unwrap();
    let flood = (0..30).fold(epoch(2), |e, key| e.upserted(key, &format!("{key}{secret}"))).build();
    let error = scene.sink.commit(&flood).await.unwrap_err();
    let shown = format!("{error} {}", tidemark::resilience::chain(&error));
    assert!(shown.contains("order_totals refuses") && !shown.contains(secret), "{shown}");
}
