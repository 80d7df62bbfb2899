//! Landing tables: every change of a source table, appended, or its current rows.

use std::sync::Arc;
use std::time::SystemTime;

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use arrow::compute::nullif;
use arrow::datatypes::{DataType, TimeUnit};

use super::problem::TargetProblem;
use super::result::unique_key;
use super::rows::EncodedRows;
use super::table::{ColumnSpec, Fidelity, FoundTable, TargetTable, equal_keys};
use crate::model::{Changelog, PromotedColumn, Scn, SystemColumn, Table, take_out_promoted};
use crate::sink::SinkError;
use crate::sink::postgres::schema::column_types::field_type;
use crate::sink::postgres::schema::landing_columns::{
    CHANGE_SEQ, EVENT_ID, EXTRA_FIELDS, OPERATION, SOURCE_SCN, SOURCE_TS, UNAVAILABLE, are_deletes,
    is_current,
};

/// A column that is written. The order of [`LandingColumn::list`] is that of the checked target and of the rows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LandingColumn<'a> {
    /// By its place among the table's columns.
    Declared(usize),
    OfBatch(SystemColumn),
    ChangeSeq,
    Unavailable,
    SourceScn,
    /// A field of `extra_fields` that has a column of its own.
    Promoted(&'a PromotedColumn),
}

impl<'a> LandingColumn<'a> {
    /// All columns of a landing table, but those that it may lack and does not have.
    pub(crate) fn list(table: &'a Table, has: impl Fn(Self) -> bool) -> Vec<Self> {
        let declared = (0..table.declared().len()).map(Self::Declared);
        let of_batch = [
            SystemColumn::Op,
            SystemColumn::SourceTs,
            SystemColumn::ExtraFields,
            SystemColumn::EventId,
        ];
        let optional = [Self::Unavailable, Self::SourceScn].into_iter();
        let optional = optional.chain(newest_promoted(table).into_iter().map(Self::Promoted));
        declared
            .chain(of_batch.map(Self::OfBatch))
            .chain([Self::ChangeSeq])
            .chain(optional.filter(|column| has(*column)))
            .collect()
    }

    pub(crate) fn name(self, table: &Table) -> String {
        let own = match self {
            Self::Declared(at) => return table.columns[at].name.clone(),
            Self::Promoted(promoted) => return promoted.column.clone(),
            Self::OfBatch(SystemColumn::Op) => OPERATION,
            Self::OfBatch(SystemColumn::SourceTs) => SOURCE_TS,
            Self::OfBatch(SystemColumn::ExtraFields) => EXTRA_FIELDS,
            Self::OfBatch(SystemColumn::EventId) => EVENT_ID,
            Self::OfBatch(other @ (SystemColumn::EventTime | SystemColumn::Topic)) => other.name(),
            Self::ChangeSeq => CHANGE_SEQ,
            Self::Unavailable => UNAVAILABLE,
            Self::SourceScn => SOURCE_SCN,
        };
        table.free_name(own)
    }

    /// Declared columns are what the state is rebuilt from.
    fn fidelity(self) -> Fidelity {
        match self {
            Self::Declared(_) => Fidelity::Exact,
            Self::OfBatch(_)
            | Self::ChangeSeq
            | Self::Unavailable
            | Self::SourceScn
            | Self::Promoted(_) => Fidelity::Complete,
        }
    }

    pub(crate) fn data_type(self, table: &Table) -> DataType {
        match self {
            Self::Declared(at) => table.columns[at].data_type.clone(),
            Self::Promoted(promoted) => promoted.field_type.data_type(),
            Self::OfBatch(SystemColumn::SourceTs | SystemColumn::EventTime) => {
                DataType::Timestamp(TimeUnit::Microsecond, None)
            }
            Self::OfBatch(_) | Self::Unavailable => DataType::Utf8,
            Self::ChangeSeq | Self::SourceScn => DataType::Int64,
        }
    }
}

/// Checks a table's landing target.
pub(crate) fn check(
    table: &Table,
    found: &FoundTable<'_>,
    problems: &mut Vec<TargetProblem>,
) -> TargetTable {
    let has = |column: LandingColumn<'_>| {
        let there = found.catalog.columns.get(&column.name(table));
        match column {
            // Without its column a field stays in `extra_fields`.
            LandingColumn::Promoted(promoted) => there.is_some_and(|there| {
                !there.is_generated && field_type(&there.type_name) == Some(promoted.field_type)
            }),
            _ => there.is_some(),
        }
    };
    let columns = LandingColumn::list(table, has).into_iter();
    let columns: Vec<(String, DataType, Fidelity)> = columns
        .map(|column| (column.name(table), column.data_type(table), column.fidelity()))
        .collect();
    let wanted = columns.iter().map(|(name, data_type, fidelity)| ColumnSpec {
        name,
        data_type,
        fidelity: *fidelity,
    });
    let wanted: Vec<ColumnSpec<'_>> = wanted.collect();
    let before = problems.len();
    let target = TargetTable::check(found, &wanted, problems);
    let key: Vec<&str> = table.key.iter().map(|at| table.columns[*at].name.as_str()).collect();
    if is_current(table)
        && let Err(problem) = unique_key(found, &key)
    {
        problems.push(problem);
    }
    let equal = equal_keys(found, &key).into_iter();
    // What changes a key also has another equality: one sentence is enough.
    let is_new = |problem: &TargetProblem| {
        let said = problems[before..].iter();
        problem.column().is_none_or(|column| said.clone().all(|it| it.column() != Some(column)))
    };
    let equal: Vec<TargetProblem> = equal.filter(is_new).collect();
    problems.extend(equal);
    target
}

