//! Random changes in random epochs.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

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

pub(crate) fn stream(seed: u64) -> Vec<Epoch> {
    let mut rng = StdRng::seed_from_u64(seed);
    let (keys, largest) = (rng.random_range(3..10), [3, 12, 40][rng.random_range(0..3)]);
    (0..rng.random_range(6..16)).map(|_| epoch(&mut rng, keys, largest)).collect()
}

fn epoch(rng: &mut StdRng, keys: i64, largest: usize) -> Epoch {
    let mut changes = Vec::new();
    for _ in 0..rng.random_range(0..=largest) {
        let table = rng.random_range(0..TABLES.len());
        let key = rng.random_range(0..keys);
        let is_delete = rng.random_bool(0.3);
        let values =
            (!is_delete).then(|| (0..TABLES[table].1).map(|_| rng.random_range(0..24)).collect());
        changes.push(Change { table, key, values });
        if is_delete && rng.random_bool(0.3) {
            // The row comes back under another key.
            let values = (0..TABLES[table].1).map(|_| rng.random_range(0..24)).collect();
            let key = rng.random_range(0..keys);
            changes.push(Change { table, key, values: Some(values) });
        }
    }
    let watermark_moves = rng.random_bool(0.5).then(|| rng.random_range(0..6));
    Epoch { changes, watermark_moves, is_restarted: rng.random_bool(0.15) }
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
