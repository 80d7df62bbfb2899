//! An error of a SQL file with the line that it is about.

use crate::transform::SqlError;

/// `file:line:column: what`, the line itself, and a mark below the column.
pub(super) fn shown(error: &SqlError) -> String {
    let located = error.to_string();
    let Some((number, column)) = error.at else { return located };
    let Ok(text) = std::fs::read_to_string(&error.path) else { return located };
    let at = usize::try_from(number).unwrap_or(usize::MAX).saturating_sub(1);
    let Some(line) = text.lines().nth(at) else { return located };
    let number = number.to_string();
    let column = usize::try_from(column).unwrap_or(1).saturating_sub(1);
    // As wide as the text before it, tabs included.
    let before: String =
        line.chars().take(column).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    format!("{located}\n  {number} | {line}\n  {:1$} | {before}^", "", number.len())
}
