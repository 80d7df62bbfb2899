//! What a table does with rows that are written to it, beside keeping them.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};

/// Properties of a table that swallow, redirect or hide rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RelationTraits {
    /// Rules that do something INSTEAD of what is written.
    pub(crate) instead_rules: Vec<String>,
    /// Rules that do something beside; COPY passes them by.
    pub(crate) also_rules: Vec<String>,
    /// Tables that inherit from it and are no partitions.
    pub(crate) children: Vec<String>,
    /// Row triggers that come before, and may take a row away.
    pub(crate) before_triggers: Vec<String>,
    /// Policies decide which rows the user sees.
    pub(crate) has_row_security: bool,
    /// Foreign keys of other tables are of its rows.
    pub(crate) is_referenced: bool,
}

const TRAITS: &str = "\
SELECT ARRAY(SELECT r.rulename::text FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type <> '1' \
         AND r.ev_enabled <> 'D' AND r.is_instead ORDER BY 1), \
       ARRAY(SELECT r.rulename::text FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type <> '1' \
         AND r.ev_enabled <> 'D' AND NOT r.is_instead ORDER BY 1), \
       ARRAY(SELECT child.oid::regclass::text FROM pg_inherits i JOIN pg_class child ON child.oid = i.inhrelid \
         WHERE i.inhparent = c.oid AND c.relkind = 'r' ORDER BY 1), \
       ARRAY(SELECT g.tgname::text FROM pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal \
         AND g.tgenabled <> 'D' AND g.tgtype & 3 = 3 ORDER BY 1), \
       row_security_active(c.oid), \
       EXISTS (SELECT FROM pg_constraint f WHERE f.confrelid = c.oid AND f.contype = 'f') \
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
WHERE n.nspname = $1 AND c.relname = $2";

/// Nothing, if there is no such table.
pub(crate) async fn read(
    client: &Client,
    place: &[(&(dyn ToSql + Sync), Type); 2],
) -> Result<RelationTraits, Error> {
    let Some(row) = client.query_typed_opt(TRAITS, place).await? else {
        return Ok(RelationTraits::default());
    };
    Ok(RelationTraits {
        instead_rules: row.try_get(0)?,
        also_rules: row.try_get(1)?,
        children: row.try_get(2)?,
        before_triggers: row.try_get(3)?,
        has_row_security: row.try_get(4)?,
        is_referenced: row.try_get(5)?,
    })
}
