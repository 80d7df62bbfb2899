//! Results whose targets may hold other rows than the epochs before have told them.
//!
//! Rows of such a result are written whole, whatever is said to differ.

use std::collections::{HashMap, HashSet};

use crate::model::ResultTable;

/// Epochs for which a result is doubted after its target held something else.
const TRIALS: u32 = 200;

/// By the names of the results.
#[derive(Debug, Default)]
pub(crate) struct TargetDrift {
    /// Rows of them were refused, and the targets keep what they had; as in the database.
    pub(crate) gaps: HashSet<String>,
    drifted: HashMap<String, u32>,
}

impl TargetDrift {
    pub(crate) fn affects(&self, result: &str) -> bool {
        self.gaps.contains(result) || self.drifted.contains_key(result)
    }

    /// A statement failed that relied on what `table` holds; `None`: one of any.
    pub(crate) fn mark_drifted<'a>(
        &mut self,
        table: Option<&str>,
        results: impl Iterator<Item = &'a ResultTable>,
    ) {
        let meant = results.filter(|result| table.is_none_or(|table| result.target == table));
        self.drifted.extend(meant.map(|result| (result.name.clone(), TRIALS)));
    }

    /// An epoch has passed.
    pub(crate) fn end_epoch(&mut self) {
        self.drifted.retain(|_, left| {
            *left -= 1;
            *left > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_surprise_fades_and_a_gap_does_not() {
        let mut drift =
            TargetDrift { gaps: HashSet::from(["a".to_owned()]), ..TargetDrift::default() };
        drift.drifted.insert("b".to_owned(), 2);
        drift.end_epoch();
        assert!(drift.affects("a") && drift.affects("b") && !drift.affects("c"));
        drift.end_epoch();
        assert!(drift.affects("a") && !drift.affects("b"));
    }
}
