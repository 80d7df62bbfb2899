//! Landing tables of current rows: one of each key, by upsert and delete.
//!
//! A row that is gone leaves a line in `tidemark_deleted`: a start from a state on disk must learn of it, and older changes
//! that come late must not bring the row back. Both tables together have the newest change of each key, as a table of
//! all changes has it. A change that is older than what is there writes nothing.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::SystemTime;

use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};

use super::column::TargetColumn;
use super::landing::{self, LandingColumn};
use super::row_write::{CheckedSql, RowOrigin, RowWrite, WriteMethod};
use super::rows::{BoundStatement, EncodedRows, StatementParams};
use super::table::TargetTable;
use crate::model::{Changelog, EventId, Operation, Scn, SystemColumn, Table, Truncation};
use crate::sink::SinkError;
use crate::sink::postgres::client::quote;
use crate::sink::postgres::schema::landing_columns::{
    CHANGE_SEQ, EVENT_ID, OPERATION, SOURCE_SCN, SOURCE_TS, UNAVAILABLE, are_deletes, is_current,
    target_name,
};
use crate::sink::postgres::schema::system_tables::{DELETED, LEDGER};

/// Whose rows they are.
#[derive(Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub(crate) schema: &'a str,
    pub(crate) pipeline: &'a str,
}

/// What of the changes is to be written: all of them, but of tables of current rows the newest of each key. For these
/// the last deletes come first, also of keys that are there again.
pub(crate) fn newest(landing: &[Changelog]) -> Result<Vec<Cow<'_, Changelog>>, SinkError> {
    let mut settled = Vec::with_capacity(landing.len());
    for changelog in landing {
        if !is_current(&changelog.table) || changelog.offsets.is_empty() {
            settled.push(Cow::Borrowed(changelog));
            continue;
        }
        let [deletes, upserts] = split(changelog).map_err(|error| unfit(changelog, &error))?;
        let parts = [deletes, upserts].into_iter().filter(|part| !part.is_empty());
        settled.extend(parts.map(Cow::Owned));
    }
    Ok(settled)
}

fn unfit(changelog: &Changelog, error: &ArrowError) -> SinkError {
    SinkError::Targets { problems: vec![format!("{}: {error}", changelog.table.name)] }
}

fn split(changelog: &Changelog) -> Result<[Changelog; 2], ArrowError> {
    let (mut is_delete, mut is_upsert) =
        (vec![false; changelog.len()], vec![false; changelog.len()]);
    // By column, where the value of a row is.
    let mut values: HashMap<usize, Vec<u64>> = HashMap::new();
    let mut missing: HashMap<usize, Vec<usize>> = HashMap::new();
    for cell in &changelog.unchanged {
        missing.entry(cell.row).or_default().push(cell.column);
    }
    let lacks =
        |row: usize, column: &usize| missing.get(&row).is_some_and(|it| it.contains(column));
    let mut upserts = changelog.clone();
    for rows in by_key(changelog)? {
        let deleted = rows.iter().rposition(|row| changelog.operations[*row] == Operation::Delete);
        if let Some(at) = deleted {
            is_delete[rows[at]] = true;
        }
        // What came before the delete is of another row.
        let [before @ .., newest] = &rows[deleted.map_or(0, |at| at + 1)..] else { continue };
        is_upsert[*newest] = true;
        for column in missing.get(newest).into_iter().flatten() {
            if let Some(row) = before.iter().rev().find(|row| !lacks(**row, column)) {
                let all = || (0..changelog.len() as u64).collect();
                values.entry(*column).or_insert_with(all)[*newest] = *row as u64;
                upserts.unchanged.retain(|cell| (cell.row, cell.column) != (*newest, *column));
            }
        }
    }
    for (column, rows) in values {
        let mut columns = upserts.batch.columns().to_vec();
        columns[column] = take(&columns[column], &UInt64Array::from(rows), None)?;
        upserts.batch = RecordBatch::try_new(upserts.batch.schema(), columns)?;
    }
    let not = |flags: Vec<bool>| -> Vec<bool> { flags.into_iter().map(|flag| !flag).collect() };
    let deletes = Changelog { truncations: Vec::new(), unchanged: Vec::new(), ..changelog.clone() };
    Ok([deletes.without(&not(is_delete)), upserts.without(&not(is_upsert))])
}

