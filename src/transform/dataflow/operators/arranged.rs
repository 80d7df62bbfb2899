//! A copy of its input with indexes: `rows += dI`. It stands where a join must look up an input by columns
//! that the input itself cannot be searched by.

use arrow::datatypes::SchemaRef;
use datafusion::error::Result;

use crate::model::{Found, Lookup};
use crate::transform::dataflow::delta::Delta;
use crate::transform::dataflow::multiset::Multiset;
use crate::transform::dataflow::operator::{
    BoxedOperator, EvalContext, IndexRequests, Operator, Visit,
};
use crate::transform::dataflow::operator_state::OperatorState;

/// Keeps the rows of its input, so that they can be looked up by columns that the input can't be.
#[derive(Debug)]
pub(crate) struct Arranged {
    input: BoxedOperator,
    rows: Multiset,
}

impl Arranged {
    pub(crate) fn new(input: BoxedOperator) -> Result<Self> {
        let rows = Multiset::new(input.schema())?;
        Ok(Self { input, rows })
    }
}

impl Operator for Arranged {
    fn schema(&self) -> &SchemaRef {
        self.input.schema()
    }

    fn load(&mut self, context: &EvalContext<'_>) -> Result<()> {
        self.input.load(context)?;
        self.rows.clear();
        let Self { input, rows } = self;
        input.scan(context, &mut |part| Ok(rows.apply(&Delta::of(part, 1))?))
    }

    fn advance(&mut self, context: &EvalContext<'_>) -> Result<Delta> {
        let delta = self.input.advance(context)?;
        self.rows.apply(&delta)?;
        Ok(delta)
    }

    fn prepare(&mut self, columns: &[usize], _: &mut dyn IndexRequests) -> bool {
        self.rows.add_index(columns).is_ok()
    }

    fn find(&self, lookup: Lookup<'_>, _: &EvalContext<'_>) -> Result<Found> {
        Ok(self.rows.find(lookup)?)
    }

    fn scan(&self, _: &EvalContext<'_>, visit: Visit<'_>) -> Result<()> {
        self.rows.scan(visit)
    }

    fn unique(&self) -> Option<Vec<usize>> {
        self.input.unique()
    }

    fn memory(&self) -> usize {
        self.input.memory() + self.rows.memory()
    }

    fn inputs(&mut self) -> Vec<&mut BoxedOperator> {
        vec![&mut self.input]
    }

    fn state(&mut self) -> Option<&mut dyn OperatorState> {
        Some(&mut self.rows)
    }
}
