//! The root of a tree: each value in the type of the result's column, `d(cast(I)) = cast(dI)`.

use arrow::array::RecordBatch;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;

use crate::model::{Found, Lookup};
use crate::transform::dataflow::delta::Delta;
use crate::transform::dataflow::operator::{
    BoxedOperator, EvalContext, IndexRequests, Operator, Visit,
};
use crate::transform::dataflow::rows;

/// The rows of the input in the types of a result; a value that does not fit is an error, not NULL.
#[derive(Debug)]
pub(crate) struct Normalize {
    input: BoxedOperator,
    schema: SchemaRef,
}

impl Normalize {
    pub(crate) fn new(input: BoxedOperator, schema: SchemaRef) -> Self {
        Self { input, schema }
    }

    fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        normalize(batch, &self.schema)
    }
}

/// The same columns in the types of `schema`.
pub(crate) fn normalize(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let columns = batch.columns().iter().zip(schema.fields());
    let columns =
        columns.map(|(column, field)| cast_with_options(column, field.data_type(), &options));
    Ok(rows::batch(schema, columns.collect::<Result<_, _>>()?, batch.num_rows())?)
}

impl Operator for Normalize {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn load(&mut self, context: &EvalContext<'_>) -> Result<()> {
        self.input.load(context)
    }

    fn advance(&mut self, context: &EvalContext<'_>) -> Result<Delta> {
        let delta = self.input.advance(context)?;
        Ok(Delta::new(self.apply(&delta.rows)?, delta.weights))
    }

    fn prepare(&mut self, columns: &[usize], requests: &mut dyn IndexRequests) -> bool {
        self.input.prepare(columns, requests)
    }

    fn find(&self, lookup: Lookup<'_>, context: &EvalContext<'_>) -> Result<Found> {
        let found = self.input.find(lookup, context)?;
        Ok(Found { rows: self.apply(&found.rows)?, key_of: found.key_of })
    }

    fn count(&self, lookup: Lookup<'_>, context: &EvalContext<'_>) -> Result<Vec<usize>> {
        self.input.count(lookup, context)
    }

    fn scan(&self, context: &EvalContext<'_>, visit: Visit<'_>) -> Result<()> {
        self.input.scan(context, &mut |rows| visit(self.apply(&rows)?))
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
