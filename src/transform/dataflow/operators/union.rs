//! `UNION ALL`: differences are added up, `d(A + B) = dA + dB`. It keeps nothing.

use arrow::array::RecordBatch;
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;

use crate::model::{Found, Lookup};
use crate::transform::dataflow::delta::Delta;
use crate::transform::dataflow::operator::{
    BoxedOperator, EvalContext, IndexRequests, Operator, Visit,
};
use crate::transform::dataflow::rows;

/// The rows of several inputs, one after the other.
#[derive(Debug)]
pub(crate) struct Union {
    inputs: Vec<BoxedOperator>,
    schema: SchemaRef,
}

impl Union {
    pub(crate) fn new(inputs: Vec<BoxedOperator>, schema: SchemaRef) -> Self {
        Self { inputs, schema }
    }

    /// The same rows under the names of the union.
    fn renamed(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let typed = batch.columns().iter().zip(self.schema.fields());
        let columns = typed.map(|(column, field)| cast(column, field.data_type()));
        Ok(rows::batch(&self.schema, columns.collect::<Result<_, _>>()?, batch.num_rows())?)
    }
}

impl Operator for Union {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn load(&mut self, context: &EvalContext<'_>) -> Result<()> {
        self.inputs.iter_mut().try_for_each(|input| input.load(context))
    }

    fn advance(&mut self, context: &EvalContext<'_>) -> Result<Delta> {
        let deltas = self
            .inputs
            .iter_mut()
            .map(|input| input.advance(context))
            .collect::<Result<Vec<_>>>()?;
        let renamed = deltas.into_iter().map(|d| Ok(Delta::new(self.renamed(&d.rows)?, d.weights)));
        Ok(Delta::sum(&self.schema, renamed.collect::<Result<_>>()?)?)
    }

    fn prepare(&mut self, columns: &[usize], requests: &mut dyn IndexRequests) -> bool {
        self.inputs.iter_mut().all(|input| input.prepare(columns, requests))
    }

    fn find(&self, lookup: Lookup<'_>, context: &EvalContext<'_>) -> Result<Found> {
        let (mut batches, mut key_of) = (Vec::new(), Vec::new());
        for input in &self.inputs {
            let found = input.find(lookup, context)?;
            batches.push(self.renamed(&found.rows)?);
            key_of.extend(found.key_of);
        }
        Ok(Found { rows: concat_batches(&self.schema, &batches)?, key_of })
    }

    fn scan(&self, context: &EvalContext<'_>, visit: Visit<'_>) -> Result<()> {
        let mut renamed = |part: RecordBatch| visit(self.renamed(&part)?);
        self.inputs.iter().try_for_each(|input| input.scan(context, &mut renamed))
    }

    fn unique(&self) -> Option<Vec<usize>> {
        None
    }

    fn memory(&self) -> usize {
        self.inputs.iter().map(|input| input.memory()).sum()
    }

    fn inputs(&mut self) -> Vec<&mut BoxedOperator> {
        self.inputs.iter_mut().collect()
    }
}
