//! The rows of one table on disk, and their indexes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use hashbrown::HashMap;

use super::record::{DiskRow, RecordCodec, record};
use crate::model::KeyBytes;
use crate::state::disk::{DiskError, Engine, Kind, Number, Writes};
use crate::state::store::index::KeyEncoder;
use crate::state::store::place::LastChange;

/// Keys that are written or read at once.
const AT_ONCE: usize = 8192;

/// The rows of one table as they were at the last flush. What is in memory of a key comes first.
#[derive(Debug)]
pub(in super::super) struct DiskTable {
    engine: Arc<Engine>,
    /// What all of its keys begin with.
    prefix: [u8; 2],
    codec: RecordCodec,
    indexes: Vec<DiskIndex>,
}

#[derive(Debug)]
struct DiskIndex {
    /// Rising positions.
    columns: Vec<usize>,
    encoder: KeyEncoder,
    prefix: [u8; 4],
}

/// Keys that are written over what is here of them.
#[derive(Debug)]
pub(in super::super) struct DiskRows {
    pub(in super::super) keys: Vec<DiskKey>,
    /// The rows of the keys.
    pub(in super::super) rows: RecordBatch,
    pub(in super::super) deleted: Vec<DiskKey>,
    /// Keys that are forgotten.
    pub(in super::super) gone: Vec<KeyBytes>,
}

/// Some rows, and the lowest key that was looked at; `None`: there was none.
#[derive(Debug)]
pub(in super::super) struct Part {
    pub(in super::super) rows: Vec<(KeyBytes, DiskRow)>,
    pub(in super::super) lowest: Option<KeyBytes>,
}

#[derive(Debug)]
pub(in super::super) struct DiskKey {
    pub(in super::super) key: KeyBytes,
    pub(in super::super) last: LastChange,
    pub(in super::super) changed_at: i64,
}

impl DiskTable {
    pub(in super::super) fn new(
        engine: Arc<Engine>,
        number: Number,
        schema: &SchemaRef,
        indexes: &[&[usize]],
    ) -> Result<Self, ArrowError> {
        let prefix = number.to_be_bytes();
        let index = |(at, columns): (usize, &&[usize])| {
            let [one, two] = (at as u16).to_be_bytes();
            let encoder = KeyEncoder::new(schema, columns)?;
            let prefix = [prefix[0], prefix[1], one, two];
            Ok(DiskIndex { columns: columns.to_vec(), encoder, prefix })
        };
        let indexes = indexes.iter().enumerate().map(index).collect::<Result<_, ArrowError>>()?;
        Ok(Self { engine, prefix, codec: RecordCodec::new(schema)?, indexes })
    }

    /// What is here of a key.
    pub(in super::super) fn get(&self, key: &[u8]) -> Result<Option<DiskRow>, DiskError> {
        let record = self.engine.get(Kind::Rows, &joined(&self.prefix, &[key]))?;
        record.map(|record| self.read(record)).transpose()
    }

    fn read(&self, record: fjall::Slice) -> Result<DiskRow, DiskError> {
        DiskRow::read(record).ok_or_else(|| self.engine.damaged())
    }

