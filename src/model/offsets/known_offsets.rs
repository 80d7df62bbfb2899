//! What is known of each offset: exactly for the newest ones, as "perhaps" below them.

use std::collections::BTreeMap;

use super::{Offset, OffsetSet};

/// Ranges that one half of the exact memory holds. A range is some 50 bytes, so both take 7 MB at most.
const EXACT_RANGES: usize = 65_536;

/// What is known of an offset that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knowledge {
    /// It was never taken.
    New,
    /// It was committed, or an epoch before this one will commit it.
    Taken,
    /// It is older than what is remembered exactly: only the target knows whether it was committed.
    Forgotten,
}

/// The offsets that were taken, in memory that does not grow with their number.
///
/// A broker numbers the messages of all its queues together, so the ids of one queue have gaps as soon as
/// another queue is used, and each id is a range of its own. Only the newest ranges are kept. Of an id below
/// them it is not known here whether it was taken: on a partitioned or non-exclusive queue, or in a replay, it may come
/// for the first time. Landing tables and dead letters hold its event id, so the target can be asked.
#[derive(Debug, Clone, Default)]
pub struct KnownOffsets {
    /// Taken since `older` was full.
    newer: OffsetSet,
    older: OffsetSet,
    /// Per spool the highest id that was taken and is not remembered any more.
    forgotten_to: BTreeMap<u64, u64>,
}

impl KnownOffsets {
    /// From the ledger: what it remembers exactly, and per spool up to which id it has forgotten.
    pub fn new(exact: OffsetSet, forgotten_to: BTreeMap<u64, u64>) -> Self {
        Self { newer: exact, older: OffsetSet::default(), forgotten_to }
    }

    pub fn of(&self, offset: Offset) -> Knowledge {
        if self.newer.contains(offset) || self.older.contains(offset) {
            Knowledge::Taken
        } else if self.forgotten_to.get(&offset.spool).is_some_and(|last| offset.id <= *last) {
            Knowledge::Forgotten
        } else {
            Knowledge::New
        }
    }

    /// Takes an offset.
    pub fn insert(&mut self, offset: Offset) {
        self.newer.insert(offset);
        self.forget_oldest();
    }

    /// Takes several.
    pub fn extend(&mut self, offsets: &OffsetSet) {
        self.newer.extend(offsets);
        self.forget_oldest();
    }

    fn forget_oldest(&mut self) {
        if self.newer.range_count() > EXACT_RANGES {
            let full = std::mem::take(&mut self.newer);
            for (first, last) in std::mem::replace(&mut self.older, full).ranges() {
                let known = self.forgotten_to.entry(first.spool).or_default();
                *known = last.max(*known);
            }
        }
    }

    /// How many ranges are remembered; for metrics.
    pub fn range_count(&self) -> usize {
        self.newer.range_count() + self.older.range_count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ids of our queue on a broker whose other queues get three of four messages.
    fn with_gaps(count: u64) -> impl Iterator<Item = Offset> {
        (0..count).map(|at| Offset::new(7, 4 * at + 1))
    }

    #[test]
    fn five_million_ids_with_gaps_take_no_more_than_the_newest_ones() {
        let mut known = KnownOffsets::default();
        for offset in with_gaps(5_000_000) {
            assert_eq!(known.of(offset), Knowledge::New);
            known.insert(offset);
            assert!(known.range_count() <= 2 * EXACT_RANGES + 1);
        }
    }

    #[test]
    fn the_newest_are_known_exactly_and_what_is_below_them_is_asked_for() {
        let mut known = KnownOffsets::default();
        with_gaps(300_000).for_each(|offset| known.insert(offset));
        let newest = with_gaps(300_000).skip(300_000 - EXACT_RANGES);
        assert!(newest.into_iter().all(|offset| known.of(offset) == Knowledge::Taken));
        assert_eq!(known.of(Offset::new(7, 1)), Knowledge::Forgotten);
        // A gap: of another queue, or of a partition that is behind.
        assert_eq!(known.of(Offset::new(7, 2)), Knowledge::Forgotten);
        assert_eq!(known.of(Offset::new(7, 4 * 300_000 - 1)), Knowledge::New);
        assert_eq!(known.of(Offset::new(8, 1)), Knowledge::New);
    }

    #[test]
    fn an_old_id_that_was_just_taken_is_known_although_those_around_it_are_forgotten() {
        let mut known = KnownOffsets::default();
        with_gaps(300_000).for_each(|offset| known.insert(offset));
        known.insert(Offset::new(7, 2));
        assert_eq!(known.of(Offset::new(7, 2)), Knowledge::Taken);
    }

    #[test]
    fn ids_without_gaps_are_known_for_ever() {
        let mut known = KnownOffsets::default();
        for id in 1..=1_000_000 {
            known.insert(Offset::new(7, id));
        }
        assert_eq!((known.of(Offset::new(7, 1)), known.range_count()), (Knowledge::Taken, 1));
    }
}
