//! A wrong `source =`: the flow stops before anything is diverted, and goes on when the file is corrected.

use std::time::Instant;

use serde_json::json;
use tidemark_dev::stack::Settings;

use crate::end_to_end::get;
use crate::shop::{Shop, copied_sql, pause};

const EVENTS: i64 = 200;

fn customer(id: i64) -> String {
    let source = json!({"schema": "SALES", "table": "CUSTOMERS", "ts_ms": 1_706_000_000_000_i64});
    let after = json!({"CUSTOMER_ID": id, "NAME": "n", "TIER": "GOLD"});
    json!({"op": "c", "before": null, "after": after, "source": source}).to_string()
}

#[tokio::test]
async fn a_wrong_source_stops_the_flow_unacknowledged_until_it_is_corrected() {
    let folder = tempfile::tempdir().expect("a folder");
    let sql = copied_sql(folder.path());
    let path = sql.join("tables/customers.sql");
    let right = std::fs::read_to_string(&path).expect("a file");
    std::fs::write(&path, right.replace("SALES.CUSTOMERS", "SALES.CUSTOMER")).expect("an edit");
    let shop = Shop::open_with(|settings| Settings { sql, ..settings }).await;
    let events: Vec<String> = (0..EVENTS).map(customer).collect();
    let file = shop.stack.folder().join("events.ndjson");
    std::fs::write(&file, events.join("\n") + "\n").expect("events");
    shop.read_file(&file, "");
    let mut processor = shop.stack.processor(None).expect("a processor");
    let started = Instant::now();
    let ready = loop {
        let ready = get(&shop, "/ready").await.map_or_else(String::new, |(_, body)| body);
        if ready.contains("\"decode\"") {
            break ready;
        }
        assert!(started.elapsed().as_secs() < 120, "{ready}\n{}", shop.log_tail("run"));
        pause().await;
    };
    let cause = "source = 'SALES.CUSTOMERS' in sql/tables/customers.sql";
    assert!(ready.contains("\"ready\":false") && ready.contains(cause), "{ready}");
    let written = "SELECT (SELECT count(*) FROM tidemark_ledger) + (SELECT count(*) FROM cdc_dlq)";
    let before = shop.number(written).await;
    assert!(before <= 1, "at most the start has an epoch, and no event is diverted: {before}");

    std::fs::write(&path, right).expect("an edit");
    assert!(shop.wait_for_end(&mut processor).await, "{}", shop.log_tail("run"));
    let landed = "SELECT count(*) FROM cdc_customers";
    assert_eq!(
        (shop.number(landed).await, shop.number("SELECT count(*) FROM cdc_dlq").await),
        (EVENTS, 0)
    );
    shop.stack.stop().await.expect("the servers end");
}
