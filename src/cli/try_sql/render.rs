//! What a try has come to.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;
use serde_json::{Map, Value, json};

use crate::model::{Channel, ResultTable, SchemaChange, SchemaChangeKind};
use crate::pipeline::{DryRun, Sql};
use crate::sink::postgres::table_definition;

pub(super) struct TriedSql<'a> {
    pub(super) sql: &'a Sql,
    pub(super) rehearsal: &'a DryRun<'a>,
    /// What the events teach about the columns of their tables.
    pub(super) learned: Vec<SchemaChange>,
    /// Of the target tables.
    pub(super) schema: &'a str,
}

impl TriedSql<'_> {
    /// Results with at most `limit` rows each, statements, and dead letters.
    pub(super) fn text(&self, limit: usize) -> anyhow::Result<String> {
        let mut text = String::new();
        for result in self.rehearsal.results() {
            let rows = cells(result, &self.rehearsal.rows(result))?;
            text += &format!("{} ({}), {} rows\n", result.name, result.target, rows.len());
            let names = result.schema.fields().iter().map(|field| field.name().clone()).collect();
            let shown: Vec<Vec<String>> = std::iter::once(names)
                .chain(rows.iter().take(limit).map(|row| row.iter().map(shown).collect()))
                .collect();
            if !rows.is_empty() {
                text += &aligned(&shown);
            }
            if rows.len() > limit {
                text += &format!("  ... {} more\n", rows.len() - limit);
            }
            text += "\n";
        }
        let statements = self.statements();
        if !statements.is_empty() {
            text += "tables that no file of sql/ods makes; a start would create them\n";
            text += &statements.iter().map(|sql| format!("{sql};\n\n")).collect::<String>();
        }
        for change in &self.learned {
            text += &format!("{}\n", learned(change));
        }
        let letters = self.rehearsal.dead_letters();
        text += &format!("{} would be dead letters\n", letters.len());
        for letter in &letters {
            let (kind, offset) = (letter.error_type.as_str(), letter.offset);
            text += &format!("  {offset}  {kind}: {}\n", letter.message);
        }
        let left_out = self.rehearsal.result_letters();
        if !left_out.is_empty() {
            text += "rows that results don't show would be dead letters, too\n";
        }
        for letter in &left_out {
            text += &format!("  {}  {}\n", letter.row, letter.message);
        }
        Ok(text)
    }

    /// The same, whole, one object a line.
    pub(super) fn json(&self) -> anyhow::Result<String> {
        let mut lines = Vec::new();
        for result in self.rehearsal.results() {
            for row in cells(result, &self.rehearsal.rows(result))? {
                let names = result.schema.fields().iter().map(|field| field.name().clone());
                let values = row.into_iter().map(|cell| cell.map_or(Value::Null, Value::String));
                let row: Map<String, Value> = names.zip(values).collect();
                lines.push(json!({"result": result.name, "row": row}));
            }
        }
        lines.extend(self.statements().into_iter().map(|sql| json!({"ddl": sql})));
        lines.extend(self.learned.iter().map(|change| {
            json!({
                "table": change.source.to_string(), "column": change.column,
                "change": change.kind.as_str(), "type": change.seen.to_string(),
            })
        }));
        lines.extend(self.rehearsal.result_letters().iter().map(|letter| {
            json!({
                "left_out_of": letter.result, "error_type": letter.error_type.as_str(),
                "error_message": letter.message, "column": letter.column, "row": letter.row,
            })
        }));
        lines.extend(self.rehearsal.dead_letters().iter().map(|letter| {
            json!({
                "dead_letter": letter.offset.to_string(), "phase": letter.phase().as_str(),
                "error_type": letter.error_type.as_str(), "error_message": letter.message,
                "table": letter.table, "column": letter.column,
            })
        }));
        Ok(lines.iter().map(|line| format!("{line}\n")).collect())
    }

    /// What a start would create, as far as that can be told without the database.
    fn statements(&self) -> Vec<String> {
        let is_made = |result: &ResultTable| {
            let name = result.target.rsplit('.').next().unwrap_or(&result.target);
            let makes = |text: &str| {
                let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_'));
                text.contains("CREATE TABLE") && words.into_iter().any(|word| word == name)
            };
            self.sql.ods.iter().any(|(_, text)| makes(text))
        };
        let tables = self.rehearsal.results().iter();
        let missing = tables.filter(|r| r.channel == Channel::Table && !is_made(r));
        missing
            .map(|result| table_definition(self.schema, result).unwrap_or_else(|error| error))
            .collect()
    }
}

type CellTexts = Vec<Option<String>>;

/// The rows as text; they come in batches of one.
fn cells(result: &ResultTable, batches: &[RecordBatch]) -> Result<Vec<CellTexts>, ArrowError> {
    let columns = 0..result.schema.fields().len();
    let row = |batch: &RecordBatch| {
        let cell = |at: usize| {
            let column = batch.column(at);
            (!column.is_null(0)).then(|| array_value_to_string(column, 0)).transpose()
        };
        columns.clone().map(cell).collect()
    };
    batches.iter().map(row).collect()
}

fn shown(cell: &Option<String>) -> String {
    cell.clone().unwrap_or_else(|| "NULL".to_owned())
}

fn learned(change: &SchemaChange) -> String {
    let SchemaChange { source, column, kind, seen, .. } = change;
    match kind {
        SchemaChangeKind::Added => {
            format!("{source}.{column} is not declared ({seen}); it is kept in extra_fields")
        }
        SchemaChangeKind::Missing => format!("{source}.{column} is declared and does not come"),
        SchemaChangeKind::Renamed => format!("{source}: the source has renamed {column}"),
        SchemaChangeKind::Widened => {
            format!("{source}.{column} is not declared and holds {seen} as well")
        }
        SchemaChangeKind::Registered => format!("{source} is registered as table {column}"),
        SchemaChangeKind::Key => format!("{source} is not declared and has the key {column}"),
        SchemaChangeKind::Typed => format!("{source}.{column} is a column ({seen})"),
        SchemaChangeKind::Altered => {
            format!("{source} has the column {column} ({seen}) where it lands")
        }
    }
}

fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("  {}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}
