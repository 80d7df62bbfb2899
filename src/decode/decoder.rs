//! The decoder: what each message of an epoch says about which row.

use std::collections::HashMap;
use std::sync::Arc;

use super::config::DecodeConfig;
use super::debezium::{
    self, Bodies, ChangeEvent, DebeziumEvent, SchemaMessage, TopicPattern, Unavailable,
};
use super::decoded::{DecodeError, Decoded};
use super::epoch_rows::EpochRows;
use super::limits::{Limits, MAX_EPOCH_BYTES};
use super::refusal::EventRefusal;
use super::rows::EventOrigin;
use super::schema::{
    AnnouncedColumn, RegisteredTables, RenamedColumn, UndeclaredEvent, UndeclaredTables, columns,
    keys, renamed, undeclared,
};
use super::table_decoder::TableDecoder;
use crate::model::{
    Generations, Message, Offset, Position, SchemaChange, SchemaChangeKind, SeenType, Table,
};
use crate::xml::Extraction;

/// Bytes that a row takes besides its payload and topic, at most: two event ids and letters.
const ROW_OVERHEAD: usize = 128;

/// What a decoder goes by.
#[derive(Debug, Default)]
pub struct DecoderSetup {
    pub config: DecodeConfig,
    pub limits: Limits,
    /// The declared and the registered tables.
    pub tables: Vec<Arc<Table>>,
    /// Which rows are read out of documents in columns.
    pub extractions: Vec<Arc<Extraction>>,
    pub registered: RegisteredTables,
}

/// Decodes the messages of one epoch.
///
/// It remembers the schema sections and the columns that it has seen, so one decoder serves all epochs.
#[derive(Debug)]
pub struct Decoder {
    tables: Vec<TableDecoder>,
    /// Positions in `tables` by the table's name in the source; several schemas may have it.
    by_name: HashMap<String, Vec<usize>>,
    extractions: Vec<Arc<Extraction>>,
    max_event_bytes: usize,
    topics: Option<TopicPattern>,
    undeclared: UndeclaredTables,
}

impl Decoder {
    pub fn new(setup: DecoderSetup) -> Self {
        let DecoderSetup { config, limits, tables, extractions, registered } = setup;
        let unavailable = Arc::new(Unavailable::new(&config.unavailable_value));
        // What is extracted has no events of its own.
        let has_events = |table: &Arc<Table>| !table.is_extracted();
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        let mut decoders = Vec::new();
        for (number, table) in tables.into_iter().filter(has_events).enumerate() {
            by_name.entry(table.source.table.clone()).or_default().push(number);
            let unavailable = Arc::clone(&unavailable);
            decoders.push(TableDecoder::new(number, table, unavailable, &extractions, &limits));
        }
        Self {
            tables: decoders,
            by_name,
            extractions,
            max_event_bytes: limits.max_event_bytes.get(),
            topics: config.topic_pattern(),
            undeclared: UndeclaredTables::new(config.unknown_tables, limits, registered),
        }
    }

