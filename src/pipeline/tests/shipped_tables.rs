//! What the shipped tables take, of what their sources send.

use arrow::array::AsArray;
use arrow::datatypes::Decimal128Type;

use super::sql;
use crate::decode::{Decoded, Decoder, DecoderSetup};
use crate::model::{Generations, Message, Offset, Receipt};

fn message(id: u64, (table, row): (&str, &str)) -> Message {
    let payload = format!(
        r#"{{"before":null,"after":{row},"source":{{"schema":"SALES","table":"{table}"}},"op":"c"}}"#
    );
    Message {
        offset: Offset::new(7, id),
        receipt: Receipt { flow: 1, id },
        topic: "cdc/oracle".to_owned(),
        payload: payload.into(),
        redelivered: false,
        properties: Vec::new(),
    }
}

async fn decode(rows: &[(&str, &str)]) -> Decoded {
    let tables = sql().await.tables;
    let mut decoder = Decoder::new(DecoderSetup { tables, ..DecoderSetup::default() });
    let messages: Vec<Message> =
        rows.iter().enumerate().map(|(id, row)| message(id as u64, *row)).collect();
    decoder.decode(&messages, &Generations::of_spool(7)).unwrap()
}

#[tokio::test]
async fn a_record_id_is_a_text() {
    let decoded = decode(&[
        ("AUDIT_LOG", r#"{"LOG_ID":1,"RECORD_ID":"ORD-1001"}"#),
        ("AUDIT_LOG", r#"{"LOG_ID":2,"RECORD_ID":7}"#),
    ])
    .await;
    assert_eq!(decoded.dead_letters, []);
    let changes = &decoded.changes[0];
    let at = changes.table.columns.iter().position(|column| column.name == "record_id").unwrap();
    let ids: Vec<_> = changes.batch.column(at).as_string::<i32>().iter().collect();
    assert_eq!(ids, [Some("ORD-1001"), Some("7")]);
}

#[tokio::test]
async fn prices_may_come_as_text_without_a_schema_section() {
    let decoded = decode(&[
        ("ORDERS", r#"{"ORDER_ID":1,"TOTAL_AMOUNT":"1000"}"#),
        ("ORDER_ITEMS", r#"{"ITEM_ID":1,"ORDER_ID":1,"UNIT_PRICE":"1500","SUBTOTAL":"3000"}"#),
        ("PRODUCTS", r#"{"PRODUCT_ID":1,"PRICE":"1234"}"#),
    ])
    .await;
    assert_eq!(decoded.dead_letters, []);
    for (name, unscaled) in [
        ("total_amount", 100_000),
        ("unit_price", 150_000),
        ("subtotal", 300_000),
        ("price", 123_400),
    ] {
        let has_it = |changes: &&crate::model::Changelog| {
            changes.table.columns.iter().any(|column| column.name == name)
        };
        let changes = decoded.changes.iter().find(has_it).unwrap();
        let at = changes.table.columns.iter().position(|column| column.name == name).unwrap();
        let values = changes.batch.column(at).as_primitive::<Decimal128Type>();
        assert_eq!(values.value(0), unscaled, "{name}");
    }
}
