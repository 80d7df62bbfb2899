//! From a publisher that nobody here wrote, through the broker and the processor, to exact rows.

use tidemark_dev::stack::{Settings, shipped_mappings};
use tokio::process::Command;

use crate::messages::interop::python;
use crate::shop::{Shop, sql_folder};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/publish_events.py");
const EVENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/events.ndjson");

/// Publishes the events; of each its id as the client shows it, and its topic.
async fn publish(shop: &Shop) -> Vec<(String, String)> {
    let mut command = Command::new(python());
    command.args([SCRIPT, &shop.stack.broker_url(), EVENTS]).kill_on_drop(true);
    let output = command.output().await.expect("python runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).expect("ids and topics");
    let line =
        |line: &str| line.split_once(' ').map(|(id, topic)| (id.to_owned(), topic.to_owned()));
    text.lines().filter_map(line).collect()
}

/// Rows with `|` between the values.
async fn shown(shop: &Shop, sql: &str) -> Vec<String> {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".to_owned());
    let rows = shop.query(sql).await;
    rows.iter().map(|row| row.iter().map(value).collect::<Vec<_>>().join("|")).collect()
}

#[tokio::test]
async fn events_of_the_official_python_client_become_exact_rows() {
    let more_config = shipped_mappings(&sql_folder()).to_owned();
    let shop = Shop::open_with(|settings| Settings { more_config, ..settings }).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    let published = publish(&shop).await;
    assert_eq!(published.len(), 9);
    assert_eq!(published[2].1, "cdc/oracle/SALES/ORDERS/insert");
    shop.wait_for(9).await;
    shop.end(&mut processor).await;
    assert_eq!(shown(&shop, "SELECT error_type, error_message FROM cdc_dlq").await, [""; 0]);

    let ids = "SELECT event_id FROM (SELECT event_id, change_seq FROM cdc_orders \
        UNION ALL SELECT event_id, change_seq FROM cdc_order_items \
        UNION ALL SELECT event_id, change_seq FROM cdc_customers \
        UNION ALL SELECT event_id, change_seq FROM cdc_products) landed ORDER BY change_seq";
    let sent: Vec<String> = published.into_iter().map(|(id, _)| id).collect();
    assert_eq!(
        shown(&shop, ids).await,
        sent,
        "an event's id is the one that its publisher's client shows"
    );

    landing_is_exact(&shop).await;
    all_is_exact(&shop).await;
    shop.stack.stop().await.expect("the servers end");
}

async fn landing_is_exact(shop: &Shop) {
    let orders = "SELECT order_id, operation, status, total_amount, order_date, updated_at, \
        source_ts, extra_fields FROM cdc_orders ORDER BY change_seq";
    assert_eq!(
        shown(shop, orders).await,
        [
            "1|c|NEW|1234567890123.45|2024-01-01 00:02:01.123456|NULL|2024-01-01 00:02:01|NULL",
            "2|c|NEW|0.01|2024-01-01 00:06:40|NULL|2024-01-01 00:03:20|NULL",
            "1|u|SHIPPED|60.00|2024-01-01 00:02:01.123456|2024-01-01 00:05:00.000001|2024-01-01 00:05:00|{\"COUPON\": \"SPRING\"}",
            "2|d|NEW|0.01|2024-01-01 00:06:40|NULL|2024-01-01 00:06:40|NULL",
            "3|c|OPEN|-5.50|9999-12-31 00:00:00|NULL|2024-01-01 00:08:20|NULL",
        ]
    );
    let others = "SELECT name, created_at::text, operation FROM cdc_customers UNION ALL \
        SELECT stock_qty::text, price::text, is_active::text FROM cdc_products UNION ALL \
        SELECT NULL, created_at::text, operation FROM cdc_orders WHERE order_id = 3";
    assert_eq!(
        shown(shop, others).await,
        [
            "Zoë Ōta|2024-01-01 00:00:00|r",
            "9007199254740993|19.99|true",
            "NULL|1969-12-31 23:59:59.999999|c",
        ]
    );
}

async fn all_is_exact(shop: &Shop) {
    let enriched = "SELECT order_id, customer_name, total_amount, item_count, items_total, window_start \
        FROM cdc_orders_enriched ORDER BY order_id";
    let rows = shown(shop, enriched).await;
    assert_eq!(rows[0], "1|Zoë Ōta|60.00|2|60.00|2024-01-01 00:00:00");
    assert!(rows.len() == 2 && rows[1].starts_with("3|NULL|-5.50|0|0.00|"), "{rows:?}");
    let lines = "SELECT item_id, order_status, product_category, quantity, unit_price, subtotal \
        FROM cdc_order_lines_enriched ORDER BY item_id";
    assert_eq!(
        shown(shop, lines).await,
        ["11|SHIPPED|HOME|2|19.99|39.98", "12|SHIPPED|HOME|1|20.02|20.02"]
    );
    let stats = "SELECT window_size, window_start, customer_tier, product_category, order_count, \
        total_revenue, avg_order_value FROM cdc_order_stats ORDER BY window_end";
    let window = |size: &str| format!("{size}|2024-01-01 00:00:00|GOLD|HOME|1|60.00|60.00");
    assert_eq!(shown(shop, stats).await, ["5 minutes", "1 hour", "1 day"].map(window));
}
