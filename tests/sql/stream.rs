//! Random changes in random epochs.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::rows::{MINUTE, TIME_STEP};

/// Names of the source tables and how many columns they have.
pub(crate) const TABLES: [(&str, usize); 5] =
    [("orders", 5), ("items", 5), ("customers", 5), ("products", 4), ("events", 6)];

/// A change of one row. The bytes choose the values of its columns; none: it is deleted.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) table: usize,
    pub(crate) key: i64,
    pub(crate) values: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Epoch {
    pub(crate) changes: Vec<Change>,
    /// How far the watermark moves, minutes.
    pub(crate) watermark_moves: Option<i64>,
    /// The processor comes up anew after the epoch.
    pub(crate) is_restarted: bool,
}

/// The random choices of a stream, and the rows that are there, so that some of them can be touched.
struct Dice {
    rng: StdRng,
    keys: i64,
    /// How many changes an epoch has at most.
    largest: usize,
    rows: BTreeMap<(usize, i64), Vec<u8>>,
    /// How far the watermark has moved, minutes.
    moved: i64,
}

pub(crate) fn stream(seed: u64) -> Vec<Epoch> {
    let mut rng = StdRng::seed_from_u64(seed);
    let (keys, largest) = (rng.random_range(3..8), [5, 15, 40, 1][seed as usize % 4]);
    let epochs = rng.random_range(6..16);
    let mut dice = Dice { rng, keys, largest, rows: BTreeMap::new(), moved: 0 };
    (0..epochs).map(|_| dice.epoch()).collect()
}

impl Dice {
    fn epoch(&mut self) -> Epoch {
        let mut changes = Vec::new();
        for _ in 0..self.rng.random_range(0..=self.largest) {
            let table = self.rng.random_range(0..TABLES.len());
            let key = self.rng.random_range(0..self.keys);
            match self.rng.random_range(0..20) {
                0..9 => changes.push(self.anew(table, key)),
                9..13 => changes.push(self.one_column(table, key)),
                // Nothing differs, as after an update of columns that are not declared.
                13..15 => changes.push(self.again(table, key)),
                _ => {
                    changes.push(Change { table, key, values: None });
                    // The row may come back under another key.
                    if self.rng.random_bool(0.3) {
                        let key = self.rng.random_range(0..self.keys);
                        changes.push(self.anew(table, key));
                    }
                }
            }
            for Change { table, key, values } in &changes {
                match values {
                    Some(values) => self.rows.insert((*table, *key), values.clone()),
                    None => self.rows.remove(&(*table, *key)),
                };
            }
        }
        let watermark_moves = match self.rng.random_range(0..8) {
            0..4 => None,
            4..7 => Some(self.rng.random_range(0..6)),
            // Past every row.
            _ => Some(40),
        };
        self.moved += watermark_moves.unwrap_or(0);
        Epoch { changes, watermark_moves, is_restarted: self.rng.random_bool(0.15) }
    }

    fn anew(&mut self, table: usize, key: i64) -> Change {
        let values = (0..TABLES[table].1).map(|_| self.choice()).collect();
        Change { table, key, values: Some(values) }
    }

    /// A value; as a time, one around the watermark, so that it always passes some rows.
    fn choice(&mut self) -> u8 {
        let watermark = self.moved * MINUTE / TIME_STEP;
        let first = (watermark - 8).clamp(0, i64::from(u8::MAX) - 24) as u8;
        self.rng.random_range(first..first + 24)
    }

    fn again(&mut self, table: usize, key: i64) -> Change {
        match self.rows.get(&(table, key)) {
            Some(values) => Change { table, key, values: Some(values.clone()) },
            None => self.anew(table, key),
        }
    }

    fn one_column(&mut self, table: usize, key: i64) -> Change {
        let mut change = self.again(table, key);
        if let Some(values) = &mut change.values {
            let column = self.rng.random_range(1..values.len());
            values[column] = self.choice();
        }
        change
    }
}

pub(crate) fn describe(epochs: &[Epoch]) -> String {
    let mut lines = Vec::new();
    for (number, epoch) in epochs.iter().enumerate() {
        lines.push(format!("epoch {number}, watermark {:?}:", epoch.watermark_moves));
        for Change { table, key, values } in &epoch.changes {
            let row = values.as_ref().map(|values| crate::rows::describe(*table, *key, values));
            let what = row.unwrap_or_else(|| format!("delete {key}"));
            lines.push(format!("  {}: {what}", TABLES[*table].0));
        }
        if epoch.is_restarted {
            lines.push("  restart".to_owned());
        }
    }
    lines.join("\n")
}
