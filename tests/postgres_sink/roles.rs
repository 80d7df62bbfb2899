//! Roles with the least rights, as docs/POSTGRES.md gives them.

use tidemark::diagnosis::{Finding, Verdict};
use tidemark::sink::conformance::{PIPELINE, QUEUE, epoch, log, orders, totals};
use tidemark::sink::postgres::{PostgresConfig, PostgresSink, Requirements, SchemaAdmin, examine};
use tidemark::sink::{Sink, SinkError};

use crate::postgres::{Durability, PostgresServer};
use crate::{TARGETS, count, files};

/// The SQL blocks of the chapter.
fn documented() -> Vec<String> {
    let page = include_str!("../../docs/POSTGRES.md");
    let chapter = page.split("## The role and its rights").nth(1).unwrap();
    let chapter = chapter.split("\n## ").next().unwrap();
    let blocks = chapter.split("```sql\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

fn config(server: &PostgresServer, user: &str) -> PostgresConfig {
    let url = server.url().replace("postgres@", &format!("{user}@"));
    PostgresConfig { schema: "tidemark".to_owned(), ..PostgresConfig::from_url(url) }
}

fn targets() -> Vec<(String, String)> {
    let index = "CREATE INDEX ON orders_history (order_id, change_seq DESC);";
    files(&[("01_targets.sql", &format!("{TARGETS}{index}"))])
}

async fn problems(config: &PostgresConfig, ods: &[(String, String)]) -> Vec<Finding> {
    let (tables, results) = ([orders()], [totals(), log()]);
    let wanted = Requirements { tables: &tables, results: &results, ods };
    let found = examine(config, &wanted).await.unwrap();
    found.into_iter().filter(|finding| finding.verdict == Verdict::Problem).collect()
}

async fn commit(config: PostgresConfig) -> Result<(), SinkError> {
    let mut sink = PostgresSink::new(config, PIPELINE, QUEUE)?;
    let (tables, results) = ([orders()], [totals(), log()]);
    let mut admin = sink.schema_admin();
    admin.apply_ods(&[]).await?;
    admin.create_landing(&tables).await?;
    admin.create_missing(&results).await?;
    sink.check_targets(&tables, &results).await?;
    sink.resume().await?;
    sink.commit(&epoch(1).created(1, 1, "x").upserted(1, "x").build()).await
}

#[tokio::test]
async fn the_documented_owner_makes_everything_and_runs() {
    let server = PostgresServer::start(Durability::Off).await;
    let client = server.client().await;
    client.batch_execute("REVOKE ALL ON DATABASE postgres FROM PUBLIC").await.unwrap();
    client.batch_execute(&documented()[0]).await.unwrap();
    let config = config(&server, "tidemark");
    assert_eq!(problems(&config, &[]).await, []);
    commit(config.clone()).await.unwrap();
    assert_eq!(problems(&config, &[]).await, []);
    assert_eq!(count(&client, "tidemark.orders_history").await, 1);
    assert_eq!(count(&client, "tidemark.orders_history_current").await, 1);
}

#[tokio::test]
async fn the_documented_second_role_runs_what_the_owner_has_applied() {
    let server = PostgresServer::start(Durability::Off).await;
    let client = server.client().await;
    let sql = documented();
    client.batch_execute(&sql[0]).await.unwrap();
    client.batch_execute(&sql[1]).await.unwrap();
    let runner = config(&server, "tidemark_run");
    let ods = targets();
    let all = problems(&runner, &ods).await;
    let fixes: Vec<_> = all.iter().map(|problem| problem.fix.clone().unwrap()).collect();
    assert_eq!(fixes, ["GRANT CREATE ON SCHEMA \"tidemark\" TO \"tidemark_run\";"]);

    let mut owner = SchemaAdmin::new(config(&server, "tidemark"), PIPELINE).unwrap();
    assert_eq!(owner.pending_ods(&ods).await.unwrap(), ["01_targets.sql"]);
    assert_eq!(owner.apply_ods(&ods).await.unwrap(), ["01_targets.sql"]);
    assert_eq!(owner.pending_ods(&ods).await.unwrap(), [""; 0]);
    assert_eq!(problems(&runner, &ods).await, []);
    commit(runner).await.unwrap();
    assert_eq!(count(&client, "tidemark.orders_history").await, 1);
}

#[tokio::test]
async fn all_rights_that_are_missing_are_told_in_one_round() {
    let server = PostgresServer::start(Durability::Off).await;
    let client = server.client().await;
    let ods = targets();
    let admin = PostgresConfig { schema: "tidemark".to_owned(), ..config(&server, "postgres") };
    SchemaAdmin::new(admin, PIPELINE).unwrap().apply_ods(&ods).await.unwrap();
    client
        .batch_execute("CREATE ROLE newcomer LOGIN; DROP TABLE tidemark.tidemark_outbox")
        .await
        .unwrap();
    let config = config(&server, "newcomer");
    for problem in problems(&config, &ods).await {
        let fix = problem.fix.unwrap();
        assert!(fix.starts_with("GRANT "), "{fix}");
        client.batch_execute(&fix).await.unwrap();
    }
    assert_eq!(problems(&config, &ods).await, []);
    client.batch_execute("ALTER TABLE tidemark.cdc_dlq OWNER TO newcomer").await.unwrap();
    commit(config).await.unwrap();
}
