//! A target table that was checked, and the statements that write to it.

use std::borrow::Cow;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use super::check_statement::CheckStatement;
use super::column::TargetColumn;
use super::problem::{RelationFault, TargetProblem, TextChange};
use crate::sink::postgres::client::quote;
use crate::sink::postgres::schema::catalog::{
    CatalogColumn, CatalogTable, ColumnLimits, SECOND_DIGITS,
};
use crate::sink::postgres::schema::column_types::{STAMP, stamp_type, type_name};
use crate::sink::postgres::schema::text_rules::TextKeeping;
use crate::sink::postgres::schema::wire_format::{Wire, WireCells};
use crate::sink::{DataError, SinkError};

/// A column that the sink is going to write.
pub(crate) struct ColumnSpec<'a> {
    pub(crate) name: &'a str,
    pub(crate) data_type: &'a DataType,
    pub(crate) fidelity: Fidelity,
}

/// A table that is there.
#[derive(Clone, Copy)]
pub(crate) struct FoundTable<'a> {
    /// Of the sink; the name may have another one.
    pub(crate) schema: &'a str,
    /// As the configuration has it.
    pub(crate) name: &'a str,
    pub(crate) catalog: &'a CatalogTable,
}

/// A table whose columns take what the sink writes.
#[derive(Debug, Clone)]
pub(crate) struct TargetTable {
    /// As the configuration names it.
    pub(crate) name: String,
    /// Quoted, with its schema.
    pub(crate) sql_name: String,
    pub(crate) columns: Vec<TargetColumn>,
    /// Schema and name as the catalog has them.
    pub(crate) place: (String, String),
    /// What [`crate::sink::postgres::schema::catalog::FINGERPRINT`] answered when the columns were checked.
    pub(crate) fingerprint: String,
    /// The last column is [`STAMP`], which the batches don't have.
    pub(crate) is_stamped: bool,
    /// What tells rows that break a constraint; of all columns.
    pub(crate) checks: Option<Box<CheckStatement>>,
    /// Deletes the rows of the keys of given rows; `None` where a row that is written again would lose something, and where
    /// nothing but the key is unique.
    pub(crate) old_rows_sql: Option<Box<str>>,
}

/// What a column may do to a value whose type it takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fidelity {
    /// Nothing: what is read back is what was written.
    Exact,
    /// Texts may be written in another way; no digit and no letter may be lost.
    Complete,
    /// Round it, as INSERT does without a word.
    Rounded,
}

impl TargetTable {
    /// A column's values in its wire form.
    pub(crate) fn cells(
        &self,
        column: &TargetColumn,
        array: &ArrayRef,
    ) -> Result<WireCells, SinkError> {
        let cells = WireCells::new(array, column.wire);
        cells.map_err(|error| SinkError::Data(self.misfit(column, None, error.to_string())))
    }

    /// A value, or all of a column, that does not fit.
    pub(crate) fn misfit(
        &self,
        column: &TargetColumn,
        row: Option<usize>,
        message: String,
    ) -> DataError {
        let (table, column) = (Some(self.name.clone()), Some(column.name.clone()));
        DataError { table, column, row, message, detail: None }
    }

