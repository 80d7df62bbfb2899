//! Rows that are extracted from XML: however a stream is cut, redelivered and interrupted, each row of the source
//! table has those of its last document that could be read.

use std::collections::BTreeMap;

use super::*;
use crate::decode::UnknownTables;
use crate::pipeline::load_sql_with;
use crate::transform::SqlFile;
use crate::xml::XmlConfig;

const SECTIONS: &str = r#"
[[xml]]
source_table = "SALES.ORDERS"
xml_column = "SHIPPING_INFO"
target_table = "order_items_extracted"
xpath = ".//item"
columns = [{ name = "product_id", path = "@p", type = "BIGINT" }, { name = "quantity", path = "@q", type = "INTEGER" }]

[[xml]]
source_table = "SALES.ORDERS"
xml_column = "ORDER_DETAILS"
target_table = "order_notes_extracted"
xpath = "/d/note"
parent_key = "of_order"
malformed_xml = "SKIP"
columns = [{ name = "note", path = "." }]
"#;

#[derive(serde::Deserialize)]
struct Sections {
    xml: Vec<XmlConfig>,
}

pub(super) fn sections(text: &str) -> Vec<XmlConfig> {
    toml::from_str::<Sections>(text).unwrap().xml
}

async fn sql_with_xml() -> Sql {
    let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/sql"));
    let mut sql =
        load_sql_with(folder, &sections(SECTIONS), UnknownTables::default()).await.unwrap();
    let text = "-- writes: postgres cdc_item_counts\n-- key: order_id\nSELECT i.order_id, o.status, count(*) AS items, \
        sum(i.quantity) AS quantity FROM order_items_extracted i JOIN orders o ON o.order_id = i.order_id \
        GROUP BY i.order_id, o.status";
    let (path, name) = ("item_counts.sql".into(), "item_counts".to_owned());
    sql.transforms = vec![SqlFile { path, name, text: text.to_owned() }];
    sql
}

/// What a change says about a document.
#[derive(Debug, Clone, PartialEq)]
enum Said {
    Values(Vec<u8>),
    Null,
    Empty,
    Malformed,
    Unavailable,
    /// There is no such field.
    Nothing,
}

#[derive(Debug, Clone)]
enum Step {
    Upsert { id: u8, items: Said, notes: Said },
    Rename { from: u8, to: u8, items: Said, notes: Said },
    Delete { id: u8 },
    Truncate,
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        6 => prop::collection::vec(0u8..4, 0..4).prop_map(Said::Values),
        1 => Just(Said::Null),
        1 => Just(Said::Empty),
        1 => Just(Said::Malformed),
        2 => Just(Said::Unavailable),
        1 => Just(Said::Nothing),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0u8..4;
    prop_oneof![
        8 => (id.clone(), said(), said()).prop_map(|(id, items, notes)| Step::Upsert { id, items, notes }),
        1 => (id.clone(), id.clone(), said(), said())
            .prop_map(|(from, to, items, notes)| Step::Rename { from, to, items, notes }),
        2 => id.prop_map(|id| Step::Delete { id }),
        1 => Just(Step::Truncate),
    ]
}

