//! Result tables: appended to, or kept at one row per key.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use arrow::error::ArrowError;

use super::column::TargetColumn;
use super::problem::TargetProblem;
use super::row_write::{CheckedSql, MendSql, RowOrigin, RowWrite, WriteMethod};
use super::rows::{BoundStatement, EncodedRows};
use super::table::{ColumnSpec, Fidelity, FoundTable, TargetTable, equal_keys};
use crate::model::{Channel, ColumnSet, PriorRow, ResultChanges, ResultMode, ResultTable};
use crate::sink::SinkError;
use crate::sink::postgres::client::quote;
use crate::sink::postgres::schema::catalog::{CatalogColumn, CatalogTable, UniqueKey};
use crate::sink::postgres::schema::column_types::STAMP;

/// A checked result target with its statements.
#[derive(Debug, Clone)]
pub(crate) struct ResultTarget {
    pub(crate) target: TargetTable,
    /// `None` for appends.
    keyed: Option<Keyed>,
}

#[derive(Debug, Clone)]
struct Keyed {
    /// Where there is nothing but a key, a row that is there stays as it is.
    upsert: WriteMethod,
    /// As `upsert_sql`, for rows that differ from what is there.
    mend_sql: MendSql,
    delete_sql: CheckedSql,
    /// The key columns alone, in key order.
    key: TargetTable,
    /// Positions of the key columns in the target, in key order.
    key_columns: Vec<usize>,
    /// Whether an index finds a row by its key: not if NULL is a key.
    is_found_by_key: bool,
}

/// The results that have a table.
pub(crate) fn with_table(results: &[Arc<ResultTable>]) -> impl Iterator<Item = &Arc<ResultTable>> {
    results.iter().filter(|result| result.channel == Channel::Table)
}

impl ResultTarget {
    /// Checks a result's target: its columns, and for keyed results a unique index on the key.
    pub(crate) fn check(
        result: &ResultTable,
        schema: &str,
        catalog: &CatalogTable,
        problems: &mut Vec<TargetProblem>,
    ) -> Self {
        let fields = result.schema.fields().iter();
        let wanted = fields.map(|field| ColumnSpec {
            name: field.name(),
            data_type: field.data_type(),
            fidelity: Fidelity::Complete,
        });
        let wanted: Vec<ColumnSpec<'_>> = wanted.collect();
        let found = FoundTable { schema, name: &result.target, catalog };
        let before = problems.len();
        let mut target = TargetTable::check(&found, &wanted, problems);
        let ResultMode::Keyed { key } = &result.mode else {
            return Self { target, keyed: None };
        };
        let names: Vec<&str> =
            key.iter().map(|at| result.schema.field(*at).name().as_str()).collect();
        let unique = match unique_key(&found, &names) {
            Ok(unique) => unique,
            Err(problem) => {
                problems.push(problem);
                return Self { target, keyed: None };
            }
        };
        problems.extend(equal_keys(&found, &names));
        // With a column missing, positions no longer match; the statements will not be used.
        if problems.len() > before {
            return Self { target, keyed: None };
        }
        if may_keep_out(catalog, &target) {
            let sql = delete_from(&target, &names, unique.nulls_are_equal);
            target.old_rows_sql = Some(sql.into());
        }
        let is_plain = |name: &&str| catalog.columns.get(*name).is_some_and(|c| !c.is_nullable);
        let key_columns = key.clone();
        let columns: Vec<TargetColumn> = key.iter().map(|at| target.columns[*at].clone()).collect();
        let key = TargetTable {
            columns,
            is_stamped: false,
            checks: None,
            old_rows_sql: None,
            ..target.clone()
        };
        let keyed = Keyed {
            upsert: upsert(&target, &names),
            mend_sql: mend(&target, &names),
            delete_sql: delete_sql(&key, unique.nulls_are_equal),
            key,
            key_columns,
            is_found_by_key: names.iter().all(is_plain),
        };
        Self { target, keyed: Some(keyed) }
    }

