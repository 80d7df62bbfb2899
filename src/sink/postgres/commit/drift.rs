//! Results whose targets may hold other rows than the epochs before have told them.
//!
//! Rows of such a result are written whole, whatever is said to differ.

use std::collections::{HashMap, HashSet};

use crate::model::ResultTable;

/// Epochs for which a result is doubted after its target held something else.
const TRIALS: u32 = 200;

/// By the names of the results.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    /// Rows of them were refused, and the targets keep what they had; as in the database.
    pub(crate) gaps: HashSet<String>,
    surprises: HashMap<String, u32>,
}

impl Doubts {
    pub(crate) fn has(&self, result: &str) -> bool {
        self.gaps.contains(result) || self.surprises.contains_key(result)
    }

    /// A statement failed that relied on what `table` holds; `None`: one of any.
    pub(crate) fn surprise<'a>(
        &mut self,
        table: Option<&str>,
        results: impl Iterator<Item = &'a ResultTable>,
    ) {
        let meant = results.filter(|result| table.is_none_or(|table| result.target == table));
        self.surprises.extend(meant.map(|result| (result.name.clone(), TRIALS)));
    }

    /// An epoch has passed.
    pub(crate) fn fade(&mut self) {
        self.surprises.retain(|_, left| {
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
        let mut doubts = Doubts { gaps: HashSet::from(["a".to_owned()]), ..Doubts::default() };
        doubts.surprises.insert("b".to_owned(), 2);
        doubts.fade();
        assert!(doubts.has("a") && doubts.has("b") && !doubts.has("c"));
        doubts.fade();
        assert!(doubts.has("a") && !doubts.has("b"));
    }
}
