//! Joins: which columns they go by, and how the kinds come down to four.

use arrow::array::new_null_array;
use arrow::datatypes::Field;
use datafusion::common::{DFSchema, JoinType, NullEquality};
use datafusion::logical_expr::{
    Expr, ExprSchemable, Join as JoinPlan, LogicalPlan, Operator, binary_expr,
};
use datafusion::physical_plan::expressions::Literal;
use datafusion::scalar::ScalarValue;

use super::watermark_predicates::{uses_watermark, with_fields};
use super::{CompileError, Compiler, column_expressions, first_columns, nullable, recompute};
use crate::transform::dataflow::expression::Expression;
use crate::transform::dataflow::operator::BoxedOperator;
use crate::transform::dataflow::operators::join::{Join, JoinCondition, JoinKind};
use crate::transform::dataflow::operators::project::Project;
use crate::transform::dataflow::operators::union::Union;

/// One side of a join, with a column for each key that is an expression.
struct JoinInput {
    input: BoxedOperator,
    schema: DFSchema,
    /// How many columns the side has by itself.
    width: usize,
    keys: Vec<usize>,
}

impl JoinInput {
    fn is_one_row(&self) -> bool {
        self.input.unique().is_some_and(|unique| unique.is_empty())
    }
}

/// Which of a join's inputs is the left one here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SideOrder {
    AsWritten,
    Swapped,
}

impl Compiler<'_, '_> {
    pub(super) fn join(&mut self, plan: &JoinPlan) -> Result<BoxedOperator, CompileError> {
        if plan.null_aware {
            return recompute(
                "it has NOT IN (SELECT ...), which NULLs decide about; NOT EXISTS can do without",
            );
        }
        match plan.join_type {
            JoinType::Inner => self.join_as(plan, JoinKind::Inner, SideOrder::AsWritten),
            JoinType::Left => self.join_as(plan, JoinKind::Left, SideOrder::AsWritten),
            JoinType::LeftSemi => self.join_as(plan, JoinKind::Semi, SideOrder::AsWritten),
            JoinType::LeftAnti => self.join_as(plan, JoinKind::Anti, SideOrder::AsWritten),
            JoinType::RightSemi => self.join_as(plan, JoinKind::Semi, SideOrder::Swapped),
            JoinType::RightAnti => self.join_as(plan, JoinKind::Anti, SideOrder::Swapped),
            JoinType::Right => self.right(plan),
            JoinType::Full => self.full(plan),
            JoinType::LeftMark | JoinType::RightMark => {
                recompute("it has EXISTS or IN (SELECT ...) inside an OR or a CASE")
            }
        }
    }

    fn right(&mut self, plan: &JoinPlan) -> Result<BoxedOperator, CompileError> {
        let joined = self.join_as(plan, JoinKind::Left, SideOrder::Swapped)?;
        let (left, right) = (width(&plan.left), width(&plan.right));
        let order: Vec<usize> = (right..right + left).chain(0..right).collect();
        first_columns(joined, &order)
    }

    /// A left join, and the right rows without a match beside NULLs.
    fn full(&mut self, plan: &JoinPlan) -> Result<BoxedOperator, CompileError> {
        let left = self.join_as(plan, JoinKind::Left, SideOrder::AsWritten)?;
        let rest = self.join_as(plan, JoinKind::Anti, SideOrder::Swapped)?;
        let nulls = plan.left.schema().fields().iter().map(|field| {
            let null = ScalarValue::try_from_array(&new_null_array(field.data_type(), 1), 0)?;
            Ok((std::sync::Arc::new(Literal::new(null)) as Expression, field.name().clone()))
        });
        let nulls = nulls.collect::<Result<Vec<_>, CompileError>>()?;
        let own = (0..width(&plan.right)).collect::<Vec<_>>();
        let expressions = nulls.into_iter().chain(column_expressions(rest.schema(), &own));
        let rest = Box::new(Project::new(rest, expressions.collect())?);
        Ok(Box::new(Union::new(vec![left, rest], nullable(&plan.schema))))
    }

