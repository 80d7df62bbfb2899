//! Bytes to changelog batches: what a message of the queue says about which row.
//!
//! An event that cannot be decoded exactly costs its own row only: it becomes a dead letter with its
//! original bytes. Nothing here does I/O or knows SQL; `debezium` knows the format, `route` the
//! declared table, `rows` the Arrow side. Decimals never pass through a float, and a value with two
//! plausible readings is refused rather than guessed.

mod change;
mod config;
mod debezium;
mod extra_fields;
mod extracted;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod limits;
mod profile;
mod refusal;
mod registry;
mod route;
mod rows;
mod schema_message;
mod unknown;

#[cfg(test)]
mod tests;

pub use config::{DecodeConfig, UnknownTables};
pub use extracted::Kept;
pub use limits::Limits;
pub use profile::{ColumnProfile, Evidence};

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::model::{
    Changelog, DeadLetter, Message, Offset, Operation, PositionError, SchemaChange,
    SchemaChangeKind, SeenType, SourceTable, SpoolOrder, Table, Truncate,
};
use crate::xml::Extraction;
use change::Scratch;
use debezium::{Action, Change, Event, SchemaMessage, TopicPattern, Unavailable};
use extracted::{Documents, ExtractedRows};
use refusal::Refusal;
use registry::Observed;
use route::Route;
use rows::{Origin, Rows};
use schema_message::{Announced, Renamed, columns, keys, renamed};
use unknown::{Unknown, undeclared};

/// Bytes of text that one column of a batch can hold: Arrow's offsets are 32 bits.
const MAX_EPOCH_BYTES: usize = i32::MAX as usize;

/// Bytes that a row takes besides its payload and topic, at most: two event ids and letters.
const ROW_OVERHEAD: usize = 128;

/// The key's old row of an update that changes the key.
const BEFORE_SUFFIX: &str = "#before";

/// Decodes the messages of one epoch.
///
/// It remembers the schema sections and the columns that it has seen, so one decoder serves all epochs.
#[derive(Debug)]
pub struct Decoder {
    routes: Vec<Route>,
    /// One per route.
    observed: Vec<Observed>,
    /// One per route.
    documents: Vec<Documents>,
    extractions: Vec<Arc<Extraction>>,
    unavailable: Arc<Unavailable>,
    limits: Limits,
    /// Positions in `routes` by the table's name in the source; several schemas may have it.
    by_table: HashMap<String, Vec<usize>>,
    topics: Option<TopicPattern>,
    unknown: Unknown,
}

/// What an epoch's messages say. Every message is in exactly one of `changes`, `dead_letters`, `passed` and
/// `held`, but for one whose document can't be read: its row is a change, and it is a dead letter as well.
#[derive(Debug, Default)]
pub struct Decoded {
    /// One per table that has rows, in the order of declaration.
    pub changes: Vec<Changelog>,
    /// In broker order.
    pub dead_letters: Vec<DeadLetter>,
    pub passed: Passed,
    /// Events of tables that this epoch registers: a decoder that knows these has to see them again.
    pub held: Vec<Offset>,
    /// Tables whose events are ignored, each once.
    pub ignored: Vec<SourceTable>,
    /// What is new about the tables' columns, in broker order; also of rows that are dead letters.
    pub schema_changes: Vec<SchemaChange>,
    pub kept: Kept,
    /// The extracted table, once for each document that could not be read.
    pub unread_documents: Vec<String>,
}

/// Messages that rightly change no row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    pub tombstones: usize,
    pub heartbeats: usize,
    pub transaction_markers: usize,
    pub schema_changes: usize,
    /// Events of tables that are not declared and ignored.
    pub unknown_tables: usize,
}

/// The epoch as a whole was put together wrongly; no message is to blame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error("a message of the epoch has no position")]
    Position(#[source] PositionError),
    #[error("the epoch's {bytes} bytes do not fit one batch: lower the batch limits")]
    EpochTooLarge { bytes: usize },
}

