//! Where in a file an error is: from spans where DataFusion has them, from its text where not.

use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::tokenizer::Span;

use super::sql_file::{SqlError, SqlFile};
use crate::model::with_sql_types;

/// Line and column of a span; `None` for the empty span.
pub(crate) fn span_start(span: Span) -> Option<(u64, u64)> {
    (span.start.line > 0).then_some((span.start.line, span.start.column))
}

/// A syntax error: its text ends in "at Line: 3, Column: 7".
pub(crate) fn parser_error(file: &SqlFile, text: &str) -> SqlError {
    let number = |label: &str| {
        let rest = &text[text.rfind(label)? + label.len()..];
        let digits = rest.trim_start().split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    };
    let at = number("Line:").zip(number("Column:"));
    let message = text.split(" at Line:").next().unwrap_or(text);
    file.error(at, message.trim_start_matches("sql parser error: "))
}

/// An error of planning.
pub(crate) fn planning_error(file: &SqlFile, error: &DataFusionError) -> SqlError {
    if let DataFusionError::SQL(parser, _) = error.find_root() {
        return parser_error(file, &parser.to_string());
    }
    let span = error.diagnostic().and_then(|d| d.span);
    let at = span.map(|span| (span.start.line, span.start.column));
    file.error(at, told(&error.find_root().strip_backtrace()))
}

/// What DataFusion says, in terms of SQL and without its advice to write to its authors.
fn told(message: &str) -> String {
    let end = [
        "\n\nThis issue was likely caused by a bug",
        "This issue was likely caused by a bug",
        "This was likely caused by a bug",
    ]
    .into_iter()
    .filter_map(|advice| message.find(advice))
    .min();
    let message = end.map_or(message, |end| message[..end].trim_end_matches(['.', '\n', ' ']));
    with_sql_types(message.trim_start_matches("Internal error: "))
}
