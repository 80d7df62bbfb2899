use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;

use super::expression::{Expression, mask};
use super::rows::filter_found;
use super::{BoxedOperator, Delta, Moment, Operator, Preparation};
use crate::model::{Found, Lookup};

/// The rows that satisfy a condition.
#[derive(Debug)]
pub(super) struct Filter {
    input: BoxedOperator,
    condition: Expression,
}

impl Filter {
    pub(super) fn new(input: BoxedOperator, condition: Expression) -> Self {
        Self { input, condition }
    }
}

impl Operator for Filter {
    fn schema(&self) -> &SchemaRef {
        self.input.schema()
    }

    fn load(&mut self, moment: &Moment<'_>) -> Result<()> {
        self.input.load(moment)
    }

    fn advance(&mut self, moment: &Moment<'_>) -> Result<Delta> {
        let delta = self.input.advance(moment)?;
        if delta.is_empty() {
            return Ok(delta);
        }
        Ok(delta.filter(&mask(&self.condition, &delta.rows)?)?)
    }

    fn prepare(&mut self, columns: &[usize], preparation: &mut dyn Preparation) -> bool {
        self.input.prepare(columns, preparation)
    }

    fn find(&self, lookup: Lookup<'_>, moment: &Moment<'_>) -> Result<Found> {
        let found = self.input.find(lookup, moment)?;
        Ok(filter_found(&found, &mask(&self.condition, &found.rows)?)?)
    }

    fn all(&self, moment: &Moment<'_>) -> Result<RecordBatch> {
        let rows = self.input.all(moment)?;
        Ok(filter_record_batch(&rows, &mask(&self.condition, &rows)?)?)
    }

    fn unique(&self) -> Option<Vec<usize>> {
        self.input.unique()
    }

    fn memory(&self) -> usize {
        self.input.memory()
    }
}
