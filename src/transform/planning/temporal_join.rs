//! `-- lookup: TABLE`: a temporal join, which sees a row as it was when the row that it enriches changed last.
//!
//! In the plan as it is written, the join of a look-up table L to columns of a table T,
//! `T JOIN L ON L.key = T.column`, becomes `T JOIN view ON view."@key of T" = T.key`. The view
//! ([`TemporalJoin`]) has one row per row of T; the state keeps it. All else of the query stays as it is,
//! and what keeps results right from differences knows nothing of it.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, JoinConstraint, JoinType, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{
    BinaryExpr, Expr, Join, LogicalPlan, LogicalPlanBuilder, Operator, TableScan,
};

use crate::model::{Landing, Table, TemporalJoin, key_name};
use crate::transform::files::header::Lookups;
use crate::transform::live_table::LiveTables;

/// What a rewrite goes by, and what it finds.
pub(crate) struct TemporalJoinRewriter<'a> {
    pub(crate) tables: &'a [Arc<Table>],
    pub(crate) lookups: &'a Lookups,
    pub(crate) live: &'a mut LiveTables,
    pub(crate) found: Vec<Arc<TemporalJoin>>,
}

/// Which input of a join is the look-up table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LookupSide {
    Left,
    Right,
}

/// A look-up table, and how the query calls it.
struct LookedUp {
    alias: TableReference,
    table: Arc<Table>,
}

impl TemporalJoinRewriter<'_> {
    /// The plan with the look-up tables seen as of the changes of what they enrich.
    ///
    /// # Errors
    /// If a look-up table is not one, or is used for something else.
    pub(crate) fn rewrite(&mut self, plan: LogicalPlan) -> Result<LogicalPlan> {
        for name in &self.lookups.tables {
            self.check(name)?;
        }
        let rewritten = plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Join(join) => {
                // Its inputs may have got columns.
                let join = Join::try_new(
                    join.left,
                    join.right,
                    join.on,
                    join.filter,
                    join.join_type,
                    join.join_constraint,
                    join.null_equality,
                    join.null_aware,
                )?;
                self.join(join)
            }
            other if self.found.is_empty() => Ok(Transformed::no(other)),
            other => other.recompute_schema().map(Transformed::yes),
        })?;
        for name in &self.lookups.tables {
            self.check_use(name, &rewritten.data)?;
        }
        Ok(rewritten.data)
    }

    fn check(&self, name: &str) -> Result<()> {
        let Some(table) = self.table(name) else {
            return refuse(format!("looks up {name}, which is no table of sql/tables"));
        };
        if table.options.landing == Landing::None {
            return refuse(format!(
                "looks up {name}, which lands nowhere, so that nobody knows after a restart how its rows \
                 were: leave out landing = 'none' in sql/tables/{name}.sql"
            ));
        }
        if let Landing::Current(_) = table.options.landing {
            return refuse(format!(
                "looks up {name}, and a restart reads all of its changes to tell what rows have shown: leave out \
                 landing = 'current' in sql/tables/{name}.sql"
            ));
        }
        if table.options.history.is_some() {
            return refuse(format!(
                "looks up {name}, and a restart reads all of its changes to tell what rows have shown: leave out \
                 history in sql/tables/{name}.sql"
            ));
        }
        if table.options.group.is_some() {
            return refuse(format!(
                "looks up {name}, of which group_limit takes rows out of memory that are still current: \
                 leave out group_limit in sql/tables/{name}.sql"
            ));
        }
        Ok(())
    }

    /// Every scan of a look-up table has become one of a view.
    fn check_use(&self, name: &str, plan: &LogicalPlan) -> Result<()> {
        let mut is_read = false;
        plan.apply_with_subqueries(|node| {
            is_read |=
                matches!(node, LogicalPlan::TableScan(scan) if scan.table_name.table() == name);
            Ok(TreeNodeRecursion::Continue)
        })?;
        if is_read {
            return refuse(format!(
                "looks up {name} in a way that has no row to go by: join it as `JOIN {name} ON` or `LEFT \
                 JOIN {name} ON`, by its whole key to columns of one table that stands before it in the \
                 same FROM and is no look-up table itself, or take it out of `-- lookup:`"
            ));
        }
        let is_found = self.found.iter().any(|temporal_join| temporal_join.looked_up.name == name);
        if is_found { Ok(()) } else { refuse(format!("looks up {name}, which it does not read")) }
    }

    fn table(&self, name: &str) -> Option<&Arc<Table>> {
        self.tables.iter().find(|table| table.name == name)
    }

    fn join(&mut self, join: Join) -> Result<Transformed<LogicalPlan>> {
        let side = match join.join_type {
            JoinType::Inner | JoinType::Left if self.lookup(&join.right).is_some() => {
                LookupSide::Right
            }
            JoinType::Inner if self.lookup(&join.left).is_some() => LookupSide::Left,
            // A look-up table that is left over is refused at the end.
            _ => return Ok(Transformed::no(LogicalPlan::Join(join))),
        };
        let (rest, looked_up) = match side {
            LookupSide::Right => (Arc::clone(&join.left), Arc::clone(&join.right)),
            LookupSide::Left => (Arc::clone(&join.right), Arc::clone(&join.left)),
        };
        let Some(looked_up) = self.lookup(&looked_up) else {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        };
        let Some(found) = self.keys(&join, &looked_up, &rest)? else {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        };
        let LookedUp { alias, table } = looked_up;
        let temporal_join = Arc::new(TemporalJoin::new(&found.enriched, found.columns, &table));
        let view = self.view(&temporal_join, alias.clone())?;
        let own = temporal_join.enriched.key.iter().map(|at| {
            let name = &temporal_join.enriched.columns[*at].name;
            let own = Expr::Column(Column::new(Some(found.relation.clone()), name));
            let same = Expr::Column(Column::new(Some(alias.clone()), key_name(name)));
            binary(own, same)
        });
        let filter = own.chain(found.rest).reduce(Expr::and);
        let (left, right) = match side {
            LookupSide::Right => (rest, Arc::new(view)),
            LookupSide::Left => (Arc::new(view), rest),
        };
        if !self.found.contains(&temporal_join) {
            self.found.push(temporal_join);
        }
        let joined = Join::try_new(
            left,
            right,
            Vec::new(),
            filter,
            join.join_type,
            JoinConstraint::On,
            join.null_equality,
            false,
        )?;
        Ok(Transformed::yes(LogicalPlan::Join(joined)))
    }

    /// The look-up table that this is, if nothing is done to its rows.
    fn lookup(&self, plan: &LogicalPlan) -> Option<LookedUp> {
        let (alias, scan) = plain_scan(plan)?;
        let name = scan.table_name.table();
        let is_lookup = self.lookups.tables.iter().any(|lookup| lookup == name);
        let table = self.table(name).filter(|_| is_lookup)?;
        Some(LookedUp { alias, table: Arc::clone(table) })
    }

    /// What the whole key of the look-up table is equal to, if these are columns of one table.
    fn keys(
        &self,
        join: &Join,
        LookedUp { alias, table }: &LookedUp,
        rest: &LogicalPlan,
    ) -> Result<Option<LookupKeys>> {
        let on = join.on.iter().map(|(left, right)| binary(left.clone(), right.clone()));
        let filter = join.filter.iter().flat_map(|f| split_conjunction_owned(f.clone()));
        let (mut partners, mut others) = (vec![None; table.key.len()], Vec::new());
        for condition in on.chain(filter) {
            match pair(&condition, alias).and_then(|(own, other)| {
                let at = table.column_index(own.name())?;
                let place = table.key.iter().position(|key| *key == at)?;
                partners[place].is_none().then_some((place, other.clone()))
            }) {
                Some((place, partner)) => partners[place] = Some(partner),
                None => others.push(condition),
            }
        }
        let Some(partners) = partners.into_iter().collect::<Option<Vec<Column>>>() else {
            return Ok(None);
        };
        let relation = partners.first().and_then(|column| column.relation.clone());
        let Some(relation) = relation else { return Ok(None) };
        if partners.iter().any(|column| column.relation.as_ref() != Some(&relation)) {
            return Ok(None);
        }
        let Some(enriched) = self.enriched(&relation, rest)? else { return Ok(None) };
        let columns = partners.iter().map(|column| enriched.column_index(column.name()));
        let Some(columns) = columns.collect::<Option<Vec<usize>>>() else { return Ok(None) };
        let is_same_type = columns
            .iter()
            .zip(&table.key)
            .all(|(own, key)| enriched.columns[*own].data_type == table.columns[*key].data_type);
        if !is_same_type {
            return refuse(format!(
                "looks up {} by columns of {} of another type than its key: declare them alike",
                table.name, enriched.name
            ));
        }
        Ok(Some(LookupKeys { relation, enriched, columns, rest: others }))
    }

    /// The table that `relation` is in the same FROM; none if it is something else, or a look-up table.
    fn enriched(
        &self,
        relation: &TableReference,
        plan: &LogicalPlan,
    ) -> Result<Option<Arc<Table>>> {
        if let Some((alias, scan)) = plain_scan(plan) {
            let name = scan.table_name.table();
            let is_lookup = self.lookups.tables.iter().any(|lookup| lookup == name);
            let table = self.table(name).filter(|_| alias == *relation && !is_lookup);
            return Ok(table.cloned());
        }
        let LogicalPlan::Join(join) = plan else { return Ok(None) };
        match self.enriched(relation, &join.left)? {
            Some(table) => Ok(Some(table)),
            None => self.enriched(relation, &join.right),
        }
    }

    fn view(&mut self, temporal_join: &TemporalJoin, alias: TableReference) -> Result<LogicalPlan> {
        let view = &temporal_join.view;
        let live = self.live.add_view(view);
        let name = TableReference::bare(view.name.as_str());
        let scan = LogicalPlanBuilder::scan(name, provider_as_source(live), None)?;
        scan.alias(alias)?.build()
    }
}

