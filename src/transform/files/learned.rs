//! `-- learned: orders.channel text, orders.points integer`: columns that no file declares and that events have shown,
//! for whoever has no events at hand: `tidemark check`, `test` and `try`. The processor goes by its events alone.

use std::sync::Arc;

use super::sql_file::{SqlError, SqlFile};
use crate::model::{Offset, SchemaChange, SchemaChangeKind, SeenType, Table};

const LABEL: &str = "learned";

/// What the files say that events have shown.
///
/// # Errors
/// What is not understood, with its line.
pub fn learned_columns(
    files: &[SqlFile],
    tables: &[Arc<Table>],
) -> Result<Vec<SchemaChange>, Vec<SqlError>> {
    let (mut columns, mut errors) = (Vec::new(), Vec::new());
    for file in files {
        let comments = file.text.lines().enumerate().take_while(|(_, line)| line.starts_with("--"));
        for (at, line) in comments {
            let text = line.trim_start_matches(['-', ' ']);
            let Some((label, value)) = text.split_once(':') else { continue };
            if label.trim() != LABEL {
                continue;
            }
            for one in value.split(',') {
                match column(one, tables) {
                    Ok(change) => columns.push(change),
                    Err(message) => errors.push(file.error(Some((at as u64 + 1, 1)), message)),
                }
            }
        }
    }
    if errors.is_empty() { Ok(columns) } else { Err(errors) }
}

/// As in `orders.channel text`.
fn column(text: &str, tables: &[Arc<Table>]) -> Result<SchemaChange, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let wrong = || {
        let types: Vec<String> =
            SeenType::OF_VALUES.iter().skip(1).map(SeenType::to_string).collect();
        format!(
            "'{}' is no learned column; write TABLE.COLUMN TYPE, as in orders.channel text; types are {}",
            text.trim(),
            types.join(", ")
        )
    };
    let [place, data_type] = words.as_slice() else { return Err(wrong()) };
    let (table, column) = place.split_once('.').ok_or_else(wrong)?;
    let seen =
        SeenType::parse(data_type).filter(|seen| *seen != SeenType::Null).ok_or_else(wrong)?;
    let declared = tables.iter().find(|declared| declared.name == table);
    let declared = declared.ok_or_else(|| format!("there is no table {table}"))?;
    if declared.column_index(column).is_some() {
        return Err(format!(
            "column {column} is declared in {table}, so that it need not be learned"
        ));
    }
    let (source, column) = (declared.source.clone(), column.to_uppercase());
    let (kind, offset) = (SchemaChangeKind::Added, Offset::new(0, 0));
    Ok(SchemaChange { source, column, kind, seen, offset })
}
