//! What keeps a target table from taking the rows that are going to be written to it.

use std::fmt;

use crate::sink::SinkError;
use crate::sink::postgres::client::quote;

/// One thing that is wrong; `table` is named as the configuration does, unless the variant says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TargetProblem {
    /// Both names as the catalog would have them.
    NoTable {
        schema: String,
        table: String,
    },
    MissingColumn {
        table: String,
        column: String,
        wanted: String,
    },
    /// A column of the dead-letter table that `file` adds.
    MissingLetterColumn {
        table: &'static str,
        column: &'static str,
        file: &'static str,
    },
    GeneratedColumn {
        table: String,
        column: String,
    },
    WrongType {
        table: String,
        column: String,
        actual: String,
        wanted: String,
    },
    RoundingType {
        table: String,
        column: String,
        actual: String,
        wanted: String,
    },
    UnfilledColumn {
        table: String,
        column: String,
    },
    NoUniqueKey {
        table: String,
        key: Vec<String>,
    },
    NullableKey {
        table: String,
        key: Vec<String>,
    },
}

impl TargetProblem {
    /// The table that it is about.
    pub(crate) fn table(&self) -> &str {
        match self {
            Self::MissingLetterColumn { table, .. } => table,
            Self::NoTable { table, .. }
            | Self::MissingColumn { table, .. }
            | Self::GeneratedColumn { table, .. }
            | Self::WrongType { table, .. }
            | Self::RoundingType { table, .. }
            | Self::UnfilledColumn { table, .. }
            | Self::NoUniqueKey { table, .. }
            | Self::NullableKey { table, .. } => table,
        }
    }

    /// `name` is that of the configuration.
    pub(crate) fn no_table(schema: &str, name: &str) -> Self {
        let (schema, table) = quote::split(schema, name);
        Self::NoTable { schema: schema.to_owned(), table: table.to_owned() }
    }
}

impl fmt::Display for TargetProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTable { schema, table } => {
                write!(f, "{table}: there is no such table in schema {schema}")
            }
            Self::MissingColumn { table, column, wanted } => {
                write!(f, "{table}.{column}: the column is missing; its type would be {wanted}")
            }
            Self::MissingLetterColumn { table, column, file } => {
                write!(f, "{table}.{column}: the column is missing; {file} adds it")
            }
            Self::GeneratedColumn { table, column } => {
                write!(f, "{table}.{column}: the column is generated, so it cannot be written")
            }
            Self::WrongType { table, column, actual, wanted } => {
                write!(f, "{table}.{column}: the column is {actual}, which cannot take {wanted}")
            }
            Self::RoundingType { table, column, actual, wanted } => {
                write!(f, "{table}.{column}: the column is {actual}, which would round {wanted}")
            }
            Self::UnfilledColumn { table, column } => {
                write!(f, "{table}.{column}: is NOT NULL without a default, and nothing fills it")
            }
            Self::NoUniqueKey { table, key } => {
                let key = key.join(", ");
                write!(f, "{table}: needs a primary key or unique index on exactly ({key})")
            }
            Self::NullableKey { table, key } => write!(
                f,
                "{table}: ({}) must be NOT NULL, or its unique index NULLS NOT DISTINCT",
                key.join(", ")
            ),
        }
    }
}

/// # Errors
/// [`SinkError::Targets`] if there is a problem.
pub(crate) fn refuse(problems: &[TargetProblem]) -> Result<(), SinkError> {
    if problems.is_empty() {
        return Ok(());
    }
    Err(SinkError::Targets { problems: problems.iter().map(TargetProblem::to_string).collect() })
}
