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
    /// A column for texts that gives back another one than was written.
    ChangingType {
        table: String,
        column: String,
        actual: String,
        change: TextChange,
    },
    /// A column of a key: the target takes different keys for one.
    EqualKeys {
        table: String,
        column: String,
        actual: String,
        reason: String,
    },
    /// The same by the collation of the unique index.
    LooseIndex {
        table: String,
        key: Vec<String>,
        collation: String,
    },
    Unsuitable {
        table: String,
        fault: RelationFault,
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

/// What a table does to rows that are written to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RelationFault {
    InsteadRule(String),
    /// The child as PostgreSQL names it.
    Inherited(String),
    RowSecurity,
}

/// What a column does to a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextChange {
    Rewritten,
    CutOff,
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
            | Self::ChangingType { table, .. }
            | Self::EqualKeys { table, .. }
            | Self::LooseIndex { table, .. }
            | Self::Unsuitable { table, .. }
            | Self::UnfilledColumn { table, .. }
            | Self::NoUniqueKey { table, .. }
            | Self::NullableKey { table, .. } => table,
        }
    }

    /// The column that it is about, if it is about one.
    pub(crate) fn column(&self) -> Option<&str> {
        match self {
            Self::MissingColumn { column, .. }
            | Self::GeneratedColumn { column, .. }
            | Self::WrongType { column, .. }
            | Self::RoundingType { column, .. }
            | Self::ChangingType { column, .. }
            | Self::EqualKeys { column, .. }
            | Self::UnfilledColumn { column, .. } => Some(column),
            Self::MissingLetterColumn { column, .. } => Some(column),
            Self::NoTable { .. }
            | Self::LooseIndex { .. }
            | Self::Unsuitable { .. }
            | Self::NoUniqueKey { .. }
            | Self::NullableKey { .. } => None,
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
            Self::ChangingType { table, column, actual, change } => {
                write!(f, "{table}.{column}: the column is {actual}, {change}")
            }
            Self::EqualKeys { table, column, actual, reason } => write!(
                f,
                "{table}.{column}: the column is {actual} and belongs to the key, but {reason}: rows of different keys \
                 would overwrite each other"
            ),
            Self::LooseIndex { table, key, collation } => write!(
                f,
                "{table}: its unique index on ({}) has the collation {collation}, which takes different texts for equal: \
                 rows of different keys would overwrite each other",
                key.join(", ")
            ),
            Self::Unsuitable { table, fault } => write!(f, "{table}: {fault}"),
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

impl fmt::Display for TextChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rewritten => {
                "which gives back another text than was written, so that results would change at a restart"
            }
            Self::CutOff => "which keeps only a part of a text",
        })
    }
}

impl fmt::Display for RelationFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InsteadRule(rule) => write!(
                f,
                "the rule {rule} does something else INSTEAD of what is written, so that rows would be lost without a word"
            ),
            Self::Inherited(child) => write!(
                f,
                "{child} inherits from it, so that rows of {child} count as its own and its keys are not unique"
            ),
            Self::RowSecurity => f.write_str(
                "row security is active for the user, so that rows could be hidden from reads, updates and deletes",
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
