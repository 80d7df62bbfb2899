//! Whole events: a row, a dead letter or nothing, the same wherever a batch ends.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, TimeUnit};
use serde_json::value::RawValue;

use crate::decode::{
    DecodeConfig, Decoded, Decoder, DecoderSetup, KeptDocuments, Limits, RegisteredTables,
    event_count, register,
};
use crate::model::{
    Changelog, Column, ErrorType, Generations, LearnedColumns, Message, Offset, Receipt,
    SourceTable, SystemColumn, Table, TableOptions, TableOrigin, WrittenAs,
};
use crate::xml::{self, XmlConfig};

const SPOOL: u64 = 7;
const MAX_MESSAGES: usize = 32;

/// The tables of the samples, and one with a column of each type. The first column is the key.
const TABLES: [(&str, &str, &str); 6] = [
    (
        "SALES",
        "ORDERS",
        "order_id int64, customer_id int64, order_date time, status text, total_amount 15.2, \
         shipping_info text, created_at time, updated_at time",
    ),
    (
        "APP",
        "FEES",
        "fee_id int64, currency text, slab_from 16.2, slab_to 16.2, other_fee 16.4, status text, \
         created_at time, modified_at time",
    ),
    ("APP", "TAB001", "id int64"),
    ("QA_SOURCE", "ALL_TYPES1", "f1 int16, f2 38.0, f3 float, f10 bytes, f27 time, f29 zoned"),
    ("S", "KINDS", KINDS),
    ("S", "TOLD", KINDS),
];
const KINDS: &str = "id int32, flag boolean, small int16, money 15.2, hundreds 12.-2, ratio float, note text, \
                     photo bytes, day date, at time, zoned zoned";

/// A bad document of the first table is a dead letter beside the row that has it, one of the second costs the row.
const DOCUMENTS: &str = r#"
[[xml]]
source_table = "SALES.ORDERS"
xml_column = "SHIPPING_INFO"
target_table = "items"
xpath = ".//item"
columns = [{ name = "sku", path = "@id", type = "text" }, { name = "price", path = "price/text()", type = "15.2" }]

[[xml]]
source_table = "SALES.ORDERS"
xml_column = "DETAILS"
target_table = "details"
xpath = "/a/b"
columns = [{ name = "at", path = "../@at", type = "time" }]
malformed_xml = "SKIP"

[[xml]]
source_table = "S.KINDS"
xml_column = "NOTE"
target_table = "notes"
xpath = "//n"
columns = [{ name = "n", path = ".", type = "int64" }]
malformed_xml = "FAIL"
missing_attributes = "FAIL"
"#;

/// How the columns of the last table are written.
const TOLD: [(usize, WrittenAs); 5] = [
    (3, WrittenAs::Base64),
    (4, WrittenAs::Text),
    (7, WrittenAs::Hex),
    (8, WrittenAs::Days),
    (9, WrittenAs::Nanos),
];

/// Events, one a line; a line `#NAME=VALUE` before one is a user property of it, `#topic=VALUE` its topic.
///
/// # Panics
/// If a message is neither or both of a change and a dead letter and is no array of events, if a batch border changes anything, or if
/// more text comes out than the events can hold.
pub fn events(input: &[u8]) {
    let (messages, mut spools) = (messages(input), Generations::default());
    messages.iter().for_each(|message| register(&mut spools, message));
    let decode = |decoder: &mut Decoder, messages: &[Message]| {
        decoder.decode(messages, &spools).expect("the spool is registered, and the input is small")
    };
    let whole = decode(&mut decoder(), &messages);
    account(&messages, &whole);
    whole.changes.iter().for_each(|changes| check_texts(changes, input.len()));
    let mut one_by_one = decoder();
    let pieces: Vec<Decoded> = messages
        .iter()
        .map(|message| decode(&mut one_by_one, std::slice::from_ref(message)))
        .collect();
    compare(&whole, &pieces);
}

