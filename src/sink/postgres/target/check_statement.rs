//! The statement that evaluates the CHECK constraints of a target over rows that are not written yet.

use super::column::TargetColumn;
use crate::sink::postgres::client::quote;
use crate::sink::postgres::schema::catalog::CatalogTable;
use crate::sink::postgres::schema::check_constraints::Check;

/// A statement that tells which rows break which constraint.
#[derive(Debug, Clone)]
pub(crate) struct CheckStatement {
    pub(crate) sql: String,
    /// Those of the target that it is sent, in the order of its parameters.
    pub(crate) columns: Vec<usize>,
    pub(crate) checks: Vec<Check>,
}

impl CheckStatement {
    /// `None` if there are no constraints over columns that are written.
    pub(crate) fn of(catalog: &CatalogTable, columns: &[TargetColumn]) -> Option<Self> {
        let position = |name: &String| columns.iter().position(|column| column.name == *name);
        let is_told = |check: &&Check| {
            !check.columns.is_empty() && check.columns.iter().all(|name| position(name).is_some())
        };
        let checks: Vec<&Check> = catalog.checks.iter().filter(is_told).collect();
        let mut sent: Vec<usize> =
            checks.iter().flat_map(|check| &check.columns).filter_map(position).collect();
        sent.sort_unstable();
        sent.dedup();
        if checks.is_empty() {
            return None;
        }
        let sql = statement(catalog, &checks, sent.iter().map(|at| &columns[*at]));
        let checks = checks.into_iter().cloned().collect();
        Some(Self { sql, columns: sent, checks })
    }
}

fn statement<'a>(
    catalog: &CatalogTable,
    checks: &[&Check],
    sent: impl Iterator<Item = &'a TargetColumn>,
) -> String {
    // No column has this name.
    let mut number = "#".to_owned();
    while catalog.columns.contains_key(&number) {
        number.push('#');
    }
    let number = quote::ident(&number);
    let (mut arrays, mut names, mut cast) = (Vec::new(), Vec::new(), Vec::new());
    for (at, column) in (1..).zip(sent) {
        let there = catalog.columns.get(&column.name);
        let type_name = there.map_or_else(|| column.wire.sql(), |there| there.base_type.clone());
        arrays.push(format!("${at}::{}[]", column.wire.sql()));
        names.push(format!("c{at}"));
        cast.push(format!("c{at}::{type_name} AS {}", quote::ident(&column.name)));
    }
    let broken = (0..).zip(checks);
    let broken = broken.map(|(at, check)| format!("WHEN NOT ({}) THEN {at}", check.expression));
    format!(
        "SELECT at, broken FROM (SELECT {number} AS at, CASE {} END AS broken \
         FROM (SELECT {}, n AS {number} FROM unnest({}) WITH ORDINALITY AS given({}, n)) AS sent) AS told \
         WHERE broken IS NOT NULL ORDER BY at",
        broken.collect::<Vec<_>>().join(" "),
        cast.join(", "),
        arrays.join(", "),
        names.join(", "),
    )
}
