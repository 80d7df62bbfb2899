//! What each kind of node makes of what is known of its inputs.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::Schema;
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, ExprSchemable, FetchType, Limit, LogicalPlan, TableScan, Union,
    Values, Window,
};
use datafusion::scalar::ScalarValue;

use super::dependencies::{Columns, moved};
use super::expressions::{coalesced, column, constant, hold, is_not_null, reads};
use super::facts::Facts;
use super::joins::join;
use super::known_tables::KnownTables;
use crate::model::Table;

/// What is known of the rows of a plan.
pub(super) fn facts(plan: &LogicalPlan, known: KnownTables<'_>) -> Facts {
    let of = |input: &LogicalPlan| facts(input, known);
    match plan {
        LogicalPlan::TableScan(scan) => table_scan(scan, known),
        LogicalPlan::SubqueryAlias(alias) => of(&alias.input),
        LogicalPlan::Sort(sort) => of(&sort.input),
        LogicalPlan::Repartition(repartition) => of(&repartition.input),
        LogicalPlan::Filter(filter) => {
            let mut facts = of(&filter.input);
            hold(&filter.predicate, filter.input.schema(), &mut facts);
            facts
        }
        LogicalPlan::Projection(projection) => {
            computed(&projection.expr, projection.input.schema(), &of(&projection.input))
        }
        LogicalPlan::Join(node) => join(node, of(&node.left), of(&node.right)),
        LogicalPlan::Aggregate(node) => aggregate(node, &of(&node.input)),
        LogicalPlan::Distinct(Distinct::All(input)) => {
            let mut facts = of(input);
            facts.add_unique((0..input.schema().fields().len()).collect());
            facts
        }
        LogicalPlan::Distinct(Distinct::On(on)) => {
            let input = of(&on.input);
            let mut facts = computed(&on.select_expr, on.input.schema(), &input);
            let place = |expr: &Expr| {
                let is_it = |selected: &Expr| selected.clone().unalias() == expr.clone().unalias();
                on.select_expr.iter().position(is_it)
            };
            let set = on.on_expr.iter().map(place).collect::<Option<Columns>>();
            facts.unique.extend(set);
            facts
        }
        LogicalPlan::Window(node) => window(node, of(&node.input)),
        LogicalPlan::Limit(node) => limit(node, of(&node.input)),
        LogicalPlan::Union(node) => union(node, known),
        LogicalPlan::Values(values) => of_values(values),
        LogicalPlan::EmptyRelation(_) => Facts::one_row(),
        // Nothing is known of what these make.
        _ => Facts::default(),
    }
}

fn table_scan(scan: &TableScan, known: KnownTables<'_>) -> Facts {
    let name = scan.table_name.table();
    let schema = scan.source.schema();
    let all = || (0..schema.fields().len()).collect();
    let projection: Vec<usize> = scan.projection.clone().unwrap_or_else(all);
    let mut places: BTreeMap<usize, Columns> = BTreeMap::new();
    for (place, at) in projection.iter().enumerate() {
        places.entry(*at).or_default().insert(place);
    }
    let whole = match known.table(name) {
        Some(table) => of_table(table, schema.as_ref()),
        None => of_result(known.key_of_result(name), schema.as_ref()),
    };
    let mut facts = whole.passed_on(&places);
    for condition in &scan.filters {
        hold(condition, &scan.projected_schema, &mut facts);
    }
    facts
}

/// By name, because a query sees no column that it doesn't read of those that tables don't declare.
fn of_table(table: &Table, schema: &Schema) -> Facts {
    let place = |at: &usize| schema.index_of(&table.columns[*at].name).ok();
    let not_null = (0..table.columns.len()).filter(|at| !table.columns[*at].nullable);
    let key = table.key.iter().map(place).collect::<Option<Columns>>();
    let not_null = not_null.filter_map(|at| place(&at)).collect();
    with_key(key, not_null, schema)
}