    /// The values of rows that are not deleted.
    pub(in super::super) fn decode<'a>(
        &self,
        rows: impl ExactSizeIterator<Item = &'a DiskRow>,
    ) -> Result<RecordBatch, ArrowError> {
        self.codec.decode(rows)
    }

    /// Calls `visit` with the key of every row that an index has under one of the keys, and the number of that key.
    pub(in super::super) fn find(
        &self,
        columns: &[usize],
        keys: &[ArrayRef],
        nulls_match: bool,
        mut visit: impl FnMut(u32, &[u8]) -> Result<(), ArrowError>,
    ) -> Result<(), ArrowError> {
        let index = self.indexes.iter().find(|index| index.columns == columns);
        let Some(index) = index else { return Ok(()) };
        let mut found: HashMap<KeyBytes, Vec<KeyBytes>> = HashMap::new();
        for (at, key) in index.encoder.encode_columns(keys)?.iter().enumerate() {
            if !nulls_match && keys.iter().any(|column| column.is_null(at)) {
                continue;
            }
            let rows = match found.entry(key.as_ref().into()) {
                hashbrown::hash_map::Entry::Occupied(rows) => rows.into_mut(),
                hashbrown::hash_map::Entry::Vacant(unknown) => {
                    unknown.insert(self.entries(index, key.as_ref())?)
                }
            };
            rows.iter().try_for_each(|row| visit(at as u32, row))?;
        }
        Ok(())
    }

    /// The keys of the rows that an index has under a key.
    fn entries(&self, index: &DiskIndex, key: &[u8]) -> Result<Vec<KeyBytes>, DiskError> {
        let (prefix, mut rows) = (joined(&index.prefix, &[key]), Vec::new());
        self.engine.each(Kind::Entries, &prefix, |entry, _| {
            rows.push(KeyBytes::from(&entry[prefix.len()..]));
            Ok::<(), DiskError>(())
        })?;
        Ok(rows)
    }

    /// All that is here, in parts, without the keys that `is_hidden`.
    pub(in super::super) fn each_part<E: From<DiskError>>(
        &self,
        is_hidden: impl Fn(&[u8]) -> bool,
        mut visit: impl FnMut(Vec<(KeyBytes, DiskRow)>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut part: Vec<(KeyBytes, DiskRow)> = Vec::new();
        self.engine.each(Kind::Rows, &self.prefix, |key, record| {
            let key = &key[self.prefix.len()..];
            if !is_hidden(key) {
                part.push((key.into(), self.read(record)?));
                if part.len() == AT_ONCE {
                    visit(std::mem::take(&mut part))?;
                }
            }
            Ok::<(), E>(())
        })?;
        if part.is_empty() { Ok(()) } else { visit(part) }
    }

    /// The rows with the highest keys below one, without those that `is_hidden`.
    pub(in super::super) fn part_before(
        &self,
        key: Option<&KeyBytes>,
        is_hidden: impl Fn(&[u8]) -> bool,
    ) -> Result<Part, DiskError> {
        let below = key.map(|key| joined(&self.prefix, &[key]));
        let mut part = Part { rows: Vec::new(), lowest: None };
        for pair in self.engine.rows_below(&self.prefix, below.as_deref()).take(AT_ONCE) {
            let (key, record) = pair?;
            let key = KeyBytes::from(&key[self.prefix.len()..]);
            if !is_hidden(&key) {
                part.rows.push((key.clone(), self.read(record)?));
            }
            part.lowest = Some(key);
        }
        Ok(part)
    }

    /// Writes of its own.
    pub(in super::super) fn writes(&self) -> Writes {
        self.engine.writes()
    }

    /// Adds the writes of some keys.
    pub(in super::super) fn write(
        &self,
        changed: &DiskRows,
        writes: &mut Writes,
    ) -> Result<(), ArrowError> {
        let keys = changed.keys.iter().chain(&changed.deleted).map(|changed| &changed.key);
        let keys: Vec<&KeyBytes> = keys.chain(&changed.gone).collect();
        self.remove_entries(&keys, writes)?;
        let values = self.codec.encode(&changed.rows)?;
        for (DiskKey { key, last, changed_at }, values) in changed.keys.iter().zip(&values) {
            let record = record(*last, *changed_at, values.as_ref());
            writes.insert(Kind::Rows, &joined(&self.prefix, &[key]), &record);
        }
        for index in &self.indexes {
            let entries = index.encoder.encode(&changed.rows)?;
            for (DiskKey { key, .. }, entry) in changed.keys.iter().zip(&entries) {
                writes.insert(Kind::Entries, &joined(&index.prefix, &[entry.as_ref(), key]), &[]);
            }
        }
        for DiskKey { key, last, changed_at } in &changed.deleted {
            let record = record(*last, *changed_at, &[]);
            writes.insert(Kind::Rows, &joined(&self.prefix, &[key]), &record);
        }
        changed
            .gone
            .iter()
            .for_each(|key| writes.remove(Kind::Rows, &joined(&self.prefix, &[key])));
        Ok(())
    }

    /// Takes the rows that are here of some keys out of the indexes.
    fn remove_entries(&self, keys: &[&KeyBytes], writes: &mut Writes) -> Result<(), ArrowError> {
        if self.indexes.is_empty() {
            return Ok(());
        }
        let mut replaced: Vec<(&KeyBytes, DiskRow)> = Vec::new();
        for key in keys {
            if let Some(row) = self.get(key)?.filter(|row| !row.is_deleted()) {
                replaced.push((key, row));
            }
        }
        if replaced.is_empty() {
            return Ok(());
        }
        let rows = self.decode(replaced.iter().map(|(_, row)| row))?;
        for index in &self.indexes {
            for ((key, _), entry) in replaced.iter().zip(&index.encoder.encode(&rows)?) {
                writes.remove(Kind::Entries, &joined(&index.prefix, &[entry.as_ref(), key]));
            }
        }
        Ok(())
    }
}

fn joined(prefix: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut key =
        Vec::with_capacity(prefix.len() + parts.iter().map(|part| part.len()).sum::<usize>());
    key.extend(prefix);
    parts.iter().for_each(|part| key.extend(*part));
    key
}
