//! Snapshot rows that come behind the changes they have missed: by files into PostgreSQL, in batches of any size
//! and over restarts.

use crate::shop::Shop;

/// An event of SALES.CUSTOMERS. A snapshot row has the SCN that it was read at, a change those of itself and of its
/// commit.
fn customer(op: &str, id: u32, name: &str, scn: u32) -> String {
    let row = format!(r#"{{"CUSTOMER_ID":{id},"NAME":"{name}","TIER":"GOLD"}}"#);
    let (before, after) = if op == "d" { (&*row, "null") } else { ("null", &*row) };
    let (snapshot, scns) = match op {
        "r" => ("incremental", format!(r#""scn":"{scn}","commit_scn":null"#)),
        _ => ("false", format!(r#""scn":"{}","commit_scn":"{scn}""#, scn - 7)),
    };
    format!(
        r#"{{"before":{before},"after":{after},"source":{{"schema":"SALES","table":"CUSTOMERS","ts_ms":1704067200000,"snapshot":"{snapshot}",{scns}}},"op":"{op}"}}"#
    )
}

async fn shown(shop: &Shop, sql: &str) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".to_owned());
    let line = |row: &Vec<Option<String>>| row.iter().map(text).collect::<Vec<_>>().join(" ");
    shop.query(sql).await.iter().map(line).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn older_snapshot_rows_change_nothing_in_batches_of_any_size_and_after_restarts() {
    let shop = Shop::open().await;
    let mut lines = Vec::new();
    for (round, batch) in [1, 2, 3, 100].into_iter().enumerate() {
        let id = 10 * (round as u32 + 1);
        lines.extend([
            customer("c", id, "newest", 1000),
            customer("r", id, "older", 999),
            customer("c", id + 1, "gone", 1010),
            customer("d", id + 1, "gone", 1020),
            String::new(),
            customer("r", id + 1, "older", 1015),
            customer("r", id + 2, "read", 1000),
            customer("u", id + 2, "updated", 1030),
            customer("r", id + 2, "read again", 1040),
            customer("r", id + 2, "older", 1035),
            customer("r", id + 3, "read", 1000),
        ]);
        shop.replay("events", (&lines, batch)).await;
        // Another process: what it knows is what has landed.
        lines.extend([
            customer("r", id, "older", 500),
            customer("r", id + 1, "older", 500),
            customer("r", id + 2, "older", 1039),
            customer("r", id + 3, "read later", 1001),
        ]);
        shop.replay("events", (&lines, batch)).await;
        let of_round = format!("customer_id BETWEEN {id} AND {}", id + 3);
        let current = format!(
            "SELECT customer_id - {id}, name FROM cdc_customers_current WHERE {of_round} ORDER BY 1"
        );
        assert_eq!(shown(&shop, &current).await, "0 newest, 2 read again, 3 read later", "{batch}");
        let landed = format!(
            "SELECT customer_id - {id}, operation, source_scn FROM cdc_customers WHERE {of_round} ORDER BY 1, change_seq"
        );
        assert_eq!(
            shown(&shop, &landed).await,
            "0 c 1000, 1 c 1010, 1 d 1020, 2 r 1000, 2 u 1030, 2 r 1040, 3 r 1000, 3 r 1001",
            "{batch}"
        );
    }
    assert_eq!(shown(&shop, "SELECT error_type FROM cdc_dlq").await, "");
    shop.stack.stop().await.expect("the servers end");
}
