//! A hash index on some columns of a table.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use hashbrown::HashMap;

use super::bucket::Bucket;
use super::keys::{KeyEncoder, map_memory};
use crate::model::KeyBytes;
use crate::state::store::place::Slot;

/// The rows of each value of some columns.
#[derive(Debug)]
pub(in super::super) struct HashIndex {
    /// Rising positions.
    columns: Vec<usize>,
    encoder: KeyEncoder,
    buckets: HashMap<KeyBytes, Bucket>,
    rows: usize,
}

impl HashIndex {
    pub(in super::super) fn new(schema: &Schema, columns: &[usize]) -> Result<Self, ArrowError> {
        let encoder = KeyEncoder::new(schema, columns)?;
        Ok(Self { columns: columns.to_vec(), encoder, buckets: HashMap::new(), rows: 0 })
    }

    pub(in super::super) fn columns(&self) -> &[usize] {
        &self.columns
    }

    pub(in super::super) fn insert(
        &mut self,
        rows: &RecordBatch,
        slots: &[Slot],
    ) -> Result<(), ArrowError> {
        let keys = self.encoder.encode(rows)?;
        for (key, slot) in keys.iter().zip(slots) {
            self.add(key.as_ref(), *slot);
        }
        Ok(())
    }

    pub(in super::super) fn remove(
        &mut self,
        rows: &RecordBatch,
        slots: &[Slot],
    ) -> Result<(), ArrowError> {
        let keys = self.encoder.encode(rows)?;
        for (key, slot) in keys.iter().zip(slots) {
            self.take_out(key.as_ref(), *slot);
        }
        Ok(())
    }

    /// Rows that changed under their slots: only those whose value differs are touched.
    pub(in super::super) fn update(
        &mut self,
        before: &RecordBatch,
        after: &RecordBatch,
        slots: &[Slot],
    ) -> Result<(), ArrowError> {
        let (old, new) = (self.encoder.encode(before)?, self.encoder.encode(after)?);
        for ((old, new), slot) in old.iter().zip(&new).zip(slots) {
            if old != new {
                self.take_out(old.as_ref(), *slot);
                self.add(new.as_ref(), *slot);
            }
        }
        Ok(())
    }

    fn add(&mut self, key: &[u8], slot: Slot) {
        self.rows += 1;
        match self.buckets.get_mut(key) {
            Some(bucket) => bucket.add(slot),
            None => {
                self.buckets.insert(key.into(), Bucket::One(slot));
            }
        }
    }

    fn take_out(&mut self, key: &[u8], slot: Slot) {
        self.rows -= 1;
        if self.buckets.get_mut(key).is_some_and(|bucket| bucket.remove(slot)) {
            self.buckets.remove(key);
        }
    }

    /// Calls `visit` with every row and the number of the key that found it.
    pub(in super::super) fn find(
        &self,
        keys: &[ArrayRef],
        nulls_match: bool,
        mut visit: impl FnMut(u32, Slot),
    ) -> Result<(), ArrowError> {
        self.each_bucket(keys, nulls_match, |key, bucket| {
            bucket.for_each(|slot| visit(key as u32, slot));
        })
    }

    pub(in super::super) fn count(
        &self,
        keys: &[ArrayRef],
        nulls_match: bool,
    ) -> Result<Vec<usize>, ArrowError> {
        let mut counts = vec![0; keys.first().map_or(0, |column| column.len())];
        self.each_bucket(keys, nulls_match, |key, bucket| counts[key] = bucket.len())?;
        Ok(counts)
    }

    fn each_bucket(
        &self,
        keys: &[ArrayRef],
        nulls_match: bool,
        mut visit: impl FnMut(usize, &Bucket),
    ) -> Result<(), ArrowError> {
        let encoded = self.encoder.encode_columns(keys)?;
        for (at, key) in encoded.iter().enumerate() {
            if !nulls_match && keys.iter().any(|column| column.is_null(at)) {
                continue;
            }
            if let Some(bucket) = self.buckets.get(key.as_ref()) {
                visit(at, bucket);
            }
        }
        Ok(())
    }

    /// Gives memory back that the map keeps for values that are gone.
    pub(in super::super) fn shrink(&mut self) {
        if self.buckets.len() * 2 < self.buckets.capacity() {
            self.buckets.shrink_to(self.buckets.len());
        }
    }

    /// Bytes, roughly: what the map and its keys take.
    pub(in super::super) fn memory(&self) -> usize {
        map_memory(&self.buckets) + self.rows * size_of::<Slot>()
    }
}