fn of_result(key: Option<&[usize]>, schema: &Schema) -> Facts {
    let key: Option<Columns> = key.map(|key| key.iter().copied().collect());
    let not_null = key.clone().unwrap_or_default();
    with_key(key, not_null, schema)
}

fn with_key(key: Option<Columns>, not_null: Columns, schema: &Schema) -> Facts {
    let mut facts = Facts { not_null, ..Facts::default() };
    if let Some(key) = key {
        facts.dependencies.add(key.clone(), (0..schema.fields().len()).collect());
        facts.add_unique(key);
    }
    facts
}

/// Where columns of the input stand among expressions.
fn places(exprs: &[Expr], input: &DFSchema) -> BTreeMap<usize, Columns> {
    let mut places: BTreeMap<usize, Columns> = BTreeMap::new();
    for (place, expr) in exprs.iter().enumerate() {
        if let Some(at) = column(expr, input) {
            places.entry(at).or_default().insert(place);
        }
    }
    places
}

/// What is known of expressions over an input, one for each of its rows.
fn computed(exprs: &[Expr], schema: &DFSchema, input: &Facts) -> Facts {
    let places = places(exprs, schema);
    let mut facts = input.passed_on(&places);
    for (place, expr) in exprs.iter().enumerate() {
        if is_not_null(expr, schema, input) {
            facts.not_null.insert(place);
        }
        if let Some(value) = constant(expr) {
            facts.constants.insert(place, value);
            continue;
        }
        let Some(reads) = reads(expr, schema) else { continue };
        // What determines what it reads, of what is passed on.
        let single = places.keys().map(|at| Columns::from([*at]));
        let sets = input.unique.iter().cloned().chain([reads.clone()]);
        for determinant in single.chain(sets) {
            if let Some(outside) = moved(&determinant, &places)
                && reads.is_subset(&input.determined(&determinant))
            {
                facts.dependencies.add(outside, Columns::from([place]));
            }
        }
    }
    coalesced_keys(exprs, schema, input, &mut facts);
    facts
}

/// `coalesce(a.id, b.id)` of `a FULL JOIN b ON a.id = b.id`.
fn coalesced_keys(exprs: &[Expr], schema: &DFSchema, input: &Facts, facts: &mut Facts) {
    if input.full_joins.is_empty() {
        return;
    }
    let pairs: Vec<_> = exprs.iter().map(|expr| coalesced(expr, schema)).collect();
    let place = |(one, other): &(usize, usize)| {
        let is_it =
            |pair: &Option<_>| *pair == Some((*one, *other)) || *pair == Some((*other, *one));
        pairs.iter().position(is_it)
    };
    for joined in &input.full_joins {
        if let Some(set) = joined.iter().map(place).collect::<Option<Columns>>() {
            facts.not_null.extend(&set);
            facts.add_unique(set);
        }
    }
}

fn aggregate(node: &Aggregate, input: &Facts) -> Facts {
    let schema = node.input.schema();
    if node.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
        return Facts::default();
    }
    if node.group_expr.is_empty() {
        let mut facts = Facts::one_row();
        facts.not_null.extend(never_null(&node.aggr_expr, schema, 0));
        return facts;
    }
    let mut facts = computed(&node.group_expr, schema, input);
    let groups: Columns = (0..node.group_expr.len()).collect();
    let first = groups.len();
    facts.dependencies.add(groups.clone(), (0..first + node.aggr_expr.len()).collect());
    facts.unique = BTreeSet::from([groups]);
    facts.not_null.extend(never_null(&node.aggr_expr, schema, first));
    first_values(node, input, &mut facts);
    facts
}

/// The places of aggregates that are never NULL: counts.
fn never_null<'a>(
    calls: &'a [Expr],
    schema: &'a DFSchema,
    first: usize,
) -> impl Iterator<Item = usize> + 'a {
    let is_never_null = |(_, call): &(usize, &Expr)| call.nullable(schema).is_ok_and(|it| !it);
    calls.iter().enumerate().filter(is_never_null).map(move |(at, _)| first + at)
}

