//! A query that some events make fail.

use tidemark_dev::stack::Settings;

use crate::referee;
use crate::shop::{Shop, copied_sql};

/// Integer division by zero is an error, for one order.
const SHARES: &str = "-- writes: postgres shares\n-- key: order_id\n\
    SELECT order_id, 1000 / (order_id - 20) AS share FROM orders\n";

#[tokio::test]
async fn the_events_that_make_a_query_fail_are_dead_letters_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let sql = copied_sql(folder.path());
    std::fs::write(sql.join("transforms/shares.sql"), SHARES).expect("a file");
    let shop = Shop::open_with(|settings| Settings { sql, ..settings }).await;
    let mut generator =
        shop.stack.generator(&["--rate", "max", "--events", "2000"]).expect("a generator");
    assert!(shop.wait_for_end(&mut generator).await, "{}", shop.log_tail("generate"));
    let mut processor = shop.stack.processor(None).expect("a processor");
    let published = shop.stack.published().expect("a count");
    shop.wait_for(published).await;
    shop.end(&mut processor).await;

    let letters =
        "SELECT count(*) FROM cdc_dlq WHERE error_type = 'QUERY_FAILED' AND phase = 'sql'";
    let failed = shop.number(letters).await;
    let of_the_order = format!(
        "{letters} AND payload->'after'->>'ORDER_ID' = '20' AND error_message LIKE '%shares.sql%ivide by zero%'"
    );
    assert!(failed > 0);
    assert_eq!(shop.number(&of_the_order).await, failed);
    let rest = "SELECT (SELECT count(*) FROM shares) - (SELECT count(*) FROM cdc_orders_current)";
    assert_eq!(shop.number(rest).await, 0);
    assert!(shop.number("SELECT count(*) FROM shares").await > 100);
    assert_eq!(shop.loads(), 1, "epochs are aborted, and nothing is loaded again");
    referee::all_is_exact(&shop, published).await;
    shop.stack.stop().await.expect("the servers end");
}
