//! From an optimised query to a tree of operators.

mod joins;
mod watermark_predicates;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{
    Aggregate as AggregatePlan, Distinct, Expr, LogicalPlan, TableScan, Values,
};
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;

use crate::model::Table;
use crate::transform::dataflow::expression::{Expression, evaluate, physical};
use crate::transform::dataflow::operator::{BoxedOperator, IndexRequests};
use crate::transform::dataflow::operators::aggregate::{Aggregate, Call};
use crate::transform::dataflow::operators::arranged::Arranged;
use crate::transform::dataflow::operators::constant::Constant;
use crate::transform::dataflow::operators::filter::Filter;
use crate::transform::dataflow::operators::project::Project;
use crate::transform::dataflow::operators::source::{KeyedResult, ResultSource, TableSource};
use crate::transform::dataflow::operators::union::Union;
use crate::transform::dataflow::rows;

/// Why a query can't be kept right from differences.
#[derive(Debug)]
pub(crate) enum CompileError {
    /// It can be recomputed instead; as in `it has ...`.
    Recompute(String),
    /// It is wrong.
    Invalid(DataFusionError),
}

impl From<DataFusionError> for CompileError {
    fn from(error: DataFusionError) -> Self {
        Self::Invalid(error)
    }
}

impl From<arrow::error::ArrowError> for CompileError {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::Invalid(error.into())
    }
}

fn recompute<T>(reason: impl Into<String>) -> Result<T, CompileError> {
    Err(CompileError::Recompute(reason.into()))
}

/// Why a window function is recomputed, and what to write for the most common one.
const OVER: &str = "it has OVER() (of the newest row of each key, instead of ROW_NUMBER() or QUALIFY, SELECT DISTINCT ON (key) \
                    ... ORDER BY key, time DESC is kept from differences)";

/// What a query may read.
pub(crate) struct Readable<'a> {
    pub(crate) state: &'a SessionState,
    pub(crate) tables: HashMap<&'a str, &'a Arc<Table>>,
    /// Found by their keys alone.
    pub(crate) views: HashMap<&'a str, &'a Arc<Table>>,
    pub(crate) results: HashMap<&'a str, &'a KeyedResult>,
}

/// Makes the tree of a query.
///
/// # Errors
/// If the query holds something that only a new computation gets right.
pub(crate) fn compile(
    plan: &LogicalPlan,
    readable: &Readable<'_>,
    requests: &mut dyn IndexRequests,
) -> Result<BoxedOperator, CompileError> {
    Compiler { readable, requests }.operator(plan)
}

struct Compiler<'a, 'b> {
    readable: &'a Readable<'a>,
    requests: &'b mut dyn IndexRequests,
}

