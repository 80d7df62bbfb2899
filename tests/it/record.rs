//! What generators have published, by their own record, against ledger, landing tables and dead letters.

use std::collections::BTreeMap;

use serde_json::Value;
use tidemark::model::Offset;

use crate::shop::Shop;

/// Of each source table: where it lands, its key there, and the column with the operation.
const LANDING: [(&str, &str, &str, &str); 5] = [
    ("ORDERS", "cdc_orders", "order_id", "operation"),
    ("ORDER_ITEMS", "cdc_order_items", "item_id", "operation"),
    ("CUSTOMERS", "cdc_customers", "customer_id", "operation"),
    ("PRODUCTS", "cdc_products", "product_id", "operation"),
    ("AUDIT_LOG", "cdc_audit_log", "log_id", "cdc_operation"),
];

/// What tells one change from another: table, key, operation, and microsecond of the source.
type Change = (String, i64, String, i64);

/// Every message that the broker has acknowledged to the generators is in the ledger, and it is landed as it was
/// published, or it is a dead letter with its bytes, or it is a tombstone. Nothing else is there.
///
/// One publisher's messages have ascending ids with gaps: the broker numbers those of all its queues together. So the
/// lowest id in the ledger is the first line of the record, and so on.
pub(crate) async fn every_message_is_where_it_belongs(shop: &Shop, published: u64) {
    let record = std::fs::read(shop.stack.record()).expect("a record of what was published");
    let mut events: Vec<&[u8]> = record.split(|byte| *byte == b'\n').collect();
    assert_eq!(events.pop(), Some(&[][..]), "each payload has a line");
    assert_eq!(events.len() as u64, published, "payloads in the record");

    let position = shop.ledger().await.expect("a ledger");
    assert!(
        position.forgotten_to.is_empty(),
        "the ledger knows every id: {:?}",
        position.forgotten_to
    );
    assert!(position.offsets.range_count() > 1, "the second queue makes gaps");
    let committed: Vec<Offset> = position
        .offsets
        .ranges()
        .flat_map(|(first, last)| (first.id..=last).map(move |id| Offset::new(first.spool, id)))
        .collect();
    assert_eq!(committed.len() as u64, published, "messages in the ledger");

    let (mut rows, mut letters) = (landed(shop).await, dead_letters(shop).await);
    for (offset, payload) in committed.into_iter().zip(events) {
        let (row, letter) = (rows.remove(&offset), letters.remove(&offset));
        let shown = String::from_utf8_lossy(payload);
        if let Some(letter) = &letter {
            assert_eq!(letter, payload, "the dead letter of {offset}");
        }
        match row {
            Some(row) => assert_eq!(Some(row), change(payload), "{offset}: {shown}"),
            None => assert_eq!(letter.is_none(), payload.is_empty(), "{offset} is lost: {shown}"),
        }
    }
    assert!(rows.is_empty(), "rows of no message: {rows:?}");
    assert!(letters.is_empty(), "dead letters of no message: {:?}", letters.keys());
}

/// `None` for what can't be read.
fn change(payload: &[u8]) -> Option<Change> {
    let envelope: Value = serde_json::from_slice(payload).ok()?;
    let (source, operation) = (&envelope["source"], envelope["op"].as_str()?);
    let image = if operation == "d" { &envelope["before"] } else { &envelope["after"] };
    let table = source["table"].as_str()?;
    let (_, _, key, _) = LANDING.into_iter().find(|(name, ..)| *name == table)?;
    let key = image[key.to_uppercase()].as_i64()?;
    Some((table.to_owned(), key, operation.to_owned(), source["ts_us"].as_i64()?))
}

async fn landed(shop: &Shop) -> BTreeMap<Offset, Change> {
    let mut rows = BTreeMap::new();
    for (name, table, key, operation) in LANDING {
        let sql = format!(
            "SELECT event_id, {key}, {operation}, (extract(epoch FROM source_ts) * 1000000)::bigint FROM {table}"
        );
        for row in shop.query(&sql).await {
            let [event, key, operation, at] =
                [0, 1, 2, 3].map(|at| row[at].clone().expect("a value"));
            let number = |text: String| text.parse::<i64>().expect("a number");
            let change = (name.to_owned(), number(key), operation, number(at));
            let twice = rows.insert(event.parse().expect("an offset"), change);
            assert_eq!(twice, None, "{event} landed twice");
        }
    }
    rows
}

async fn dead_letters(shop: &Shop) -> BTreeMap<Offset, Vec<u8>> {
    // Those of refused requests and of rows of results are of no single message.
    let sql = "SELECT event_id, encode(original_payload, 'hex') FROM cdc_dlq \
               WHERE event_id LIKE 'rmid1:%' AND phase <> 'rest'";
    let letters = shop.query(sql).await.into_iter().map(|row| {
        let [event, payload] = [0, 1].map(|at| row[at].clone().expect("a value"));
        let digits =
            payload.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("text"));
        let bytes = digits.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal"));
        (event.parse().expect("an offset"), bytes.collect())
    });
    letters.collect()
}