    /// The rows to write, each whole.
    pub(crate) fn whole<'a>(
        &'a self,
        changes: &'a ResultChanges,
        processed_at: SystemTime,
    ) -> Result<RowWrite<'a>, SinkError> {
        let rows =
            EncodedRows::new(&self.target, changes.upserts.columns().to_vec(), processed_at)?;
        let upsert = |keyed: &Keyed| keyed.upsert.clone();
        let method = self.keyed.as_ref().map_or(WriteMethod::Append, upsert);
        Ok(RowWrite { rows, method, origin: RowOrigin::Upserts(changes) })
    }

    /// What makes the target hold just these rows, and none under the keys that are gone: first the deletes, then
    /// the upserts, which change nothing where the target holds the row already.
    pub(crate) fn mending<'a>(
        &'a self,
        changes: &'a ResultChanges,
        processed_at: SystemTime,
    ) -> Result<[Option<RowWrite<'a>>; 2], SinkError> {
        let deletes = self.deletes(changes)?.map(|(rows, sql)| {
            let (method, origin) = (WriteMethod::Delete(sql.clone()), RowOrigin::Deletes(changes));
            RowWrite { rows, method, origin }
        });
        let mut upserts = self.whole(changes, processed_at)?;
        if let Some(keyed) = &self.keyed {
            upserts.method = WriteMethod::Mend(keyed.mend_sql.clone());
        }
        Ok([deletes, Some(upserts)])
    }

    /// The rows to write, by what the target is said to hold: new rows are added, and of the others only
    /// what differs is sent, which takes the server half the time of an upsert.
    ///
    /// If it holds something else, such a statement fails, or finds fewer rows than it should; the whole
    /// rows are to be written then.
    pub(crate) fn by_difference<'a>(
        &'a self,
        changes: &'a ResultChanges,
        processed_at: SystemTime,
    ) -> Result<Vec<RowWrite<'a>>, SinkError> {
        let keyed =
            self.keyed.as_ref().filter(|_| changes.held.len() == changes.upserts.num_rows());
        let Some(keyed) = keyed else {
            return Ok(vec![self.whole(changes, processed_at)?]);
        };
        let Sorted { new, differing, rest } = Sorted::of(changes, keyed.is_found_by_key);
        let origin = RowOrigin::Upserts(changes);
        let some = |rows: Vec<u32>| take_record_batch(&changes.upserts, &UInt32Array::from(rows));
        let failed = |error: ArrowError| SinkError::Targets {
            problems: vec![format!("{}: {error}", self.target.name)],
        };
        let mut writes = Vec::new();
        for (columns, rows) in differing {
            let kept = |at: &usize| keyed.key_columns.contains(at) || columns.contains(*at);
            let kept: Vec<usize> = (0..changes.upserts.num_columns()).filter(kept).collect();
            let batch = some(rows).and_then(|rows| rows.project(&kept)).map_err(failed)?;
            let target = self.target.project(&kept);
            let sql = keyed.update_sql(&target);
            let rows = EncodedRows::new(target, batch.columns().to_vec(), processed_at)?;
            writes.push(RowWrite { rows, method: WriteMethod::Update(sql), origin });
        }
        for (rows, method) in [(rest, keyed.upsert.clone()), (new, WriteMethod::Append)] {
            if !rows.is_empty() {
                let batch = some(rows).map_err(failed)?;
                let rows = EncodedRows::new(&self.target, batch.columns().to_vec(), processed_at)?;
                writes.push(RowWrite { rows, method, origin });
            }
        }
        Ok(writes)
    }

    /// Empties the target of a keyed result; appended rows are never removed.
    pub(crate) fn delete_all(&self) -> Option<BoundStatement> {
        let table = self.target.sql_name.clone();
        let sql = format!("DELETE FROM {table}");
        self.keyed.as_ref().map(|_| BoundStatement { table, sql, params: Vec::new() })
    }

    /// The keys that are gone and the statement that deletes them; `None` for appends or if there are none.
    pub(crate) fn deletes(
        &self,
        changes: &ResultChanges,
    ) -> Result<Option<(EncodedRows<'_>, &CheckedSql)>, SinkError> {
        let Some(keyed) = self.keyed.as_ref().filter(|_| changes.deletes.num_rows() > 0) else {
            return Ok(None);
        };
        let keys = changes.deletes.columns().iter().map(Arc::clone).collect();
        let rows = EncodedRows::new(&keyed.key, keys, SystemTime::UNIX_EPOCH)?;
        Ok(Some((rows, &keyed.delete_sql)))
    }
}

