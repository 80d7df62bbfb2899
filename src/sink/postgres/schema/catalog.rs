//! Tables as the catalog of the database describes them.

use std::collections::HashMap;

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};

use super::check_constraints::{self, Check};
use super::relation::{self, RelationTraits};
use super::text_rules::BaseType;
use super::wire_format::Wire;
use crate::sink::postgres::client::quote;

/// A table as Postgres knows it.
pub(crate) struct CatalogTable {
    pub(crate) columns: HashMap<String, CatalogColumn>,
    pub(crate) unique_keys: Vec<UniqueKey>,
    pub(crate) checks: Vec<Check>,
    pub(crate) traits: RelationTraits,
    /// Changes when somebody alters a column.
    pub(crate) fingerprint: String,
}

pub(crate) struct CatalogColumn {
    /// As `\d` prints it.
    pub(crate) type_name: String,
    /// The same without its modifier: an explicit cast to varchar(3) or bit(3) would cut a text off.
    pub(crate) bare_type: String,
    /// `type_name`, or what a domain is made of.
    pub(crate) base_type: String,
    pub(crate) wire: Wire,
    pub(crate) base: BaseType,
    /// A collation that takes different texts for equal.
    pub(crate) loose_collation: Option<String>,
    pub(crate) is_domain: bool,
    pub(crate) is_required: bool,
    pub(crate) is_nullable: bool,
    pub(crate) is_generated: bool,
    pub(crate) limits: ColumnLimits,
}

/// What a column refuses although its type fits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ColumnLimits {
    /// Characters of a VARCHAR(n) or CHAR(n).
    pub(crate) characters: Option<usize>,
    /// Blanks at the end are no part of the value: CHAR(n).
    pub(crate) ignores_blanks: bool,
    /// Digits of a NUMERIC(p, s), and those after the point.
    pub(crate) digits: Option<(i32, i32)>,
    /// Digits of a second that a TIMESTAMP(n), TIME(n) or INTERVAL(n) keeps.
    pub(crate) second_digits: Option<i32>,
    /// NULL is refused. Not known where a trigger may fill it in.
    pub(crate) is_required: bool,
}

/// A unique index over plain columns that always holds (not partial, not deferred).
pub(crate) struct UniqueKey {
    /// In alphabetical order.
    pub(crate) columns: Vec<String>,
    pub(crate) nulls_are_equal: bool,
    /// A collation of the index that takes different texts for equal.
    pub(crate) loose_collation: Option<String>,
}

/// Digits of a second that PostgreSQL can hold.
pub(crate) const SECOND_DIGITS: i32 = 6;

const COLUMNS: &str = "\
SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), \
       base.oid, a.attnotnull, \
       a.atthasdef OR a.attidentity <> '', a.attgenerated <> '' OR a.attidentity = 'a', \
       base.modifier, a.atttypid, EXISTS (SELECT FROM pg_trigger g \
         WHERE g.tgrelid = a.attrelid AND NOT g.tgisinternal), format_type(a.atttypid, -1), \
       format_type(base.oid, base.modifier), t.typname::text, t.typtype = 'e', \
       CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE base.oid END, \
       (SELECT k.collname::text FROM pg_collation k \
         WHERE k.oid = a.attcollation AND NOT k.collisdeterministic) \
FROM pg_attribute a \
CROSS JOIN LATERAL (WITH RECURSIVE types AS ( \
    SELECT t.oid, t.typbasetype AS next, a.atttypmod AS modifier, t.typtypmod AS next_modifier \
    FROM pg_type t WHERE t.oid = a.atttypid UNION ALL \
    SELECT d.oid, d.typbasetype, types.next_modifier, d.typtypmod FROM types JOIN pg_type d ON d.oid = types.next) \
  SELECT oid, modifier FROM types WHERE next = 0) AS base \
JOIN pg_type t ON t.oid = base.oid \
JOIN pg_class c ON c.oid = a.attrelid \
JOIN pg_namespace n ON n.oid = c.relnamespace \
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p') \
  AND a.attnum > 0 AND NOT a.attisdropped";

/// Whether [`COLUMNS`] finds any.
const EXISTS: &str = "\
SELECT EXISTS (SELECT FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
  JOIN pg_namespace n ON n.oid = c.relnamespace \
  WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped)";

// `indnullsnotdistinct` came with PostgreSQL 15; by way of JSON the query also runs on 14.
const UNIQUE_KEYS: &str = "\
SELECT ARRAY(SELECT a.attname::text \
             FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) AS k(attnum) \
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
             ORDER BY a.attname::text COLLATE \"C\"), \
       COALESCE((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false), \
       (SELECT min(k.collname::text) FROM pg_collation k \
         WHERE k.oid = ANY (i.indcollation::oid[]) AND NOT k.collisdeterministic) \
FROM pg_index i \
JOIN pg_class c ON c.oid = i.indrelid \
JOIN pg_namespace n ON n.oid = c.relnamespace \
WHERE n.nspname = $1 AND c.relname = $2 \
  AND i.indisunique AND i.indisvalid AND i.indimmediate \
  AND i.indpred IS NULL AND i.indexprs IS NULL";