/// The rows of each key, in the order of their positions.
fn by_key(changelog: &Changelog) -> Result<Vec<Vec<usize>>, ArrowError> {
    let table = &changelog.table;
    let keys = changelog.batch.project(&table.key)?;
    let fields = Schema::clone(&keys.schema()).fields;
    let fields = fields.iter().map(|field| SortField::new(field.data_type().clone()));
    let keys = RowConverter::new(fields.collect())?.convert_columns(keys.columns())?;
    let mut places = HashMap::new();
    let mut by_key: Vec<Vec<usize>> = Vec::new();
    for row in 0..changelog.len() {
        let place = *places.entry(keys.row(row)).or_insert_with(|| {
            by_key.push(Vec::new());
            by_key.len() - 1
        });
        by_key[place].push(row);
    }
    by_key.iter_mut().for_each(|rows| rows.sort_by_key(|row| changelog.positions[*row]));
    Ok(by_key)
}

/// A table of current rows.
pub(crate) struct CurrentRows<'o, 't> {
    owner: Owner<'o>,
    table: &'o Table,
    target: &'t TargetTable,
}

impl<'o, 't> CurrentRows<'o, 't> {
    pub(crate) fn new(owner: Owner<'o>, table: &'o Table, target: &'t TargetTable) -> Self {
        Self { owner, table, target }
    }