/// The columns that fields are written to.
fn newest_promoted(table: &Table) -> Vec<&PromotedColumn> {
    let promoted = &table.learned.promoted;
    let is_last =
        |at: usize| promoted[at + 1..].iter().all(|later| later.field != promoted[at].field);
    (0..promoted.len()).filter(|at| is_last(*at)).map(|at| &promoted[at]).collect()
}

/// Columns whose landing rows hold the old value where a change did not carry one.
pub(crate) fn needs_old_values(table: &Table, target: &TargetTable) -> Vec<usize> {
    let names_unavailable = target.has_column(&table.free_name(UNAVAILABLE));
    let is_blank = |at: &usize| names_unavailable && target.columns[*at].is_nullable;
    (0..table.declared().len()).filter(|at| !is_blank(at)).collect()
}

/// The rows of a changelog in the target's columns.
pub(crate) fn rows<'a>(
    changelog: &Changelog,
    target: &'a TargetTable,
    processed_at: SystemTime,
) -> Result<EncodedRows<'a>, SinkError> {
    EncodedRows::new(target, arrays(changelog, target, |_| true)?, processed_at)
}

/// The columns whose types may refuse a value of the changelog, by their places in the target.
pub(crate) fn limited_columns(
    changelog: &Changelog,
    target: &TargetTable,
) -> Result<Vec<(usize, ArrayRef)>, SinkError> {
    // Of a row that is deleted from a table of current rows nothing is written but its key.
    let is_deleted = are_deletes(changelog);
    let is_written = |at: &usize| !is_deleted || changelog.table.key.contains(at);
    let is_limited = |at: &usize| is_written(at) && target.columns[*at].is_limited();
    let count = LandingColumn::list(&changelog.table, |column| {
        target.has_column(&column.name(&changelog.table))
    })
    .len();
    let limited: Vec<usize> = (0..count).filter(is_limited).collect();
    let arrays = arrays(changelog, target, |at| is_limited(&at))?;
    Ok(limited.into_iter().zip(arrays).collect())
}

/// The columns of a landing table that are `wanted`, by their places, without the stamp.
pub(super) fn arrays(
    changelog: &Changelog,
    target: &TargetTable,
    wanted: impl Fn(usize) -> bool,
) -> Result<Vec<ArrayRef>, SinkError> {
    let (table, batch) = (&changelog.table, &changelog.batch);
    let columns = LandingColumn::list(table, |column| target.has_column(&column.name(table)));
    let of_fields = columns.iter().filter_map(|column| match column {
        LandingColumn::Promoted(promoted) => Some(*promoted),
        _ => None,
    });
    let of_fields: Vec<&PromotedColumn> = of_fields.collect();
    let extra_fields = batch.column(table.system_column(SystemColumn::ExtraFields));
    let (promoted, extra_fields) = if of_fields.is_empty() {
        (Vec::new(), ArrayRef::clone(extra_fields))
    } else {
        let (promoted, rest) = take_out_promoted(extra_fields.as_string(), &of_fields);
        (promoted, Arc::new(rest) as ArrayRef)
    };
    let mut promoted = promoted.into_iter();
    let names_unavailable = target.has_column(&table.free_name(UNAVAILABLE));
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(columns.len());
    for (at, column) in columns.into_iter().enumerate() {
        if !wanted(at) {
            if let LandingColumn::Promoted(_) = column {
                promoted.next();
            }
            continue;
        }
        arrays.extend(match column {
            LandingColumn::Declared(at) if names_unavailable => {
                Some(without_unavailable(changelog, target, at)?)
            }
            LandingColumn::Declared(at) => Some(ArrayRef::clone(batch.column(at))),
            LandingColumn::OfBatch(SystemColumn::ExtraFields) => {
                Some(ArrayRef::clone(&extra_fields))
            }
            LandingColumn::OfBatch(column) => {
                Some(ArrayRef::clone(batch.column(table.system_column(column))))
            }
            LandingColumn::ChangeSeq => {
                let positions = changelog.positions.iter().map(|position| position.0);
                Some(Arc::new(Int64Array::from_iter_values(positions)) as ArrayRef)
            }
            LandingColumn::Unavailable => Some(Arc::new(unavailable_names(changelog)) as ArrayRef),
            LandingColumn::SourceScn => {
                let scns = changelog.scns.iter().map(|scn| scn.map(Scn::number));
                Some(Arc::new(scns.collect::<Int64Array>()) as ArrayRef)
            }
            LandingColumn::Promoted(_) => promoted.next(),
        });
    }
    Ok(arrays)
}

/// History says what the events said: a value that one did not carry is NULL, unless the column is NOT
/// NULL.
fn without_unavailable(
    changelog: &Changelog,
    target: &TargetTable,
    column: usize,
) -> Result<ArrayRef, SinkError> {
    let array = changelog.batch.column(column);
    let mut is_blank = vec![false; changelog.len()];
    let of_column = changelog.unchanged.iter().filter(|cell| cell.column == column);
    of_column.for_each(|cell| is_blank[cell.row] = true);
    if !is_blank.contains(&true) || !target.columns[column].is_nullable {
        return Ok(ArrayRef::clone(array));
    }
    nullif(array, &is_blank.into()).map_err(|error| SinkError::Targets {
        problems: vec![format!("{}.{}: {error}", target.name, target.columns[column].name)],
    })
}

/// Per row, as a JSON array; NULL for almost all.
fn unavailable_names(changelog: &Changelog) -> StringArray {
    let mut names: Vec<Vec<&str>> = vec![Vec::new(); changelog.len()];
    for cell in &changelog.unchanged {
        names[cell.row].push(&changelog.table.columns[cell.column].name);
    }
    let text = |names: Vec<&str>| (!names.is_empty()).then(|| serde_json::json!(names).to_string());
    names.into_iter().map(text).collect()
}
