//! The short form of an event, written out as the payload that Debezium would send.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use chrono::{NaiveDate, NaiveDateTime};
use serde_json::{Map, Value as Json, json};

use super::yaml::{Key, Node, Problem, Value, unknown};
use crate::model::{
    Column, Landing, LearnedColumns, Scn, SourceTable, Table, TableOptions, TableOrigin,
};

const CLOCK: &str = "tidemark_clock";

/// 2000-01-01: the source's time until a test says otherwise, microseconds since 1970.
const START: i64 = 946_684_800_000_000;

/// A table whose only purpose is its event time: `time:` is an event of it, because watermarks move by
/// events and by nothing else.
pub(super) fn clock_table() -> Arc<Table> {
    let column =
        |name: &str, data_type| Column { name: name.to_owned(), data_type, nullable: true };
    Arc::new(Table {
        name: CLOCK.to_owned(),
        source: SourceTable { schema: "TIDEMARK".to_owned(), table: "CLOCK".to_owned() },
        columns: vec![
            column("id", DataType::Int64),
            column("now", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ],
        key: vec![0],
        options: TableOptions { event_time: Some(1), landing: Landing::None, ..Default::default() },
        origin: TableOrigin::Declared,
        learned: LearnedColumns::default(),
    })
}

/// A row by column name; every value as it was written.
type EventRow = BTreeMap<String, Option<String>>;

/// Which row of which table.
type RowKey = (String, Vec<Option<String>>);

/// Turns the events of one test into payloads, one after the other.
pub(super) struct Events<'a> {
    tables: &'a [Arc<Table>],
    /// The rows so far, by table and key: what an update leaves out stays as it was.
    current: HashMap<RowKey, EventRow>,
    /// Of the newest changes, where events say it.
    scns: HashMap<RowKey, Scn>,
    /// Of the event at hand.
    scn: Option<Scn>,
    /// Microseconds since 1970.
    now: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EventKind {
    Insert,
    Update,
    Delete,
    Snapshot,
}

/// A row before and after a change.
struct RowImages {
    old: Option<EventRow>,
    new: EventRow,
}

/// The parts of a short form.
#[derive(Default)]
struct EventParts<'a> {
    what: Option<(EventKind, &'a Node)>,
    row: Option<&'a Node>,
    before: Option<&'a Node>,
    at: Option<&'a Node>,
    scn: Option<&'a Node>,
}

impl<'a> Events<'a> {
    pub(super) fn new(tables: &'a [Arc<Table>]) -> Self {
        Self { tables, current: HashMap::new(), scns: HashMap::new(), scn: None, now: START }
    }

    /// # Errors
    /// If the event names what is not there.
    pub(super) fn payload(
        &mut self,
        node: &Node,
        pairs: &[(Key, Node)],
    ) -> Result<String, Problem> {
        match pairs {
            [(key, payload)] if key.name == "raw" => raw(payload),
            [(key, time)] if key.name == "time" => {
                (self.now, self.scn) = (micros(time)?, None);
                let row = json!({ "ID": 1, "NOW": self.now });
                Ok(self.envelope(&clock_table().source, "u", Json::Null, row))
            }
            _ => self.row_event(node, &parts(pairs)?),
        }
    }

    fn row_event(&mut self, node: &Node, parts: &EventParts<'_>) -> Result<String, Problem> {
        let Some((kind, table)) = parts.what else {
            return Err(node.problem(
                "this event says neither `insert: TABLE`, `update: TABLE`, `delete: TABLE`, \
                 `snapshot: TABLE`, `time: TIME` nor `raw: PAYLOAD`",
            ));
        };
        let table = self.table(table)?;
        self.scn = parts.scn.map(scn).transpose()?;
        if let Some(at) = parts.at {
            self.now = micros(at)?;
        }
        let node_of_row = parts.row.ok_or_else(|| node.problem("this event has no `row:`"))?;
        let given = row(&table, node_of_row)?;
        let renamed = match (parts.before, kind) {
            (None, _) => None,
            (Some(before), EventKind::Update) => Some((row(&table, before)?, before)),
            (Some(before), _) => {
                return Err(before.problem("only an update has a `before:`: the key it had"));
            }
        };
        let (old_key, key_node) = match &renamed {
            Some((before, node)) => (key(&table, before, node)?, *node),
            None => (key(&table, &given, node_of_row)?, node_of_row),
        };
        let old = self.current.remove(&(table.name.clone(), old_key.clone()));
        let base = match kind {
            EventKind::Update | EventKind::Delete => old.clone().unwrap_or_default(),
            EventKind::Insert | EventKind::Snapshot => EventRow::new(),
        };
        let mut new = base;
        new.extend(renamed.map(|(before, _)| before).unwrap_or_default());
        new.extend(given);
        if parts.at.is_none() {
            // An event time ahead of the source's clock would be doubted.
            self.now = self.now.max(event_time(&table, &new).unwrap_or(i64::MIN));
        }
        let new_json = image(&table, &new, node_of_row)?;
        let old_json = match (&old, kind) {
            (Some(old), EventKind::Update) => image(&table, old, key_node)?,
            (None, EventKind::Update) if parts.before.is_some() => {
                let columns = table.key.iter().map(|at| table.columns[*at].name.clone());
                image(&table, &columns.zip(old_key.clone()).collect(), key_node)?
            }
            _ => Json::Null,
        };
        if kind == EventKind::Delete {
            self.scns.extend(self.scn.map(|scn| ((table.name.clone(), old_key), scn)));
            return Ok(self.envelope(&table.source, "d", new_json, Json::Null));
        }
        let new_key = key(&table, &new, node_of_row)?;
        self.note(kind, (table.name.clone(), new_key), RowImages { old, new });
        let op = match kind {
            EventKind::Insert => "c",
            EventKind::Update => "u",
            EventKind::Snapshot => "r",
            EventKind::Delete => "d",
        };
        Ok(self.envelope(&table.source, op, old_json, new_json))
    }

    /// A snapshot row that was read before the newest change leaves the row as it was.
    fn note(&mut self, kind: EventKind, place: RowKey, images: RowImages) {
        let RowImages { old, new } = images;
        let known = self.scns.get(&place).copied();
        let is_older = self.scn.zip(known).is_some_and(|(own, known)| own < known);
        if kind == EventKind::Snapshot && is_older {
            self.current.extend(old.map(|old| (place, old)));
            return;
        }
        match self.scn {
            Some(scn) => self.scns.insert(place.clone(), scn),
            None => self.scns.remove(&place),
        };
        self.current.insert(place, new);
    }

    fn table(&self, node: &Node) -> Result<Arc<Table>, Problem> {
        let name = node.text("the table")?;
        let declared = || self.tables.iter().filter(|table| table.name != CLOCK);
        declared().find(|table| table.name == name).cloned().ok_or_else(|| {
            let names: Vec<&str> = declared().map(|table| table.name.as_str()).collect();
            node.problem(format!("there is no table {name}; there are {}", names.join(", ")))
        })
    }

    fn envelope(&self, source: &SourceTable, op: &str, before: Json, after: Json) -> String {
        let scn = self.scn.map(|scn| scn.to_string());
        let source = json!({ "schema": source.schema, "table": source.table, "ts_us": self.now, "scn": scn });
        json!({ "before": before, "after": after, "source": source, "op": op }).to_string()
    }
}

/// A payload as text, which is sent as it stands; `null` is a tombstone.
fn raw(node: &Node) -> Result<String, Problem> {
    match &node.value {
        Value::Null => Ok(String::new()),
        Value::Text(text) => Ok(text.clone()),
        Value::List(_) | Value::Map(_) => Err(node.problem(
            "raw is the payload as text: write `raw: |` and the JSON on the lines below, or quote it",
        )),
    }
}

fn parts(pairs: &[(Key, Node)]) -> Result<EventParts<'_>, Problem> {
    let mut parts = EventParts::default();
    for (key, value) in pairs {
        let kind = match key.name.as_str() {
            "insert" => EventKind::Insert,
            "update" => EventKind::Update,
            "delete" => EventKind::Delete,
            "snapshot" => EventKind::Snapshot,
            "row" => {
                parts.row = Some(value);
                continue;
            }
            "before" => {
                parts.before = Some(value);
                continue;
            }
            "at" => {
                parts.at = Some(value);
                continue;
            }
            "scn" => {
                parts.scn = Some(value);
                continue;
            }
            _ => {
                return Err(unknown(key, "insert, update, delete, snapshot, row, before, at, scn"));
            }
        };
        if parts.what.replace((kind, value)).is_some() {
            let message = "an event is one of insert, update, delete and snapshot".to_owned();
            return Err(Problem { at: key.at, message });
        }
    }
    Ok(parts)
}

