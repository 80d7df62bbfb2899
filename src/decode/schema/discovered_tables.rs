//! Events of tables that no file declares.
//!
//! Where such tables are registered, an event of a new one is held: the epoch registers the table and does
//! without the event, which comes again when the session has started over with the table. What all events of
//! the epoch say about it counts, because the first may say little.

use std::collections::{HashMap, HashSet};

use crate::decode::config::UnknownTables;
use crate::decode::debezium::{
    ChangeAction, ChangeEvent, DescribedField, Image, is_kind_of_signal, key_property,
    self_describing, semantics,
};
use crate::decode::decoded::Decoded;
use crate::decode::limits::Limits;
use crate::decode::refusal::EventRefusal;
use crate::decode::rows::no_row;
use crate::model::{
    MAX_KEY_COLUMNS, Message, Offset, Operation, SchemaChange, SchemaChangeKind, SeenType,
    SourceTable, SureType, column_name,
};

/// Characters of a table's name: `cdc_`, its schema and a number go beside it.
const MAX_NAME: usize = 40;
/// Tables that messages have announced with their keys, and that may never come.
const MAX_ANNOUNCED: usize = 10_000;
/// A connector has one table of signals.
const MAX_OF_SIGNALS: usize = 100;
/// Tables that are named when they are ignored.
const MAX_TOLD: usize = 1000;

/// What is known of the tables that are registered without being declared.
#[derive(Debug, Default)]
pub struct RegisteredTables {
    /// How many there are.
    pub count: usize,
    /// Those of them that can't be used, and why.
    pub withdrawn: HashMap<SourceTable, String>,
    /// Names of tables and results, and of what is written to: a new table gets another one.
    pub taken: HashSet<String>,
}

/// What becomes of the events, and what is known about their tables.
#[derive(Debug)]
pub(in crate::decode) struct UndeclaredTables {
    policy: UnknownTables,
    limits: Limits,
    registered: RegisteredTables,
    /// As schema-change messages say.
    keys: HashMap<SourceTable, Vec<String>>,
    told: HashSet<SourceTable>,
    /// Tables that the connector reads and writes signals in.
    of_signals: HashSet<SourceTable>,
    /// What the epoch at hand registers.
    learning: Vec<TableSketch>,
}

/// An event of a table that is not declared.
pub(in crate::decode) struct UndeclaredEvent<'e> {
    pub(in crate::decode) change: &'e ChangeEvent<'e>,
    pub(in crate::decode) message: &'e Message,
}

impl UndeclaredTables {
    pub(in crate::decode) fn new(
        policy: UnknownTables,
        limits: Limits,
        registered: RegisteredTables,
    ) -> Self {
        Self {
            policy,
            limits,
            registered,
            keys: HashMap::new(),
            told: HashSet::new(),
            of_signals: HashSet::new(),
            learning: Vec::new(),
        }
    }

    /// Takes in what was learned before.
    pub(in crate::decode) fn remember(&mut self, change: &SchemaChange) {
        if change.kind == SchemaChangeKind::Key {
            let key = serde_json::from_str(&change.column).unwrap_or_default();
            self.keys.insert(change.source.clone(), key);
        }
    }

    /// Takes in the key that a schema-change message names.
    pub(in crate::decode) fn announce(
        &mut self,
        source: SourceTable,
        key: Vec<String>,
        offset: Offset,
        learned: &mut Vec<SchemaChange>,
    ) {
        let is_known = match self.keys.get(&source) {
            Some(known) => *known == key,
            None => key.is_empty() || self.keys.len() >= MAX_ANNOUNCED,
        };
        if self.policy == UnknownTables::Register && !is_known {
            learned.push(key_change(&source, &key, offset));
            self.keys.insert(source, key);
        }
    }

    /// What becomes of an event.
    ///
    /// # Errors
    /// If it is a dead letter.
    pub(in crate::decode) fn take(
        &mut self,
        event: &UndeclaredEvent<'_>,
        decoded: &mut Decoded,
    ) -> Result<(), EventRefusal> {
        let change = event.change;
        let source =
            SourceTable { schema: change.schema.to_string(), table: change.table.to_string() };
        if self.of_signals.contains(&source) || is_signal(change) {
            if self.of_signals.len() < MAX_OF_SIGNALS {
                self.of_signals.insert(source);
            }
            decoded.passed.signals += 1;
            return Ok(());
        }
        match self.policy {
            UnknownTables::Dlq => return Err(undeclared(change)),
            UnknownTables::Ignore => {
                decoded.passed.unknown_tables += 1;
                if self.told.len() < MAX_TOLD && self.told.insert(source.clone()) {
                    decoded.ignored.push(source);
                }
            }
            UnknownTables::Register => {
                self.learn(source, event)?;
                decoded.held.push(event.message.offset);
            }
        }
        Ok(())
    }