    fn join_as(
        &mut self,
        plan: &JoinPlan,
        kind: JoinKind,
        order: SideOrder,
    ) -> Result<BoxedOperator, CompileError> {
        let swap = |(left, right): &(Expr, Expr)| match order {
            SideOrder::AsWritten => (left.clone(), right.clone()),
            SideOrder::Swapped => (right.clone(), left.clone()),
        };
        let on: Vec<(Expr, Expr)> = plan.on.iter().map(swap).collect();
        let (left, right) = match order {
            SideOrder::AsWritten => (&plan.left, &plan.right),
            SideOrder::Swapped => (&plan.right, &plan.left),
        };
        let mut left = self.side("left", left, on.iter().map(|(left, _)| left))?;
        let mut right = self.side("right", right, on.iter().map(|(_, right)| right))?;
        let nulls_match = plan.null_equality == NullEquality::NullEqualsNull;
        let conditions = twice_used(&mut left.keys, &mut right.keys, &on, nulls_match);
        let residual = plan.filter.iter().cloned().chain(conditions).reduce(Expr::and);
        if uses_watermark_in(&residual, &on)? {
            // Pairs would have to be judged again when the watermark moves.
            return recompute("it compares with watermark() inside a join condition");
        }
        let is_lone = match kind {
            JoinKind::Inner => left.is_one_row() || right.is_one_row(),
            JoinKind::Left | JoinKind::Semi | JoinKind::Anti => right.is_one_row(),
        };
        if on.is_empty() && residual.is_some() && !is_lone {
            return recompute("it joins by something else than equal columns");
        }
        let pair_schema = left.schema.join(&right.schema)?;
        let residual = residual.map(|filter| self.physical(&filter, &pair_schema)).transpose()?;
        left.input = self.findable(left.input, &left.keys)?;
        right.input = self.findable(right.input, &right.keys)?;
        let columns = output_columns(&left, &right, kind);
        let is_wider =
            left.schema.fields().len() + right.schema.fields().len() > left.width + right.width;
        let on = JoinCondition { left: left.keys, right: right.keys, nulls_match, residual };
        let join = Box::new(Join::new(left.input, right.input, kind, on)?);
        if is_wider { first_columns(join, &columns) } else { Ok(join) }
    }

    fn side<'e>(
        &mut self,
        name: &str,
        plan: &LogicalPlan,
        keys: impl Iterator<Item = &'e Expr>,
    ) -> Result<JoinInput, CompileError> {
        let input = self.operator(plan)?;
        let width = width(plan);
        let mut side =
            JoinInput { input, schema: plan.schema().as_ref().clone(), width, keys: Vec::new() };
        let (mut computed, mut fields) = (Vec::new(), Vec::new());
        for key in keys {
            if let Expr::Column(column) = key {
                side.keys.push(plan.schema().index_of_column(column)?);
                continue;
            }
            let name = format!("__{name}_key_{}", fields.len());
            side.keys.push(width + fields.len());
            computed.push((self.physical(key, plan.schema())?, name.clone()));
            fields.push(Field::new(name, key.get_type(plan.schema())?, true));
        }
        if !computed.is_empty() {
            let own: Vec<usize> = (0..width).collect();
            let mut expressions = column_expressions(side.input.schema(), &own);
            expressions.extend(computed);
            side.input = Box::new(Project::new(side.input, expressions)?);
            side.schema = with_fields(&side.schema, fields)?;
        }
        Ok(side)
    }
}

fn uses_watermark_in(residual: &Option<Expr>, on: &[(Expr, Expr)]) -> Result<bool, CompileError> {
    let keys = on.iter().flat_map(|(left, right)| [left, right]);
    for expression in residual.iter().chain(keys) {
        if uses_watermark(expression)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn width(plan: &LogicalPlan) -> usize {
    plan.schema().fields().len()
}

/// A look-up goes by each column once, so that a pair whose column another pair uses already becomes a
/// condition; the pairs that are left stay in `left` and `right`.
fn twice_used(
    left: &mut Vec<usize>,
    right: &mut Vec<usize>,
    on: &[(Expr, Expr)],
    nulls_match: bool,
) -> Vec<Expr> {
    let operator = if nulls_match { Operator::IsNotDistinctFrom } else { Operator::Eq };
    let (mut lefts, mut rights, mut conditions) = (Vec::new(), Vec::new(), Vec::new());
    for (at, (left_expr, right_expr)) in on.iter().enumerate() {
        if lefts.contains(&left[at]) || rights.contains(&right[at]) {
            conditions.push(binary_expr(left_expr.clone(), operator, right_expr.clone()));
        } else {
            lefts.push(left[at]);
            rights.push(right[at]);
        }
    }
    (*left, *right) = (lefts, rights);
    conditions
}

/// The columns of a join without those of the key expressions.
fn output_columns(left: &JoinInput, right: &JoinInput, kind: JoinKind) -> Vec<usize> {
    let own = 0..left.width;
    match kind {
        JoinKind::Semi | JoinKind::Anti => own.collect(),
        JoinKind::Inner | JoinKind::Left => {
            let first = left.schema.fields().len();
            own.chain(first..first + right.width).collect()
        }
    }
}
