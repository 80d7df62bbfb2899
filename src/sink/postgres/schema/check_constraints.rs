//! CHECK constraints as the catalog has them: only those whose verdict the row alone decides, as it is sent.

use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use crate::sink::DataError;

/// A CHECK as the catalog has it.
#[derive(Debug, Clone)]
pub(crate) struct Check {
    pub(crate) name: String,
    /// Over the bare names of the columns.
    pub(crate) expression: String,
    pub(crate) columns: Vec<String>,
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
        DataError { table: Some(table.to_owned()), column, row: Some(row), message, detail: None }
    }
}
