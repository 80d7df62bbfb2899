//! Files of `sql/ods`: applied at a start or by `tidemark apply`, and what happens without them.

use std::path::Path;

use tidemark_dev::stack::Settings;
use tokio::process::Command;

use super::doctor::examined;
use crate::end_to_end::publish;
use crate::shop::{Shop, copied_sql, pause};

/// `tidemark apply` on the stack of a shop: whether it was content, and what it wrote.
async fn apply(shop: &Shop, options: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark"));
    command.args(["apply", "--config"]).arg(shop.stack.folder().join("tidemark.toml"));
    let output = command.args(options).kill_on_drop(true).output().await.expect("it runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).expect("text"))
}

fn log(shop: &Shop) -> String {
    std::fs::read_to_string(shop.stack.folder().join("run.log")).unwrap_or_default()
}

async fn until_logged(shop: &Shop, text: &str) {
    while !log(shop).contains(text) {
        pause().await;
    }
}

async fn opened(sql: &Path) -> Shop {
    let sql = sql.to_owned();
    Shop::open_with(|settings| Settings { sql, ..settings }).await
}

#[tokio::test]
async fn a_file_that_comes_while_the_processor_runs_waits_for_the_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let sql = copied_sql(folder.path());
    let shop = opened(&sql).await;
    let published = publish(&shop, &["--rate", "max", "--events", "300"]).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    shop.wait_for(published).await;

    // One file that nothing needs, and an edit that needs the other one.
    std::fs::write(sql.join("ods/90_more.sql"), "CREATE TABLE more (i int)").expect("written");
    until_logged(&shop, "new files of sql/ods are not run now").await;
    let wide = "CREATE TABLE cdc_wide (order_id BIGINT PRIMARY KEY, status TEXT, note TEXT DEFAULT 'by a file', \
                processed_at TIMESTAMPTZ NOT NULL DEFAULT now())";
    let transform =
        "-- writes: postgres cdc_wide\n-- key: order_id\nSELECT order_id, status FROM orders";
    std::fs::write(sql.join("ods/91_wide.sql"), wide).expect("written");
    std::fs::write(sql.join("transforms/wide.sql"), transform).expect("written");
    until_logged(&shop, "91_wide").await;
    let made = "SELECT count(*) FROM pg_class WHERE relname IN ('more', 'cdc_wide')";
    assert_eq!(shop.number(made).await, 0, "nothing is run or created");
    let (is_content, text) = apply(&shop, &["--dry-run"]).await;
    assert!(is_content && text.contains("would apply 90_more"), "{text}");
    assert_eq!(shop.number(made).await, 0);

    let (is_content, text) = apply(&shop, &[]).await;
    assert!(is_content && text.contains("applied 91_wide"), "{text}");
    assert_eq!(shop.number(made).await, 2);
    // Without a further edit.
    while shop.number("SELECT count(*) FROM cdc_wide WHERE note = 'by a file'").await == 0 {
        pause().await;
    }
    assert_eq!(log(&shop).matches("the edited SQL files are refused").count(), 1, "told once");
    shop.end(&mut processor).await;
    shop.stack.stop().await.expect("the servers end");
}

#[tokio::test]
async fn without_files_the_declared_tables_are_created_with_all_that_they_need() {
    let folder = tempfile::tempdir().expect("a folder");
    let sql = copied_sql(folder.path());
    let kept = folder.path().join("ods");
    std::fs::rename(sql.join("ods"), &kept).expect("moved away");
    let shop = opened(&sql).await;

    // A start that may not create them says what to run, and leaves nothing in the way of the files.
    let place = shop.stack.folder().join("tidemark.toml");
    let config = std::fs::read_to_string(&place).expect("a configuration");
    let strict = config.replace("[sink.postgres]\n", "[sink.postgres]\ncreate_tables = false\n");
    std::fs::write(&place, strict).expect("written");
    let mut processor = shop.stack.processor(None).expect("a processor");
    assert!(!shop.wait_for_end(&mut processor).await);
    for part in [
        "cdc_orders: there is no such table",
        "CREATE TABLE IF NOT EXISTS \"public\".\"cdc_orders\"",
        "CREATE INDEX ON \"public\".\"cdc_orders\"",
        "CREATE VIEW \"public\".\"cdc_orders_current\"",
    ] {
        assert!(log(&shop).contains(part), "{part}: {}", shop.log_tail("run"));
    }
    std::fs::rename(&kept, sql.join("ods")).expect("moved back");
    let mut processor = shop.stack.processor(None).expect("a processor");
    until_logged(&shop, "state is loaded").await;
    shop.end(&mut processor).await;
    let typed = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'cdc_dlq'::regclass AND attname = 'consumer_id' \
                 AND attnotnull";
    assert_eq!(shop.number(typed).await, 1, "the file's table, not the one of the start");

    // One that may creates them, and the doctor finds nothing missing.
    std::fs::write(&place, config).expect("written");
    std::fs::rename(sql.join("ods"), &kept).expect("moved away");
    shop.query("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await;
    // Or the next start would say that the database has lost an epoch.
    std::fs::remove_dir_all(shop.stack.checkpoints()).expect("checkpoints");
    let published = publish(&shop, &["--rate", "max", "--events", "1000"]).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    shop.wait_for(published).await;
    assert!(shop.number("SELECT count(*) FROM cdc_orders_current").await > 0);
    let (is_content, found) = examined(&shop, "tidemark.toml").await;
    assert!(is_content, "{found:?}");
    shop.end(&mut processor).await;
    shop.stack.stop().await.expect("the servers end");
}
