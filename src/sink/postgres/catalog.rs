use std::collections::HashMap;

use tokio_postgres::{Client, Error};

use super::quote;
use super::value::Wire;

/// A table as Postgres knows it.
pub(super) struct CatalogTable {
    pub(super) columns: HashMap<String, CatalogColumn>,
    pub(super) unique_keys: Vec<UniqueKey>,
}

pub(super) struct CatalogColumn {
    /// As `\d` prints it.
    pub(super) type_name: String,
    /// `None` for a type that the sink cannot write.
    pub(super) wire: Option<Wire>,
    pub(super) is_required: bool,
    pub(super) is_nullable: bool,
    pub(super) is_generated: bool,
    /// Places after the point of a NUMERIC(p, s).
    pub(super) scale: Option<i32>,
}

/// A unique index over plain columns that always holds (not partial, not deferred).
pub(super) struct UniqueKey {
    /// In alphabetical order.
    pub(super) columns: Vec<String>,
    pub(super) nulls_are_equal: bool,
}

const COLUMNS: &str = "\
SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), \
       COALESCE(NULLIF(t.typbasetype, 0), t.oid), a.attnotnull, \
       a.atthasdef OR a.attidentity <> '', a.attgenerated <> '' OR a.attidentity = 'a', \
       CASE WHEN a.atttypid = 'numeric'::regtype AND a.atttypmod >= 4 \
            THEN (((a.atttypmod - 4) & 2047) # 1024) - 1024 END \
FROM pg_attribute a \
JOIN pg_type t ON t.oid = a.atttypid \
JOIN pg_class c ON c.oid = a.attrelid \
JOIN pg_namespace n ON n.oid = c.relnamespace \
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p') \
  AND a.attnum > 0 AND NOT a.attisdropped";

// `indnullsnotdistinct` came with PostgreSQL 15; by way of JSON the query also runs on 14.
const UNIQUE_KEYS: &str = "\
SELECT ARRAY(SELECT a.attname::text \
             FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) AS k(attnum) \
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
             ORDER BY a.attname::text COLLATE \"C\"), \
       COALESCE((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false) \
FROM pg_index i \
JOIN pg_class c ON c.oid = i.indrelid \
JOIN pg_namespace n ON n.oid = c.relnamespace \
WHERE n.nspname = $1 AND c.relname = $2 \
  AND i.indisunique AND i.indisvalid AND i.indimmediate \
  AND i.indpred IS NULL AND i.indexprs IS NULL";

/// `None` if there is no such table.
pub(super) async fn read(
    client: &Client,
    schema: &str,
    table: &str,
) -> Result<Option<CatalogTable>, Error> {
    let (schema, table) = quote::split(schema, table);
    let mut columns = HashMap::new();
    for row in client.query(COLUMNS, &[&schema, &table]).await? {
        let (is_not_null, has_default): (bool, bool) = (row.try_get(3)?, row.try_get(4)?);
        let column = CatalogColumn {
            type_name: row.try_get(1)?,
            wire: Wire::of_column(row.try_get(2)?),
            is_required: is_not_null && !has_default,
            is_nullable: !is_not_null,
            is_generated: row.try_get(5)?,
            scale: row.try_get(6)?,
        };
        columns.insert(row.try_get(0)?, column);
    }
    if columns.is_empty() {
        return Ok(None);
    }
    let mut unique_keys = Vec::new();
    for row in client.query(UNIQUE_KEYS, &[&schema, &table]).await? {
        unique_keys.push(UniqueKey { columns: row.try_get(0)?, nulls_are_equal: row.try_get(1)? });
    }
    Ok(Some(CatalogTable { columns, unique_keys }))
}