/// Names and types of the columns of a table, which binary COPY takes on trust.
pub(crate) const FINGERPRINT: &str = "\
SELECT COALESCE(string_agg(concat_ws(' ', a.attnum, a.attname, a.atttypid, a.atttypmod), ',' \
                           ORDER BY a.attnum), '') \
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
JOIN pg_namespace n ON n.oid = c.relnamespace \
WHERE n.nspname = $1::text AND c.relname = $2::text AND a.attnum > 0 AND NOT a.attisdropped";

/// Whether there is such a table: [`read`] takes a hundred times as long.
pub(crate) async fn exists(client: &Client, schema: &str, table: &str) -> Result<bool, Error> {
    let (schema, table) = quote::split(schema, table);
    let place: [(&(dyn ToSql + Sync), Type); 2] = [(&schema, Type::TEXT), (&table, Type::TEXT)];
    client.query_typed_one(EXISTS, &place).await?.try_get(0)
}

/// Whether an index of a table (quoted) begins with these columns.
pub(crate) async fn has_index(
    client: &Client,
    table: &str,
    columns: &[String],
) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = to_regclass($1) AND i.indisvalid \
               AND i.indpred IS NULL AND (SELECT array_agg(a.attname::text ORDER BY k.at) \
               FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, at) \
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
               WHERE k.at <= cardinality($2::text[])) = $2::text[])";
    let asked: [(&(dyn ToSql + Sync), Type); 2] =
        [(&table, Type::TEXT), (&columns, Type::TEXT_ARRAY)];
    client.query_typed_one(sql, &asked).await?.try_get(0)
}

/// `None` if there is no such table.
pub(crate) async fn read(
    client: &Client,
    schema: &str,
    table: &str,
) -> Result<Option<CatalogTable>, Error> {
    let (schema, table) = quote::split(schema, table);
    let place: [(&(dyn ToSql + Sync), Type); 2] = [(&schema, Type::TEXT), (&table, Type::TEXT)];
    let mut columns = HashMap::new();
    for row in client.query_typed(COLUMNS, &place).await? {
        let (is_not_null, has_default): (bool, bool) = (row.try_get(3)?, row.try_get(4)?);
        let has_trigger: bool = row.try_get(8)?;
        let is_required = is_not_null && !has_trigger;
        let (base, own): (u32, u32) = (row.try_get(2)?, row.try_get(7)?);
        let modifier: i32 = row.try_get(6)?;
        let element: u32 = row.try_get(13)?;
        let limits = if element == base {
            limits(base, modifier, is_required)
        } else {
            limits_of_array(element, modifier, is_required)
        };
        let column = CatalogColumn {
            type_name: row.try_get(1)?,
            bare_type: row.try_get(9)?,
            base_type: row.try_get(10)?,
            wire: Wire::of_column(base),
            base: BaseType { oid: base, name: row.try_get(11)?, is_enum: row.try_get(12)? },
            loose_collation: row.try_get(14)?,
            is_domain: base != own,
            is_required: is_not_null && !has_default,
            is_nullable: !is_not_null,
            is_generated: row.try_get(5)?,
            limits,
        };
        columns.insert(row.try_get(0)?, column);
    }
    if columns.is_empty() {
        return Ok(None);
    }
    let mut unique_keys = Vec::new();
    for row in client.query_typed(UNIQUE_KEYS, &place).await? {
        unique_keys.push(UniqueKey {
            columns: row.try_get(0)?,
            nulls_are_equal: row.try_get(1)?,
            loose_collation: row.try_get(2)?,
        });
    }
    let fingerprint = client.query_typed_one(FINGERPRINT, &place).await?.try_get(0)?;
    let has_domains = columns.values().any(|column: &CatalogColumn| column.is_domain);
    let checks = check_constraints::read(client, &place, has_domains).await?;
    let traits = relation::read(client, &place).await?;
    Ok(Some(CatalogTable { columns, unique_keys, checks, traits, fingerprint }))
}

/// What the modifier of a type says, which of a domain is that of the type it is made of.
fn limits(oid: u32, modifier: i32, is_required: bool) -> ColumnLimits {
    let mut limits = ColumnLimits { is_required, ..ColumnLimits::default() };
    // Postgres counts the length of its header in.
    let length = modifier - 4;
    match Type::from_oid(oid) {
        Some(known @ (Type::VARCHAR | Type::BPCHAR)) if length > 0 => {
            limits.characters = usize::try_from(length).ok();
            limits.ignores_blanks = known == Type::BPCHAR;
        }
        Some(Type::NUMERIC) if length >= 0 => {
            let scale = ((length & 2047) ^ 1024) - 1024;
            limits.digits = Some(((length >> 16) & 0xffff, scale));
        }
        Some(Type::TIMESTAMP | Type::TIMESTAMPTZ | Type::TIME | Type::TIMETZ) if modifier >= 0 => {
            limits.second_digits = Some(modifier);
        }
        Some(Type::INTERVAL) if modifier >= 0 => {
            // INTERVAL DAY and the like keep no seconds at all.
            let (fields, digits) = (modifier >> 16 & 0x7fff, modifier & 0xffff);
            let digits = if digits == 0xffff { SECOND_DIGITS } else { digits };
            limits.second_digits = Some(if fields == 0x7fff { digits } else { 0 });
        }
        _ => {}
    }
    limits
}

/// Of an array, whose text is longer than its elements.
fn limits_of_array(element: u32, modifier: i32, is_required: bool) -> ColumnLimits {
    ColumnLimits { characters: None, ..limits(element, modifier, is_required) }
}
