//! Old changes leave the landing tables of a processor, and nothing else changes.

use std::time::Instant;

use tidemark_dev::stack::Settings;

use crate::referee;
use crate::results::sql_edits::publish;
use crate::shop::{Shop, copied_sql, pause};

const TABLES: [(&str, &str); 4] = [
    ("orders", "order_id"),
    ("order_items", "item_id"),
    ("customers", "customer_id"),
    ("products", "product_id"),
];

/// The shipped SQL, whose tables keep an hour.
fn of_an_hour(into: &std::path::Path) -> std::path::PathBuf {
    let sql = copied_sql(into);
    let mut indexes = String::new();
    for (table, _) in TABLES {
        let file = sql.join("tables").join(format!("{table}.sql"));
        let text = std::fs::read_to_string(&file).expect("a table");
        std::fs::write(&file, text.replace("WITH (", "WITH (history = '1h', ")).expect("written");
        indexes += &format!("CREATE INDEX ON cdc_{table} (processed_at);\n");
    }
    std::fs::write(sql.join("ods/90_old_changes.sql"), indexes).expect("written");
    sql
}

/// Rows that a newer one of their key has superseded.
async fn superseded(shop: &Shop) -> i64 {
    let of_table = TABLES.map(|(table, key)| {
        format!(
            "(SELECT count(*) FROM cdc_{table} AS old WHERE EXISTS (SELECT FROM cdc_{table} AS newer \
             WHERE newer.{key} = old.{key} AND newer.change_seq > old.change_seq))"
        )
    });
    shop.number(&format!("SELECT {}", of_table.join(" + "))).await
}

#[tokio::test]
async fn old_changes_leave_and_every_start_is_exact() {
    let folder = tempfile::tempdir().expect("a folder");
    let sql = of_an_hour(folder.path());
    let settings = |settings| Settings { sql, checkpoint_interval: "200ms", ..settings };
    let shop = Shop::open_with(settings).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    publish(&shop, 3000, "1").await;
    shop.wait_for(shop.stack.published().expect("a count")).await;
    shop.end(&mut processor).await;
    let before = superseded(&shop).await;
    assert!(before > 100, "{before}");

    // Two days go by.
    for (table, _) in TABLES {
        let old = "processed_at = processed_at - interval '2 days'";
        shop.query(&format!("UPDATE cdc_{table} SET {old}")).await;
    }
    let mut processor = shop.stack.processor(None).expect("a processor");
    let begun = Instant::now();
    while superseded(&shop).await > 0 {
        assert!(begun.elapsed().as_secs() < 120, "{}", shop.log_tail("run"));
        pause().await;
    }
    publish(&shop, 500, "2").await;
    shop.wait_for(shop.stack.published().expect("a count")).await;
    processor.kill().await.expect("a kill");
    let mut processor = shop.stack.processor(None).expect("a processor");
    publish(&shop, 100, "3").await;
    shop.wait_for(shop.stack.published().expect("a count")).await;
    shop.end(&mut processor).await;
    referee::results_are_exact(&shop, shop.stack.published().expect("a count")).await;
    assert!(superseded(&shop).await > 0, "what is new stays");

    std::fs::remove_dir_all(shop.stack.folder().join("state")).expect("the state goes");
    let mut processor = shop.stack.processor(None).expect("a processor");
    publish(&shop, 100, "4").await;
    shop.wait_for(shop.stack.published().expect("a count")).await;
    shop.end(&mut processor).await;
    referee::results_are_exact(&shop, shop.stack.published().expect("a count")).await;
    shop.stack.stop().await.expect("the servers end");
}
