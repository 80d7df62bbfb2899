//! CHECK constraints of a target, evaluated over rows before they are written: one statement tells all rows that
//! break them, where an attempt to write tells one.
//!
//! Only constraints whose verdict the row alone decides, as it is sent: see [`CHECKS`] for those that are left to the
//! server, with everything else that can refuse a row.

use std::ops::Range;

use tokio_postgres::Client;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::types::{ToSql, Type};

use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::client::error::{classify, is_connection_lost};
use crate::sink::postgres::client::quote;
use crate::sink::postgres::schema::catalog::CatalogTable;
use crate::sink::postgres::target::row_write::RowWrite;
use crate::sink::postgres::target::table::TargetColumn;
use crate::sink::{DataError, SinkError};

/// A CHECK as the catalog has it.
#[derive(Debug, Clone)]
pub(crate) struct Check {
    name: String,
    /// Over the bare names of the columns.
    expression: String,
    columns: Vec<String>,
    /// Whose constraint it is, if not the table's.
    domain: Option<String>,
}

/// In the order in which the server evaluates them. Not: what triggers may change before, what calls a function or an
/// operator that may look at other rows, columns of a domain, columns of another
/// collation than their type's.
const CHECKS: &str = "\
SELECT k.conname::text, pg_get_expr(k.conbin, k.conrelid), \
       ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (k.conkey)), \
       NULL::text \
FROM pg_constraint k \
JOIN pg_class c ON c.oid = k.conrelid \
JOIN pg_namespace n ON n.oid = c.relnamespace \
WHERE n.nspname = $1::text AND c.relname = $2::text AND k.contype = 'c' \
  AND COALESCE((to_jsonb(k) ->> 'conenforced')::boolean, true) \
  AND NOT EXISTS (SELECT FROM pg_trigger g \
        WHERE NOT g.tgisinternal AND g.tgtype & 2 = 2 \
          AND (g.tgrelid = c.oid OR g.tgrelid IN (SELECT relid FROM pg_partition_tree(c.oid)))) \
  AND NOT EXISTS (SELECT FROM pg_depend d LEFT JOIN pg_proc p ON p.oid = d.refobjid \
        WHERE d.classid = 'pg_constraint'::regclass AND d.objid = k.oid \
          AND (d.refclassid = 'pg_operator'::regclass \
               OR (d.refclassid = 'pg_proc'::regclass AND p.provolatile <> 'i'))) \
  AND NOT EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
        WHERE a.attrelid = c.oid AND a.attnum = ANY (k.conkey) \
          AND (t.typtype = 'd' OR a.attcollation <> t.typcollation)) \
ORDER BY k.conname COLLATE \"C\"";

/// Those of the domains of columns, which come before the others and before any trigger. In such a constraint the value
/// is called `VALUE`, which is also a name.
const OF_DOMAINS: &str = "\
WITH RECURSIVE domains AS ( \
  SELECT a.attname, a.attnum, a.atttypid AS own, a.atttypid AS domain, 0 AS depth FROM pg_attribute a \
  JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
  JOIN pg_type t ON t.oid = a.atttypid \
  WHERE n.nspname = $1::text AND c.relname = $2::text AND a.attnum > 0 AND NOT a.attisdropped AND t.typtype = 'd' \
  UNION ALL SELECT d.attname, d.attnum, d.own, t.typbasetype, d.depth + 1 \
  FROM domains d JOIN pg_type t ON t.oid = d.domain WHERE t.typtype = 'd') \
SELECT k.conname::text, format('(SELECT %s FROM (SELECT %I AS value) AS given)', pg_get_expr(k.conbin, 0), d.attname), \
       ARRAY[d.attname::text], format_type(d.own, NULL) \
FROM domains d JOIN pg_constraint k ON k.contypid = d.domain \
WHERE k.contype = 'c' \
  AND NOT EXISTS (SELECT FROM pg_depend p LEFT JOIN pg_proc f ON f.oid = p.refobjid \
        WHERE p.classid = 'pg_constraint'::regclass AND p.objid = k.oid \
          AND (p.refclassid = 'pg_operator'::regclass \
               OR (p.refclassid = 'pg_proc'::regclass AND f.provolatile <> 'i'))) \
ORDER BY d.attnum, d.depth DESC, k.conname COLLATE \"C\"";

/// The constraints of a table, and of its columns if it `has_domains`, with the session's `search_path`.
pub(crate) async fn read(
    client: &Client,
    place: &[(&(dyn ToSql + Sync), Type)],
    has_domains: bool,
) -> Result<Vec<Check>, tokio_postgres::Error> {
    let mut checks = Vec::new();
    for sql in has_domains.then_some(OF_DOMAINS).into_iter().chain([CHECKS]) {
        for row in client.query_typed(sql, place).await? {
            let (name, expression, columns) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            checks.push(Check { name, expression, columns, domain: row.try_get(3)? });
        }
    }
    Ok(checks)
}