impl Decoder {
    pub fn new(tables: Vec<Arc<Table>>, config: &DecodeConfig) -> Self {
        // What is extracted has no events of its own.
        let has_events = |table: &Arc<Table>| table.options.extracted_from.is_none();
        let tables: Vec<Arc<Table>> = tables.into_iter().filter(has_events).collect();
        let mut by_table: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, table) in tables.iter().enumerate() {
            by_table.entry(table.source.table.clone()).or_default().push(index);
        }
        let unavailable = Arc::new(Unavailable::new(&config.unavailable_value));
        let route = |table| Route::new(table, Arc::clone(&unavailable), &[]);
        let observed = tables.iter().map(|table| Observed::new(table)).collect();
        let documents = tables.iter().map(|_| Documents::default()).collect();
        Self {
            routes: tables.into_iter().map(route).collect(),
            observed,
            documents,
            extractions: Vec::new(),
            unavailable,
            limits: Limits::default(),
            by_table,
            topics: config.topic_pattern(),
            unknown: Unknown::new(config.unknown_tables),
        }
    }

    /// Knows how many tables are `registered` without being declared, and which of them can't be used, and why.
    /// A new one is called like nobody among `taken`: tables, results, and what is written to.
    pub fn with_registered(
        mut self,
        registered: usize,
        withdrawn: HashMap<SourceTable, String>,
        taken: HashSet<String>,
    ) -> Self {
        self.unknown.registered = registered;
        self.unknown.withdrawn = withdrawn;
        self.unknown.taken = taken;
        self
    }

    pub fn with_limits(self, limits: Limits) -> Self {
        let extractions = self.extractions.clone();
        Self { limits, ..self }.with_extractions(extractions)
    }

    /// Reads rows out of documents in columns too.
    pub fn with_extractions(mut self, extractions: Vec<Arc<Extraction>>) -> Self {
        for (route, documents) in self.routes.iter_mut().zip(&mut self.documents) {
            *documents = Documents::new(&route.table, &extractions, self.limits.xml());
            let (table, unavailable) = (Arc::clone(&route.table), Arc::clone(&self.unavailable));
            *route = Route::new(table, unavailable, &documents.undeclared());
        }
        Self { extractions, ..self }
    }

    /// The declared and the registered tables, in their order, and those that are extracted from them.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        let extracted = self.extractions.iter().map(|extraction| &extraction.table);
        self.routes.iter().map(|route| &route.table).chain(extracted)
    }

    /// Takes in what decoders before this one have learned, so that it is not told again.
    pub fn remember(&mut self, registry: &[SchemaChange]) {
        for change in registry {
            if let Some(index) = self.index_of(&change.source.schema, &change.source.table) {
                self.observed[index].remember(&self.routes[index].table, change);
            } else {
                self.unknown.remember(change);
            }
        }
    }

    /// Decodes `messages`, given in broker order; every table's rows keep it.
    ///
    /// An update that changes the key yields a delete of the old key before it, with the same offset
    /// and the suffix `#before` in its event id.
    ///
    /// # Errors
    /// If the epoch itself is wrong; a message that cannot be decoded is a dead letter instead.
    pub fn decode(
        &mut self,
        messages: &[Message],
        spools: &SpoolOrder,
    ) -> Result<Decoded, DecodeError> {
        let size = |m: &Message| 2 * (m.payload.len() + m.topic.len()) + ROW_OVERHEAD;
        let bytes = messages.iter().map(size).sum();
        if bytes > MAX_EPOCH_BYTES {
            return Err(DecodeError::EpochTooLarge { bytes });
        }
        let mut decoded = Decoded::default();
        let mut rows = Collected {
            rows: self.routes.iter().map(|_| None).collect(),
            extracted: self.extractions.iter().map(|_| None).collect(),
        };
        let mut scratch = Scratch::default();
        for message in messages {
            let position = spools.position(message.offset).map_err(DecodeError::Position)?;
            let envelope = self.within_size(message);
            let envelope = envelope.and_then(|()| debezium::read(message, self.topics.as_ref()));
            let outcome = envelope.and_then(|event| match event {
                Event::Change(change) => {
                    let Change { source_ts, scn, .. } = change;
                    let origin = Origin {
                        offset: message.offset,
                        position,
                        source_ts,
                        scn,
                        topic: &message.topic,
                    };
                    match self.route(&change)? {
                        Some(index) => {
                            let into = (&mut scratch, &mut rows);
                            self.change((&change, index), &origin, into, &mut decoded)
                        }
                        None => {
                            let unknown = (&change, message);
                            self.unknown.take(unknown, &self.limits, &mut decoded).map(|()| None)
                        }
                    }
                }
                other => {
                    decoded.passed.count(&other);
                    if let Event::SchemaChange(said) = &other {
                        self.schema_change(said, message.offset, &mut decoded.schema_changes);
                    }
                    Ok(None)
                }
            });
            if let Err(refusal) | Ok(Some(refusal)) = outcome {
                decoded.dead_letters.push(refusal.into_dead_letter(message));
            }
        }
        self.unknown.finish(&mut decoded.schema_changes);
        rows.finish(&mut decoded)?;
        Ok(decoded)
    }

    /// Appends the rows of a change, or none if it is refused. What comes back is wrong with a document alone.
    fn change<'a>(
        &mut self,
        (change, index): (&Change<'a>, usize),
        origin: &Origin<'_>,
        (scratch, collected): (&mut Scratch<'a>, &mut Collected),
        decoded: &mut Decoded,
    ) -> Result<Option<Refusal>, Refusal> {
        let rows = &mut collected.rows;
        let route = &mut self.routes[index];
        let operation = match (change.action, route.table.options.truncate) {
            (Action::Row(operation), _) => operation,
            (Action::Truncate, Truncate::Apply) => {
                let rows = rows[index].get_or_insert_with(|| Rows::new(Arc::clone(&route.table)));
                rows.truncate(origin);
                return Ok(None);
            }
            (Action::Truncate, Truncate::Dlq) => return Err(unsupported(route, TRUNCATED)),
            (Action::Message, _) => return Err(unsupported(route, MESSAGE)),
        };
        route.follow(change.schema_section)?;
        let limits = &self.limits;
        let key_changes = scratch.fill(route, limits, change, operation)?;
        let mut problem = None;
        let documents = &mut self.documents[index];
        // The image of a delete may be no more than a key.
        if operation != Operation::Delete {
            let (image, cells) = (scratch.current.image(), scratch.current.cells());
            let learned = &mut decoded.schema_changes;
            let seen = (image, change.schema_section.is_none());
            self.observed[index].observe((route, limits), seen, origin.offset, learned)?;
            let unread = &mut decoded.unread_documents;
            problem = documents.read(route, (image, cells), unread)?;
        }
        let rows = rows[index].get_or_insert_with(|| Rows::new(Arc::clone(&route.table)));
        if key_changes {
            rows.append(&scratch.before.row(Operation::Delete, BEFORE_SUFFIX), origin);
        }
        rows.append(&scratch.current.row(operation, ""), origin);
        if operation != Operation::Delete {
            let into = (&mut collected.extracted[..], &mut decoded.kept);
            documents.append((scratch.current.cells(), operation), origin, into);
        }
        Ok(problem)
    }

    /// Takes in what the source says about the columns of declared tables, and the keys of others.
    fn schema_change(
        &mut self,
        said: &SchemaMessage<'_>,
        offset: Offset,
        learned: &mut Vec<SchemaChange>,
    ) {
        let renamed = said.ddl.as_deref().and_then(|ddl| renamed(ddl, &said.schema));
        let renamed =
            renamed.filter(|it| self.index_of(&it.source.schema, &it.source.table).is_some());
        for (source, key) in said.table_changes.map_or_else(Vec::new, keys) {
            if self.index_of(&source.schema, &source.table).is_none() {
                self.unknown.announce(source, key, offset, learned);
            }
        }
        let mut columns = said.table_changes.map_or_else(Vec::new, columns);
        if let Some(Renamed { source, from, to }) = renamed {
            let column = format!("{from} -> {to}");
            let (kind, seen) = (SchemaChangeKind::Renamed, SeenType::Null);
            learned.push(SchemaChange { source: source.clone(), column, kind, seen, offset });
            columns.push(Announced { source, column: to, seen });
        }
        for Announced { source, column, seen } in columns {
            if let Some(index) = self.index_of(&source.schema, &source.table) {
                let known = (&self.routes[index], &self.limits);
                self.observed[index].announce(known, (&column, seen), offset, learned);
            }
        }
    }

    /// `None`: no table is declared or registered for it.
    fn route(&self, change: &Change<'_>) -> Result<Option<usize>, Refusal> {
        let index = self.index_of(&change.schema, &change.table);
        if index.is_none() && change.schema.is_empty() && self.by_table.contains_key(&*change.table)
        {
            // Several schemas have it.
            return Err(undeclared(change));
        }
        Ok(index)
    }

    fn index_of(&self, schema: &str, table: &str) -> Option<usize> {
        let candidates = self.by_table.get(table).map_or(&[][..], Vec::as_slice);
        let is_it = |index: &&usize| self.routes[**index].table.source.schema == schema;
        match candidates {
            [only] if schema.is_empty() => Some(*only),
            _ => candidates.iter().find(is_it).copied(),
        }
    }

    fn within_size(&self, message: &Message) -> Result<(), Refusal> {
        let (bytes, limit) = (message.payload.len(), self.limits.max_event_bytes.get());
        if bytes > limit {
            return Err(Refusal::EventTooLarge { bytes, limit });
        }
        Ok(())
    }
}

