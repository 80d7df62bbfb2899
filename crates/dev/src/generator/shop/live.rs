//! Rows that may still change: a bounded set with random access.

use std::collections::{HashMap, VecDeque};

use rand::RngExt;
use rand::rngs::StdRng;

/// The rows of a table that may still change, to pick from at random.
///
/// Bounded: beyond the limit the oldest rows are left as they are for ever, so that a generator that
/// runs for days needs no more memory than one that runs for minutes.
pub(super) struct Live<R> {
    rows: Vec<(u64, R)>,
    places: HashMap<u64, usize>,
    /// Ids in the order of their creation; those of deleted rows are skipped.
    ages: VecDeque<u64>,
    limit: usize,
}

impl<R> Live<R> {
    pub(super) fn new(limit: usize) -> Self {
        Self { rows: Vec::new(), places: HashMap::new(), ages: VecDeque::new(), limit }
    }

    pub(super) fn insert(&mut self, id: u64, row: R) -> Option<R> {
        self.places.insert(id, self.rows.len());
        self.rows.push((id, row));
        self.ages.push_back(id);
        let mut retired = None;
        while self.ages.len() > self.limit {
            retired = self.ages.pop_front().and_then(|oldest| self.remove(oldest)).or(retired);
        }
        retired
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<R> {
        let place = self.places.remove(&id)?;
        let (_, row) = self.rows.swap_remove(place);
        if let Some((moved, _)) = self.rows.get(place) {
            self.places.insert(*moved, place);
        }
        Some(row)
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut R> {
        let place = *self.places.get(&id)?;
        self.rows.get_mut(place).map(|(_, row)| row)
    }

    pub(super) fn pick(&self, rng: &mut StdRng) -> Option<u64> {
        if self.rows.is_empty() {
            return None;
        }
        Some(self.rows[rng.random_range(0..self.rows.len())].0)
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn removal_keeps_the_other_rows_in_reach() {
        let mut live = Live::new(10);
        for id in 0..5 {
            live.insert(id, id * 10);
        }
        assert_eq!(live.remove(1), Some(10));
        assert_eq!(live.remove(1), None);
        assert_eq!([0, 2, 3, 4].map(|id| live.get_mut(id).copied()), [0, 20, 30, 40].map(Some));
        assert_eq!(live.len(), 4);
    }

    #[test]
    fn the_oldest_row_retires_when_the_limit_is_reached() {
        let mut live = Live::new(2);
        assert_eq!(live.insert(1, 'a'), None);
        assert_eq!(live.insert(2, 'b'), None);
        assert_eq!(live.insert(3, 'c'), Some('a'));
        assert!(live.pick(&mut StdRng::seed_from_u64(1)).is_some());
        assert_eq!(live.len(), 2);
    }
}