impl Check {
    /// What is said of a row of `table` that breaks it, as the server says it.
    pub(crate) fn error(&self, table: &str, row: usize) -> DataError {
        let name = &self.name;
        let (column, message) = match &self.domain {
            Some(domain) => (
                self.columns.first().cloned(),
                format!("value for domain {domain} violates check constraint \"{name}\" (23514)"),
            ),
            None => (
                None,
                format!(
                    "new row for relation \"{table}\" violates check constraint \"{name}\" (23514)"
                ),
            ),
        };
        DataError { table: Some(table.to_owned()), column, row: Some(row), message, source: None }
    }
}

/// A statement that tells which rows break which constraint.
#[derive(Debug, Clone)]
pub(crate) struct Checks {
    sql: String,
    /// Those of the target that it is sent, in the order of its parameters.
    pub(crate) columns: Vec<usize>,
    checks: Vec<Check>,
}

impl Checks {
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

/// The rows that break a constraint; inside an open transaction that stays usable, and writes nothing.
///
/// Of each constraint the first row is tried, so that it is the server that refuses it.
///
/// # Errors
/// What is not about a row.
pub(crate) async fn broken(
    connection: &mut Connection,
    row_write: &RowWrite<'_>,
) -> Result<Vec<(usize, DataError)>, SinkError> {
    let Some(checks) = row_write.rows.checks().filter(|_| row_write.rows.count() > 0) else {
        return Ok(Vec::new());
    };
    let Some(told) = ask(connection, row_write, checks).await? else { return Ok(Vec::new()) };
    let mut confirmed: Vec<Option<bool>> = vec![None; checks.checks.len()];
    let mut broken = Vec::new();
    for (row, check) in told {
        let (Some(broken_check), Some(known)) = (checks.checks.get(check), confirmed.get(check))
        else {
            continue;
        };
        let is_confirmed = match known {
            Some(known) => *known,
            None => is_refused(connection, row_write, (row, &broken_check.name)).await?,
        };
        confirmed[check] = Some(is_confirmed);
        if is_confirmed {
            broken.push((row, broken_check.error(row_write.rows.table(), row)));
        }
    }
    Ok(broken)
}

/// Rows, and which constraint each of them breaks; `None` if that can't be told, because an expression fails.
async fn ask(
    connection: &mut Connection,
    row_write: &RowWrite<'_>,
    checks: &Checks,
) -> Result<Option<Vec<(usize, usize)>>, SinkError> {
    let failed = |error| classify("looking for rows that break a constraint", error);
    let bind = |range: Range<usize>| {
        let bound = row_write.rows.bind_columns((&checks.sql, &checks.columns), range.clone());
        bound.map(|bound| (range.start, bound))
    };
    let bound: Result<Vec<_>, _> = row_write.rows.ranges().into_iter().map(bind).collect();
    let Ok(bound) = bound else { return Ok(None) };
    connection.savepoint("SAVEPOINT checks").await?;
    let mut told = Vec::new();
    for (start, bound) in bound {
        let answered = match connection.prepare(&bound.sql).await {
            Ok(statement) => connection.client.query(&statement, &bound.values()).await,
            Err(error) => Err(error),
        };
        connection.deadline.record_activity();
        let rows = match answered {
            Ok(rows) => rows,
            Err(error) if is_connection_lost(&error) || error.as_db_error().is_none() => {
                return Err(failed(error));
            }
            Err(error) => {
                tracing::debug!(table = row_write.rows.table(), %error, "constraints can't be evaluated alone");
                connection.savepoint("ROLLBACK TO checks; RELEASE checks").await?;
                return Ok(None);
            }
        };
        for row in rows {
            let (at, check): (i64, i32) =
                (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
            // Postgres counts from 1.
            let at = usize::try_from(at - 1).unwrap_or_default();
            told.push((start + at, usize::try_from(check).unwrap_or(usize::MAX)));
        }
    }
    connection.savepoint("RELEASE checks").await?;
    Ok(Some(told))
}

/// Whether the server refuses the row for this constraint.
async fn is_refused(
    connection: &mut Connection,
    row_write: &RowWrite<'_>,
    (row, check): (usize, &str),
) -> Result<bool, SinkError> {
    row_write.check_columns(connection).await?;
    connection.savepoint("SAVEPOINT checks").await?;
    let answer = row_write.write(connection, row..row + 1).await;
    let is_about_it = match answer {
        Ok(()) => false,
        Err(SinkError::Data(error)) => {
            let source =
                error.source.as_ref().and_then(|e| e.downcast_ref::<tokio_postgres::Error>());
            let db: Option<&DbError> = source.and_then(tokio_postgres::Error::as_db_error);
            db.is_some_and(|db| {
                *db.code() == SqlState::CHECK_VIOLATION && db.constraint() == Some(check)
            })
        }
        Err(other) => return Err(other),
    };
    connection.savepoint("ROLLBACK TO checks; RELEASE checks").await?;
    Ok(is_about_it)
}