/// What a look-up goes by.
struct LookupKeys {
    relation: TableReference,
    enriched: Arc<Table>,
    columns: Vec<usize>,
    /// What else the join asks for.
    rest: Vec<Expr>,
}

/// A table that is read as it is, and how the query calls it.
fn plain_scan(plan: &LogicalPlan) -> Option<(TableReference, &TableScan)> {
    match plan {
        LogicalPlan::TableScan(scan) => Some((scan.table_name.clone(), scan)),
        LogicalPlan::SubqueryAlias(alias) => match alias.input.as_ref() {
            LogicalPlan::TableScan(scan) => Some((alias.alias.clone(), scan)),
            _ => None,
        },
        _ => None,
    }
}

/// `alias.own = other`, either way round.
fn pair<'e>(condition: &'e Expr, alias: &TableReference) -> Option<(&'e Column, &'e Column)> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else {
        return None;
    };
    let (Expr::Column(left), Expr::Column(right)) = (left.as_ref(), right.as_ref()) else {
        return None;
    };
    match (left.relation.as_ref() == Some(alias), right.relation.as_ref() == Some(alias)) {
        (true, false) => Some((left, right)),
        (false, true) => Some((right, left)),
        (true, true) | (false, false) => None,
    }
}

fn binary(left: Expr, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), Operator::Eq, Box::new(right)))
}

fn refuse<T>(message: String) -> Result<T> {
    Err(DataFusionError::Plan(message))
}