impl Compiler<'_, '_> {
    fn operator(&mut self, plan: &LogicalPlan) -> Result<BoxedOperator, CompileError> {
        for expression in plan.expressions() {
            refuse_subqueries(&expression)?;
        }
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::SubqueryAlias(alias) => self.operator(&alias.input),
            LogicalPlan::Projection(projection) => {
                let input = self.operator(&projection.input)?;
                let names = names(plan.schema());
                self.project(input, projection.input.schema(), &projection.expr, names)
            }
            LogicalPlan::Filter(filter) => {
                let input = self.operator(&filter.input)?;
                self.filter(input, filter.input.schema(), &filter.predicate)
            }
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Distinct(Distinct::All(input)) => self.distinct(input),
            LogicalPlan::Union(union) => {
                let inputs =
                    union.inputs.iter().map(|i| self.operator(i)).collect::<Result<_, _>>()?;
                Ok(Box::new(Union::new(inputs, nullable(plan.schema()))))
            }
            // A table has no order.
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.operator(&sort.input),
            LogicalPlan::Values(values) => self.values(values),
            LogicalPlan::EmptyRelation(empty) => {
                let schema = nullable(&empty.schema);
                let rows = usize::from(empty.produce_one_row);
                Ok(Constant::boxed(rows::null_rows(&schema, rows)?))
            }
            LogicalPlan::Window(_) => recompute(OVER),
            LogicalPlan::Sort(_) | LogicalPlan::Limit(_) => recompute("it has LIMIT"),
            LogicalPlan::Unnest(_) => recompute("it has UNNEST"),
            LogicalPlan::RecursiveQuery(_) => recompute("it has a recursive query"),
            LogicalPlan::Distinct(Distinct::On(_)) => recompute("it has DISTINCT ON"),
            other => recompute(format!("it has {}", other.display())),
        }
    }

    fn scan(&mut self, scan: &TableScan) -> Result<BoxedOperator, CompileError> {
        let name = scan.table_name.table();
        if scan.fetch.is_some() {
            return recompute("it has LIMIT");
        }
        let all = || (0..scan.source.schema().fields().len()).collect();
        let projection = scan.projection.clone().unwrap_or_else(all);
        let source: BoxedOperator = match self.readable.tables.get(name) {
            Some(table) => Box::new(TableSource::new(Arc::clone(table), projection)?),
            None => self.read_other(name, projection)?,
        };
        scan.filters.iter().try_fold(source, |input, condition| {
            let condition = self.physical(condition, &scan.projected_schema)?;
            Ok::<_, CompileError>(Box::new(Filter::new(input, condition)) as BoxedOperator)
        })
    }

    /// What is no source table.
    fn read_other(
        &self,
        name: &str,
        projection: Vec<usize>,
    ) -> Result<BoxedOperator, CompileError> {
        if let Some(view) = self.readable.views.get(name) {
            return Ok(Box::new(TableSource::view(Arc::clone(view), projection)?));
        }
        match self.readable.results.get(name) {
            Some(result) => Ok(Box::new(ResultSource::new(result, projection)?)),
            None => recompute(format!("it reads {name}, which holds changes")),
        }
    }

    fn physical(&self, expr: &Expr, schema: &DFSchema) -> Result<Expression, CompileError> {
        Ok(physical(self.readable.state, expr, schema)?)
    }

    fn project(
        &mut self,
        input: BoxedOperator,
        schema: &DFSchema,
        expressions: &[Expr],
        names: Vec<String>,
    ) -> Result<BoxedOperator, CompileError> {
        let flagged = self.with_flags(input, schema, expressions.to_vec())?;
        let named = flagged
            .expressions
            .iter()
            .zip(names)
            .map(|(expression, name)| Ok((self.physical(expression, &flagged.schema)?, name)))
            .collect::<Result<Vec<_>, CompileError>>()?;
        Ok(Box::new(Project::new(flagged.input, named)?))
    }

    fn filter(
        &mut self,
        input: BoxedOperator,
        schema: &DFSchema,
        condition: &Expr,
    ) -> Result<BoxedOperator, CompileError> {
        let width = schema.fields().len();
        let flagged = self.with_flags(input, schema, vec![condition.clone()])?;
        let condition = self.physical(&flagged.expressions[0], &flagged.schema)?;
        let filter = Box::new(Filter::new(flagged.input, condition));
        if flagged.schema.fields().len() == width {
            Ok(filter)
        } else {
            first_columns(filter, &(0..width).collect::<Vec<_>>())
        }
    }

    fn aggregate(&mut self, plan: &AggregatePlan) -> Result<BoxedOperator, CompileError> {
        if plan.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
            return recompute("it has GROUPING SETS, ROLLUP or CUBE");
        }
        let input = self.operator(&plan.input)?;
        let expressions = plan.group_expr.iter().chain(&plan.aggr_expr).cloned().collect();
        let flagged = self.with_flags(input, plan.input.schema(), expressions)?;
        let (group, calls) = flagged.expressions.split_at(plan.group_expr.len());
        let named = group
            .iter()
            .zip(names(&plan.schema))
            .map(|(expression, name)| Ok((self.physical(expression, &flagged.schema)?, name)))
            .collect::<Result<Vec<_>, CompileError>>()?;
        let physical_schema = SchemaRef::clone(flagged.input.schema());
        let call = |expression: &Expr| {
            let props = self.readable.state.execution_props();
            let context = Default::default();
            let (logical, physical) = (&flagged.schema, &physical_schema);
            let lowered =
                LoweredAggregateBuilder::new(expression, logical, physical, props, &context)
                    .build()?;
            Ok(Call::new(lowered.aggregate, lowered.filter, physical)?)
        };
        let calls = calls.iter().map(call).collect::<Result<Vec<_>, CompileError>>()?;
        Ok(Box::new(Aggregate::new(flagged.input, named, calls)?))
    }

    fn distinct(&mut self, plan: &LogicalPlan) -> Result<BoxedOperator, CompileError> {
        let input = self.operator(plan)?;
        let columns = column_expressions(
            input.schema(),
            &(0..plan.schema().fields().len()).collect::<Vec<_>>(),
        );
        Ok(Box::new(Aggregate::new(input, columns, Vec::new())?))
    }

    fn values(&mut self, values: &Values) -> Result<BoxedOperator, CompileError> {
        let (schema, none) = (nullable(&values.schema), DFSchema::empty());
        let one_row = rows::batch(&Arc::new(Schema::empty()), Vec::new(), 1)?;
        let mut columns: Vec<Vec<ArrayRef>> = vec![Vec::new(); schema.fields().len()];
        for row in &values.values {
            for (column, value) in columns.iter_mut().zip(row) {
                column.push(evaluate(&self.physical(value, &none)?, &one_row)?);
            }
        }
        let typed = columns.iter().zip(schema.fields()).map(|(column, field)| {
            let arrays: Vec<_> = column.iter().map(AsRef::as_ref).collect();
            arrow::compute::cast(&concat(&arrays)?, field.data_type())
        });
        let columns = typed.collect::<Result<Vec<_>, _>>()?;
        Ok(Constant::boxed(RecordBatch::try_new(schema, columns)?))
    }

    /// The input, able to be looked up by these columns: as it is, or else with its rows kept.
    fn findable(
        &mut self,
        mut input: BoxedOperator,
        columns: &[usize],
    ) -> Result<BoxedOperator, CompileError> {
        if columns.is_empty() || input.prepare(columns, self.requests) {
            return Ok(input);
        }
        let mut kept: BoxedOperator = Box::new(Arranged::new(input)?);
        if kept.prepare(columns, self.requests) {
            Ok(kept)
        } else {
            recompute("it joins by a column whose values can't be keys")
        }
    }
}