    /// The rows of one of the changelogs of [`newest`].
    pub(crate) fn write<'c>(
        &self,
        changelog: &'c Changelog,
        processed_at: SystemTime,
    ) -> Result<RowWrite<'c>, SinkError>
    where
        't: 'c,
    {
        let (rows, sql) = if are_deletes(changelog) {
            let columns = self.of_delete();
            let target = self.target.project(&columns);
            let arrays = landing::arrays(changelog, self.target, |at| columns.contains(&at))?;
            let sql = self.delete_sql(&target);
            (EncodedRows::new(target, arrays, processed_at)?, sql)
        } else {
            (landing::rows(changelog, self.target, processed_at)?, self.upsert_sql())
        };
        let origin = RowOrigin::Landing(changelog);
        Ok(RowWrite { rows, method: WriteMethod::Newest(sql), origin })
    }

    /// What of a delete is kept, by the places in the target.
    fn of_delete(&self) -> Vec<usize> {
        let has = |column: LandingColumn<'_>| self.target.has_column(&column.name(self.table));
        let columns = LandingColumn::list(self.table, has).into_iter().enumerate();
        let is_kept = |column: &LandingColumn<'_>| match column {
            LandingColumn::Declared(at) => self.table.key.contains(at),
            LandingColumn::OfBatch(column) => {
                matches!(column, SystemColumn::SourceTs | SystemColumn::EventId)
            }
            LandingColumn::ChangeSeq | LandingColumn::SourceScn => true,
            LandingColumn::Unavailable | LandingColumn::Promoted(_) => false,
        };
        columns.filter(|(_, column)| is_kept(column)).map(|(at, _)| at).collect()
    }

    fn delete_sql(&self, target: &TargetTable) -> CheckedSql {
        let given = format!("SELECT * FROM {} AS rows", target.given());
        let names = names(target);
        let (landed, seq) = (&self.target.sql_name, self.own(CHANGE_SEQ));
        let is_older = format!("{} AND kept.{seq} < given.{seq}", self.same_key("kept", "given"));
        let scn = target.has_column(&self.table.free_name(SOURCE_SCN));
        let [event, at] = [EVENT_ID, SOURCE_TS].map(|name| format!("given.{}", self.own(name)));
        let scn = if scn { format!("given.{}", self.own(SOURCE_SCN)) } else { "NULL".to_owned() };
        let noted = self.note("given", &event, &format!("given.{seq}"), [&at, &scn]);
        CheckedSql {
            write: format!(
                "WITH given ({names}) AS ({given}), noted AS ({noted} FROM given {NEWER}) \
                 DELETE FROM {landed} AS kept USING given WHERE {is_older}"
            ),
            find: format!(
                "SELECT FROM {landed} AS kept, ({given}) AS given ({names}) WHERE {is_older} LIMIT 1"
            ),
        }
    }

    /// Notes a key as deleted; without the place where the keys are from.
    fn note(&self, of: &str, event: &str, seq: &str, [at, scn]: [&str; 2]) -> String {
        let Owner { schema, pipeline } = self.owner;
        let keys = || self.table.key.iter().map(|at| &self.table.columns[*at].name);
        let values =
            keys().map(|name| format!("{}, {of}.{}", quote::literal(name), quote::ident(name)));
        let own = [
            (OPERATION, "'d'"),
            (SOURCE_TS, at),
            (EVENT_ID, event),
            (CHANGE_SEQ, seq),
            (SOURCE_SCN, scn),
        ];
        let own = own.map(|(name, value)| {
            format!("{}, {value}", quote::literal(&self.table.free_name(name)))
        });
        format!(
            "INSERT INTO {deleted} AS known (landing, key, pipeline, epoch, event_id, change_seq, change) \
             SELECT {landing}, {key}, {pipeline}, \
             (SELECT max(epoch) FROM {ledger} WHERE pipeline = {pipeline}), {event}, {seq}, jsonb_build_object({change})",
            deleted = quote::table(schema, DELETED),
            landing = self.landing(),
            key = self.key_of(of),
            pipeline = quote::literal(pipeline),
            ledger = quote::table(schema, LEDGER),
            change = values.chain(own).collect::<Vec<_>>().join(", "),
        )
    }

    fn upsert_sql(&self) -> CheckedSql {
        let Self { table, target, .. } = self;
        let (landed, names, given) = (&target.sql_name, names(target), target.given());
        let seq = self.own(CHANGE_SEQ);
        let is_gone = format!(
            "EXISTS (SELECT FROM {} AS gone WHERE gone.landing = {} AND gone.key = {} AND gone.change_seq > given.{seq})",
            quote::table(self.owner.schema, DELETED),
            self.landing(),
            self.key_of("given"),
        );
        let keys = quote::idents(table.key.iter().map(|at| table.columns[*at].name.as_str()));
        let is_key = |name: &str| table.key.iter().any(|at| table.columns[*at].name == name);
        let others = target.columns.iter();
        let set =
            others.filter(|column| !is_key(&column.name)).map(|column| self.assignment(column));
        let set = set.collect::<Vec<_>>().join(", ");
        CheckedSql {
            write: format!(
                "INSERT INTO {landed} AS kept ({names}) SELECT * FROM {given} AS given ({names}) WHERE NOT {is_gone} \
                 ON CONFLICT ({keys}) DO UPDATE SET {set} WHERE kept.{seq} <= EXCLUDED.{seq}"
            ),
            find: format!(
                "SELECT FROM {given} AS given ({names}) WHERE NOT {is_gone} AND NOT EXISTS (SELECT FROM {landed} AS kept \
                 WHERE {} AND kept.{seq} >= given.{seq}) LIMIT 1",
                self.same_key("kept", "given")
            ),
        }
    }

    /// A value that was not sent stays as it is, and is unknown only if it was.
    fn assignment(&self, target: &TargetColumn) -> String {
        let name = target.name.as_str();
        let (column, unavailable) = (quote::ident(name), self.own(UNAVAILABLE));
        let names_unavailable = self.target.has_column(&self.table.free_name(UNAVAILABLE));
        if !names_unavailable {
            return format!("{column} = EXCLUDED.{column}");
        }
        if column == unavailable {
            return format!(
                "{column} = (SELECT jsonb_agg(missing.name) FROM jsonb_array_elements_text(EXCLUDED.{column}::jsonb) AS missing (name) \
                 WHERE kept.{column}::jsonb ? missing.name)::{}",
                target.wire.sql()
            );
        }
        if !self.table.declared().iter().any(|declared| declared.name == name) {
            return format!("{column} = EXCLUDED.{column}");
        }
        format!(
            "{column} = CASE WHEN EXCLUDED.{unavailable}::jsonb ? {} THEN kept.{column} ELSE EXCLUDED.{column} END",
            quote::literal(name)
        )
    }

    /// Takes all rows away that are older than a truncate.
    pub(crate) fn truncate(&self, truncation: &Truncation) -> BoundStatement {
        let event = EventId::new(truncation.offset, truncation.position).to_string();
        let params: StatementParams = vec![
            Box::new(truncation.position.0),
            Box::new(truncation.source_ts),
            Box::new(event),
            Box::new(truncation.scn.map(Scn::number)),
        ];
        let time = "timestamp '1970-01-01' + $2::bigint * interval '1 microsecond'";
        let event = "$3::text || '#' || row_number() OVER ()";
        let noted = self.note("gone", event, "$1::bigint", [time, "$4::bigint"]);
        let sql = format!(
            "WITH gone AS (DELETE FROM {landed} AS kept WHERE kept.{seq} < $1::bigint RETURNING kept.*) \
             {noted} FROM gone {NEWER}",
            landed = self.target.sql_name,
            seq = self.own(CHANGE_SEQ),
        );
        BoundStatement { table: self.target.name.clone(), sql, params }
    }

    fn own(&self, name: &str) -> String {
        quote::ident(&self.table.free_name(name))
    }

    /// The landing table's name as a literal.
    fn landing(&self) -> String {
        quote::literal(target_name(self.table).unwrap_or_default())
    }

    fn key_of(&self, of: &str) -> String {
        key_of(self.table, of)
    }

    fn same_key(&self, one: &str, other: &str) -> String {
        same_key(self.table, one, other)
    }
}

