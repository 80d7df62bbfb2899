//! What a query reads, as its plan says.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};

use super::windows::window;
use crate::model::Window;
use crate::transform::functions::watermark::WATERMARK;

#[derive(Debug, Clone, Default)]
pub(crate) struct Reads {
    pub(crate) tables: BTreeSet<String>,
    /// The columns that it reads of each.
    pub(crate) columns: BTreeMap<String, BTreeSet<String>>,
    pub(crate) watermark: bool,
    /// Those of constant length, of `date_bin` or `date_trunc`.
    pub(crate) windows: BTreeSet<Window>,
}

pub(crate) fn reads(plan: &LogicalPlan) -> DataFusionResult<Reads> {
    let mut reads = Reads::default();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let name = scan.table_name.table().to_owned();
            let columns = reads.columns.entry(name.clone()).or_default();
            columns.extend(scan.projected_schema.fields().iter().map(|field| field.name().clone()));
            for filter in &scan.filters {
                columns.extend(filter.column_refs().into_iter().map(|column| column.name.clone()));
            }
            reads.tables.insert(name);
        }
        node.apply_expressions(|expr| {
            expr.apply(|inner| {
                read_function(inner, &mut reads);
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(reads)
}

fn read_function(expr: &Expr, reads: &mut Reads) {
    let Expr::ScalarFunction(call) = expr else { return };
    reads.watermark |= call.func.name() == WATERMARK;
    reads.windows.extend(window(call));
}

/// A function of the query that gives another value another time, such as `now`.
pub(crate) fn unstable_function(plan: &LogicalPlan) -> DataFusionResult<Option<String>> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|inner| {
                if let Expr::ScalarFunction(call) = inner
                    && call.func.name() != WATERMARK
                    && call.func.signature().volatility != Volatility::Immutable
                {
                    found = Some(call.func.name().to_owned());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(found)
}
