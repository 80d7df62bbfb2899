//! Expressions over batches.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::expressions::Column;

pub(crate) type Expression = Arc<dyn PhysicalExpr>;

/// The logical expression, ready to run over rows of `schema`.
pub(crate) fn physical(state: &SessionState, expr: &Expr, schema: &DFSchema) -> Result<Expression> {
    datafusion::physical_expr::create_physical_expr(
        expr,
        schema,
        state.execution_props(),
        &Default::default(),
    )
}

pub(crate) fn evaluate(expression: &Expression, rows: &RecordBatch) -> Result<ArrayRef> {
    expression.evaluate(rows)?.into_array(rows.num_rows())
}

/// Which rows satisfy a condition; NULL does not.
pub(crate) fn mask(condition: &Expression, rows: &RecordBatch) -> Result<BooleanArray> {
    let values = evaluate(condition, rows)?;
    let mask = values.as_boolean();
    Ok((0..mask.len()).map(|row| Some(!mask.is_null(row) && mask.value(row))).collect())
}

/// The position of the column that an expression only passes on.
pub(crate) fn column(expression: &Expression) -> Option<usize> {
    expression.downcast_ref::<Column>().map(Column::index)
}
