//! What is known of the rows of a join.

use std::collections::BTreeSet;

use datafusion::common::{DFSchema, JoinType, NullEquality};
use datafusion::logical_expr::Join;

use super::dependencies::Columns;
use super::expressions::{column, hold};
use super::facts::Facts;

/// Which side of an outer join has NULLs where it has no match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Padded {
    Neither,
    Left,
    Right,
    Both,
}

/// The two inputs of a join that shows the columns of both.
struct Pair {
    left: Facts,
    /// Its columns stand behind those of the left one.
    right: Facts,
    /// Columns that are equal where two rows match.
    on: Vec<(usize, usize)>,
}

pub(super) fn join(plan: &Join, left: Facts, right: Facts) -> Facts {
    let padded = match plan.join_type {
        JoinType::Inner => Padded::Neither,
        JoinType::Left => Padded::Right,
        JoinType::Right => Padded::Left,
        JoinType::Full => Padded::Both,
        JoinType::LeftSemi | JoinType::LeftAnti => return left,
        JoinType::RightSemi | JoinType::RightAnti => return right,
        // The column that says whether there is a match.
        JoinType::LeftMark => return marked(left, plan.left.schema()),
        JoinType::RightMark => return marked(right, plan.right.schema()),
    };
    let width = plan.left.schema().fields().len();
    let on = plan.on.iter().filter_map(|(one, other)| {
        let left = column(one, plan.left.schema())?;
        Some((left, width + column(other, plan.right.schema())?))
    });
    let on: Vec<(usize, usize)> = on.collect();
    let is_by_columns_alone = on.len() == plan.on.len() && plan.filter.is_none();
    let pair = Pair { left, right: shifted(right, width), on };
    let is_one_to_one = is_by_columns_alone && pair.is_one_to_one();
    let pairs = pair.on.clone();
    let mut facts = pair.joined(padded, plan.null_equality == NullEquality::NullEqualsNull);
    if padded == Padded::Both && is_one_to_one {
        facts.full_joins.push(pairs);
    }
    if padded == Padded::Neither
        && let Some(filter) = &plan.filter
    {
        hold(filter, &plan.schema, &mut facts);
    }
    facts
}

fn marked(mut facts: Facts, schema: &DFSchema) -> Facts {
    let mark = Columns::from([schema.fields().len()]);
    for set in facts.unique.clone() {
        facts.dependencies.add(set, mark.clone());
    }
    facts
}

fn shifted(facts: Facts, by: usize) -> Facts {
    let shift = |columns: Columns| columns.into_iter().map(|at| at + by).collect::<Columns>();
    Facts {
        not_null: shift(facts.not_null),
        unique: facts.unique.into_iter().map(shift).collect(),
        dependencies: facts.dependencies.shifted(by),
        constants: facts.constants.into_iter().map(|(at, value)| (at + by, value)).collect(),
        full_joins: Vec::new(),
    }
}

impl Pair {
    /// No row of a side has two matches, and each row has values to be matched by.
    fn is_one_to_one(&self) -> bool {
        let (lefts, rights): (Vec<usize>, Vec<usize>) = self.on.iter().copied().unzip();
        let has_values =
            |side: &Facts, on: &[usize]| on.iter().all(|at| side.not_null.contains(at));
        self.left.is_unique(&lefts)
            && self.right.is_unique(&rights)
            && has_values(&self.left, &lefts)
            && has_values(&self.right, &rights)
    }

    fn joined(self, padded: Padded, nulls_match: bool) -> Facts {
        let Self { left, right, on } = self;
        let mut facts = Facts::default();
        for one in &left.unique {
            for other in &right.unique {
                facts.add_unique(one.union(other).copied().collect());
            }
        }
        // A row of the side that is kept determines what it was matched by: that, or NULL.
        let matched = |side: &BTreeSet<Columns>, to: Columns, facts: &mut Facts| {
            for set in side {
                facts.dependencies.add(set.clone(), to.clone());
            }
        };
        match padded {
            Padded::Neither => {
                for (one, other) in &on {
                    facts.add_equal(*one, *other);
                }
                facts.constants.extend(left.constants.clone());
                facts.constants.extend(right.constants.clone());
            }
            Padded::Right => {
                matched(&left.unique, on.iter().map(|(_, other)| *other).collect(), &mut facts);
                facts.constants.extend(left.constants.clone());
            }
            Padded::Left => {
                matched(&right.unique, on.iter().map(|(one, _)| *one).collect(), &mut facts);
                facts.constants.extend(right.constants.clone());
            }
            Padded::Both => {}
        }
        let is_kept = |side: Padded| padded != side && padded != Padded::Both;
        for (side, not_null) in [(Padded::Left, &left.not_null), (Padded::Right, &right.not_null)] {
            if is_kept(side) {
                facts.not_null.extend(not_null);
            }
        }
        if padded == Padded::Neither && !nulls_match {
            facts.not_null.extend(on.iter().flat_map(|(one, other)| [*one, *other]));
        }
        facts.dependencies.extend(left.dependencies);
        facts.dependencies.extend(right.dependencies);
        facts
    }
}