fn row(table: &Table, node: &Node) -> Result<EventRow, Problem> {
    let mut row = EventRow::new();
    for (key, value) in node.map("a row")? {
        if table.column_index(&key.name).is_none() {
            let message = format!(
                "table {} has no column {}; a field that the table does not declare goes into a `raw:` event",
                table.name, key.name
            );
            return Err(Problem { at: key.at, message });
        }
        let cell = match &value.value {
            Value::Null => None,
            Value::Text(text) => Some(text.clone()),
            Value::List(_) | Value::Map(_) => {
                return Err(value.problem("a column's value must be a text"));
            }
        };
        row.insert(key.name.clone(), cell);
    }
    Ok(row)
}

fn key(table: &Table, row: &EventRow, node: &Node) -> Result<Vec<Option<String>>, Problem> {
    let cell = |at: &usize| {
        let name = &table.columns[*at].name;
        row.get(name).cloned().ok_or_else(|| {
            node.problem(format!("the key column {name} of table {} is missing", table.name))
        })
    };
    table.key.iter().map(cell).collect()
}

/// The row as in an event.
fn image(table: &Table, row: &EventRow, node: &Node) -> Result<Json, Problem> {
    let mut fields = Map::new();
    for column in &table.columns {
        let value = match row.get(&column.name) {
            None | Some(None) => Json::Null,
            Some(Some(text)) => value(column, text).map_err(|message| node.problem(message))?,
        };
        fields.insert(column.name.to_uppercase(), value);
    }
    Ok(Json::Object(fields))
}