impl Keyed {
    /// Changes the columns of `target` that are not of the key, in rows that are there.
    fn update_sql(&self, target: &TargetTable) -> String {
        let is_key = |name: &str| self.key.has_column(name);
        let names: Vec<String> = target.columns.iter().map(|c| quote::ident(&c.name)).collect();
        let assigned =
            target.columns.iter().zip(&names).filter(|(column, _)| !is_key(&column.name));
        let assigned: Vec<String> = assigned.map(|(_, n)| format!("{n} = given.{n}")).collect();
        let keys = self.key.columns.iter().map(|column| quote::ident(&column.name));
        let same: Vec<String> = keys.map(|name| format!("kept.{name} = given.{name}")).collect();
        format!(
            "UPDATE {} AS kept SET {} FROM {} AS given({}) WHERE {}",
            target.sql_name,
            assigned.join(", "),
            target.given(),
            names.join(", "),
            same.join(" AND "),
        )
    }
}

/// With fewer rows than this, a statement of their own costs more than it saves.
const WORTH_A_STATEMENT: usize = 64;

/// Rows of a result by how they are best written.
#[derive(Debug, Default)]
struct Sorted {
    new: Vec<u32>,
    differing: Vec<(ColumnSet, Vec<u32>)>,
    /// To be written whole.
    rest: Vec<u32>,
}

impl Sorted {
    fn of(changes: &ResultChanges, is_found_by_key: bool) -> Self {
        let mut sorted = Self::default();
        let mut by_columns: BTreeMap<ColumnSet, Vec<u32>> = BTreeMap::new();
        // More than half of the columns: little is saved.
        let most = changes.upserts.num_columns() / 2;
        for (row, held) in (0..).zip(&changes.held) {
            match held {
                PriorRow::Nothing => sorted.new.push(row),
                PriorRow::Other(columns) if is_found_by_key && columns.len() <= most => {
                    by_columns.entry(*columns).or_default().push(row);
                }
                PriorRow::Other(_) | PriorRow::Unknown => sorted.rest.push(row),
            }
        }
        for (columns, rows) in by_columns {
            if rows.len() >= WORTH_A_STATEMENT && !columns.is_empty() {
                sorted.differing.push((columns, rows))
            } else {
                sorted.rest.extend(rows)
            }
        }
        // In the order of their keys, as the batch is.
        sorted.rest.sort_unstable();
        sorted
    }
}

/// The unique index that makes `ON CONFLICT` of these columns possible.
pub(super) fn unique_key<'a>(
    found: &FoundTable<'a>,
    key: &[&str],
) -> Result<&'a UniqueKey, TargetProblem> {
    let FoundTable { name, catalog, .. } = *found;
    let place = || (name.to_owned(), key.iter().map(|column| (*column).to_owned()).collect());
    let mut sorted = key.to_vec();
    sorted.sort_unstable();
    let fitting = || catalog.unique_keys.iter().filter(|unique| unique.columns == sorted);
    if fitting().next().is_none() {
        let (table, key) = place();
        return Err(TargetProblem::NoUniqueKey { table, key });
    }
    if let Some(collation) = fitting().find_map(|unique| unique.loose_collation.as_ref()) {
        let (table, key) = place();
        return Err(TargetProblem::LooseIndex { table, key, collation: collation.clone() });
    }
    let has_nullable =
        key.iter().any(|name| catalog.columns.get(*name).is_some_and(|c| c.is_nullable));
    // Under a plain unique index NULL never conflicts, so every change of such a key would add a row.
    fitting().find(|unique| unique.nulls_are_equal || !has_nullable).ok_or_else(|| {
        let (table, key) = place();
        TargetProblem::NullableKey { table, key }
    })
}

