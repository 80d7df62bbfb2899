//! Joins that keep no rows: the partners of what changed are looked up on the other side.
//!
//! With L and R as they are now and dL, dR as they changed, the matches change by
//! `dL ⋈ R + L ⋈ dR - dL ⋈ dR`. A left row without a match (what an outer join fills with NULLs, and
//! an anti join keeps) comes and goes with the number of its matches: see `unmatched`.

mod unmatched;

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{and, concat_batches};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::error::Result;

use crate::model::{Found, Lookup};
use crate::transform::dataflow::delta::Delta;
use crate::transform::dataflow::expression::{Expression, mask};
use crate::transform::dataflow::join_keys::JoinKeys;
use crate::transform::dataflow::operator::{
    BoxedOperator, EvalContext, IndexRequests, Operator, Visit, all_rows,
};
use crate::transform::dataflow::rows::{
    agree, beside, columns, filter_found, null_rows, take_rows, whole,
};

/// The most left rows that are joined at once when all rows are asked for.
const ROWS_AT_ONCE: usize = 8192;

/// What a join gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JoinKind {
    Inner,
    /// And the left rows without a match, beside NULLs.
    Left,
    /// Left rows with a match, once each.
    Semi,
    /// Left rows without one.
    Anti,
}

impl JoinKind {
    fn has_right_columns(self) -> bool {
        match self {
            Self::Inner | Self::Left => true,
            Self::Semi | Self::Anti => false,
        }
    }
}

/// What two inputs are joined by.
#[derive(Debug)]
pub(crate) struct JoinCondition {
    /// Columns of either side that are equal. None: every pair matches.
    pub(crate) left: Vec<usize>,
    pub(crate) right: Vec<usize>,
    pub(crate) nulls_match: bool,
    /// What else a pair satisfies, over the columns of both sides.
    pub(crate) residual: Option<Expression>,
}

#[derive(Debug)]
pub(crate) struct Join {
    left: BoxedOperator,
    right: BoxedOperator,
    kind: JoinKind,
    on: JoinCondition,
    keys: JoinKeys,
    /// Of both sides.
    pair_schema: SchemaRef,
    schema: SchemaRef,
}

impl Join {
    /// Both sides were prepared for the columns of the condition.
    pub(crate) fn new(
        left: BoxedOperator,
        right: BoxedOperator,
        kind: JoinKind,
        on: JoinCondition,
    ) -> Result<Self> {
        let empty = RecordBatch::new_empty(SchemaRef::clone(left.schema()));
        let keys = JoinKeys::new(&columns(&empty, &on.left), on.nulls_match)?;
        let fields = left.schema().fields().iter().chain(right.schema().fields());
        let pair_schema = Arc::new(Schema::new(fields.map(Arc::clone).collect::<Vec<_>>()));
        let schema = if kind.has_right_columns() {
            SchemaRef::clone(&pair_schema)
        } else {
            SchemaRef::clone(left.schema())
        };
        Ok(Self { left, right, kind, on, keys, pair_schema, schema })
    }

    fn left_width(&self) -> usize {
        self.left.schema().fields().len()
    }

    /// The right side's key columns in the types of the left side's.
    fn right_keys(&self, right: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let left = self.left.schema();
        let typed = |(right_at, left_at): (&usize, &usize)| {
            arrow::compute::cast(right.column(*right_at), left.field(*left_at).data_type())
        };
        let keys = self.on.right.iter().zip(&self.on.left).map(typed);
        Ok(keys.collect::<Result<_, _>>()?)
    }

    fn left_keys(&self, left: &RecordBatch) -> Vec<ArrayRef> {
        columns(left, &self.on.left)
    }

    fn lookup<'a>(&self, columns: &'a [usize], keys: &'a [ArrayRef]) -> Lookup<'a> {
        Lookup { columns, keys, nulls_match: self.on.nulls_match }
    }

