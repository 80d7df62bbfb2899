//! Real events of several Debezium versions, through the whole processor.

use std::path::Path;

use crate::shop::Shop;

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples");

#[tokio::test]
async fn every_sample_lands_or_is_a_dead_letter_that_says_what_to_declare() {
    let shop = Shop::open().await;
    shop.read_file(Path::new(SAMPLES), "");

    let mut processor = shop.stack.processor(None).expect("a processor");
    // A file source ends, and so does the processor.
    assert!(shop.wait_for_end(&mut processor).await, "{}", shop.log_tail("run"));

    let rows = shop
        .query("SELECT error_type, count(*), min(error_message) FROM cdc_dlq GROUP BY 1 ORDER BY 1")
        .await;
    let shown: Vec<(&str, &str)> = rows
        .iter()
        .map(|r| (r[0].as_deref().unwrap_or(""), r[1].as_deref().unwrap_or("")))
        .collect();
    assert_eq!(shown, [("UNKNOWN_TABLE", "9")]);
    let advice = rows[0][2].as_deref().unwrap_or("");
    assert!(advice.contains("sql/tables") && advice.contains("source = "), "{advice}");
    // The two changes of SALES.ORDERS; the truncate before them found no rows.
    assert_eq!(shop.number("SELECT count(*) FROM cdc_orders").await, 2);
    assert_eq!(
        shop.number("SELECT count(*) FROM cdc_dlq WHERE length(original_payload) > 300").await,
        9
    );
    shop.stack.stop().await.expect("the servers end");
}
