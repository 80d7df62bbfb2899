//! Rows that Postgres refuses, and a database that somebody breaks at night.

use tidemark_dev::stack::Settings;

use crate::end_to_end::{get, publish};
use crate::referee;
use crate::shop::{Shop, copied_sql, pause};

/// The first rule is known to the server alone, the other one by the column's type.
const RULES: &str = "
    ALTER TABLE cdc_orders ADD CONSTRAINT no_such_order CHECK (order_id % 50 <> 7);
    DROP VIEW cdc_customers_current;
    ALTER TABLE cdc_customers ALTER name TYPE varchar(15);
    CREATE VIEW cdc_customers_current AS SELECT * FROM
      (SELECT DISTINCT ON (customer_id) * FROM cdc_customers ORDER BY customer_id, change_seq DESC) newest
      WHERE operation <> 'd';";

#[tokio::test]
async fn rows_that_the_target_refuses_are_dead_letters_and_the_rest_is_exact() {
    let folder = tempfile::tempdir().expect("a folder");
    let sql = copied_sql(folder.path());
    std::fs::write(sql.join("ods/90_rules.sql"), RULES).expect("a file");
    let shop = Shop::open_with(|settings| Settings { sql, ..settings }).await;
    let published = publish(&shop, &["--rate", "max", "--events", "3000"]).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    shop.wait_for(published).await;
    shop.end(&mut processor).await;

    let of_events = "SELECT count(*) FROM cdc_dlq WHERE error_type = 'ROW_REFUSED' AND phase = 'sink' \
        AND event_id IS NOT NULL";
    let by_rule = format!("{of_events} AND error_message LIKE '%(23514)%'");
    let refused = shop.number(&by_rule).await;
    assert!(refused > 10, "{refused}");
    let by_type = format!(
        "{of_events} AND error_message LIKE 'cdc_customers refuses%, column name: %(22001)%'"
    );
    assert!(shop.number(&by_type).await > 0);
    let with_bytes = format!(
        "{by_rule} AND error_message LIKE 'cdc_orders refuses the row order_id = %no_such_order%' \
         AND convert_from(original_payload, 'UTF8') \
           ~ ('\"ORDER_ID\": ?' || substring(error_message FROM 'order_id = (\\d+)') || '\\D') \
         AND substring(error_message FROM 'order_id = (\\d+)')::bigint % 50 = 7"
    );
    assert_eq!(shop.number(&with_bytes).await, refused);
    assert_eq!(shop.number("SELECT count(*) FROM cdc_orders WHERE order_id % 50 = 7").await, 0);
    assert_eq!(shop.loads(), 1, "epochs are aborted, and nothing is loaded again");

    referee::all_is_exact(&shop, published).await;
    shop.stack.stop().await.expect("the servers end");
}

/// What somebody does while events flow, what undoes it, and what `/ready` says in between.
const NIGHTS: [(&str, &str, &str); 3] = [
    (
        "DROP VIEW cdc_orders_current; ALTER TABLE cdc_orders DROP COLUMN status",
        "ALTER TABLE cdc_orders ADD COLUMN status TEXT; CREATE VIEW cdc_orders_current AS SELECT * FROM \
           (SELECT DISTINCT ON (order_id) * FROM cdc_orders ORDER BY order_id, change_seq DESC) newest \
           WHERE operation <> 'd'",
        "cdc_orders.status: the column is missing",
    ),
    (
        "ALTER TABLE cdc_orders_enriched RENAME TO away",
        "ALTER TABLE away RENAME TO cdc_orders_enriched",
        "cdc_orders_enriched: there is no such table",
    ),
    (
        "ALTER TABLE cdc_order_items ADD must TEXT; ALTER TABLE cdc_order_items ADD CHECK (must IS NOT NULL) NOT VALID",
        "ALTER TABLE cdc_order_items DROP must",
        "cdc_order_items refuses",
    ),
];

#[tokio::test]
async fn what_somebody_breaks_at_night_stops_the_flow_and_it_goes_on_after_the_repair() {
    let shop = Shop::open_with(|settings| Settings { breaker_pause: "200ms", ..settings }).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    let mut published = 0;
    for (number, (hurt, repair, says)) in NIGHTS.iter().enumerate() {
        shop.wait_for(published).await;
        wait_until_ready(&shop, |status, _| status.contains("200")).await;
        shop.query(hurt).await;
        let seed = number.to_string();
        published = publish(&shop, &["--rate", "max", "--events", "1500", "--seed", &seed]).await;
        wait_until_ready(&shop, |status, page| {
            status.contains("503") && page.contains("circuit breaker open") && page.contains(says)
        })
        .await;
        assert!(shop.committed().await < published, "{hurt}");
        shop.query(repair).await;
    }
    shop.wait_for(published).await;
    wait_until_ready(&shop, |status, _| status.contains("200")).await;
    shop.end(&mut processor).await;
    // What comes before the flood is seen as one.
    let letters = "SELECT count(*) FROM cdc_dlq WHERE error_type = 'ROW_REFUSED'";
    assert!(shop.number(letters).await <= 20);
    referee::all_is_exact(&shop, published).await;
    shop.stack.stop().await.expect("the servers end");
}

async fn wait_until_ready(shop: &Shop, is_awaited: impl Fn(&str, &str) -> bool) {
    while get(shop, "/ready").await.is_none_or(|(status, page)| !is_awaited(&status, &page)) {
        pause().await;
    }
}
