//! An exact set of offsets.

use std::collections::BTreeMap;

use super::Offset;

/// An exact set of offsets, kept as closed ranges per spool.
///
/// Exact on purpose: on a non-exclusive queue, or after a consumer died, ids arrive out of order,
/// and "not above the highest" is not the same as "processed".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffsetSet {
    /// First offset of a range to its last id (same spool).
    ranges: BTreeMap<Offset, u64>,
}

impl OffsetSet {
    pub fn contains(&self, offset: Offset) -> bool {
        self.ranges
            .range(..=offset)
            .next_back()
            .is_some_and(|(start, last)| start.spool == offset.spool && offset.id <= *last)
    }

    /// Adds one offset; `false` if it was there already.
    pub fn insert(&mut self, offset: Offset) -> bool {
        if self.contains(offset) {
            return false;
        }
        self.insert_range(offset, offset.id);
        true
    }

    /// Adds `first.id..=last`, merging with the ranges it overlaps or touches.
    pub fn insert_range(&mut self, first: Offset, last: u64) {
        let (mut start, mut end) = (first, last);
        let before = self.ranges.range(..=first).next_back().map(|(s, l)| (*s, *l));
        if let Some((previous, previous_last)) = before {
            let touches =
                previous.spool == first.spool && previous_last.saturating_add(1) >= first.id;
            if touches {
                start = previous;
                end = end.max(previous_last);
            }
        }
        let upper = Offset::new(start.spool, end.saturating_add(1));
        let absorbed: Vec<(Offset, u64)> =
            self.ranges.range(start..=upper).map(|(s, l)| (*s, *l)).collect();
        for (range_start, range_last) in absorbed {
            self.ranges.remove(&range_start);
            end = end.max(range_last);
        }
        self.ranges.insert(start, end);
    }

    /// The ranges as (first offset, last id), ascending.
    pub fn ranges(&self) -> impl Iterator<Item = (Offset, u64)> + '_ {
        self.ranges.iter().map(|(start, last)| (*start, *last))
    }

    pub fn extend(&mut self, other: &Self) {
        for (first, last) in other.ranges() {
            self.insert_range(first, last);
        }
    }

    /// Joins neighbours of a spool, two by two, until there are at most `most` ranges, or one per spool. What was between
    /// them is in the set then.
    pub fn coarsen(&mut self, most: usize) {
        while self.ranges.len() > most {
            let before = self.ranges.len();
            let mut joined: BTreeMap<Offset, u64> = BTreeMap::new();
            let mut open: Option<(Offset, u64)> = None;
            for (start, last) in std::mem::take(&mut self.ranges) {
                match open.take() {
                    Some((first, _)) if first.spool == start.spool => {
                        joined.insert(first, last);
                    }
                    other => {
                        joined.extend(other);
                        open = Some((start, last));
                    }
                }
            }
            joined.extend(open);
            self.ranges = joined;
            if self.ranges.len() == before {
                return;
            }
        }
    }

    /// How many offsets are in the set.
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|(start, last)| last - start.id + 1).sum()
    }

    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

impl FromIterator<Offset> for OffsetSet {
    fn from_iter<I: IntoIterator<Item = Offset>>(offsets: I) -> Self {
        let mut set = Self::default();
        for offset in offsets {
            set.insert(offset);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn spools_do_not_mix() {
        let set: OffsetSet = [Offset::new(1, 5), Offset::new(2, 6)].into_iter().collect();
        assert!(!set.contains(Offset::new(1, 6)));
        assert!(set.contains(Offset::new(2, 6)));
    }

    #[test]
    fn a_coarse_set_has_all_of_the_exact_one_and_its_bounds() {
        let exact: OffsetSet = (0..3u64)
            .flat_map(|spool| (0..33).map(move |at| Offset::new(spool, 10 * at + 1)))
            .collect();
        let mut coarse = exact.clone();
        coarse.coarsen(10);
        assert!((3..=10).contains(&coarse.range_count()), "{}", coarse.range_count());
        for (first, _) in exact.ranges() {
            assert!(coarse.contains(first), "{first}");
        }
        for spool in 0..3 {
            assert!(!coarse.contains(Offset::new(spool, 0)));
            assert!(!coarse.contains(Offset::new(spool, 322)));
        }
        coarse.coarsen(1);
        assert_eq!(coarse.range_count(), 3, "one per spool");
    }

    proptest! {
        #[test]
        fn behaves_like_a_plain_set(
            singles in prop::collection::vec((0u64..2, 0u64..60), 0..80),
            spans in prop::collection::vec((0u64..2, 0u64..60, 0u64..10), 0..10),
        ) {
            let mut set = OffsetSet::default();
            let mut model = BTreeSet::new();
            for (spool, id) in singles {
                prop_assert_eq!(set.insert(Offset::new(spool, id)), model.insert((spool, id)));
            }
            for (spool, id, length) in spans {
                set.insert_range(Offset::new(spool, id), id + length);
                model.extend((id..=id + length).map(|i| (spool, i)));
            }
            for spool in 0..3 {
                for id in 0..80 {
                    prop_assert_eq!(set.contains(Offset::new(spool, id)), model.contains(&(spool, id)));
                }
            }
            prop_assert_eq!(set.count() as usize, model.len());
            let ranges: Vec<_> = set.ranges().collect();
            for pair in ranges.windows(2) {
                let apart = pair[0].0.spool != pair[1].0.spool || pair[0].1 + 1 < pair[1].0.id;
                prop_assert!(apart, "ranges touch: {:?}", pair);
            }
        }
    }
}
