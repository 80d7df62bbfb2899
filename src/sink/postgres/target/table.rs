//! A target table that was checked, and the statements that write to it.

use std::borrow::Cow;

use arrow::datatypes::DataType;

use super::check_statement::CheckStatement;
use super::column::TargetColumn;
use super::problem::TargetProblem;
use crate::sink::postgres::client::quote;
use crate::sink::postgres::schema::catalog::{CatalogColumn, CatalogTable, ColumnLimits};
use crate::sink::postgres::schema::column_types::{STAMP, stamp_type, type_name};
use crate::sink::postgres::schema::wire_format::Wire;

/// A column that the sink is going to write.
pub(crate) struct ColumnSpec<'a> {
    pub(crate) name: &'a str,
    pub(crate) data_type: &'a DataType,
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
}

/// Whether digits after the point may be rounded to the target's scale, as INSERT does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rounding {
    Refused,
    Allowed,
}

impl TargetTable {
    /// Matches what is wanted with what is there; what does not match goes to `problems`.
    pub(crate) fn check(
        found: &FoundTable<'_>,
        wanted: &[ColumnSpec<'_>],
        rounding: Rounding,
        problems: &mut Vec<TargetProblem>,
    ) -> Self {
        let FoundTable { schema, name, catalog } = *found;
        let mut columns = Vec::new();
        for column in wanted {
            match check_column(found, column, rounding) {
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
        let sql_name = quote::table(schema, name);
        let (in_schema, bare) = quote::split(schema, name);
        Self {
            name: name.to_owned(),
            sql_name,
            place: (in_schema.to_owned(), bare.to_owned()),
            fingerprint: catalog.fingerprint.clone(),
            checks: CheckStatement::of(catalog, &columns).map(Box::new),
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
        Self { columns, checks: None, ..self.clone() }
    }

    fn column_list(&self) -> String {
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
    rounding: Rounding,
) -> Result<(Wire, &'a CatalogColumn), TargetProblem> {
    let data_type = wanted.data_type;
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
    if let (DataType::Decimal128(_, scale), Some(target), Rounding::Refused) =
        (data_type, there.limits.digits, rounding)
        && i32::from(*scale) > target.1
    {
        return Err(TargetProblem::RoundingType { table, column, actual, wanted });
    }
    Ok((wire, there))
}

/// As PostgreSQL calls it, if it has a type for it.
fn sql_name(data_type: &DataType) -> String {
    type_name(data_type).unwrap_or_else(|| data_type.to_string())
}
