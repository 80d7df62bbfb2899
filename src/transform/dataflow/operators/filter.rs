//! `WHERE`: the difference is filtered like the rows, `d(filter(I)) = filter(dI)`. It keeps nothing.

use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;

use crate::model::{Found, Lookup};
use crate::transform::dataflow::delta::Delta;
use crate::transform::dataflow::expression::{Expression, mask};
use crate::transform::dataflow::operator::{
    BoxedOperator, EvalContext, IndexRequests, Operator, Visit,
};
use crate::transform::dataflow::rows::filter_found;

/// The rows that satisfy a condition.
#[derive(Debug)]
pub(crate) struct Filter {
    input: BoxedOperator,
    condition: Expression,
}

impl Filter {
    pub(crate) fn new(input: BoxedOperator, condition: Expression) -> Self {
        Self { input, condition }
    }
}

impl Operator for Filter {
    fn schema(&self) -> &SchemaRef {
        self.input.schema()
    }

    fn load(&mut self, context: &EvalContext<'_>) -> Result<()> {
        self.input.load(context)
    }

    fn advance(&mut self, context: &EvalContext<'_>) -> Result<Delta> {
        let delta = self.input.advance(context)?;
        if delta.is_empty() {
            return Ok(delta);
        }
        Ok(delta.filter(&mask(&self.condition, &delta.rows)?)?)
    }

    fn prepare(&mut self, columns: &[usize], requests: &mut dyn IndexRequests) -> bool {
        self.input.prepare(columns, requests)
    }

    fn find(&self, lookup: Lookup<'_>, context: &EvalContext<'_>) -> Result<Found> {
        let found = self.input.find(lookup, context)?;
        Ok(filter_found(&found, &mask(&self.condition, &found.rows)?)?)
    }

    fn scan(&self, context: &EvalContext<'_>, visit: Visit<'_>) -> Result<()> {
        self.input.scan(context, &mut |rows| {
            visit(filter_record_batch(&rows, &mask(&self.condition, &rows)?)?)
        })
    }

    fn unique(&self) -> Option<Vec<usize>> {
        self.input.unique()
    }

    fn memory(&self) -> usize {
        self.input.memory()
    }

    fn inputs(&mut self) -> Vec<&mut BoxedOperator> {
        vec![&mut self.input]
    }
}
