//! The shipped alert of products that run out: each time that one does, and not at each change of the product.

use std::path::Path;

use serde_json::Value;
use tidemark_dev::stack::Settings;

use crate::results::rest::Api;
use crate::shop::{Shop, copied_sql};

/// Number, stock, price and whether the product is sold.
const CHANGES: [(i64, i64, &str, bool); 13] = [
    (1, 5, "1.00", true),
    (2, 5, "1.00", true),
    // Not sold, so nobody misses it.
    (3, 0, "1.00", false),
    (1, 0, "1.00", true),
    (1, 0, "2.00", true),
    (1, -3, "2.00", true),
    (2, 1, "1.00", true),
    (1, 10, "2.00", true),
    (1, 0, "2.00", true),
    (2, 0, "1.00", true),
    (3, 0, "2.00", false),
    (1, 0, "3.00", true),
    // Sold again, and there is none.
    (3, 0, "2.00", true),
];

fn event((id, stock, price, is_active): &(i64, i64, &str, bool)) -> String {
    let after = format!(
        r#"{{"PRODUCT_ID":{id},"NAME":"P{id}","CATEGORY":"C","PRICE":"{price}","STOCK_QTY":{stock},"IS_ACTIVE":{}}}"#,
        i32::from(*is_active)
    );
    format!(
        r#"{{"before":null,"after":{after},"source":{{"ts_ms":1706000000000,"schema":"SALES","table":"PRODUCTS"}},"op":"u"}}"#
    )
}

#[tokio::test]
async fn a_product_that_runs_out_is_told_of_once_each_time() {
    let api = Api::start(Default::default()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let sql = copied_sql(folder.path());
    let alert = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/alerts/stock_outs.sql");
    std::fs::copy(alert, sql.join("transforms/stock_outs.sql")).expect("a copy");
    let events: Vec<String> = CHANGES.iter().map(event).collect();
    let path = folder.path().join("events.ndjson");
    std::fs::write(&path, events.join("\n") + "\n").expect("written");

    // Each change is an epoch: what runs out and is filled up within one has never been out.
    let more_config = format!("[sink.rest]\nbase_url = '{}'\n", api.url);
    let shop =
        Shop::open_with(|settings| Settings { sql, more_config, max_messages: 1, ..settings })
            .await;
    shop.read_file(&path, "");
    loop {
        // It ends with the file; what is in the outbox then, the next one delivers.
        let mut processor = shop.stack.processor(None).expect("a processor");
        assert!(shop.wait_for_end(&mut processor).await, "{}", shop.log_tail("run"));
        let waiting = "SELECT count(*) FROM tidemark_outbox WHERE delivered_at IS NULL";
        if shop.number(waiting).await == 0 {
            break;
        }
    }
    let alerts = api.store.list(usize::MAX, |row| row.body["notification_type"] == "STOCK_OUT");
    let told: Vec<(&Value, &Value)> = alerts
        .iter()
        .map(|row| (&row.body["payload"]["product_id"], &row.body["payload"]["stock_qty"]))
        .collect();
    let number = Value::from;
    let expected = [(1, 0), (1, 0), (2, 0), (3, 0)].map(|(id, stock)| (number(id), number(stock)));
    let mut told: Vec<(Value, Value)> =
        told.into_iter().map(|(id, stock)| (id.clone(), stock.clone())).collect();
    told.sort_by_key(|(id, _)| id.as_i64());
    assert_eq!(told, expected);
    assert_eq!(shop.number("SELECT count(*) FROM cdc_dlq").await, 0);
    shop.stack.stop().await.expect("the servers end");
}