/// The rows of an epoch in the making.
struct Collected {
    /// One per route.
    rows: Vec<Option<Rows>>,
    /// One per extraction.
    extracted: Vec<Option<ExtractedRows>>,
}

impl Collected {
    fn finish(self, decoded: &mut Decoded) -> Result<(), DecodeError> {
        let largest = self.extracted.iter().flatten().map(ExtractedRows::bytes).max();
        if let Some(bytes) = largest.filter(|bytes| *bytes > MAX_EPOCH_BYTES) {
            return Err(DecodeError::EpochTooLarge { bytes });
        }
        let extracted = self.extracted.into_iter().flatten().map(ExtractedRows::finish);
        let extracted = extracted.filter(|changelog| !changelog.is_empty());
        decoded.changes =
            self.rows.into_iter().flatten().map(Rows::finish).chain(extracted).collect();
        Ok(())
    }
}

impl Passed {
    fn count(&mut self, event: &Event<'_>) {
        match event {
            Event::Tombstone => self.tombstones += 1,
            Event::Heartbeat => self.heartbeats += 1,
            Event::Transaction => self.transaction_markers += 1,
            Event::SchemaChange(_) => self.schema_changes += 1,
            Event::Change(_) => {}
        }
    }
}

const TRUNCATED: &str = "the source truncated it (op t), and the option truncate of the table is 'dlq': \
                         set it to 'apply' and replay the dead letter (tidemark dlq replay)";
const MESSAGE: &str = "a generic message (op m) changes no row";

fn unsupported(route: &Route, reason: &str) -> Refusal {
    let table = route.table.source.to_string();
    Refusal::UnsupportedOperation { table, reason: reason.to_owned() }
}
