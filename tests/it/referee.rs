//! Who decides what is right: the generators' record of what they published, and every SELECT, from scratch, over the
//! landed rows.
//!
//! A SELECT is run once by Postgres itself, which runs the text of the transform over the `_current` views, and
//! once by DataFusion, whose rows are written to a second schema and compared there.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use tidemark::model::{Epoch, EpochCommit, ResultChanges, ResultTable};
use tidemark::pipeline::load_sql;
use tidemark::sink::Sink;
use tidemark::sink::postgres::{PostgresConfig, PostgresSink};
use tidemark::state::StateStores;
use tidemark::transform::{PlanRequest, Transforms};
use tidemark_dev::stack::{PIPELINE, QUEUE};

use crate::record::every_message_is_where_it_belongs;
use crate::shop::{Shop, sql_folder};

const TABLES: [&str; 4] = ["orders", "order_items", "customers", "products"];

/// Nothing lost, nothing twice, every message where it belongs, and every result is its SELECT.
pub(crate) async fn all_is_exact(shop: &Shop, published: u64) {
    every_message_is_where_it_belongs(shop, published).await;
    postgres_agrees(shop).await;
    datafusion_agrees(shop).await;
}

/// The same where messages come from elsewhere than a generator: as many are in the ledger as were published.
pub(crate) async fn results_are_exact(shop: &Shop, published: u64) {
    assert_eq!(shop.committed().await, published, "messages in the ledger");
    postgres_agrees(shop).await;
    datafusion_agrees(shop).await;
}

async fn postgres_agrees(shop: &Shop) {
    let watermark =
        shop.query("SELECT watermark FROM tidemark_ledger ORDER BY epoch DESC LIMIT 1").await;
    let watermark = watermark[0][0].clone().expect("a watermark");
    let mut views = String::from("DROP SCHEMA IF EXISTS referee CASCADE; CREATE SCHEMA referee;");
    for table in TABLES {
        views +=
            &format!("CREATE VIEW referee.{table} AS SELECT * FROM public.cdc_{table}_current;");
    }
    views += &format!(
        "CREATE FUNCTION referee.watermark() RETURNS timestamp STABLE LANGUAGE sql AS $$ SELECT timestamp '{watermark}' $$;"
    );
    shop.query(&views).await;
    let sql = load_sql(&sql_folder()).await.expect("the shipped SQL");
    for file in &sql.transforms {
        let (target, columns) = (format!("cdc_{}", file.name), columns(shop, &file.name).await);
        let select = format!(
            "SET search_path = referee, public; CREATE TEMP TABLE scratch AS {}; \
             SELECT count(*) FROM ((SELECT {columns} FROM {target} EXCEPT ALL SELECT {columns} FROM scratch) \
             UNION ALL (SELECT {columns} FROM scratch EXCEPT ALL SELECT {columns} FROM {target})) different",
            file.text
        );
        assert_eq!(shop.number(&select).await, 0, "{target} is not what Postgres says");
    }
}

/// The columns of a result, without the time at which a row was written.
async fn columns(shop: &Shop, result: &str) -> String {
    let rows = shop
        .query(&format!(
            "SELECT string_agg(attname, ', ' ORDER BY attnum) FROM pg_attribute \
             WHERE attrelid = 'public.cdc_{result}'::regclass AND attnum > 0 AND attname <> 'processed_at'"
        ))
        .await;
    rows[0][0].clone().expect("columns")
}

async fn datafusion_agrees(shop: &Shop) {
    let sql = load_sql(&sql_folder()).await.expect("the shipped SQL");
    let position = shop.ledger().await.expect("a ledger");
    let mut landed = sink(shop, "public");
    let mut stores = StateStores::new(&sql.tables, Duration::ZERO).expect("stores");
    for table in &sql.tables {
        for changelog in landed.bootstrap(table, None).await.expect("landed rows") {
            stores.fold(changelog).expect("a fold");
        }
    }
    let transforms =
        Transforms::plan(PlanRequest::new(&sql.tables, &sql.transforms)).await.expect("plans");
    let results = transforms.recomputed(&stores, position.watermark).await.expect("results");
    let whole = |(table, upserts): (Arc<ResultTable>, RecordBatch)| {
        let deletes = RecordBatch::new_empty(Arc::new(Schema::empty()));
        ResultChanges { table, upserts, held: Vec::new(), deletes, is_new_definition: true }
    };
    let results: Vec<ResultChanges> = results.into_iter().map(whole).collect();

    shop.query("DROP SCHEMA IF EXISTS scratch CASCADE; CREATE SCHEMA scratch").await;
    let mut scratch = sink(shop, "scratch");
    let mut tables = sql.ods.clone();
    for (_, text) in &mut tables {
        *text = format!("SET LOCAL search_path = scratch; {text}");
    }
    scratch.schema_admin().apply_ods(&tables).await.expect("tables");
    let targets: Vec<_> = transforms.results().cloned().collect();
    scratch.check_targets(&sql.tables, &targets).await.expect("targets");
    let names: Vec<String> = results.iter().map(|result| result.table.target.clone()).collect();
    let watermark = position.watermark;
    let commit = EpochCommit { results, watermark, ..EpochCommit::empty(Epoch(1), QUEUE) };
    scratch.commit(&commit).await.expect("a commit");
    for target in names {
        let columns = columns(shop, target.trim_start_matches("cdc_")).await;
        let different = format!(
            "SELECT count(*) FROM ((SELECT {columns} FROM public.{target} EXCEPT ALL SELECT {columns} FROM scratch.{target}) \
             UNION ALL (SELECT {columns} FROM scratch.{target} EXCEPT ALL SELECT {columns} FROM public.{target})) different"
        );
        assert_eq!(shop.number(&different).await, 0, "{target} is not what DataFusion says");
    }
}

fn sink(shop: &Shop, schema: &str) -> PostgresSink {
    let mut config = PostgresConfig::from_url(shop.stack.postgres.url());
    config.schema = schema.to_owned();
    PostgresSink::new(config, PIPELINE, QUEUE).expect("a valid URL")
}