    /// Matches what is wanted with what is there; what does not match goes to `problems`.
    pub(crate) fn check(
        found: &FoundTable<'_>,
        wanted: &[ColumnSpec<'_>],
        problems: &mut Vec<TargetProblem>,
    ) -> Self {
        let FoundTable { schema, name, catalog } = *found;
        let mut columns = Vec::new();
        for column in wanted {
            match check_column(found, column) {
                Ok((wire, there)) => columns.push(TargetColumn {
                    name: column.name.to_owned(),
                    wire,
                    is_nullable: there.is_nullable,
                    limits: there.limits,
                    cast: (wire == Wire::Literal).then(|| there.bare_type.clone()),
                    refusing_type: (there.is_domain || wire == Wire::Literal)
                        .then(|| there.bare_type.clone()),
                }),
                Err(problem) => problems.push(problem),
            }
        }
        let is_wanted = |name: &str| wanted.iter().any(|column| column.name == name);
        let stamp = catalog.columns.get(STAMP).filter(|_| !is_wanted(STAMP));
        let stamp = stamp.map(|c| c.wire).filter(|wire| wire.accepts(&stamp_type()));
        let limits = ColumnLimits::default();
        columns.extend(stamp.map(|wire| TargetColumn {
            name: STAMP.to_owned(),
            wire,
            is_nullable: false,
            limits,
            cast: None,
            refusing_type: None,
        }));
        let mut missing: Vec<&str> = catalog
            .columns
            .iter()
            .filter(|(name, column)| column.is_required && !is_wanted(name))
            .map(|(name, _)| name.as_str())
            .filter(|name| !(stamp.is_some() && *name == STAMP))
            .collect();
        missing.sort_unstable();
        problems.extend(missing.into_iter().map(|column| {
            let (table, column) = (name.to_owned(), column.to_owned());
            TargetProblem::UnfilledColumn { table, column }
        }));
        problems.extend(relation_problems(found));
        let sql_name = quote::table(schema, name);
        let (in_schema, bare) = quote::split(schema, name);
        Self {
            name: name.to_owned(),
            sql_name,
            place: (in_schema.to_owned(), bare.to_owned()),
            fingerprint: catalog.fingerprint.clone(),
            checks: CheckStatement::of(catalog, &columns).map(Box::new),
            old_rows_sql: None,
            columns,
            is_stamped: stamp.is_some(),
        }
    }

    pub(crate) fn has_column(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column.name == name)
    }

    /// The target with these of its columns, and its stamp.
    pub(crate) fn project(&self, columns: &[usize]) -> Self {
        let stamp = self.is_stamped.then(|| self.columns.len() - 1);
        let columns = columns.iter().copied().chain(stamp);
        let columns = columns.map(|at| self.columns[at].clone()).collect();
        Self { columns, checks: None, old_rows_sql: None, ..self.clone() }
    }

    pub(super) fn column_list(&self) -> String {
        quote::idents(self.columns.iter().map(|column| column.name.as_str()))
    }

    pub(crate) fn copy_sql(&self) -> String {
        format!("COPY {} ({}) FROM STDIN (FORMAT binary)", self.sql_name, self.column_list())
    }

    /// Binary COPY has no place for a cast.
    pub(crate) fn can_copy(&self) -> bool {
        self.columns.iter().all(|column| column.cast.is_none())
    }

    /// The rows of a statement whose parameters are the columns as arrays, to be selected from.
    pub(crate) fn given(&self) -> String {
        let columns = || self.columns.iter().enumerate().map(|(at, column)| (at + 1, column));
        let arrays = columns().map(|(at, column)| format!("${at}::{}[]", column.wire.sql()));
        let unnest = format!("unnest({})", arrays.collect::<Vec<_>>().join(", "));
        if self.can_copy() {
            return unnest;
        }
        let names = columns().map(|(at, _)| format!("c{at}")).collect::<Vec<_>>();
        let cast = columns().map(|(at, column)| match &column.cast {
            Some(name) => format!("c{at}::{name}"),
            None => format!("c{at}"),
        });
        let cast = cast.collect::<Vec<_>>().join(", ");
        format!("(SELECT {cast} FROM {unnest} AS text({}))", names.join(", "))
    }

    /// One array per column; `on_conflict` may be empty.
    pub(crate) fn insert_sql(&self, on_conflict: &str) -> String {
        format!(
            "INSERT INTO {} AS kept ({}) SELECT * FROM {} AS given {on_conflict}",
            self.sql_name,
            self.column_list(),
            self.given(),
        )
    }
}

impl<'a> From<&'a TargetTable> for Cow<'a, TargetTable> {
    fn from(target: &'a TargetTable) -> Self {
        Self::Borrowed(target)
    }
}

impl From<TargetTable> for Cow<'_, TargetTable> {
    fn from(target: TargetTable) -> Self {
        Self::Owned(target)
    }
}