/// A newer delete of a key takes the place of an older one.
const NEWER: &str = "ON CONFLICT (landing, key) DO UPDATE SET pipeline = EXCLUDED.pipeline, epoch = EXCLUDED.epoch, \
    event_id = EXCLUDED.event_id, change_seq = EXCLUDED.change_seq, change = EXCLUDED.change, \
    deleted_at = EXCLUDED.deleted_at WHERE known.change_seq < EXCLUDED.change_seq";

fn names(target: &TargetTable) -> String {
    quote::idents(target.columns.iter().map(|column| column.name.as_str()))
}

fn same_key(table: &Table, one: &str, other: &str) -> String {
    let same = table.key.iter().map(|at| {
        let key = quote::ident(&table.columns[*at].name);
        format!("{one}.{key} = {other}.{key}")
    });
    same.collect::<Vec<_>>().join(" AND ")
}

/// The key as `tidemark_deleted` has it: equal if the keys are, whatever digits a number is written with.
fn key_of(table: &Table, of: &str) -> String {
    let keys =
        table.key.iter().map(|at| format!("{of}.{}", quote::ident(&table.columns[*at].name)));
    format!("jsonb_build_array({})", keys.collect::<Vec<_>>().join(", "))
}

/// What was deleted from a table of current rows, as rows of it; `condition` is about `gone`, which has the columns
/// `event_id`, `change_seq` and `key`, and about what is joined before.
pub(crate) fn deleted_rows(schema: &str, table: &Table, landed: &str, condition: &str) -> String {
    let name = quote::literal(target_name(table).unwrap_or_default());
    format!(
        "{deleted} AS gone CROSS JOIN LATERAL jsonb_populate_record(NULL::{landed}, gone.change) AS was \
         WHERE gone.landing = {name} AND {condition}",
        deleted = quote::table(schema, DELETED),
    )
}

/// The conditions by which deleted rows are looked for.
pub(crate) fn is_deleted(table: &Table, wanted: &str) -> String {
    format!("gone.key = {}", key_of(table, wanted))
}

/// No newer row of the key is there.
pub(crate) fn is_still_deleted(table: &Table, landed: &str) -> String {
    format!(
        "NOT EXISTS (SELECT FROM {landed} AS kept WHERE {} AND kept.{} >= gone.change_seq)",
        same_key(table, "kept", "was"),
        quote::ident(&table.free_name(CHANGE_SEQ))
    )
}