/// Checks that each message is exactly one of a change, a dead letter and something that changes no row.
///
/// # Panics
/// If one is not.
pub(in crate::decode) fn account(messages: &[Message], decoded: &Decoded) {
    let mut seen: HashMap<Offset, usize> = HashMap::new();
    let is_sent = |changes: &&Changelog| !changes.table.is_extracted();
    for changes in decoded.changes.iter().filter(is_sent) {
        let mut offsets = changes.offsets.clone();
        assert!(offsets.is_sorted(), "rows are in broker order");
        // A change of the key has two rows.
        offsets.dedup();
        let truncated = changes.truncations.iter().map(|truncation| truncation.offset);
        offsets
            .into_iter()
            .chain(truncated)
            .for_each(|offset| *seen.entry(offset).or_default() += 1);
    }
    for letter in &decoded.dead_letters {
        let count = seen.entry(letter.offset).or_default();
        // The row of a bad document may be there as well.
        *count = if letter.error_type == ErrorType::MalformedXml { 1 } else { *count + 1 };
    }
    let has_arrays = messages.iter().any(|message| event_count(message) != 1);
    let is_once = |count: &usize| *count == 1 || has_arrays;
    assert!(seen.values().all(is_once), "no message is both: {seen:?}");
    let passed = &decoded.passed;
    let passed = passed.tombstones
        + passed.heartbeats
        + passed.transaction_markers
        + passed.schema_changes
        + passed.notifications
        + passed.signals;
    assert!(seen.len() + passed >= messages.len(), "no message is neither");
    assert!(has_arrays || seen.len() + passed == messages.len(), "none is both");
    for letter in &decoded.dead_letters {
        let message = messages.iter().find(|message| message.offset == letter.offset);
        let message = message.expect("a dead letter is of one of the messages");
        assert_eq!((&letter.payload, &letter.topic), (&message.payload, &message.topic));
        assert_eq!(letter.properties, message.properties);
        assert!((1..=500).contains(&letter.message.chars().count()), "{}", letter.message);
    }
}

fn messages(input: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    let (mut properties, mut topic) = (Vec::new(), String::new());
    for line in input.split(|byte| *byte == b'\n') {
        if let [b'#', property @ ..] = line {
            let property = String::from_utf8_lossy(property);
            match property.split_once('=') {
                Some(("topic", name)) => topic = name.to_owned(),
                Some((name, value)) => properties.push((name.to_owned(), value.to_owned())),
                None => {}
            }
            continue;
        }
        let id = messages.len() as u64;
        messages.push(Message {
            offset: Offset::new(SPOOL, id),
            receipt: Receipt { flow: 1, id },
            topic: std::mem::take(&mut topic),
            payload: line.to_vec().into(),
            redelivered: false,
            properties: std::mem::take(&mut properties),
        });
        if messages.len() == MAX_MESSAGES {
            break;
        }
    }
    messages
}

fn decoder() -> Decoder {
    let mut tables: Vec<Table> = TABLES.into_iter().map(table).collect();
    tables[0].options.event_time = Some(2);
    tables[5].options.encodings = TOLD.to_vec();
    let count = |count| NonZeroUsize::new(count).expect("is not 0");
    let limits = Limits {
        max_event_bytes: count(64 << 10),
        max_undeclared_columns: count(20),
        max_undeclared_bytes: count(2000),
        max_depth: count(10),
        ..Limits::default()
    };
    let topic = Some("cdc/{schema}/{table}".to_owned());
    let config = DecodeConfig { topic, ..DecodeConfig::default() };
    let tables: Vec<_> = tables.into_iter().map(Arc::new).collect();
    let sections: Sections = toml::from_str(DOCUMENTS).expect("sections");
    let extractions = xml::resolve(&sections.xml, &tables, |name| Ok(data_type_of(name)));
    let extractions = extractions.expect("sections of these tables");
    let registered = RegisteredTables::default();
    Decoder::new(DecoderSetup { config, limits, tables, extractions, registered })
}

#[derive(serde::Deserialize)]
struct Sections {
    xml: Vec<XmlConfig>,
}

