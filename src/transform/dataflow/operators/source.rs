//! The leaves: source tables and results of transforms that run before, whose differences the epoch brings.
//!
//! An update whose old and new row agree in the columns that the query reads is no change:
//! `dI = (after - before where they differ) + inserted - deleted`.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::or;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion::error::Result;

use crate::model::{Found, Lookup, ResultTable, Table};
use crate::transform::dataflow::delta::Delta;
use crate::transform::dataflow::operator::{
    BoxedOperator, EvalContext, IndexRequests, Operator, Visit,
};

/// Some columns of a source table.
#[derive(Debug)]
pub(crate) struct TableSource {
    table: Arc<Table>,
    projection: Vec<usize>,
    schema: SchemaRef,
    is_found_by_key_alone: bool,
}

impl TableSource {
    pub(crate) fn new(table: Arc<Table>, projection: Vec<usize>) -> Result<Self> {
        let schema = Arc::new(table.schema().project(&projection)?);
        Ok(Self { table, projection, schema, is_found_by_key_alone: false })
    }

    /// Of a table that the state can look into by its key alone.
    pub(crate) fn view(table: Arc<Table>, projection: Vec<usize>) -> Result<Self> {
        Ok(Self { is_found_by_key_alone: true, ..Self::new(table, projection)? })
    }

    fn outer(&self, columns: &[usize]) -> Vec<usize> {
        columns.iter().map(|column| self.projection[*column]).collect()
    }

    /// Where a row differs in a column that the query reads. Changes of other columns are none.
    fn differs(&self, before: &RecordBatch, after: &RecordBatch) -> Result<BooleanArray> {
        let mut differs = BooleanArray::from(vec![false; after.num_rows()]);
        for column in &self.projection {
            let (old, new) = (before.column(*column), after.column(*column));
            differs = or(&differs, &distinct(old, new)?)?;
        }
        Ok(differs)
    }
}

impl Operator for TableSource {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn load(&mut self, _: &EvalContext<'_>) -> Result<()> {
        Ok(())
    }

    fn advance(&mut self, context: &EvalContext<'_>) -> Result<Delta> {
        let Some(delta) = context.deltas.get(&self.table.name) else {
            return Ok(Delta::empty(&self.schema));
        };
        let mut parts = Vec::new();
        if delta.after.num_rows() > 0 {
            let differs = self.differs(&delta.before, &delta.after)?;
            for (rows, weight) in [(&delta.before, -1), (&delta.after, 1)] {
                let rows = rows.project(&self.projection)?;
                parts.push(Delta::of(rows, weight).filter(&differs)?);
            }
        }
        for (rows, weight) in [(&delta.deleted, -1), (&delta.inserted, 1)] {
            parts.push(Delta::of(rows.project(&self.projection)?, weight));
        }
        Ok(Delta::sum(&self.schema, parts)?)
    }

    fn prepare(&mut self, columns: &[usize], requests: &mut dyn IndexRequests) -> bool {
        let columns = self.outer(columns);
        if self.is_found_by_key_alone {
            let key = &self.table.key;
            return columns.len() == key.len() && key.iter().all(|at| columns.contains(at));
        }
        requests.table(&self.table.name, &columns);
        true
    }

    fn find(&self, lookup: Lookup<'_>, context: &EvalContext<'_>) -> Result<Found> {
        let columns = self.outer(lookup.columns);
        let lookup = Lookup { columns: &columns, ..lookup };
        Ok(context.tables.find(&self.table.name, lookup, &self.projection)?)
    }

    fn count(&self, lookup: Lookup<'_>, context: &EvalContext<'_>) -> Result<Vec<usize>> {
        let columns = self.outer(lookup.columns);
        Ok(context.tables.count(&self.table.name, Lookup { columns: &columns, ..lookup })?)
    }

    fn scan(&self, context: &EvalContext<'_>, visit: Visit<'_>) -> Result<()> {
        let mut failed = None;
        let scanned = context.tables.scan(&self.table.name, &mut |batch| {
            visit(batch.project(&self.projection)?).map_err(|error| {
                // It comes back as it is.
                failed = Some(error);
                ArrowError::ComputeError("the reader of a scan has failed".to_owned())
            })
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(scanned?),
        }
    }

    fn unique(&self) -> Option<Vec<usize>> {
        let position = |key: &usize| self.projection.iter().position(|column| column == key);
        self.table.key.iter().map(position).collect()
    }

    fn memory(&self) -> usize {
        0
    }

    fn inputs(&mut self) -> Vec<&mut BoxedOperator> {
        Vec::new()
    }
}

/// A result that can be read as a table, because it has a key.
#[derive(Debug)]
pub(crate) struct KeyedResult {
    pub(crate) table: Arc<ResultTable>,
    pub(crate) key: Vec<usize>,
}

/// Some columns of the result of a transform that runs before.
#[derive(Debug)]
pub(crate) struct ResultSource {
    name: String,
    projection: Vec<usize>,
    schema: SchemaRef,
    /// Columns of the result, not of the projection.
    key: Vec<usize>,
}

impl ResultSource {
    pub(crate) fn new(result: &KeyedResult, projection: Vec<usize>) -> Result<Self> {
        let schema = Arc::new(result.table.schema.project(&projection)?);
        let (name, key) = (result.table.name.clone(), result.key.clone());
        Ok(Self { name, projection, schema, key })
    }

    fn outer(&self, columns: &[usize]) -> Vec<usize> {
        columns.iter().map(|column| self.projection[*column]).collect()
    }
}

impl Operator for ResultSource {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn load(&mut self, _: &EvalContext<'_>) -> Result<()> {
        Ok(())
    }

    fn advance(&mut self, context: &EvalContext<'_>) -> Result<Delta> {
        match context.results.delta(&self.name) {
            None => Ok(Delta::empty(&self.schema)),
            Some(delta) => {
                let rows = delta.rows.project(&self.projection)?;
                Ok(Delta::new(rows, delta.weights.clone()))
            }
        }
    }

    fn prepare(&mut self, columns: &[usize], requests: &mut dyn IndexRequests) -> bool {
        requests.result(&self.name, &self.outer(columns))
    }

    fn find(&self, lookup: Lookup<'_>, context: &EvalContext<'_>) -> Result<Found> {
        let columns = self.outer(lookup.columns);
        let lookup = Lookup { columns: &columns, ..lookup };
        let found = context.results.find(&self.name, lookup, context)?;
        Ok(Found { rows: found.rows.project(&self.projection)?, key_of: found.key_of })
    }

    fn scan(&self, context: &EvalContext<'_>, visit: Visit<'_>) -> Result<()> {
        context
            .results
            .scan(&self.name, context, &mut |batch| visit(batch.project(&self.projection)?))
    }

    fn unique(&self) -> Option<Vec<usize>> {
        let position = |key: &usize| self.projection.iter().position(|column| column == key);
        self.key.iter().map(position).collect()
    }

    fn memory(&self) -> usize {
        0
    }

    fn inputs(&mut self) -> Vec<&mut BoxedOperator> {
        Vec::new()
    }
}
