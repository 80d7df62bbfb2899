//! The shipped tables, mappings and generator: XML of orders and customers becomes rows, and does not land itself.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidemark_dev::generator::{Config, Rate, write_ndjson};
use tidemark_dev::stack::{Settings, shipped_mappings};

use crate::end_to_end::get;
use crate::messages::dialects::{message, publish, shown};
use crate::shop::{Shop, sql_folder};

/// By mapped column: its table, that one's key, the column, the element of a row, where the rows land.
const MAPPED: [(&str, &str, &str, &str, &str); 3] = [
    ("ORDERS", "ORDER_ID", "SHIPPING_INFO", "<item ", "cdc_order_items_extracted_current"),
    ("ORDERS", "ORDER_ID", "ORDER_DETAILS", "<item ", "cdc_order_details_extracted_current"),
    (
        "CUSTOMERS",
        "CUSTOMER_ID",
        "ADDRESSES",
        "<address ",
        "cdc_customer_addresses_extracted_current",
    ),
];

/// How many rows the current document of each key has, by what the events say.
fn rows(
    events: &str,
    (table, key, column, element, _): (&str, &str, &str, &str, &str),
) -> BTreeMap<u64, usize> {
    let mut rows = BTreeMap::new();
    for line in events.lines().filter(|line| !line.is_empty()) {
        let event: Value = serde_json::from_str(line).expect("an event");
        if event["source"]["table"] != table {
            continue;
        }
        if let Some(id) = event["before"][key].as_u64() {
            rows.remove(&id);
        }
        if let Some(id) = event["after"][key].as_u64() {
            let document = event["after"][column].as_str().expect("a document");
            rows.insert(id, document.matches(element).count());
        }
    }
    rows
}

#[tokio::test]
async fn the_shipped_xml_becomes_rows_and_lands_nowhere_else() {
    let more_config = shipped_mappings(&sql_folder()).to_owned();
    let shop = Shop::open_with(|settings| Settings { more_config, ..settings }).await;
    let path = shop.stack.folder().join("events.ndjson");
    let start_time = Some("2026-01-01T00:00:00Z".parse().expect("a time"));
    let generated = Config {
        events: Some(3000),
        rate: Rate::Max,
        documents: true,
        start_time,
        ..Config::default()
    };
    write_ndjson(&generated, &path).expect("a file");
    shop.read_file(&path, "");
    let mut processor = shop.stack.processor(None).expect("a processor");
    assert!(shop.wait_for_end(&mut processor).await, "{}", shop.log_tail("run"));

    let events = std::fs::read_to_string(&path).expect("events");
    for mapped in MAPPED {
        let (_, key, column, _, landing) = mapped;
        let key = key.to_lowercase();
        let counts = shop
            .query(&format!("SELECT {key}, count(*) FROM {landing} GROUP BY 1 ORDER BY 1"))
            .await;
        let number = |text: &Option<String>| -> u64 {
            text.as_deref().expect("a value").parse().expect("a number")
        };
        let counts: BTreeMap<u64, usize> =
            counts.iter().map(|row| (number(&row[0]), number(&row[1]) as usize)).collect();
        let expected = rows(&events, mapped);
        assert!(expected.len() > 50, "{column}: {}", expected.len());
        assert_eq!(counts, expected, "{column}");
    }
    let whole = "SELECT count(*) FROM cdc_customer_addresses_extracted_current WHERE address_type IS NULL OR street IS NULL \
        OR city IS NULL OR zip IS NULL OR country IS NULL OR extracted_from <> 'SALES.CUSTOMERS.ADDRESSES'";
    assert_eq!(shop.number(whole).await, 0);
    let whole = "SELECT count(*) FROM cdc_order_details_extracted_current WHERE product_name NOT LIKE 'Product % & Söhne' \
        OR subtotal IS DISTINCT FROM quantity * price";
    assert_eq!(shop.number(whole).await, 0);
    let columns = "SELECT count(*) FROM information_schema.columns WHERE table_name IN ('cdc_orders', 'cdc_customers') \
        AND column_name IN ('shipping_info', 'order_details', 'addresses')";
    assert_eq!(shop.number(columns).await, 0);
    for table in ["cdc_orders", "cdc_customers"] {
        let extra = format!("SELECT count(*) FROM {table} WHERE extra_fields IS NOT NULL");
        assert_eq!(shop.number(&extra).await, 0, "{table}");
    }
    assert_eq!(shop.number("SELECT count(*) FROM cdc_dlq").await, 0);
    shop.stack.stop().await.expect("the servers end");
}

#[tokio::test]
async fn values_of_xml_that_cannot_be_read_are_null_and_counted() {
    let more_config = shipped_mappings(&sql_folder()).to_owned();
    let shop = Shop::open_with(|settings| Settings { more_config, ..settings }).await;
    let document = "<shipping><items><item product_id=\"1\" quantity=\"many\" price=\"?\"/>\
        <item product_id=\"2\" quantity=\"3\" price=\"1.05E+003\"/></items></shipping>";
    let row = json!({"ORDER_ID": 1, "STATUS": "NEW", "SHIPPING_INFO": document});
    let source = json!({"schema": "SALES", "table": "ORDERS", "ts_ms": 1_706_000_000_000_i64});
    let event = json!({"before": null, "after": row, "source": source, "op": "c"});
    publish(&shop, &[message("cdc/oracle/SALES/ORDERS", &event, json!({}))]).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    shop.wait_for(1).await;
    let rows = "SELECT product_id, quantity, price FROM cdc_order_items_extracted ORDER BY 1";
    assert_eq!(shown(&shop, rows).await, ["1|NULL|NULL", "2|3|1050.00"]);
    let (_, page) = get(&shop, "/metrics").await.expect("metrics");
    let counted = "cdc_unread_xml_values_total{table=\"order_items_extracted\"} 2";
    assert!(page.lines().any(|line| line == counted), "{page}");
    shop.end(&mut processor).await;
    shop.stack.stop().await.expect("the servers end");
}

#[tokio::test]
async fn the_shipped_mappings_are_those_of_the_container_and_have_their_tables() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let container = root.join("docker/tidemark.toml");
    let mappings = shipped_mappings(&sql_folder());
    assert!(
        !mappings.is_empty() && std::fs::read_to_string(&container).unwrap().ends_with(mappings)
    );
    assert_eq!(shipped_mappings(root), "");
    let xml = tidemark::config::sql_sections(&container).unwrap().xml;
    let loaded = tidemark::pipeline::load_sql_with(&sql_folder(), &xml, Default::default()).await;
    let loaded = loaded.unwrap();
    let names = loaded.extractions.iter().map(|extraction| extraction.table.name.as_str());
    assert_eq!(
        names.collect::<Vec<_>>(),
        ["order_items_extracted", "order_details_extracted", "customer_addresses_extracted"]
    );
}