    /// The right rows that have the keys of `left`'s rows.
    fn partners(&self, left: &RecordBatch, context: &EvalContext<'_>) -> Result<Found> {
        if self.on.left.is_empty() {
            return every_pair(
                left.num_rows(),
                &whole(self.right.schema(), &all_rows(&*self.right, context)?)?,
            );
        }
        self.right.find(self.lookup(&self.on.right, &self.left_keys(left)), context)
    }

    /// The left rows that have the keys of `right`'s rows.
    fn left_partners(&self, right: &RecordBatch, context: &EvalContext<'_>) -> Result<Found> {
        if self.on.left.is_empty() {
            return every_pair(
                right.num_rows(),
                &whole(self.left.schema(), &all_rows(&*self.left, context)?)?,
            );
        }
        self.left.find(self.lookup(&self.on.left, &self.right_keys(right)?), context)
    }

    /// The pairs of rows of `left` and of what they found, as far as the rest of the condition holds;
    /// with the rows of `left` that they are of.
    fn matches(&self, left: &RecordBatch, found: &Found) -> Result<Found> {
        let lefts = take_rows(left, &UInt32Array::from(found.key_of.clone()))?;
        let rows = beside(&self.pair_schema, &lefts, &found.rows)?;
        self.residual(Found { rows, key_of: found.key_of.clone() })
    }

    /// The pairs that some right rows are in, with the rows of `right` that they are of.
    fn matches_of_right(&self, right: &RecordBatch, context: &EvalContext<'_>) -> Result<Found> {
        let found = self.left_partners(right, context)?;
        let rights = take_rows(right, &UInt32Array::from(found.key_of.clone()))?;
        let rows = beside(&self.pair_schema, &found.rows, &rights)?;
        self.residual(Found { rows, key_of: found.key_of })
    }

    fn residual(&self, pairs: Found) -> Result<Found> {
        match &self.on.residual {
            None => Ok(pairs),
            Some(condition) => {
                let mask = mask(condition, &pairs.rows)?;
                Ok(filter_found(&pairs, &mask)?)
            }
        }
    }

    /// Pairs of two deltas, with the products of their weights, and the rows of `left` that they are of.
    fn local(&self, left: &Delta, right: &Delta) -> Result<(Delta, Vec<u32>)> {
        let pairs: Vec<(u32, u32)> = if self.on.left.is_empty() {
            (0..left.weights.len() as u32)
                .flat_map(|l| (0..right.weights.len() as u32).map(move |r| (l, r)))
                .collect()
        } else {
            self.keys.pairs(&self.left_keys(&left.rows), &self.right_keys(&right.rows)?)?
        };
        let left_at: UInt32Array = pairs.iter().map(|(left, _)| *left).collect();
        let right_at: UInt32Array = pairs.iter().map(|(_, right)| *right).collect();
        let lefts = take_rows(&left.rows, &left_at)?;
        let rows = beside(&self.pair_schema, &lefts, &take_rows(&right.rows, &right_at)?)?;
        // The pair's own number stands for the key, so that the weights can follow.
        let numbers = (0..pairs.len() as u32).collect();
        let kept = self.residual(Found { rows, key_of: numbers })?;
        let weight = |at: &u32| {
            let (left_row, right_row) = pairs[*at as usize];
            left.weights[left_row as usize] * right.weights[right_row as usize]
        };
        let weights = kept.key_of.iter().map(weight).collect();
        let lefts = kept.key_of.iter().map(|at| pairs[*at as usize].0).collect();
        Ok((Delta::new(kept.rows, weights), lefts))
    }

    /// How the pairs change.
    fn advance_pairs(
        &self,
        left: &Delta,
        right: &Delta,
        context: &EvalContext<'_>,
    ) -> Result<Delta> {
        let mut parts = Vec::new();
        if !left.is_empty() {
            let pairs = self.matches(&left.rows, &self.partners(&left.rows, context)?)?;
            let weights = pairs.key_of.iter().map(|row| left.weights[*row as usize]).collect();
            parts.push(Delta::new(pairs.rows, weights));
        }
        if !right.is_empty() {
            let pairs = self.matches_of_right(&right.rows, context)?;
            let weights = pairs.key_of.iter().map(|row| right.weights[*row as usize]).collect();
            parts.push(Delta::new(pairs.rows, weights));
        }
        if !left.is_empty() && !right.is_empty() {
            let (mut both, _) = self.local(left, right)?;
            both.weights.iter_mut().for_each(|weight| *weight = -*weight);
            parts.push(both);
        }
        Ok(Delta::sum(&self.pair_schema, parts)?)
    }

