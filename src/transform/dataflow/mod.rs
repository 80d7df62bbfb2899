//! Results kept right from differences: a query as a tree of operators over weighted rows.
//!
//! Each operator turns the differences of what it reads into the difference of what it gives
//! ([`Operator::advance`]). None reads a whole table for that: a join looks up the partners of the rows
//! that changed ([`Operator::find`]), which goes down to the indexes of the state stores, and an
//! aggregate keeps one small state per group. Joins keep nothing at all. So the work of an epoch
//! follows the rows that changed, and memory follows the tables and the groups.
//!
//! Expressions are DataFusion's own physical expressions; the query comes from its optimiser. `compile`
//! makes the tree, once per SQL text.

mod aggregate;
mod arranged;
mod compile;
mod constant;
mod delta;
mod expression;
mod filter;
mod join;
mod marked;
mod multiset;
mod normalize;
mod pairs;
mod project;
mod rows;
mod source;
mod union;

pub(super) use compile::{Readable, Refusal, compile};
pub(super) use delta::Delta;
pub(super) use multiset::Multiset;
pub(super) use normalize::{Normalize, normalize};

use std::collections::HashMap;
use std::fmt;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;

use crate::model::{CurrentRows, Found, Lookup, TableDelta};

/// What an epoch looks like to the operators.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment<'a> {
    /// The source tables as they are at the end of the epoch.
    pub(super) tables: &'a dyn CurrentRows,
    /// How they have changed; a table that is not here has not.
    pub(super) deltas: &'a HashMap<String, TableDelta>,
    pub(super) results: &'a dyn Results,
    /// Microseconds, before and at the end of the epoch.
    pub(super) watermark: (Option<i64>, Option<i64>),
}

/// The results of the transforms that ran before, for the ones that read them.
pub(super) trait Results: fmt::Debug + Sync {
    /// How a result has changed in this epoch.
    fn delta(&self, name: &str) -> Option<&Delta>;
    fn find(&self, name: &str, lookup: Lookup<'_>, moment: &Moment<'_>) -> Result<Found>;
    fn all(&self, name: &str, moment: &Moment<'_>) -> Result<RecordBatch>;
}

/// Where operators say what their look-ups need.
pub(super) trait Preparation {
    /// An index on some columns of a source table.
    fn table(&mut self, name: &str, columns: &[usize]);
    /// Look-ups by some columns of another transform's result; `false` if it can't be.
    fn result(&mut self, name: &str, columns: &[usize]) -> bool;
}

/// A node of the tree.
///
/// Order: in each epoch `advance` is called once, on every node; after it, `find`, `count` and `all` show
/// the rows at the end of the epoch. [`Self::load`] is called once before all of that.
pub(super) trait Operator: fmt::Debug + Send + Sync {
    fn schema(&self) -> &SchemaRef;

    /// Builds the state, if there is any, from the current rows.
    fn load(&mut self, moment: &Moment<'_>) -> Result<()>;

    /// Brings the state up to date and tells how the rows have changed. Rows may cancel out.
    fn advance(&mut self, moment: &Moment<'_>) -> Result<Delta>;

    /// Whether rows can be found by these columns; what that needs is told to `preparation`.
    fn prepare(&mut self, columns: &[usize], preparation: &mut dyn Preparation) -> bool;

    /// The rows that a look-up finds, with all columns. Only by columns that were prepared.
    fn find(&self, lookup: Lookup<'_>, moment: &Moment<'_>) -> Result<Found>;

    /// How many rows each key of a look-up has.
    fn count(&self, lookup: Lookup<'_>, moment: &Moment<'_>) -> Result<Vec<usize>> {
        let mut counts = vec![0; lookup.keys.first().map_or(0, |keys| keys.len())];
        for key in self.find(lookup, moment)?.key_of {
            counts[key as usize] += 1;
        }
        Ok(counts)
    }

    /// All rows.
    fn all(&self, moment: &Moment<'_>) -> Result<RecordBatch>;

    /// Columns whose values no two rows share, if any are known.
    fn unique(&self) -> Option<Vec<usize>>;

    /// Bytes of its own state and of what it reads from.
    fn memory(&self) -> usize;
}

pub(super) type BoxedOperator = Box<dyn Operator>;
