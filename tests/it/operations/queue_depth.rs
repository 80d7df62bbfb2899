//! How many messages wait, as the broker says it.

use crate::end_to_end::{get, publish};
use crate::shop::{Shop, pause};

/// Waits until the metrics page has a line.
async fn wait_for_metric(shop: &Shop, line: &str) {
    loop {
        let page = get(shop, "/metrics").await.map(|(_, page)| page).unwrap_or_default();
        if page.lines().any(|shown| shown == line) {
            return;
        }
        pause().await;
    }
}

#[tokio::test]
async fn the_queue_is_as_deep_as_the_broker_says() {
    let mut shop = Shop::open().await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    wait_for_metric(&shop, "cdc_queue_messages 0").await;
    shop.stack.postgres.kill().await.expect("a kill");
    let published = publish(&shop, &["--rate", "max", "--events", "500"]).await;
    wait_for_metric(&shop, &format!("cdc_queue_messages {published}")).await;
    let (_, page) = get(&shop, "/metrics").await.expect("metrics");
    let of = |name: &str| {
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.expect("a metric").trim().parse::<f64>().expect("a number")
    };
    assert!(of("cdc_queue_bytes ") > 500.0 * 100.0, "{page}");
    assert!(of("cdc_queue_unacked_messages ") > 0.0, "{page}");

    shop.stack.postgres.start().await.expect("Postgres starts again");
    shop.wait_for(published).await;
    wait_for_metric(&shop, "cdc_queue_messages 0").await;
    // Nobody to ask: no old number is shown, and the work goes on.
    shop.stack.kill_broker().await.expect("a kill");
    wait_for_metric(&shop, "cdc_queue_told 0").await;
    let (_, page) = get(&shop, "/metrics").await.expect("metrics");
    assert!(page.lines().any(|line| line == "cdc_queue_messages NaN"), "{page}");
    shop.end(&mut processor).await;
    shop.stack.stop().await.expect("the servers end");
}
