//! Orders per second on one core whose XML has three items: the document alone to Arrow columns, and the whole
//! event with it: `cargo bench --bench xml`.

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::DataType;
use tidemark::decode::{Decoder, DecoderSetup};
use tidemark::model::{Generations, Message, Offset, Receipt};
use tidemark::transform::{SqlFile, parse_tables, parse_type};
use tidemark::xml::{
    Extractor, MissingValue, Shape, ShapeColumn, ShapeRows, XmlConfig, XmlLimits, resolve,
};

const ORDERS: usize = 200_000;
const EPOCH: usize = 5_000;
const ROUNDS: usize = 7;

fn document(order: usize) -> String {
    let item = |at: usize| {
        format!(
            r#"<item product_id="{}" quantity="{}" price="{}.{:02}"><name>Product {at}</name></item>"#,
            order % 500 + at,
            at + 1,
            order % 90,
            order % 100
        )
    };
    let items: String = (0..3).map(item).collect();
    format!(r#"<order id="{order}"><items currency="EUR">{items}</items></order>"#)
}

fn columns() -> Vec<(&'static str, &'static str, DataType)> {
    vec![
        ("product_id", "@product_id", DataType::Int64),
        ("quantity", "@quantity", DataType::Int32),
        ("price", "@price", DataType::Decimal128(10, 2)),
        ("name", "name/text()", DataType::Utf8),
    ]
}

fn main() {
    let documents: Vec<String> = (0..ORDERS).map(document).collect();
    let bytes = documents.iter().map(String::len).sum::<usize>() / ORDERS;
    let events: Vec<Message> = documents.iter().enumerate().map(event).collect();
    let best = |measure: &dyn Fn() -> f64| (0..ROUNDS).map(|_| measure()).fold(0.0, f64::max);
    let alone = best(&|| extracted(&documents));
    let whole = best(&|| decoded(&events));
    writeln!(
        std::io::stdout(),
        "xml:    {alone:.0} orders/s, documents of {bytes} bytes with 3 items of 4 columns\n\
         decode: {whole:.0} orders/s, events with these documents",
    )
    .expect("standard output");
}

fn extracted(documents: &[String]) -> f64 {
    let column = |(name, path, data_type): (&str, &str, DataType)| {
        ShapeColumn::new(name, data_type, path).expect("a path")
    };
    let columns = columns().into_iter().map(column).collect();
    let shape = Arc::new(Shape::new(".//item", columns).expect("a path"));
    let mut extractor = Extractor::new(std::slice::from_ref(&shape), XmlLimits::default());
    let started = Instant::now();
    for epoch in documents.chunks(EPOCH) {
        let mut cells = ShapeRows::new(&shape);
        let mut rows = 0;
        for document in epoch {
            extractor.read(document).expect("XML");
            rows += cells.append(&extractor, 0, MissingValue::Null).expect("rows").rows;
        }
        assert_eq!((cells.finish()[0].len(), rows), (3 * epoch.len(), 3 * epoch.len()));
    }
    documents.len() as f64 / started.elapsed().as_secs_f64()
}

fn event((at, document): (usize, &String)) -> Message {
    let document = serde_json::Value::from(document.as_str());
    let payload = format!(
        r#"{{"before":null,"after":{{"ORDER_ID":{at},"DETAILS":{document}}},"source":{{"ts_ms":1706000000000,"schema":"S","table":"ORDERS"}},"op":"c"}}"#
    );
    Message {
        offset: Offset::new(1, at as u64 + 1),
        receipt: Receipt { flow: 1, id: at as u64 + 1 },
        topic: String::new(),
        payload: payload.into_bytes().into(),
        redelivered: false,
        properties: Vec::new(),
    }
}

#[derive(serde::Deserialize)]
struct Sections {
    xml: Vec<XmlConfig>,
}

fn decoded(events: &[Message]) -> f64 {
    let text = "CREATE TABLE orders (order_id BIGINT PRIMARY KEY) WITH (source = 'S.ORDERS')";
    let file = SqlFile { path: "orders.sql".into(), name: "orders".into(), text: text.into() };
    let mut tables = parse_tables(&[file]).expect("a table");
    let types = ["BIGINT", "INTEGER", "DECIMAL(10,2)", "VARCHAR"];
    let columns = columns().into_iter().zip(types);
    let columns: Vec<String> = columns
        .map(|((name, path, _), of)| {
            format!("{{ name = '{name}', path = '{path}', type = '{of}' }}")
        })
        .collect();
    let section = format!(
        "[[xml]]\nsource_table = 'S.ORDERS'\nxml_column = 'DETAILS'\ntarget_table = 'items'\nxpath = './/item'\ncolumns = [{}]",
        columns.join(", ")
    );
    let sections: Sections = toml::from_str(&section).expect("a mapping");
    let extractions = resolve(&sections.xml, &tables, parse_type).expect("a mapping");
    tables.push(Arc::clone(&extractions[0].table));
    let mut decoder = Decoder::new(DecoderSetup { tables, extractions, ..DecoderSetup::default() });
    let spools = Generations::of_spool(1);
    let started = Instant::now();
    for epoch in events.chunks(EPOCH) {
        let decoded = decoder.decode(epoch, &spools).expect("an epoch that fits");
        let rows: usize = decoded.changes.iter().map(|changes| changes.len()).sum();
        assert_eq!(rows, 4 * epoch.len());
    }
    events.len() as f64 / started.elapsed().as_secs_f64()
}
