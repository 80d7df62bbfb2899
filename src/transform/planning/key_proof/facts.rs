//! What is known of the rows of a node.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::scalar::ScalarValue;

use super::dependencies::{Columns, Dependencies, moved};

/// More sets are not kept.
const MOST_SETS: usize = 16;

/// What holds for the rows of a node, whatever its tables hold; columns go by their positions.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// Columns without NULL.
    pub(super) not_null: Columns,
    /// Sets of columns that no two rows share; the empty one says that there is one row at most.
    pub(super) unique: BTreeSet<Columns>,
    pub(super) dependencies: Dependencies,
    /// Columns that have the same value in all rows.
    pub(super) constants: BTreeMap<usize, ScalarValue>,
    /// Of full joins: pairs of columns of which one at least has a value, and `coalesce` of the pairs makes a key.
    pub(super) full_joins: Vec<Vec<(usize, usize)>>,
}

impl Facts {
    /// One row at most.
    pub(super) fn one_row() -> Self {
        Self { unique: BTreeSet::from([Columns::new()]), ..Self::default() }
    }

    /// Whether no two rows agree in these columns.
    pub(super) fn is_unique(&self, key: &[usize]) -> bool {
        let determined = self.determined(&key.iter().copied().collect());
        self.unique.iter().any(|set| set.is_subset(&determined))
    }

    /// The columns that these determine, and those that are the same in all rows.
    pub(super) fn determined(&self, columns: &Columns) -> Columns {
        self.with_constants().closure(columns)
    }

    /// A constant is determined by nothing at all.
    fn with_constants(&self) -> Dependencies {
        let mut dependencies = self.dependencies.clone();
        dependencies.add(Columns::new(), self.constants.keys().copied().collect());
        dependencies
    }

    pub(super) fn add_unique(&mut self, set: Columns) {
        if self.unique.len() < MOST_SETS {
            self.unique.insert(set);
        }
    }

    /// Columns that are equal in all rows.
    pub(super) fn add_equal(&mut self, one: usize, other: usize) {
        self.dependencies.add(Columns::from([one]), Columns::from([other]));
        self.dependencies.add(Columns::from([other]), Columns::from([one]));
    }

    /// What is left of it when some columns are passed on: by the position of each, where it stands then.
    pub(super) fn passed_on(&self, places: &BTreeMap<usize, Columns>) -> Self {
        let outside = |at: &usize| places.get(at).cloned().unwrap_or_default();
        let constants = self.constants.iter();
        let first = |at: &usize| places.get(at).and_then(|places| places.first()).copied();
        let pair = |(one, other): &(usize, usize)| Some((first(one)?, first(other)?));
        let full_joins = self.full_joins.iter();
        let dependencies = self.with_constants();
        let set = |set: &Columns| moved(&dependencies.reduced(set, places), places);
        let mut passed = Self {
            not_null: self.not_null.iter().flat_map(outside).collect(),
            unique: self.unique.iter().filter_map(set).collect(),
            dependencies: dependencies.passed_on(places),
            constants: constants
                .flat_map(|(at, value)| outside(at).into_iter().map(|at| (at, value.clone())))
                .collect(),
            full_joins: full_joins.filter_map(|pairs| pairs.iter().map(pair).collect()).collect(),
        };
        // The columns that are left may determine the rows all the same.
        let left: Columns = places.keys().copied().collect();
        let determined = self.determined(&left);
        if passed.unique.is_empty()
            && self.unique.iter().any(|set| set.is_subset(&determined))
            && let Some(all) = moved(&left, places)
        {
            passed.unique.insert(all);
        }
        for places in places.values() {
            for (one, other) in places.iter().zip(places.iter().skip(1)) {
                passed.add_equal(*one, *other);
            }
        }
        passed
    }
}
