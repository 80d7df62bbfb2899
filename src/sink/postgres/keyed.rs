//! Result tables: appended to, or kept at one row per key.

use std::sync::Arc;
use std::time::SystemTime;

use super::catalog::{CatalogTable, UniqueKey};
use super::quote;
use super::rows::{Bound, Rows};
use super::target::{Rounding, Target, TargetColumn, Wanted};
use crate::changelog::{ResultChanges, ResultMode, ResultTable};
use crate::sink::SinkError;

/// A checked result target with its statements.
#[derive(Debug, Clone)]
pub(super) struct ResultTarget {
    pub(super) target: Target,
    /// `None` for appends.
    keyed: Option<Keyed>,
}

#[derive(Debug, Clone)]
struct Keyed {
    upsert_sql: String,
    delete_sql: String,
    /// The key columns alone, in key order.
    key: Target,
}

impl ResultTarget {
    /// Checks a result's target: its columns, and for keyed results a unique index on the key.
    pub(super) fn check(
        result: &ResultTable,
        schema: &str,
        catalog: &CatalogTable,
        problems: &mut Vec<String>,
    ) -> Self {
        let fields = result.schema.fields().iter();
        let wanted: Vec<Wanted<'_>> =
            fields.map(|f| Wanted { name: f.name(), data_type: f.data_type() }).collect();
        let place = (schema, result.target.as_str());
        let before = problems.len();
        let target = Target::check(place, catalog, &wanted, Rounding::Allowed, problems);
        let ResultMode::Keyed { key } = &result.mode else {
            return Self { target, keyed: None };
        };
        let names: Vec<&str> =
            key.iter().map(|at| result.schema.field(*at).name().as_str()).collect();
        let unique = match unique_key(catalog, &names) {
            Ok(unique) => unique,
            Err(problem) => {
                problems.push(format!("{}: {problem}", result.target));
                return Self { target, keyed: None };
            }
        };
        // With a column missing, positions no longer match; the statements will not be used.
        if problems.len() > before {
            return Self { target, keyed: None };
        }
        let columns: Vec<TargetColumn> = key.iter().map(|at| target.columns[*at].clone()).collect();
        let key = Target { columns, is_stamped: false, ..target.clone() };
        let keyed = Keyed {
            upsert_sql: target.insert_sql(&on_conflict(&target, &names)),
            delete_sql: delete_sql(&key, unique.nulls_are_equal),
            key,
        };
        Self { target, keyed: Some(keyed) }
    }

    /// The rows to write; by [`Self::upsert_sql`] or, for appends, in any way.
    pub(super) fn rows(
        &self,
        changes: &ResultChanges,
        processed_at: SystemTime,
    ) -> Result<Rows<'_>, SinkError> {
        Rows::new(&self.target, changes.upserts.columns().to_vec(), processed_at)
    }

    /// `None` for appends.
    pub(super) fn upsert_sql(&self) -> Option<&str> {
        self.keyed.as_ref().map(|keyed| keyed.upsert_sql.as_str())
    }

    /// Empties the target of a keyed result; appended rows are never removed.
    pub(super) fn delete_all(&self) -> Option<Bound> {
        let table = self.target.sql_name.clone();
        let sql = format!("DELETE FROM {table}");
        self.keyed.as_ref().map(|_| Bound { table, sql, params: Vec::new() })
    }

    /// The keys that are gone and the statement that deletes them; `None` for appends or if there are none.
    pub(super) fn deletes(
        &self,
        changes: &ResultChanges,
    ) -> Result<Option<(Rows<'_>, &str)>, SinkError> {
        let Some(keyed) = self.keyed.as_ref().filter(|_| changes.deletes.num_rows() > 0) else {
            return Ok(None);
        };
        let keys = changes.deletes.columns().iter().map(Arc::clone).collect();
        let rows = Rows::new(&keyed.key, keys, SystemTime::UNIX_EPOCH)?;
        Ok(Some((rows, &keyed.delete_sql)))
    }
}

/// The unique index that makes `ON CONFLICT` of these columns possible.
fn unique_key<'a>(catalog: &'a CatalogTable, key: &[&str]) -> Result<&'a UniqueKey, String> {
    let mut sorted = key.to_vec();
    sorted.sort_unstable();
    let fitting = || catalog.unique_keys.iter().filter(|unique| unique.columns == sorted);
    let list = key.join(", ");
    if fitting().next().is_none() {
        return Err(format!("needs a primary key or unique index on exactly ({list})"));
    }
    let has_nullable =
        key.iter().any(|name| catalog.columns.get(*name).is_some_and(|c| c.is_nullable));
    // Under a plain unique index NULL never conflicts, so every change of such a key would add a row.
    fitting()
        .find(|unique| unique.nulls_are_equal || !has_nullable)
        .ok_or_else(|| format!("({list}) must be NOT NULL, or its unique index NULLS NOT DISTINCT"))
}

fn on_conflict(target: &Target, key: &[&str]) -> String {
    let assignments: Vec<String> = target
        .columns
        .iter()
        .filter(|column| !key.contains(&column.name.as_str()))
        .map(|column| quote::ident(&column.name))
        .map(|name| format!("{name} = EXCLUDED.{name}"))
        .collect();
    let key = quote::idents(key.iter().copied());
    if assignments.is_empty() {
        return format!("ON CONFLICT ({key}) DO NOTHING");
    }
    format!("ON CONFLICT ({key}) DO UPDATE SET {}", assignments.join(", "))
}

fn delete_sql(key: &Target, nulls_are_equal: bool) -> String {
    let names: Vec<String> = key.columns.iter().map(|column| quote::ident(&column.name)).collect();
    // Not `IS NOT DISTINCT FROM`: no index serves it.
    let same = |name: &String| match nulls_are_equal {
        false => format!("kept.{name} = gone.{name}"),
        true => {
            format!("(kept.{name} = gone.{name} OR (kept.{name} IS NULL AND gone.{name} IS NULL))")
        }
    };
    format!(
        "DELETE FROM {} AS kept USING {} AS gone({}) WHERE {}",
        key.sql_name,
        key.given(),
        names.join(", "),
        names.iter().map(same).collect::<Vec<_>>().join(" AND "),
    )
}
