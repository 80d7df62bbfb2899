//! Point-in-time look-ups through the whole processor, with Postgres as the referee: a temporal join over
//! the landing tables.

use tidemark_dev::stack::Settings;

use crate::shop::{Shop, copied_sql};

/// The fixture's transform over the shipped tables.
const TRANSFORM: &str = include_str!("../../lookup/transforms/orders_as_placed.sql");

/// Each current order with the customer as of the order's last change, else the next one that came.
const TEMPORAL_JOIN: &str = "
SELECT o.order_id, o.status, c.name, c.tier
FROM (SELECT DISTINCT ON (order_id) * FROM cdc_orders ORDER BY order_id, change_seq DESC) o
LEFT JOIN LATERAL (
  SELECT * FROM (
    (SELECT 1 AS choice, t.* FROM (
       SELECT * FROM cdc_customers h WHERE h.customer_id = o.customer_id AND h.change_seq <= o.change_seq
       ORDER BY h.change_seq DESC LIMIT 1) t
     WHERE t.operation <> 'd')
    UNION ALL
    (SELECT 2, h.* FROM cdc_customers h
     WHERE h.customer_id = o.customer_id AND h.change_seq > o.change_seq AND h.operation <> 'd'
     ORDER BY h.change_seq LIMIT 1)
  ) either ORDER BY choice LIMIT 1
) c ON true
WHERE o.operation <> 'd'";

const CURRENT: &str = "
SELECT o.order_id, o.status, c.name, c.tier FROM cdc_orders_current o
LEFT JOIN cdc_customers_current c ON c.customer_id = o.customer_id";

const SHOWN: &str = "SELECT order_id, status, name, tier FROM cdc_orders_as_placed";

async fn different(shop: &Shop, select: &str) -> i64 {
    shop.number(&format!(
        "SELECT count(*) FROM ((({SHOWN}) EXCEPT ALL ({select})) UNION ALL (({select}) EXCEPT ALL ({SHOWN}))) d"
    ))
    .await
}

#[tokio::test]
async fn postgres_agrees_on_what_each_row_showed_over_kills_of_the_processor() {
    let folder = tempfile::tempdir().expect("a folder");
    let sql = copied_sql(folder.path());
    std::fs::write(sql.join("transforms/orders_as_placed.sql"), TRANSFORM).expect("a transform");
    let shop = Shop::open_with(|settings| Settings { sql: sql.clone(), ..settings }).await;
    let mut published = 0;
    for seed in ["1", "2", "3"] {
        let mut processor = shop.stack.processor(None).expect("a processor");
        let arguments = ["--rate", "max", "--events", "1500", "--seed", seed];
        let mut generator = shop.stack.generator(&arguments).expect("a generator");
        shop.wait_for(published + 500).await;
        processor.kill().await.expect("a kill");
        assert!(shop.wait_for_end(&mut generator).await, "{}", shop.log_tail("generate"));
        published = shop.stack.published().expect("a count");
    }
    let mut processor = shop.stack.processor(None).expect("a processor");
    shop.wait_for(published).await;
    shop.end(&mut processor).await;
    assert_eq!(different(&shop, TEMPORAL_JOIN).await, 0);
    // Else nothing was tried.
    assert!(different(&shop, CURRENT).await > 0);
    shop.stack.stop().await.expect("the servers end");
}