    /// What the join gives for some left rows, and the rows of `left` that they are of.
    fn join_rows(&self, left: &RecordBatch, context: &EvalContext<'_>) -> Result<Found> {
        match self.kind {
            JoinKind::Inner => self.matches(left, &self.partners(left, context)?),
            JoinKind::Left => {
                let pairs = self.matches(left, &self.partners(left, context)?)?;
                let alone = unmatched_rows(left.num_rows(), &pairs.key_of);
                let nulls = take_rows(left, &UInt32Array::from(alone.clone()))?;
                let rows = [&pairs.rows, &self.beside_nulls(&nulls)?];
                let rows = concat_batches(&self.pair_schema, rows)?;
                Ok(Found { rows, key_of: [pairs.key_of, alone].concat() })
            }
            JoinKind::Semi | JoinKind::Anti => {
                let wants_match = self.kind == JoinKind::Semi;
                let counts = self.match_counts(left, context)?;
                let kept = (0..left.num_rows() as u32)
                    .filter(|row| (counts[*row as usize] > 0) == wants_match);
                let key_of: Vec<u32> = kept.collect();
                let rows = take_rows(left, &UInt32Array::from(key_of.clone()))?;
                Ok(Found { rows, key_of })
            }
        }
    }

    /// Left rows beside NULLs.
    fn beside_nulls(&self, left: &RecordBatch) -> Result<RecordBatch> {
        let nulls = null_rows(self.right.schema(), left.num_rows())?;
        Ok(beside(&self.pair_schema, left, &nulls)?)
    }

    /// Which columns of a look-up are of the left side, and which of the right.
    fn split(&self, columns: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let width = self.left_width();
        (0..columns.len()).partition(|at| columns[*at] < width)
    }

    /// Rows found by columns of the right side alone: these always have a match.
    fn find_by_right(&self, lookup: Lookup<'_>, context: &EvalContext<'_>) -> Result<Found> {
        let width = self.left_width();
        let own: Vec<usize> = lookup.columns.iter().map(|column| column - width).collect();
        let rights = self.right.find(Lookup { columns: &own, ..lookup }, context)?;
        let pairs = self.matches_of_right(&rights.rows, context)?;
        let key_of = pairs.key_of.iter().map(|right| rights.key_of[*right as usize]).collect();
        Ok(Found { rows: pairs.rows, key_of })
    }
}

/// The rows among `rows` rows that none of the pairs is of.
fn unmatched_rows(rows: usize, matched: &[u32]) -> Vec<u32> {
    let mut has_match = vec![false; rows];
    matched.iter().for_each(|row| has_match[*row as usize] = true);
    (0..rows as u32).filter(|row| !has_match[*row as usize]).collect()
}

fn every_pair(keys: usize, rows: &RecordBatch) -> Result<Found> {
    let count = rows.num_rows() as u32;
    let at: Vec<u32> = (0..keys).flat_map(|_| 0..count).collect();
    let rows = take_rows(rows, &UInt32Array::from(at))?;
    let key_of = (0..keys as u32).flat_map(|key| std::iter::repeat_n(key, count as usize));
    Ok(Found { rows, key_of: key_of.collect() })
}

impl Operator for Join {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn load(&mut self, context: &EvalContext<'_>) -> Result<()> {
        self.left.load(context)?;
        self.right.load(context)
    }

