//! Where rows are: the entry of each key, and the place of each slot.

use crate::model::{Position, Scn};

/// Names a row for as long as its key is in the store, wherever its newest version is.
pub(in crate::state) type Slot = u32;

/// The newest change of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastChange {
    pub position: Position,
    pub scn: Option<Scn>,
}

/// What is known of a key.
#[derive(Debug, Clone, Copy)]
pub(in crate::state) struct KeyEntry {
    pub(in crate::state) last: LastChange,
    /// `None`: deleted, and remembered so that an older change that comes late can't revive it.
    pub(in crate::state) slot: Option<Slot>,
}

/// Where a row is: which segment, and which row of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::state) struct RowPlace {
    // There is one for every row: 32 bits are enough for what fits into memory.
    segment: u32,
    row: u32,
}

impl RowPlace {
    pub(super) fn new(segment: usize, row: usize) -> Self {
        Self { segment: segment as u32, row: row as u32 }
    }

    pub(in crate::state) fn segment(self) -> usize {
        self.segment as usize
    }

    pub(in crate::state) fn row(self) -> usize {
        self.row as usize
    }

    /// As `interleave` takes it.
    pub(in crate::state) fn pair(self) -> (usize, usize) {
        (self.segment(), self.row())
    }
}

/// Where the row of each slot is now, so that an index need not know when rows move.
#[derive(Debug, Default)]
pub(super) struct Slots {
    places: Vec<RowPlace>,
    free: Vec<Slot>,
}

impl Slots {
    pub(super) fn take(&mut self, place: RowPlace) -> Slot {
        match self.free.pop() {
            Some(slot) => {
                self.places[slot as usize] = place;
                slot
            }
            None => {
                self.places.push(place);
                (self.places.len() - 1) as Slot
            }
        }
    }

    pub(super) fn give_back(&mut self, slot: Slot) {
        self.free.push(slot);
    }

    pub(super) fn set(&mut self, slot: Slot, place: RowPlace) {
        self.places[slot as usize] = place;
    }

    pub(super) fn place(&self, slot: Slot) -> RowPlace {
        self.places[slot as usize]
    }

    pub(super) fn memory(&self) -> usize {
        self.places.capacity() * size_of::<RowPlace>() + self.free.capacity() * size_of::<Slot>()
    }
}
