//! Epochs as others than the ledger remember them, and what a ledger has lost of them.

use std::collections::BTreeMap;

use super::Epoch;
use crate::model::OffsetSet;

/// Ranges of offsets that are kept of lost epochs, per queue. A broker numbers the messages of all queues together, so that
/// each message of a lost day may be a range of its own.
const RANGES: usize = 10_000;

/// What is remembered of a committed epoch. Times are microseconds since 1970, UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEpoch {
    pub epoch: Epoch,
    pub queue: String,
    /// The sink value that committed it; `None` in records of earlier releases.
    pub run_id: Option<String>,
    pub offsets: OffsetSet,
    /// Rows landed, per source table.
    pub landed: BTreeMap<String, i64>,
    pub opened_at: i64,
    pub committed_at: i64,
}

/// Committed epochs that the ledger has lost, as far as others remember them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LostEpochs {
    /// The lowest and the highest number.
    pub numbers: Option<(Epoch, Epoch)>,
    pub epochs: u64,
    /// Their messages, by queue. Of very many ranges, neighbours are joined.
    pub offsets: BTreeMap<String, OffsetSet>,
    pub messages: u64,
    /// Rows landed, per source table.
    pub landed: BTreeMap<String, i64>,
    /// When the first message was taken, and when the last epoch was committed.
    pub times: Option<(i64, i64)>,
}

/// A loss that an operator has accepted: the epoch that says so is above all that were lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedLoss {
    pub lost: LostEpochs,
    /// The highest generation of positions in the landing tables, where the ledger has lost its own list.
    pub generation: Option<u32>,
}

impl LostEpochs {
    /// Adds an epoch, each only once.
    pub fn add(&mut self, recorded: &RecordedEpoch) {
        let number = recorded.epoch;
        let (first, last) = self.numbers.unwrap_or((number, number));
        self.numbers = Some((first.min(number), last.max(number)));
        self.epochs += 1;
        self.messages += recorded.offsets.count();
        for (table, rows) in &recorded.landed {
            *self.landed.entry(table.clone()).or_default() += rows;
        }
        let (opened, committed) = (recorded.opened_at, recorded.committed_at);
        let (since, until) = self.times.unwrap_or((opened, committed));
        self.times = Some((since.min(opened), until.max(committed)));
        if recorded.offsets.is_empty() {
            return;
        }
        let offsets = self.offsets.entry(recorded.queue.clone()).or_default();
        offsets.extend(&recorded.offsets);
        if offsets.range_count() > 2 * RANGES {
            offsets.coarsen(RANGES);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.epochs == 0
    }

    /// The highest number; 0 if none is known.
    pub fn newest(&self) -> Epoch {
        self.numbers.map_or(Epoch(0), |(_, last)| last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Offset;

    fn recorded(epoch: u64, ids: impl Iterator<Item = u64>) -> RecordedEpoch {
        RecordedEpoch {
            epoch: Epoch(epoch),
            queue: "cdc".to_owned(),
            run_id: None,
            offsets: ids.map(|id| Offset::new(7, id)).collect(),
            landed: BTreeMap::from([("orders".to_owned(), 2)]),
            opened_at: epoch as i64 * 10,
            committed_at: epoch as i64 * 10 + 5,
        }
    }

    #[test]
    fn epochs_add_up_to_one_loss() {
        let mut lost = LostEpochs::default();
        assert!(lost.is_empty());
        for epoch in [4, 3, 5] {
            lost.add(&recorded(epoch, epoch * 10..epoch * 10 + 10));
        }
        assert_eq!(lost.numbers, Some((Epoch(3), Epoch(5))));
        assert_eq!((lost.epochs, lost.messages, lost.landed["orders"]), (3, 30, 6));
        assert_eq!(lost.times, Some((30, 55)));
        let ranges: Vec<_> = lost.offsets["cdc"].ranges().collect();
        assert_eq!(ranges, [(Offset::new(7, 30), 59)]);
    }

    #[test]
    fn ids_with_gaps_stay_within_a_bound() {
        let mut lost = LostEpochs::default();
        for epoch in 0..30u64 {
            lost.add(&recorded(epoch, (0..2_000).map(|at| (epoch * 2_000 + at) * 4)));
        }
        assert_eq!(lost.messages, 60_000);
        let offsets = &lost.offsets["cdc"];
        assert!(offsets.range_count() <= 2 * RANGES, "{}", offsets.range_count());
        assert!(offsets.contains(Offset::new(7, 0)) && offsets.contains(Offset::new(7, 239_996)));
        assert!(!offsets.contains(Offset::new(7, 239_997)));
    }
}