fn upsert(target: &TargetTable, key: &[&str]) -> WriteMethod {
    let sql = target.insert_sql(&on_conflict(target, key));
    if has_others(target, key) {
        WriteMethod::Upsert(sql)
    } else {
        WriteMethod::Mend(MendSql { mend: sql, upsert: None })
    }
}

fn mend(target: &TargetTable, key: &[&str]) -> MendSql {
    let upsert = || target.insert_sql(&on_conflict(target, key));
    MendSql {
        mend: target.insert_sql(&on_difference(target, key)),
        upsert: has_others(target, key).then(upsert),
    }
}

/// Whether there are columns beside those of the key.
fn has_others(target: &TargetTable, key: &[&str]) -> bool {
    target.columns.iter().any(|column| !key.contains(&column.name.as_str()))
}

fn on_conflict(target: &TargetTable, key: &[&str]) -> String {
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

/// As [`on_conflict`], and rows stay as they are that have the same values. These are compared as text, because
/// not every type has an equality.
fn on_difference(target: &TargetTable, key: &[&str]) -> String {
    let names = target.columns.iter().map(|column| column.name.as_str());
    let compared =
        names.filter(|name| !(key.contains(name) || target.is_stamped && *name == STAMP));
    let compared: Vec<String> = compared.map(quote::ident).collect();
    if compared.is_empty() {
        return format!("ON CONFLICT ({}) DO NOTHING", quote::idents(key.iter().copied()));
    }
    let row_of = |table: &str| {
        let texts = compared.iter().map(|name| format!("{table}.{name}::text"));
        texts.collect::<Vec<_>>().join(", ")
    };
    format!(
        "{} WHERE ROW({}) IS DISTINCT FROM ROW({})",
        on_conflict(target, key),
        row_of("kept"),
        row_of("EXCLUDED")
    )
}

/// Whether rows can keep each other out, because something beside the key is unique, and lose nothing if they are deleted
/// and written again.
fn may_keep_out(catalog: &CatalogTable, target: &TargetTable) -> bool {
    let is_written =
        |(name, column): (&String, &CatalogColumn)| column.is_generated || target.has_column(name);
    catalog.unique_keys.len() > 1
        && catalog.columns.iter().all(is_written)
        && !catalog.traits.is_referenced
}

fn delete_sql(key: &TargetTable, nulls_are_equal: bool) -> CheckedSql {
    let names: Vec<&str> = key.columns.iter().map(|column| column.name.as_str()).collect();
    let (table, given) = (&key.sql_name, key.given());
    let (names_of, same) = (key.column_list(), same_key(&names, nulls_are_equal));
    CheckedSql {
        write: delete_from(key, &names, nulls_are_equal),
        find: format!(
            "SELECT FROM {table} AS kept, {given} AS gone({names_of}) WHERE {same} LIMIT 1"
        ),
    }
}

/// Deletes the rows whose `key` is that of a given row.
fn delete_from(given: &TargetTable, key: &[&str], nulls_are_equal: bool) -> String {
    format!(
        "DELETE FROM {} AS kept USING {} AS gone({}) WHERE {}",
        given.sql_name,
        given.given(),
        given.column_list(),
        same_key(key, nulls_are_equal)
    )
}

fn same_key(key: &[&str], nulls_are_equal: bool) -> String {
    // Not `IS NOT DISTINCT FROM`: no index serves it.
    let same = |name: &&str| {
        let name = quote::ident(name);
        if nulls_are_equal {
            format!("(kept.{name} = gone.{name} OR (kept.{name} IS NULL AND gone.{name} IS NULL))")
        } else {
            format!("kept.{name} = gone.{name}")
        }
    };
    key.iter().map(same).collect::<Vec<_>>().join(" AND ")
}
