//! A transform as it is parsed, before the tables and results that it reads are known.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;

use super::{oracle_forms, xml_table};
use crate::model::Table;
use crate::transform::files::header::{Header, parse_header};
use crate::transform::files::location::planning_error;
use crate::transform::files::{SqlError, SqlFile};

/// A parsed file that waits for the results that it reads.
pub(crate) struct ParsedTransform<'a> {
    pub(crate) file: &'a SqlFile,
    pub(crate) header: Header,
    pub(crate) statement: Statement,
    pub(crate) references: HashSet<String>,
}

/// A syntax error, with what to write instead of what is Oracle's.
fn unparsed(file: &SqlFile, error: &DataFusionError) -> SqlError {
    let error = planning_error(file, error);
    match oracle_forms::advice(&file.text) {
        Some(advice) => SqlError { message: format!("{}; {advice}", error.message), ..error },
        None => error,
    }
}

/// Parses a file, and rewrites what only we have.
///
/// # Errors
/// If its header or its SQL is wrong, or it is no query.
pub(crate) fn parse<'a>(
    state: &SessionState,
    file: &'a SqlFile,
    tables: &[Arc<Table>],
) -> Result<ParsedTransform<'a>, SqlError> {
    let header = parse_header(file)?;
    let dialect = state.config().options().sql_parser.dialect;
    let mut statement =
        state.sql_to_statement(&file.text, &dialect).map_err(|error| unparsed(file, &error))?;
    let is_query =
        matches!(&statement, Statement::Statement(s) if matches!(**s, ast::Statement::Query(_)));
    if !is_query {
        return Err(file.error(None, "must be one SELECT"));
    }
    if let Statement::Statement(statement) = &mut statement {
        oracle_forms::refuse(file, statement)?;
        xml_table::rewrite(statement, tables)
            .map_err(|error| file.error(error.at, error.message))?;
    }
    let references =
        state.resolve_table_references(&statement).map_err(|error| planning_error(file, &error))?;
    let references: HashSet<String> = references.iter().map(|r| r.table().to_owned()).collect();
    if references.contains(&file.name) {
        return Err(file.error(None, "reads itself; a transform is named like its file"));
    }
    Ok(ParsedTransform { file, header, statement, references })
}
