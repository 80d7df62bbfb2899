//! Groups of rows whose size is bounded.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::row::Rows;
use hashbrown::HashMap;

use super::bucket::Bucket;
use super::keys::{KeyEncoder, map_memory};
use crate::model::KeyBytes;
use crate::state::store::place::Slot;

/// Which rows share a group value, so that a group that grows beyond its bound can be cut.
#[derive(Debug)]
pub(in super::super) struct Groups {
    encoder: KeyEncoder,
    members: HashMap<KeyBytes, Bucket>,
    rows: usize,
}

impl Groups {
    pub(in super::super) fn new(encoder: KeyEncoder) -> Self {
        Self { encoder, members: HashMap::new(), rows: 0 }
    }

    /// The groups of all rows of a batch of the table.
    pub(in super::super) fn of(&self, rows: &RecordBatch) -> Result<Rows, ArrowError> {
        self.encoder.encode(rows)
    }

    /// Forgets all.
    pub(in super::super) fn clear(&mut self) {
        (self.members, self.rows) = Default::default();
    }

    /// Adds a member; the group's size after it.
    pub(in super::super) fn add(&mut self, group: &[u8], slot: Slot) -> usize {
        self.rows += 1;
        match self.members.get_mut(group) {
            Some(members) => {
                members.add(slot);
                members.len()
            }
            None => {
                self.members.insert(group.into(), Bucket::One(slot));
                1
            }
        }
    }

    pub(in super::super) fn remove(&mut self, group: &[u8], slot: Slot) {
        let Some(members) = self.members.get_mut(group) else { return };
        self.rows -= 1;
        if members.remove(slot) {
            self.members.remove(group);
        }
    }

    pub(in super::super) fn members(&self, group: &[u8]) -> Vec<Slot> {
        let mut slots = Vec::new();
        if let Some(members) = self.members.get(group) {
            members.for_each(|slot| slots.push(slot));
        }
        slots
    }

    /// Bytes, roughly.
    pub(in super::super) fn memory(&self) -> usize {
        map_memory(&self.members) + self.rows * size_of::<Slot>()
    }
}
