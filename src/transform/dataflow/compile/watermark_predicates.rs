//! Comparisons with `watermark()`, taken out of expressions.

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

use super::{CompileError, Compiler, recompute};
use crate::transform::dataflow::expression::Expression;
use crate::transform::dataflow::operator::BoxedOperator;
use crate::transform::dataflow::operators::temporal_filter::{
    TemporalFilter, WatermarkPredicate, watermark_field,
};
use crate::transform::functions::watermark::WATERMARK;

/// An input whose comparisons with the watermark are columns, and expressions over it.
pub(super) struct WithFlags {
    pub(super) input: BoxedOperator,
    pub(super) schema: DFSchema,
    pub(super) expressions: Vec<Expr>,
}

/// A comparison as it stands in the query.
struct Comparison {
    whole: Expr,
    time: Expr,
    limit: Expr,
}

impl Compiler<'_, '_> {
    /// Puts a [`TemporalFilter`] above the input if the expressions use the watermark.
    pub(super) fn with_flags(
        &mut self,
        input: BoxedOperator,
        schema: &DFSchema,
        expressions: Vec<Expr>,
    ) -> Result<WithFlags, CompileError> {
        let mut comparisons = Vec::new();
        let mut replaced = Vec::with_capacity(expressions.len());
        for expression in expressions {
            let expression = take_out(expression, &mut comparisons)?;
            if uses_watermark(&expression)? {
                return recompute("it uses watermark() other than to compare it with a time");
            }
            replaced.push(expression);
        }
        if comparisons.is_empty() {
            return Ok(WithFlags { input, schema: schema.clone(), expressions: replaced });
        }
        let timed = with_fields(schema, vec![watermark_field()])?;
        let mut predicates = Vec::new();
        for (at, comparison) in comparisons.into_iter().enumerate() {
            let predicate = WatermarkPredicate {
                comparison: self.timed(comparison.whole, &timed)?,
                time: self.timed(comparison.time, &timed)?,
                limit: self.timed(comparison.limit, &timed)?,
            };
            predicates.push((predicate, flag_name(at)));
        }
        let flags = predicates.iter().map(|(_, name)| Field::new(name, DataType::Boolean, true));
        let schema = with_fields(schema, flags.collect())?;
        let input = Box::new(TemporalFilter::new(input, predicates)?);
        Ok(WithFlags { input, schema, expressions: replaced })
    }

    fn timed(&self, expression: Expr, schema: &DFSchema) -> Result<Expression, CompileError> {
        let column = Expr::Column(Column::new_unqualified(watermark_field().name().as_str()));
        let replaced = expression.transform_up(|inner| {
            if is_watermark(&inner) {
                Ok(Transformed::yes(column.clone()))
            } else {
                Ok(Transformed::no(inner))
            }
        })?;
        self.physical(&replaced.data, schema)
    }
}

fn flag_name(at: usize) -> String {
    format!("__watermark_{at}")
}

pub(super) fn with_fields(schema: &DFSchema, fields: Vec<Field>) -> Result<DFSchema> {
    let fields: Vec<FieldRef> = fields.into_iter().map(FieldRef::new).collect();
    schema.join(&DFSchema::from_unqualified_fields(fields.into(), Default::default())?)
}

/// Replaces each comparison of a time with the watermark by the column of its flag.
fn take_out(expression: Expr, comparisons: &mut Vec<Comparison>) -> Result<Expr> {
    let replaced = expression.transform_down(|inner| {
        let Some(comparison) = comparison(&inner)? else { return Ok(Transformed::no(inner)) };
        let known = comparisons.iter().position(|other| other.whole == comparison.whole);
        let at = known.unwrap_or_else(|| {
            comparisons.push(comparison);
            comparisons.len() - 1
        });
        Ok(Transformed::yes(Expr::Column(Column::new_unqualified(flag_name(at)))))
    })?;
    Ok(replaced.data)
}

fn comparison(expression: &Expr) -> Result<Option<Comparison>> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expression else { return Ok(None) };
    if !matches!(op, Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq) {
        return Ok(None);
    }
    let (time, limit) = match (uses_watermark(left)?, uses_watermark(right)?) {
        (false, true) => (left, right),
        (true, false) => (right, left),
        (true, true) | (false, false) => return Ok(None),
    };
    if !is_shifted_watermark(limit) {
        return Ok(None);
    }
    let (whole, time, limit) = (expression.clone(), (**time).clone(), (**limit).clone());
    Ok(Some(Comparison { whole, time, limit }))
}

/// The watermark, plus or minus something constant: it moves only forward.
fn is_shifted_watermark(expression: &Expr) -> bool {
    match expression {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus | Operator::Minus, right }) => {
            is_shifted_watermark(left) && matches!(**right, Expr::Literal(..))
        }
        Expr::Cast(cast) => is_shifted_watermark(&cast.expr),
        other => is_watermark(other),
    }
}

fn is_watermark(expression: &Expr) -> bool {
    matches!(expression, Expr::ScalarFunction(call) if call.func.name() == WATERMARK)
}

pub(super) fn uses_watermark(expression: &Expr) -> Result<bool> {
    let mut found = false;
    expression.apply(|inner| {
        found |= is_watermark(inner);
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}
