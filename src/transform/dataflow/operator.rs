//! What every node of the tree can do, and what an epoch looks like to it.

use std::collections::HashMap;
use std::fmt;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;

use super::delta::Delta;
use super::operator_state::OperatorState;
use crate::model::{CurrentRows, Found, Lookup, TableDelta};

/// What an epoch looks like to the operators.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EvalContext<'a> {
    /// The source tables as they are at the end of the epoch.
    pub(crate) tables: &'a dyn CurrentRows,
    /// How they have changed; a table that is not here has not.
    pub(crate) deltas: &'a HashMap<String, TableDelta>,
    pub(crate) results: &'a dyn Results,
    pub(crate) watermark: WatermarkStep,
}

/// How the watermark moves in an epoch; in microseconds, `None` before the first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WatermarkStep {
    pub(crate) before: Option<i64>,
    pub(crate) now: Option<i64>,
}

/// The results of the transforms that ran before, for the ones that read them.
pub(crate) trait Results: fmt::Debug + Sync {
    /// How a result has changed in this epoch.
    fn delta(&self, name: &str) -> Option<&Delta>;
    fn find(&self, name: &str, lookup: Lookup<'_>, context: &EvalContext<'_>) -> Result<Found>;
    /// Shows `visit` all rows of a result, part by part.
    fn scan(&self, name: &str, context: &EvalContext<'_>, visit: Visit<'_>) -> Result<()>;
}

/// What is shown the parts of all rows; an error ends it.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(RecordBatch) -> Result<()>;

/// All rows of an operator at once.
pub(crate) fn all_rows(
    operator: &dyn Operator,
    context: &EvalContext<'_>,
) -> Result<Vec<RecordBatch>> {
    let mut parts = Vec::new();
    operator.scan(context, &mut |part| {
        parts.push(part);
        Ok(())
    })?;
    Ok(parts)
}

/// Where operators say what their look-ups need.
pub(crate) trait IndexRequests {
    /// An index on some columns of a source table.
    fn table(&mut self, name: &str, columns: &[usize]);
    /// Look-ups by some columns of another transform's result; `false` if it can't be.
    fn result(&mut self, name: &str, columns: &[usize]) -> bool;
}

/// A node of the tree.
///
/// Order: in each epoch `advance` is called once, on every node; after it, `find`, `count` and `scan` show
/// the rows at the end of the epoch. [`Self::load`] is called once before all of that.
pub(crate) trait Operator: fmt::Debug + Send + Sync {
    fn schema(&self) -> &SchemaRef;

    /// Builds the state, if there is any, from the current rows.
    fn load(&mut self, context: &EvalContext<'_>) -> Result<()>;

    /// Brings the state up to date and tells how the rows have changed. Rows may cancel out.
    fn advance(&mut self, context: &EvalContext<'_>) -> Result<Delta>;

    /// Whether rows can be found by these columns; adds what that needs to `requests`.
    fn prepare(&mut self, columns: &[usize], requests: &mut dyn IndexRequests) -> bool;

    /// The rows that a look-up finds, with all columns. Only by columns that were prepared.
    fn find(&self, lookup: Lookup<'_>, context: &EvalContext<'_>) -> Result<Found>;

    /// How many rows each key of a look-up has.
    fn count(&self, lookup: Lookup<'_>, context: &EvalContext<'_>) -> Result<Vec<usize>> {
        let mut counts = vec![0; lookup.keys.first().map_or(0, |keys| keys.len())];
        for key in self.find(lookup, context)?.key_of {
            counts[key as usize] += 1;
        }
        Ok(counts)
    }

    /// Shows `visit` all rows, part by part.
    fn scan(&self, context: &EvalContext<'_>, visit: Visit<'_>) -> Result<()>;

    /// Columns whose values no two rows share, if any are known.
    fn unique(&self) -> Option<Vec<usize>>;

    /// Bytes of its own state and of what it reads from.
    fn memory(&self) -> usize;

    /// What it reads from.
    fn inputs(&mut self) -> Vec<&mut BoxedOperator>;

    /// What it keeps from epoch to epoch; `None` if nothing.
    fn state(&mut self) -> Option<&mut dyn OperatorState> {
        None
    }
}

pub(crate) type BoxedOperator = Box<dyn Operator>;

/// Shows `visit` the states of an operator and of all that it reads from, in an order of their own.
pub(crate) fn each_state(
    operator: &mut dyn Operator,
    visit: &mut dyn FnMut(&mut dyn OperatorState) -> Result<()>,
) -> Result<()> {
    if let Some(state) = operator.state() {
        visit(state)?;
    }
    operator.inputs().into_iter().try_for_each(|input| each_state(&mut **input, visit))
}