/// `DISTINCT ON (a) a, b` is planned as the first values of `a` and `b` per `a`: the first `a` of a group is `a`.
/// Nor is the first value of a column NULL that never is.
fn first_values(node: &Aggregate, input: &Facts, facts: &mut Facts) {
    let schema = node.input.schema();
    for (at, call) in node.aggr_expr.iter().enumerate() {
        let Expr::AggregateFunction(function) = call.clone().unalias() else { continue };
        let is_any = ["first_value", "last_value", "min", "max"].contains(&function.func.name());
        let [argument] = function.params.args.as_slice() else { continue };
        if !is_any || function.params.filter.is_some() {
            continue;
        }
        let place = node.group_expr.len() + at;
        if is_not_null(argument, schema, input) {
            facts.not_null.insert(place);
        }
        let is_it = |group: &Expr| group.clone().unalias() == argument.clone().unalias();
        if let Some(group) = node.group_expr.iter().position(is_it) {
            facts.add_equal(group, place);
        }
    }
}

fn window(node: &Window, mut facts: Facts) -> Facts {
    let schema = node.input.schema();
    let width = schema.fields().len();
    for set in facts.unique.clone() {
        let added = width..width + node.window_expr.len();
        facts.dependencies.add(set, added.collect());
    }
    for (at, expr) in node.window_expr.iter().enumerate() {
        let Expr::WindowFunction(function) = expr.clone().unalias() else { continue };
        let is_number = function.fun.name() == "row_number";
        if expr.nullable(schema).is_ok_and(|it| !it) || is_number {
            facts.not_null.insert(width + at);
        }
        if is_number && let Some(mut set) = partition(&function, schema) {
            set.insert(width + at);
            facts.add_unique(set);
        }
    }
    facts
}

fn partition(function: &WindowFunction, schema: &DFSchema) -> Option<Columns> {
    function.params.partition_by.iter().map(|expr| column(expr, schema)).collect()
}

fn limit(node: &Limit, mut facts: Facts) -> Facts {
    if let Ok(FetchType::Literal(Some(0 | 1))) = node.get_fetch_type() {
        facts.add_unique(Columns::new());
    }
    facts
}

/// Inputs whose rows a constant column tells apart share no key that has it.
fn union(node: &Union, known: KnownTables<'_>) -> Facts {
    let inputs: Vec<Facts> = node.inputs.iter().map(|input| facts(input, known)).collect();
    let mut united = Facts::default();
    for at in 0..node.schema.fields().len() {
        if inputs.iter().all(|input| input.not_null.contains(&at)) {
            united.not_null.insert(at);
        }
        let values = inputs.iter().map(|input| input.constants.get(&at));
        let Some(values) = values.collect::<Option<Vec<_>>>() else { continue };
        if !are_distinct(values) {
            continue;
        }
        let mut set = Columns::from([at]);
        let sets: Option<Vec<&Columns>> = inputs.iter().map(|input| input.unique.first()).collect();
        if let Some(sets) = sets {
            set.extend(sets.into_iter().flatten());
            united.add_unique(set);
        }
    }
    united
}

/// By their texts, because the same value may be of two types.
fn are_distinct<'a>(values: impl IntoIterator<Item = &'a ScalarValue>) -> bool {
    let mut texts = BTreeSet::new();
    values.into_iter().all(|value| texts.insert(value.to_string()))
}

fn of_values(values: &Values) -> Facts {
    let mut facts = if values.values.len() <= 1 { Facts::one_row() } else { Facts::default() };
    for at in 0..values.schema.fields().len() {
        let column: Option<Vec<_>> = values.values.iter().map(|row| constant(&row[at])).collect();
        let Some(column) = column else { continue };
        if column.iter().all(|value| !value.is_null()) {
            facts.not_null.insert(at);
        }
        if are_distinct(&column) {
            let width = values.schema.fields().len();
            facts.dependencies.add(Columns::from([at]), (0..width).collect());
            facts.add_unique(Columns::from([at]));
        }
    }
    facts
}
