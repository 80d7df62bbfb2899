//! The rows of one value in an index.

use hashbrown::HashSet;

use crate::state::store::place::Slot;

/// Beyond this many rows of one value, taking one out by a scan would cost more than hashing.
const FEW: usize = 32;

/// The rows of one value; most values have one or a few. There is one for every value, so that what only
/// some of them need is behind a pointer.
#[expect(clippy::box_collection, reason = "the enum has the size of its largest variant")]
#[derive(Debug)]
pub(super) enum Bucket {
    One(Slot),
    Few(Box<Vec<Slot>>),
    Many(Box<HashSet<Slot>>),
}

impl Bucket {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Few(slots) => slots.len(),
            Self::Many(slots) => slots.len(),
        }
    }

    pub(super) fn add(&mut self, slot: Slot) {
        match self {
            Self::One(first) => *self = Self::Few(Box::new(vec![*first, slot])),
            Self::Few(slots) if slots.len() < FEW => slots.push(slot),
            Self::Few(slots) => {
                *self = Self::Many(Box::new(slots.drain(..).chain([slot]).collect()));
            }
            Self::Many(slots) => {
                slots.insert(slot);
            }
        }
    }

    /// `true` if nothing is left.
    pub(super) fn remove(&mut self, slot: Slot) -> bool {
        match self {
            Self::One(only) => *only == slot,
            Self::Few(slots) => {
                slots.retain(|other| *other != slot);
                slots.is_empty()
            }
            Self::Many(slots) => {
                slots.remove(&slot);
                slots.is_empty()
            }
        }
    }

    pub(super) fn for_each(&self, mut visit: impl FnMut(Slot)) {
        match self {
            Self::One(slot) => visit(*slot),
            Self::Few(slots) => slots.iter().for_each(|slot| visit(*slot)),
            Self::Many(slots) => slots.iter().for_each(|slot| visit(*slot)),
        }
    }
}