/// Numbers that have no exact place in a JSON number are texts, as Debezium sends them on request.
fn value(column: &Column, text: &str) -> Result<Json, String> {
    let wrong = |expected| format!("column {}: '{text}' is not {expected}", column.name);
    match &column.data_type {
        DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            text.parse::<i64>().map(Json::from).map_err(|_| wrong("a whole number"))
        }
        DataType::Float64 => text.parse::<f64>().map(Json::from).map_err(|_| wrong("a number")),
        DataType::Boolean => {
            text.parse::<bool>().map(Json::from).map_err(|_| wrong("true or false"))
        }
        _ => Ok(Json::from(text)),
    }
}

fn scn(node: &Node) -> Result<Scn, Problem> {
    let text = node.text("an SCN")?;
    Scn::from_digits(text)
        .ok_or_else(|| node.problem(format!("'{text}' is no SCN; write it as in 2208886")))
}

fn event_time(table: &Table, row: &EventRow) -> Option<i64> {
    let column = &table.columns[table.options.event_time?];
    row.get(&column.name)?.as_deref().and_then(parsed)
}

/// `2024-01-15`, `2024-01-15 10:00`, `2024-01-15T10:00:00.5Z`; microseconds since 1970.
fn micros(node: &Node) -> Result<i64, Problem> {
    let text = node.text("a time")?;
    parsed(text).ok_or_else(|| {
        node.problem(format!("'{text}' is no time; write it as in 2024-01-15 10:00:00 (UTC)"))
    })
}

fn parsed(text: &str) -> Option<i64> {
    let plain = text.trim_end_matches('Z').replace('T', " ");
    let day =
        NaiveDate::parse_from_str(&plain, "%Y-%m-%d").ok().and_then(|d| d.and_hms_opt(0, 0, 0));
    let time = day
        .or_else(|| NaiveDateTime::parse_from_str(&plain, "%Y-%m-%d %H:%M").ok())
        .or_else(|| NaiveDateTime::parse_from_str(&plain, "%Y-%m-%d %H:%M:%S%.f").ok());
    Some(time?.and_utc().timestamp_micros())
}