fn refuse_subqueries(expression: &Expr) -> Result<(), CompileError> {
    let mut found = false;
    expression.apply(|inner| {
        found |= matches!(
            inner,
            Expr::ScalarSubquery(_)
                | Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::SetComparison(_)
        );
        Ok(TreeNodeRecursion::Continue)
    })?;
    if found { recompute("it has a subquery in an expression") } else { Ok(()) }
}

fn names(schema: &DFSchema) -> Vec<String> {
    schema.fields().iter().map(|field| field.name().clone()).collect()
}

fn nullable(schema: &DFSchema) -> SchemaRef {
    let nullable = |field: &Arc<Field>| Field::new(field.name(), field.data_type().clone(), true);
    Arc::new(Schema::new(schema.fields().iter().map(nullable).collect::<Vec<_>>()))
}

/// Columns that are passed on.
fn column_expressions(schema: &SchemaRef, columns: &[usize]) -> Vec<(Expression, String)> {
    let column = |at: &usize| {
        let name = schema.field(*at).name();
        let column = datafusion::physical_plan::expressions::Column::new(name, *at);
        (Arc::new(column) as Expression, name.clone())
    };
    columns.iter().map(column).collect()
}

/// Some of the columns of an operator.
fn first_columns(input: BoxedOperator, columns: &[usize]) -> Result<BoxedOperator, CompileError> {
    let expressions = column_expressions(input.schema(), columns);
    Ok(Box::new(Project::new(input, expressions)?))
}