    fn advance(&mut self, context: &EvalContext<'_>) -> Result<Delta> {
        let (left, right) = (self.left.advance(context)?, self.right.advance(context)?);
        if left.is_empty() && right.is_empty() {
            return Ok(Delta::empty(&self.schema));
        }
        match self.kind {
            JoinKind::Inner => self.advance_pairs(&left, &right, context),
            JoinKind::Left => {
                let pairs = self.advance_pairs(&left, &right, context)?;
                let alone = self.advance_unmatched(&left, &right, context)?;
                let beside_nulls = Delta::new(self.beside_nulls(&alone.rows)?, alone.weights);
                Ok(Delta::sum(&self.schema, vec![pairs, beside_nulls])?)
            }
            JoinKind::Anti => self.advance_unmatched(&left, &right, context),
            JoinKind::Semi => {
                // Every left row either has a match or has none.
                let mut matched = self.advance_unmatched(&left, &right, context)?;
                matched.weights.iter_mut().for_each(|weight| *weight = -*weight);
                Ok(Delta::sum(&self.schema, vec![left, matched])?)
            }
        }
    }

    fn prepare(&mut self, columns: &[usize], requests: &mut dyn IndexRequests) -> bool {
        let (left, right) = self.split(columns);
        let pick = |at: &[usize]| at.iter().map(|at| columns[*at]).collect::<Vec<_>>();
        if !left.is_empty() {
            return self.left.prepare(&pick(&left), requests);
        }
        let width = self.left_width();
        let own: Vec<usize> = pick(&right).iter().map(|column| column - width).collect();
        // A NULL of the right side may be one that the join itself has filled in.
        let finds_all = !(self.kind == JoinKind::Left && self.on.nulls_match);
        finds_all && !own.is_empty() && self.right.prepare(&own, requests)
    }

    fn find(&self, lookup: Lookup<'_>, context: &EvalContext<'_>) -> Result<Found> {
        let (left, right) = self.split(lookup.columns);
        if left.is_empty() {
            return self.find_by_right(lookup, context);
        }
        let own: Vec<usize> = left.iter().map(|at| lookup.columns[*at]).collect();
        let keys: Vec<ArrayRef> = left.iter().map(|at| Arc::clone(&lookup.keys[*at])).collect();
        let lefts = self.left.find(Lookup { columns: &own, keys: &keys, ..lookup }, context)?;
        let joined = self.join_rows(&lefts.rows, context)?;
        let key_of = joined.key_of.iter().map(|left| lefts.key_of[*left as usize]).collect();
        let mut found = Found { rows: joined.rows, key_of };
        if !right.is_empty() {
            let mut keep = BooleanArray::from(vec![true; found.key_of.len()]);
            let wanted = UInt32Array::from(found.key_of.clone());
            for at in right {
                let key = arrow::compute::take(&lookup.keys[at], &wanted, None)?;
                let have = found.rows.column(lookup.columns[at]);
                keep = and(&keep, &agree(have, &key, lookup.nulls_match)?)?;
            }
            found = filter_found(&found, &keep)?;
        }
        Ok(found)
    }

    fn scan(&self, context: &EvalContext<'_>, visit: Visit<'_>) -> Result<()> {
        self.left.scan(context, &mut |left| {
            for at in (0..left.num_rows()).step_by(ROWS_AT_ONCE) {
                let left = left.slice(at, ROWS_AT_ONCE.min(left.num_rows() - at));
                visit(self.join_rows(&left, context)?.rows)?;
            }
            Ok(())
        })
    }

    fn unique(&self) -> Option<Vec<usize>> {
        let covers = |unique: &Option<Vec<usize>>, on: &[usize]| {
            unique.as_ref().is_some_and(|unique| unique.iter().all(|column| on.contains(column)))
        };
        let left = self.left.unique();
        if !self.kind.has_right_columns() {
            return left;
        }
        let right = self.right.unique();
        if covers(&right, &self.on.right) {
            return left;
        }
        let shifted = right.map(|unique| {
            unique.into_iter().map(|column| column + self.left_width()).collect::<Vec<_>>()
        });
        if self.kind == JoinKind::Inner && covers(&left, &self.on.left) {
            return shifted;
        }
        Some([left?, shifted?].concat())
    }

    fn memory(&self) -> usize {
        self.left.memory() + self.right.memory()
    }

    fn inputs(&mut self) -> Vec<&mut BoxedOperator> {
        vec![&mut self.left, &mut self.right]
    }
}
