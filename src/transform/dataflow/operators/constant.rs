//! Rows in the query's own text, as in `VALUES`: they never change, `dI = 0`.

use arrow::array::{RecordBatch, UInt32Array};
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;

use crate::model::{Found, Lookup};
use crate::transform::dataflow::delta::Delta;
use crate::transform::dataflow::join_keys::JoinKeys;
use crate::transform::dataflow::operator::{
    BoxedOperator, EvalContext, IndexRequests, Operator, Visit,
};
use crate::transform::dataflow::rows;

/// Rows that the query itself holds, as in `VALUES`.
#[derive(Debug)]
pub(crate) struct Constant {
    rows: RecordBatch,
    schema: SchemaRef,
}

impl Constant {
    pub(crate) fn new(rows: RecordBatch) -> Self {
        Self { schema: rows.schema(), rows }
    }

    pub(crate) fn boxed(rows: RecordBatch) -> BoxedOperator {
        Box::new(Self::new(rows))
    }
}

impl Operator for Constant {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn load(&mut self, _: &EvalContext<'_>) -> Result<()> {
        Ok(())
    }

    fn advance(&mut self, _: &EvalContext<'_>) -> Result<Delta> {
        Ok(Delta::empty(&self.schema))
    }

    fn prepare(&mut self, _: &[usize], _: &mut dyn IndexRequests) -> bool {
        true
    }

    fn find(&self, lookup: Lookup<'_>, _: &EvalContext<'_>) -> Result<Found> {
        let own = rows::columns(&self.rows, lookup.columns);
        let keys = JoinKeys::new(&own, lookup.nulls_match)?;
        let pairs = keys.pairs(lookup.keys, &own)?;
        let at: UInt32Array = pairs.iter().map(|(_, row)| *row).collect();
        let found = rows::take_rows(&self.rows, &at)?;
        Ok(Found { rows: found, key_of: pairs.into_iter().map(|(key, _)| key).collect() })
    }

    fn scan(&self, _: &EvalContext<'_>, visit: Visit<'_>) -> Result<()> {
        visit(self.rows.clone())
    }

    fn unique(&self) -> Option<Vec<usize>> {
        (self.rows.num_rows() <= 1).then(Vec::new)
    }

    fn memory(&self) -> usize {
        self.rows.get_array_memory_size()
    }

    fn inputs(&mut self) -> Vec<&mut BoxedOperator> {
        Vec::new()
    }
}