fn field(name: &str, said: &Said, document: impl Fn(&[u8]) -> String) -> String {
    let value = match said {
        Said::Values(values) => document(values),
        Said::Null => return format!(r#","{name}":null"#),
        Said::Empty => String::new(),
        Said::Malformed => "<d><item q='1'".to_owned(),
        Said::Unavailable => "__debezium_unavailable_value".to_owned(),
        Said::Nothing => return String::new(),
    };
    format!(r#","{name}":"{value}""#)
}

fn order(id: u8, items: &Said, notes: &Said) -> String {
    let item = |value: &u8| format!("<item p='{value}' q='{value}'/>");
    let items = field("SHIPPING_INFO", items, |values| {
        format!("<d>{}</d>", values.iter().map(item).collect::<String>())
    });
    let note = |value: &u8| format!("<note>n{value}</note>");
    let notes = field("ORDER_DETAILS", notes, |values| {
        format!("<d>{}</d>", values.iter().map(note).collect::<String>())
    });
    format!(r#"{{"ORDER_ID":{id},"STATUS":"NEW"{items}{notes}}}"#)
}

fn payload(step: &Step) -> String {
    match step {
        Step::Upsert { id, items, notes } => event(0, "u", "null", &order(*id, items, notes)),
        Step::Rename { from, to, items, notes } => {
            let before = format!(r#"{{"ORDER_ID":{from}}}"#);
            event(0, "u", &before, &order(*to, items, notes))
        }
        Step::Delete { id } => event(0, "d", &format!(r#"{{"ORDER_ID":{id}}}"#), "null"),
        Step::Truncate => event(0, "t", "null", "null"),
    }
}

type Documents = BTreeMap<u8, Vec<u8>>;

/// What the rows of each order are in the end, of one of its documents.
fn expected(steps: &[Step], of: fn(&Said, &Said) -> Said) -> Documents {
    let mut documents = Documents::new();
    let note = |documents: &mut Documents, id: u8, said: Said| match said {
        Said::Values(values) => drop(documents.insert(id, values)),
        Said::Null | Said::Empty => drop(documents.remove(&id)),
        // A document that is the same as before, or that nobody can read.
        Said::Malformed | Said::Unavailable | Said::Nothing => {}
    };
    for step in steps {
        match step {
            Step::Upsert { id, items, notes } => note(&mut documents, *id, of(items, notes)),
            Step::Rename { from, to, items, notes } => {
                let old = documents.remove(from);
                if from != to {
                    documents.remove(to);
                }
                documents.extend(old.map(|old| (*to, old)));
                note(&mut documents, *to, of(items, notes));
            }
            Step::Delete { id } => drop(documents.remove(id)),
            Step::Truncate => documents.clear(),
        }
    }
    documents.retain(|_, values| !values.is_empty());
    documents
}

/// The newest landed rows of an extracted table: key, number, and the first column of the shape.
async fn landed(sql: &Sql, target: &MemoryTarget, table: &str) -> Rows {
    let table = sql.tables.iter().find(|t| t.name == table).unwrap();
    let newest = target.sink("sales", "cdc").bootstrap(table, None).await.unwrap();
    let mut rows = Rows::new();
    for changelog in newest {
        let is_gone: Vec<bool> =
            changelog.operations.iter().map(|o| *o == crate::model::Operation::Delete).collect();
        let there = changelog.without(&is_gone);
        rows.extend(as_text(&[there.batch.project(&[0, 1, 2]).unwrap()]));
    }
    rows
}

fn shown(documents: &Documents, value: fn(u8) -> String) -> Rows {
    let rows = documents.iter().flat_map(|(id, values)| {
        let numbered = values.iter().enumerate();
        numbered.map(move |(at, v)| vec![id.to_string(), (at + 1).to_string(), value(*v)])
    });
    rows.collect()
}

fn counts(documents: &Documents) -> Rows {
    let count = |(id, values): (&u8, &Vec<u8>)| {
        let quantity: u32 = values.iter().map(|value| u32::from(*value)).sum();
        vec![id.to_string(), "NEW".to_owned(), values.len().to_string(), quantity.to_string()]
    };
    documents.iter().map(count).collect()
}

/// No two landed rows have one event id, as the unique index of a landing table has it.
fn has_unique_ids(target: &MemoryTarget, landing: &str) -> bool {
    let ids = target.landed(landing).into_iter().flat_map(|changelog| {
        let column = changelog.table.system_column(crate::model::SystemColumn::EventId);
        let batch = changelog.batch;
        (0..batch.num_rows())
            .map(|row| array_value_to_string(batch.column(column), row).unwrap())
            .collect::<Vec<_>>()
    });
    let ids: Vec<String> = ids.collect();
    ids.iter().collect::<BTreeSet<_>>().len() == ids.len()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn each_order_has_the_rows_of_its_last_document(
        steps in prop::collection::vec(step(), 1..40),
        borders in prop::collection::vec(border(), 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let sql = sql_with_xml().await;
            let stream = messages(&steps.iter().map(payload).collect::<Vec<_>>());
            let target = run_in_batches(&sql, &stream, &borders).await;
            let items = expected(&steps, |items, _| items.clone());
            let rows = landed(&sql, &target, "order_items_extracted").await;
            assert_eq!(rows, shown(&items, |value| value.to_string()));
            let notes = expected(&steps, |_, notes| notes.clone());
            let rows = landed(&sql, &target, "order_notes_extracted").await;
            assert_eq!(rows, shown(&notes, |value| format!("n{value}")));
            assert_eq!(as_text(&target.result("cdc_item_counts")), counts(&items));
            assert!(has_unique_ids(&target, "cdc_order_items_extracted"));
            let is_malformed = |step: &&Step| matches!(step,
                Step::Upsert { items: Said::Malformed, .. } | Step::Rename { items: Said::Malformed, .. });
            let letters = target.dead_letters();
            assert_eq!(letters.len(), steps.iter().filter(is_malformed).count());
            assert!(letters.iter().all(|l| l.error_type == crate::model::ErrorType::MalformedXml));
        });
    }
}

#[tokio::test]
async fn a_document_that_stays_the_same_writes_nothing() {
    let sql = sql_with_xml().await;
    let target = MemoryTarget::default();
    let (mut processor, mut sink) = processor(&sql, &target).await;
    let said = |values: &[u8]| Said::Values(values.to_vec());
    let orders = [said(&[1, 2]), said(&[1, 2]), said(&[1, 3]), said(&[1])];
    let payloads: Vec<String> =
        orders.iter().map(|items| event(0, "u", "null", &order(1, items, &Said::Null))).collect();
    for message in messages(&payloads) {
        let job = processor.process(vec![message].into(), &HashMap::new()).await.unwrap();
        commit(&mut sink, job).await;
    }
    let landed = target.landed("cdc_order_items_extracted");
    let written: Vec<Vec<&str>> = landed
        .iter()
        .map(|changelog| changelog.operations.iter().map(|o| o.letter()).collect())
        .collect();
    assert_eq!(written, [vec!["c", "c"], vec!["u"], vec!["d"]]);
}

#[tokio::test]
async fn rows_that_ttl_dropped_come_back_with_their_order() {
    use super::late_events::{LATER, Stage, source_event};
    let mut stage = Stage::with(sql_with_xml().await).await;
    let row = |items: &[u8]| order(7, &Said::Values(items.to_vec()), &Said::Null);
    let at = |time, op: &str, row: &str| source_event("ORDERS", time, op, ("null", row));
    assert_eq!(stage.send(&[at(0, "c", &row(&[1, 2, 3]))]).await, vec![]);
    stage.let_time_pass().await;
    assert_eq!(stage.len("order_items_extracted"), 0);
    assert_eq!(stage.send(&[at(LATER, "u", &row(&[1, 2]))]).await, vec![]);
    assert_eq!(stage.len("order_items_extracted"), 2);
    let rows = landed(&sql_with_xml().await, &stage.target, "order_items_extracted").await;
    assert_eq!(rows, shown(&BTreeMap::from([(7, vec![1, 2])]), |value| value.to_string()));
}
