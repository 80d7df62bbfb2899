//! Changes of primary keys as Debezium sends them (delete, tombstone, create): by files into PostgreSQL, in batches
//! of any size.

use std::fmt::Write as _;

use crate::shop::Shop;

fn event(table: &str, op: &str, row: &str) -> String {
    let (before, after) = if op == "d" { (row, "null") } else { ("null", row) };
    format!(
        r#"{{"before":{before},"after":{after},"source":{{"schema":"SALES","table":"{table}","ts_ms":1704067200000}},"op":"{op}"}}"#
    )
}

fn order(op: &str, id: u32, status: &str) -> String {
    let row = format!(
        r#"{{"ORDER_ID":{id},"CUSTOMER_ID":1,"ORDER_DATE":1704067200000000,"STATUS":"{status}","TOTAL_AMOUNT":"1.00"}}"#
    );
    event("ORDERS", op, &row)
}

async fn shown(shop: &Shop, sql: &str) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".to_owned());
    let line = |row: &Vec<Option<String>>| row.iter().map(text).collect::<Vec<_>>().join(" ");
    shop.query(sql).await.iter().map(line).collect::<Vec<_>>().join(", ")
}

/// Delete under the old key, a tombstone in one of its forms, create under the new one.
fn moved(lines: &mut Vec<String>, (from, to): (u32, u32), status: &str) {
    let tombstones = ["", "null", r#"{"schema":null,"payload":null}"#];
    lines.push(order("d", from, "OLD"));
    lines.push(tombstones[lines.len() / 3 % tombstones.len()].to_owned());
    lines.push(order("c", to, status));
}

#[tokio::test]
async fn a_change_of_a_key_ends_as_it_says_in_batches_of_any_size() {
    let shop = Shop::open().await;
    let mut lines = vec![event("CUSTOMERS", "c", r#"{"CUSTOMER_ID":1,"NAME":"Ada"}"#)];
    for (round, batch) in [1, 2, 3, 4, 5, 7, 1000].into_iter().enumerate() {
        let id = 100 * (round as u32 + 1);
        lines.extend((1..=4).map(|order_no| order("c", id + order_no, "NEW")));
        // There and back; through one place; into the place of a row that went; and changed after it.
        moved(&mut lines, (id + 1, id + 11), "MOVED");
        moved(&mut lines, (id + 11, id + 1), "BACK");
        moved(&mut lines, (id + 2, id + 20), "ON THE WAY");
        moved(&mut lines, (id + 3, id + 2), "TWO");
        moved(&mut lines, (id + 20, id + 3), "THREE");
        moved(&mut lines, (id + 4, id + 14), "MOVED");
        lines.push(order("u", id + 14, "CHANGED"));
        lines.push(order("c", id + 4, "NEXT"));
        shop.replay("events", (&lines, batch)).await;
        let of_round = format!("order_id BETWEEN {id} AND {}", id + 99);
        let mut expected = String::new();
        for (at, status) in [(1, "BACK"), (2, "TWO"), (3, "THREE"), (4, "NEXT"), (14, "CHANGED")] {
            write!(expected, "{at} {status}, ").expect("a text");
        }
        let current = format!(
            "SELECT order_id - {id}, status FROM cdc_orders_current WHERE {of_round} ORDER BY 1"
        );
        assert_eq!(shown(&shop, &current).await + ", ", expected, "{batch}");
        let enriched = format!(
            "SELECT order_id - {id}, customer_name FROM cdc_orders_enriched WHERE {of_round} ORDER BY 1"
        );
        assert_eq!(shown(&shop, &enriched).await, "1 Ada, 2 Ada, 3 Ada, 4 Ada, 14 Ada", "{batch}");
        let landed = format!("SELECT count(*) FROM cdc_orders WHERE {of_round}");
        assert_eq!(shop.number(&landed).await, 4 + 6 * 2 + 2, "{batch}: all but tombstones");
    }
    assert_eq!(shown(&shop, "SELECT error_type FROM cdc_dlq").await, "");
    shop.stack.stop().await.expect("the servers end");
}