    /// The declared and the registered tables, in their order, and those that are extracted from them.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        let extracted = self.extractions.iter().map(|extraction| &extraction.table);
        self.tables.iter().map(|table| &table.route.table).chain(extracted)
    }

    /// Takes in what decoders before this one have learned, so that it is not told again.
    pub fn remember(&mut self, registry: &[SchemaChange]) {
        for change in registry {
            if let Some(index) = self.index_of(&change.source.schema, &change.source.table) {
                self.tables[index].remember(change);
            } else {
                self.undeclared.remember(change);
            }
        }
    }

    /// Decodes `messages`, given in broker order; every table's rows keep it. A message that is a JSON array of events
    /// is these, in their order.
    ///
    /// An update that changes the key yields a delete of the old key before it, with the same offset
    /// and the suffix `#before` in its event id.
    ///
    /// # Errors
    /// If the epoch itself is wrong; a message that cannot be decoded is a dead letter instead.
    pub fn decode(
        &mut self,
        messages: &[Message],
        spools: &Generations,
    ) -> Result<Decoded, DecodeError> {
        let of_row = |m: &Message| 2 * m.topic.len() + ROW_OVERHEAD;
        let size =
            |m: &Message| 2 * m.payload.len() + debezium::event_count(&m.payload) * of_row(m);
        let bytes = messages.iter().map(size).sum();
        if bytes > MAX_EPOCH_BYTES {
            return Err(DecodeError::EpochTooLarge { bytes });
        }
        let mut epoch = EpochRows::new(self.tables.len(), self.extractions.len());
        for message in messages {
            let position = spools.position(message.offset).map_err(DecodeError::Position)?;
            let outcome = self.message(message, position, &mut epoch);
            if let Err(refusal) | Ok(Some(refusal)) = outcome {
                epoch.decoded.dead_letters.push(refusal.into_dead_letter(message));
            }
        }
        self.undeclared.finish(&mut epoch.decoded.schema_changes);
        epoch.finish()
    }

    /// Takes in one message. What comes back is wrong with a document of its row alone, or with some events of an array.
    fn message<'a>(
        &mut self,
        message: &'a Message,
        position: Position,
        epoch: &mut EpochRows<'a>,
    ) -> Result<Option<EventRefusal>, EventRefusal> {
        self.check_size(message)?;
        match debezium::bodies(&message.payload)? {
            Bodies::One(text) => self.event(message, position, self.read(message, text)?, epoch),
            Bodies::Array(texts) => Ok(self.array(message, position, &texts, epoch)),
        }
    }

    pub(super) fn read<'a>(
        &self,
        message: &'a Message,
        text: &'a str,
    ) -> Result<DebeziumEvent<'a>, EventRefusal> {
        debezium::read(message, text, self.topics.as_ref())
    }

    /// Takes in one event. What comes back is wrong with a document of its row alone.
    pub(super) fn event<'a>(
        &mut self,
        message: &'a Message,
        position: Position,
        event: DebeziumEvent<'a>,
        epoch: &mut EpochRows<'a>,
    ) -> Result<Option<EventRefusal>, EventRefusal> {
        let change = match event {
            DebeziumEvent::Change(change) => change,
            other => {
                epoch.decoded.passed.count(&other);
                if let DebeziumEvent::SchemaChange(said) = &other {
                    self.schema_change(said, message.offset, &mut epoch.decoded.schema_changes);
                }
                return Ok(None);
            }
        };
        let ChangeEvent { source_ts, scn, .. } = change;
        let (offset, topic) = (message.offset, &*message.topic);
        let origin = EventOrigin { offset, position, source_ts, scn, topic };
        match self.table_of(&change)? {
            Some(index) => self.tables[index].change(&change, &origin, epoch),
            None => {
                let event = UndeclaredEvent { change: &change, message };
                self.undeclared.take(&event, &mut epoch.decoded).map(|()| None)
            }
        }
    }

    /// Takes in what the source says about the columns of declared tables, and the keys of others.
    fn schema_change(
        &mut self,
        said: &SchemaMessage<'_>,
        offset: Offset,
        learned: &mut Vec<SchemaChange>,
    ) {
        for (source, key) in said.table_changes.map_or_else(Vec::new, keys) {
            if self.index_of(&source.schema, &source.table).is_none() {
                self.undeclared.announce(source, key, offset, learned);
            }
        }
        let mut announced = said.table_changes.map_or_else(Vec::new, columns);
        let renamed = said.ddl.as_deref().and_then(|ddl| renamed(ddl, &said.schema));
        if let Some(RenamedColumn { source, from, to }) = renamed
            && self.index_of(&source.schema, &source.table).is_some()
        {
            let column = format!("{from} -> {to}");
            let (kind, seen) = (SchemaChangeKind::Renamed, SeenType::Null);
            learned.push(SchemaChange { source: source.clone(), column, kind, seen, offset });
            announced.push(AnnouncedColumn { source, column: to, seen });
        }
        for column in announced {
            if let Some(index) = self.index_of(&column.source.schema, &column.source.table) {
                self.tables[index].announce(column, offset, learned);
            }
        }
    }

    /// `None`: no table is declared or registered for it.
    pub(super) fn table_of(&self, change: &ChangeEvent<'_>) -> Result<Option<usize>, EventRefusal> {
        let index = self.index_of(&change.schema, &change.table);
        if index.is_none() && change.schema.is_empty() && self.by_name.contains_key(&*change.table)
        {
            // Several schemas have it.
            return Err(undeclared(change));
        }
        Ok(index)
    }

    fn index_of(&self, schema: &str, table: &str) -> Option<usize> {
        let candidates = self.by_name.get(table).map_or(&[][..], Vec::as_slice);
        let is_it = |index: &&usize| self.tables[**index].route.table.source.schema == schema;
        match candidates {
            [only] if schema.is_empty() => Some(*only),
            _ => candidates.iter().find(is_it).copied(),
        }
    }

    fn check_size(&self, message: &Message) -> Result<(), EventRefusal> {
        let (bytes, limit) = (message.payload.len(), self.max_event_bytes);
        if bytes > limit {
            return Err(EventRefusal::EventTooLarge { bytes, limit });
        }
        Ok(())
    }

    /// The table with this name in SQL.
    pub(super) fn table(&self, name: &str) -> Option<&TableDecoder> {
        self.tables.iter().find(|table| table.route.table.name == name)
    }
}