fn table((schema, name, columns): (&str, &str, &str)) -> Table {
    let columns = columns.split(", ").enumerate().map(|(at, column)| {
        let (name, data_type) = column.split_once(' ').expect("a name and a type");
        Column { name: name.to_owned(), data_type: data_type_of(data_type), nullable: at > 0 }
    });
    Table {
        name: name.to_lowercase(),
        source: SourceTable { schema: schema.to_owned(), table: name.to_owned() },
        columns: columns.collect(),
        key: vec![0],
        options: TableOptions::default(),
        origin: TableOrigin::Declared,
        learned: LearnedColumns::default(),
    }
}

fn data_type_of(name: &str) -> DataType {
    match name {
        "boolean" => DataType::Boolean,
        "int16" => DataType::Int16,
        "int32" => DataType::Int32,
        "int64" => DataType::Int64,
        "float" => DataType::Float64,
        "text" => DataType::Utf8,
        "bytes" => DataType::Binary,
        "date" => DataType::Date32,
        "time" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "zoned" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        decimal => {
            let (precision, scale) = decimal.split_once('.').expect("precision and scale");
            let precision = precision.parse().expect("a number");
            DataType::Decimal128(precision, scale.parse().expect("a number"))
        }
    }
}

/// What comes out is bounded by what went in; and Postgres takes the undeclared columns.
fn check_texts(changes: &Changelog, input: usize) {
    let texts = |column: usize| match changes.batch.column(column).data_type() {
        DataType::Utf8 => changes.batch.column(column).as_string::<i32>().value_data().len(),
        DataType::Binary => changes.batch.column(column).as_binary::<i32>().value_data().len(),
        _ => 0,
    };
    let is_extracted = changes.table.is_extracted();
    let bytes: usize = (0..changes.batch.num_columns()).map(texts).sum();
    // Of one number there are 240 digits at most; what is extracted may repeat values, within limits of its own.
    let is_bounded = is_extracted || bytes <= 8 * input + 2000 * changes.len();
    assert!(is_bounded, "{bytes} bytes of {input}");
    let extra = changes.table.system_column(SystemColumn::ExtraFields);
    for fields in changes.batch.column(extra).as_string::<i32>().iter().flatten() {
        let fields: HashMap<String, &RawValue> =
            serde_json::from_str(fields).expect("undeclared columns are a JSON object");
        assert!(!fields.keys().any(|name| name.contains('\0')));
    }
}

fn compare(whole: &Decoded, pieces: &[Decoded]) {
    let all = |letters: fn(&Decoded) -> usize| pieces.iter().map(letters).sum::<usize>();
    assert_eq!(all(|piece| piece.passed.heartbeats), whole.passed.heartbeats);
    let letters: Vec<_> = pieces.iter().flat_map(|piece| &piece.dead_letters).collect();
    assert_eq!(letters, whole.dead_letters.iter().collect::<Vec<_>>());
    let learned: Vec<_> = pieces.iter().flat_map(|piece| &piece.schema_changes).collect();
    assert_eq!(learned, whole.schema_changes.iter().collect::<Vec<_>>());
    let unread: Vec<_> = pieces.iter().flat_map(|piece| &piece.unread_documents).collect();
    assert_eq!(unread, whole.unread_documents.iter().collect::<Vec<_>>());
    let mut kept = KeptDocuments::new();
    for (table, offsets) in pieces.iter().flat_map(|piece| &piece.kept) {
        kept.entry(table.clone()).or_default().extend(offsets);
    }
    assert_eq!(kept, whole.kept);
    for changes in &whole.changes {
        let of_table = || {
            let all = pieces.iter().flat_map(|piece| &piece.changes);
            all.filter(|piece| piece.table.name == changes.table.name)
        };
        let batches = of_table().map(|piece| &piece.batch);
        let rows = concat_batches(&changes.batch.schema(), batches).expect("of one schema");
        assert_eq!(rows, changes.batch);
        let scns: Vec<_> = of_table().flat_map(|piece| piece.scns.clone()).collect();
        assert_eq!(scns, changes.scns);
        let unchanged: usize = of_table().map(|piece| piece.unchanged.len()).sum();
        assert_eq!(unchanged, changes.unchanged.len());
        let truncations: Vec<_> = of_table().flat_map(|piece| piece.truncations.clone()).collect();
        assert_eq!(truncations, changes.truncations);
    }
}