    fn learn(
        &mut self,
        source: SourceTable,
        event: &UndeclaredEvent<'_>,
    ) -> Result<(), EventRefusal> {
        let change = event.change;
        let source_table = || source.to_string();
        if let Some(reason) = self.registered.withdrawn.get(&source) {
            let (source_table, reason) = (source_table(), reason.clone());
            return Err(EventRefusal::Withdrawn { source_table, reason });
        }
        let known = self.learning.iter().position(|shape| shape.source == source);
        let row = match change.action {
            ChangeAction::Row(Operation::Delete) => change.before,
            ChangeAction::Row(operation) => Some(change.after.ok_or_else(|| no_row(operation))?),
            ChangeAction::Truncate | ChangeAction::Message => None,
        };
        let Some(row) = row else {
            // It comes again behind the events that the table is known by.
            return known.map(|_| ()).ok_or_else(|| undeclared(change));
        };
        let seen = EventSketch::read(row, event, &self.limits)?;
        let limit = self.limits.max_registered_tables.get();
        let at = match known {
            Some(at) => at,
            None if self.registered.count + self.learning.len() >= limit => {
                return Err(EventRefusal::TooManyTables { source_table: source_table(), limit });
            }
            None => {
                self.learning.push(TableSketch::new(source, event.message.offset));
                self.learning.len() - 1
            }
        };
        self.learning[at].add(seen);
        Ok(())
    }

    /// What the epoch has to register.
    pub(in crate::decode) fn finish(&mut self, learned: &mut Vec<SchemaChange>) {
        for shape in std::mem::take(&mut self.learning) {
            let announced = self.keys.get(&shape.source).cloned();
            let key = shape.key(announced.clone());
            if key != announced.unwrap_or_default() {
                learned.push(key_change(&shape.source, &key, shape.offset));
            }
            let name = self.free_name(&shape.source);
            self.registered.taken.insert(name.clone());
            learned.push(shape.change(SchemaChangeKind::Registered, name, SeenType::Null));
            for (field, sure, seen) in &shape.fields {
                // A key must be exact, and every value is one as a text.
                let of_key = key.contains(field).then_some(SureType::Varchar);
                let (kind, seen) = match sure.or(of_key).filter(|_| column_name(field).is_some()) {
                    Some(sure) => (SchemaChangeKind::Typed, SeenType::Sure(sure)),
                    None => (SchemaChangeKind::Added, *seen),
                };
                learned.push(shape.change(kind, field.clone(), seen));
            }
        }
    }

    /// A name for SQL, that of the table in the source if nobody else has it.
    fn free_name(&self, source: &SourceTable) -> String {
        let plain = |name: &str| -> String {
            let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
            name.to_lowercase().chars().take(MAX_NAME).map(letter).collect()
        };
        let (schema, table) = (plain(&source.schema), plain(&source.table));
        let with_schema: String = format!("{schema}_{table}").chars().take(MAX_NAME).collect();
        let numbered = (2..).map(|number| format!("{table}_{number}"));
        let mut names = [table.clone(), with_schema].into_iter().chain(numbered);
        names.find(|name| self.is_free(name)).expect("numbers don't end")
    }

    fn is_free(&self, name: &str) -> bool {
        let changes = |name: &str| format!("{name}_changes");
        let is_same = |taken: &String| {
            *taken == name
                || *taken == changes(name)
                || changes(taken) == name
                || *taken == format!("cdc_{name}")
        };
        !self.registered.taken.iter().any(is_same)
    }
}

/// Whether the row is one of Debezium's table of signals: it has three columns, and the second says which one.
fn is_signal(change: &ChangeEvent<'_>) -> bool {
    let Some(Ok(fields)) = change.after.or(change.before).map(|row| fields_of(row, change)) else {
        return false;
    };
    let value = |name: &str| {
        fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, raw)| *raw)
    };
    let kind: Option<String> = value("type").and_then(|raw| serde_json::from_str(raw).ok());
    let has_columns = fields.len() == 3 && value("id").is_some() && value("data").is_some();
    has_columns && kind.is_some_and(|kind| is_kind_of_signal(&kind))
}

/// What the events of an epoch say about a table.
#[derive(Debug)]
struct TableSketch {
    source: SourceTable,
    /// The first of the events.
    offset: Offset,
    /// In the order in which they were seen, each once, with the types that the source names.
    fields: Vec<(String, Option<SureType>, SeenType)>,
    by_name: HashMap<String, usize>,
    /// An event names its key.
    named: Option<Vec<String>>,
    /// The row before an update holds nothing but what the update did not change.
    shown: Option<Vec<String>>,
}

impl TableSketch {
    fn new(source: SourceTable, offset: Offset) -> Self {
        let (fields, by_name) = (Vec::new(), HashMap::new());
        Self { source, offset, fields, by_name, named: None, shown: None }
    }

    fn add(&mut self, seen: EventSketch) {
        for (field, sure, value) in seen.fields {
            match self.by_name.get(&field) {
                None => {
                    self.by_name.insert(field.clone(), self.fields.len());
                    self.fields.push((field, sure, value));
                }
                Some(at) => {
                    let (_, known, values) = &mut self.fields[*at];
                    *known = match (*known, sure) {
                        (Some(one), Some(other)) => one.or(other),
                        (one, other) => one.or(other),
                    };
                    *values = values.or(value);
                }
            }
        }
        self.named = self.named.take().or(seen.named);
        self.shown = self.shown.take().or(seen.shown);
    }

