//! Transforms that read a column which appears while they run (S6).

use std::path::Path;

use tidemark_dev::stack::Settings;

use crate::end_to_end::{get, publish};
use crate::referee;
use crate::shop::{Shop, copied_sql, pause};

/// The generator's faults have LOYALTY_POINTS in some customers, which no file declares.
const LOYAL: &str = "-- writes: postgres loyal\n-- key: customer_id\n\
    SELECT customer_id, name, CAST(loyalty_points AS BIGINT) AS points FROM customers \
    WHERE loyalty_points IS NOT NULL\n";
const BY_TIER: &str = "-- writes: postgres points_by_tier\n-- key: tier\n\
    SELECT c.tier, SUM(l.points) AS points FROM loyal l JOIN customers c USING (customer_id) GROUP BY c.tier\n";
const SEEN: &str = "-- writes: postgres points_seen\n\
    SELECT event_id, customer_id, loyalty_points FROM customers_changes WHERE loyalty_points IS NOT NULL\n";

/// The rows that differ between a result and what Postgres makes of the landed rows.
async fn differing(shop: &Shop, result: &str, columns: &str, computed: &str) -> i64 {
    let shown = format!("SELECT {columns} FROM {result}");
    let sql = format!(
        "SELECT count(*) FROM (({shown} EXCEPT ALL {computed}) UNION ALL ({computed} EXCEPT ALL {shown})) d"
    );
    shop.number(&sql).await
}

async fn all_is_exact(shop: &Shop) {
    let points = "(extra_fields->>'LOYALTY_POINTS')::bigint";
    let loyal = format!(
        "SELECT customer_id, name, {points} FROM cdc_customers_current WHERE {points} IS NOT NULL"
    );
    let by_tier = format!(
        "SELECT tier, sum({points})::bigint FROM cdc_customers_current WHERE {points} IS NOT NULL GROUP BY tier"
    );
    assert_eq!(differing(shop, "loyal", "customer_id, name, points", &loyal).await, 0);
    assert_eq!(differing(shop, "points_by_tier", "tier, points::bigint", &by_tier).await, 0);
    let wrong = "SELECT count(*) FROM points_seen s LEFT JOIN cdc_customers c ON c.event_id = s.event_id \
                 WHERE c.extra_fields->>'LOYALTY_POINTS' IS DISTINCT FROM s.loyalty_points";
    assert_eq!(shop.number(wrong).await, 0);
    // The event that has shown the column is among them.
    let all =
        "SELECT count(*) FROM cdc_customers WHERE extra_fields->>'LOYALTY_POINTS' IS NOT NULL";
    assert_eq!(shop.number("SELECT count(*) FROM points_seen").await, shop.number(all).await);
}

async fn is_there(shop: &Shop, table: &str) -> bool {
    let sql =
        format!("SELECT count(*) FROM information_schema.tables WHERE table_name = '{table}'");
    shop.number(&sql).await == 1
}

async fn open(folder: &Path) -> Shop {
    let sql = copied_sql(folder);
    for (name, text) in [("loyal", LOYAL), ("points_by_tier", BY_TIER), ("points_seen", SEEN)] {
        std::fs::write(sql.join(format!("transforms/{name}.sql")), text).expect("a file");
    }
    Shop::open_with(|settings| Settings { sql, max_messages: 500, ..settings }).await
}

#[tokio::test]
async fn a_transform_waits_for_its_column_and_works_from_then_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let shop = open(folder.path()).await;
    let mut processor = shop.stack.processor(None).expect("a processor");

    // It waits, says so, and the others run on.
    let published = publish(&shop, &["--rate", "max", "--events", "2000"]).await;
    shop.wait_for(published).await;
    let (status, ready) = get(&shop, "/ready").await.expect("a page");
    assert!(status.contains("200"), "{status}");
    assert!(ready.contains("unknown column loyalty_points in customers"), "{ready}");
    assert!(ready.contains("needs the result loyal, which waits"), "{ready}");
    let (_, metrics) = get(&shop, "/metrics").await.expect("metrics");
    for line in [
        "cdc_waiting_transforms{result=\"loyal\"} 1",
        "cdc_waiting_transforms{result=\"points_by_tier\"} 1",
        "cdc_waiting_transforms{result=\"orders_enriched\"} 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    referee::all_is_exact(&shop, published).await;
    assert!(!is_there(&shop, "loyal").await);

    // The column comes.
    let faults = ["--rate", "max", "--events", "2000", "--seed", "2", "--faults", "0.1"];
    let published = publish(&shop, &faults).await;
    shop.wait_for(published).await;
    while get(&shop, "/ready").await.is_none_or(|(_, ready)| ready.contains("unknown column")) {
        pause().await;
    }
    let more = ["--rate", "max", "--events", "2000", "--seed", "3", "--faults", "0.1"];
    let published = publish(&shop, &more).await;
    shop.wait_for(published).await;
    assert!(shop.number("SELECT count(*) FROM loyal").await > 10);
    assert!(shop.number("SELECT count(*) FROM points_seen").await > 10);
    all_is_exact(&shop).await;
    referee::all_is_exact(&shop, published).await;

    // And after a restart, which reads the column from the landing table.
    shop.end(&mut processor).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    let last = ["--rate", "max", "--events", "1000", "--seed", "4", "--faults", "0.1"];
    let published = publish(&shop, &last).await;
    shop.wait_for(published).await;
    shop.end(&mut processor).await;
    all_is_exact(&shop).await;
    referee::all_is_exact(&shop, published).await;
    shop.stack.stop().await.expect("the servers end");
}

#[tokio::test]
async fn kills_around_the_epoch_that_shows_a_column_lose_and_double_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let shop = open(folder.path()).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    let published = publish(&shop, &["--rate", "max", "--events", "2000"]).await;
    shop.wait_for(published).await;
    shop.end(&mut processor).await;

    let faults = ["--rate", "max", "--events", "2000", "--seed", "2", "--faults", "0.1"];
    let published = publish(&shop, &faults).await;
    let shown = "SELECT count(*) FROM tidemark_schema_changes WHERE column_name = 'LOYALTY_POINTS'";
    let committed = shop.committed().await;
    // First it dies with what it has just seen, then with what it has noted, and then with the events themselves.
    for (failpoint, is_shown, is_further) in [
        ("before_commit:1", false, false),
        ("between_commit_and_ack:1", true, false),
        ("before_commit:1", true, false),
        ("between_commit_and_ack:1", true, true),
    ] {
        let mut processor = shop.stack.processor(Some(failpoint)).expect("a processor");
        assert!(!shop.wait_for_end(&mut processor).await, "{failpoint} was not met");
        assert_eq!(shop.number(shown).await > 0, is_shown, "{failpoint}");
        assert_eq!(shop.committed().await > committed, is_further, "{failpoint}");
    }
    let mut processor = shop.stack.processor(None).expect("a processor");
    shop.wait_for(published).await;
    shop.end(&mut processor).await;
    assert!(shop.number("SELECT count(*) FROM points_seen").await > 10);
    all_is_exact(&shop).await;
    referee::all_is_exact(&shop, published).await;
    shop.stack.stop().await.expect("the servers end");
}
