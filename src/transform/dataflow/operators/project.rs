//! `SELECT` expressions: each row of the difference is mapped alone, `d(map(I)) = map(dI)`. It keeps nothing.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::error::Result;

use crate::model::{Found, Lookup};
use crate::transform::dataflow::delta::Delta;
use crate::transform::dataflow::expression::{Expression, column, evaluate};
use crate::transform::dataflow::operator::{
    BoxedOperator, EvalContext, IndexRequests, Operator, Visit,
};
use crate::transform::dataflow::rows;

/// Columns computed from those of the input.
#[derive(Debug)]
pub(crate) struct Project {
    input: BoxedOperator,
    expressions: Vec<Expression>,
    schema: SchemaRef,
}

impl Project {
    pub(crate) fn new(input: BoxedOperator, named: Vec<(Expression, String)>) -> Result<Self> {
        let field = |(expression, name): &(Expression, String)| {
            let data_type = expression.data_type(input.schema())?;
            Ok(Field::new(name, data_type, true))
        };
        let fields = named.iter().map(field).collect::<Result<Vec<_>>>()?;
        let expressions = named.into_iter().map(|(expression, _)| expression).collect();
        Ok(Self { input, expressions, schema: Arc::new(Schema::new(fields)) })
    }

    fn apply(&self, input: &RecordBatch) -> Result<RecordBatch> {
        let columns =
            self.expressions.iter().map(|e| evaluate(e, input)).collect::<Result<Vec<_>>>()?;
        Ok(rows::batch(&self.schema, columns, input.num_rows())?)
    }

    /// The input's columns that are passed on as the given ones.
    fn passed_on(&self, columns: &[usize]) -> Option<Vec<usize>> {
        columns.iter().map(|at| column(&self.expressions[*at])).collect()
    }
}

impl Operator for Project {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn load(&mut self, context: &EvalContext<'_>) -> Result<()> {
        self.input.load(context)
    }

    fn advance(&mut self, context: &EvalContext<'_>) -> Result<Delta> {
        let delta = self.input.advance(context)?;
        if delta.is_empty() {
            return Ok(Delta::empty(&self.schema));
        }
        Ok(Delta::new(self.apply(&delta.rows)?, delta.weights))
    }

    fn prepare(&mut self, columns: &[usize], requests: &mut dyn IndexRequests) -> bool {
        // Two columns that are one below would be looked up by one column twice.
        self.passed_on(columns).is_some_and(|inner| {
            let is_distinct = (1..inner.len()).all(|at| !inner[..at].contains(&inner[at]));
            is_distinct && self.input.prepare(&inner, requests)
        })
    }

    fn find(&self, lookup: Lookup<'_>, context: &EvalContext<'_>) -> Result<Found> {
        let columns = self.passed_on(lookup.columns).unwrap_or_default();
        let found = self.input.find(Lookup { columns: &columns, ..lookup }, context)?;
        Ok(Found { rows: self.apply(&found.rows)?, key_of: found.key_of })
    }

    fn count(&self, lookup: Lookup<'_>, context: &EvalContext<'_>) -> Result<Vec<usize>> {
        let columns = self.passed_on(lookup.columns).unwrap_or_default();
        self.input.count(Lookup { columns: &columns, ..lookup }, context)
    }

    fn scan(&self, context: &EvalContext<'_>, visit: Visit<'_>) -> Result<()> {
        self.input.scan(context, &mut |rows| visit(self.apply(&rows)?))
    }

    fn unique(&self) -> Option<Vec<usize>> {
        let position =
            |inner: &usize| self.expressions.iter().position(|e| column(e) == Some(*inner));
        self.input.unique()?.iter().map(position).collect()
    }

    fn memory(&self) -> usize {
        self.input.memory()
    }

    fn inputs(&mut self) -> Vec<&mut BoxedOperator> {
        vec![&mut self.input]
    }
}