    /// Its fields; empty if nobody knows it.
    fn key(&self, announced: Option<Vec<String>>) -> Vec<String> {
        let is_usable = |key: &Vec<String>| {
            let is_column =
                |field: &String| self.by_name.contains_key(field) && column_name(field).is_some();
            (1..=MAX_KEY_COLUMNS).contains(&key.len()) && key.iter().all(is_column)
        };
        let known = [self.named.clone(), announced, self.shown.clone()];
        known.into_iter().flatten().find(is_usable).unwrap_or_default()
    }

    fn change(&self, kind: SchemaChangeKind, column: String, seen: SeenType) -> SchemaChange {
        SchemaChange { source: self.source.clone(), column, kind, seen, offset: self.offset }
    }
}

/// What one event says about its table.
struct EventSketch {
    /// With the type that the source names, and that of the value.
    fields: Vec<(String, Option<SureType>, SeenType)>,
    named: Option<Vec<String>>,
    shown: Option<Vec<String>>,
}

impl EventSketch {
    fn read(row: &str, event: &UndeclaredEvent<'_>, limits: &Limits) -> Result<Self, EventRefusal> {
        let change = event.change;
        let unreadable = |what: &str, error: serde_json::Error| EventRefusal::UnknownEnvelope {
            reason: format!("its {what}: {error}"),
        };
        let image = fields_of(row, change).map_err(|error| unreadable("row is no row", error))?;
        let section = change.schema_section.map_or_else(|| Ok(Vec::new()), semantics);
        let section = section
            .map_err(|error| unreadable("schema section is none of Kafka Connect", error))?;
        let values: HashMap<&str, &str> =
            image.iter().map(|(field, raw)| (field.as_str(), *raw)).collect();
        // As it is kept.
        let value = |it: &DescribedField| {
            let raw = values.get(it.field.as_str()).copied().unwrap_or("null");
            SeenType::of(self_describing(raw, it.semantic).as_deref().unwrap_or(raw))
        };
        let described: HashSet<String> = section.iter().map(|it| it.field.clone()).collect();
        let others = image.iter().filter(|(field, _)| !described.contains(field));
        let others = others.map(|(field, raw)| (field.clone(), None, SeenType::of(raw)));
        let section = section.into_iter().map(|it| {
            let value = value(&it);
            (it.field, it.sure, value)
        });
        let mut fields: Vec<_> = section.chain(others).collect();
        fields.retain(|(field, _, _)| !change.form.is_metadata(field));
        let limit = limits.max_undeclared_columns.get();
        if fields.len() > limit {
            let table = format!("{}.{}", change.schema, change.table);
            return Err(EventRefusal::TooManyColumns { table, known: 0, new: fields.len(), limit });
        }
        let named = key_property(event.message).and_then(|key| fields_of(key, change).ok());
        let listed = || serde_json::from_str(change.primary_keys?).ok();
        let named = named.map(names).or_else(listed);
        Ok(Self { fields, named, shown: shown_key(change, &image) })
    }
}

/// The fields of a row of a change in their order, with their values as they stand.
fn fields_of<'r>(
    row: &'r str,
    change: &ChangeEvent<'_>,
) -> Result<Vec<(String, &'r str)>, serde_json::Error> {
    let mut image = Image { reading: change.reading(), ..Image::default() };
    image.read(row, 0, |_, _| None)?;
    let fields = image.extra.into_iter();
    Ok(fields.map(|field| (field.name.into_owned(), field.raw)).collect())
}

fn names(fields: Vec<(String, &str)>) -> Vec<String> {
    fields.into_iter().map(|(field, _)| field).collect()
}

/// The fields of the row before an update, if they are some of its fields, and none of them has changed: with a
/// supplemental log of keys alone these are the key. If they are more than that, they tell rows apart as well.
fn shown_key(change: &ChangeEvent<'_>, after: &[(String, &str)]) -> Option<Vec<String>> {
    if change.action != ChangeAction::Row(Operation::Update) {
        return None;
    }
    let before = fields_of(change.before?, change).ok()?;
    let after: HashMap<&str, &str> =
        after.iter().map(|(field, value)| (field.as_str(), *value)).collect();
    let is_same =
        |(field, value): &(String, &str)| *value != "null" && after.get(&**field) == Some(value);
    let is_part = !before.is_empty() && before.len() < after.len() && before.iter().all(is_same);
    is_part.then(|| names(before))
}

fn key_change(source: &SourceTable, key: &[String], offset: Offset) -> SchemaChange {
    let column = serde_json::Value::from(key).to_string();
    let (kind, seen) = (SchemaChangeKind::Key, SeenType::Null);
    SchemaChange { source: source.clone(), column, kind, seen, offset }
}

pub(in crate::decode) fn undeclared(change: &ChangeEvent<'_>) -> EventRefusal {
    EventRefusal::UnknownTable {
        source_table: match &*change.schema {
            "" => format!("SCHEMA.{}", change.table),
            schema => format!("{schema}.{}", change.table),
        },
        name: change.table.to_lowercase(),
    }
}