fn check_column<'a>(
    found: &FoundTable<'a>,
    wanted: &ColumnSpec<'_>,
) -> Result<(Wire, &'a CatalogColumn), TargetProblem> {
    let (data_type, fidelity) = (wanted.data_type, wanted.fidelity);
    let (table, column, wanted) =
        (found.name.to_owned(), wanted.name.to_owned(), sql_name(data_type));
    let Some(there) = found.catalog.columns.get(&column) else {
        return Err(TargetProblem::MissingColumn { table, column, wanted });
    };
    if there.is_generated {
        return Err(TargetProblem::GeneratedColumn { table, column });
    }
    let actual = there.type_name.clone();
    let Some(wire) = Some(there.wire).filter(|wire| wire.accepts(data_type)) else {
        return Err(TargetProblem::WrongType { table, column, actual, wanted });
    };
    if fidelity != Fidelity::Rounded && rounds(there, data_type) {
        return Err(TargetProblem::RoundingType { table, column, actual, wanted });
    }
    let change = match (fidelity, there.base.keeping()) {
        (Fidelity::Exact | Fidelity::Complete, TextKeeping::Cut) => Some(TextChange::CutOff),
        (Fidelity::Exact, TextKeeping::Rewritten) => Some(TextChange::Rewritten),
        _ => None,
    };
    match change.filter(|_| takes_text(wire)) {
        Some(change) => Err(TargetProblem::ChangingType { table, column, actual, change }),
        None => Ok((wire, there)),
    }
}

/// Whether texts are written to such columns.
fn takes_text(wire: Wire) -> bool {
    matches!(wire, Wire::Text | Wire::Json | Wire::Jsonb | Wire::Literal)
}

/// Whether the column drops digits of some values of this type.
fn rounds(there: &CatalogColumn, data_type: &DataType) -> bool {
    let ColumnLimits { digits, second_digits, .. } = there.limits;
    let loses_seconds = second_digits.is_some_and(|digits| digits < SECOND_DIGITS);
    let loses = |scale: i32| digits.is_some_and(|(_, kept)| scale > kept);
    match data_type {
        DataType::Dictionary(_, values) => rounds(there, values),
        DataType::List(items) => rounds(there, items.data_type()),
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale) => loses(i32::from(*scale)),
        integer if integer.is_integer() => loses(0),
        DataType::Timestamp(_, _) => loses_seconds,
        // A text may have any number of digits.
        text if text.is_string() => digits.is_some() || loses_seconds,
        _ => false,
    }
}

/// What the table itself does to rows.
fn relation_problems(found: &FoundTable<'_>) -> Vec<TargetProblem> {
    let traits = &found.catalog.traits;
    let rules = traits.instead_rules.iter().cloned().map(RelationFault::InsteadRule);
    let children = traits.children.iter().cloned().map(RelationFault::Inherited);
    let security = traits.has_row_security.then_some(RelationFault::RowSecurity);
    let table = || found.name.to_owned();
    let faults = rules.chain(children).chain(security);
    faults.map(|fault| TargetProblem::Unsuitable { table: table(), fault }).collect()
}

/// Key columns of the target in which keys are equal that are not equal here.
pub(crate) fn equal_keys(found: &FoundTable<'_>, key: &[&str]) -> Vec<TargetProblem> {
    let problem = |name: &&str| {
        let column = found.catalog.columns.get(*name).filter(|column| takes_text(column.wire))?;
        let reason = column.base.equality(column.loose_collation.as_deref())?;
        Some(TargetProblem::EqualKeys {
            table: found.name.to_owned(),
            column: (*name).to_owned(),
            actual: column.type_name.clone(),
            reason,
        })
    };
    key.iter().filter_map(problem).collect()
}

/// As PostgreSQL calls it, if it has a type for it.
fn sql_name(data_type: &DataType) -> String {
    type_name(data_type).unwrap_or_else(|| data_type.to_string())
}
