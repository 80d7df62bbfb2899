//! Columns that determine others: rows that agree in the ones agree in the others.

use std::collections::{BTreeMap, BTreeSet};

/// Positions of columns.
pub(super) type Columns = BTreeSet<usize>;

/// More of them are not kept: they would make planning slow and prove little.
const MOST: usize = 256;

/// All functional dependencies that are known of the columns of a node.
#[derive(Debug, Clone, Default)]
pub(super) struct Dependencies(Vec<Dependency>);

#[derive(Debug, Clone)]
struct Dependency {
    determinant: Columns,
    determined: Columns,
}

impl Dependencies {
    pub(super) fn add(&mut self, determinant: Columns, determined: Columns) {
        if self.0.len() < MOST && !determined.is_subset(&determinant) {
            self.0.push(Dependency { determinant, determined });
        }
    }

    pub(super) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
        self.0.truncate(MOST);
    }

    /// The same of columns that stand further right.
    pub(super) fn shifted(self, by: usize) -> Self {
        let shift = |columns: &Columns| columns.iter().map(|at| at + by).collect();
        let moved = |Dependency { determinant, determined }: &Dependency| Dependency {
            determinant: shift(determinant),
            determined: shift(determined),
        };
        Self(self.0.iter().map(moved).collect())
    }

    /// All columns that some columns determine, themselves included.
    pub(super) fn closure(&self, columns: &Columns) -> Columns {
        let mut closure = columns.clone();
        loop {
            let before = closure.len();
            for Dependency { determinant, determined } in &self.0 {
                if determinant.is_subset(&closure) {
                    closure.extend(determined);
                }
            }
            if closure.len() == before {
                return closure;
            }
        }
    }

    /// The same set without columns that are not passed on, where the others determine them.
    pub(super) fn reduced(&self, set: &Columns, places: &BTreeMap<usize, Columns>) -> Columns {
        let mut reduced = set.clone();
        for at in set.iter().filter(|at| !places.contains_key(at)) {
            let mut others = reduced.clone();
            others.remove(at);
            if self.closure(&others).contains(at) {
                reduced = others;
            }
        }
        reduced
    }

    /// What they say of columns that are passed on: by the position of each, where it stands then.
    pub(super) fn passed_on(&self, places: &BTreeMap<usize, Columns>) -> Self {
        let mut passed = Self::default();
        let single = places.keys().map(|at| Columns::from([*at]));
        let several = self.0.iter().map(|dependency| dependency.determinant.clone());
        let determinants: BTreeSet<Columns> = single.chain(several).collect();
        for determinant in determinants {
            let determinant = self.reduced(&determinant, places);
            let Some(outside) = moved(&determinant, places) else { continue };
            let determined = self.closure(&determinant);
            passed.add(
                outside,
                determined.iter().filter_map(|at| places.get(at)).flatten().copied().collect(),
            );
        }
        passed
    }
}

/// The first place of each column; `None` if one is not passed on.
pub(super) fn moved(columns: &Columns, places: &BTreeMap<usize, Columns>) -> Option<Columns> {
    columns.iter().map(|at| places.get(at).and_then(|places| places.first()).copied()).collect()
}
