//! Expected rows against those that a result shows, and the difference as a table to read.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

use super::script::{Expected, ExpectedRow};
use super::yaml::Problem;
use crate::model::{DeadLetter, sql_type};
use crate::sink::memory::{TextRow, text_row};

/// The name under which a test expects dead letters.
pub(super) const DEAD_LETTERS: &str = "dead_letters";

/// Expected rows as the result would show them: `100` is `100.00` in a DECIMAL(15,2).
#[derive(Debug)]
pub(super) struct ExpectedRows<'a> {
    pub(super) expected: &'a Expected,
    /// Positions of the compared columns in the result.
    columns: Vec<usize>,
    rows: Vec<(TextRow, &'a ExpectedRow)>,
}

impl<'a> ExpectedRows<'a> {
    /// # Errors
    /// If a column is not there, or a value is none of the column's type.
    pub(super) fn new(expected: &'a Expected, schema: &Schema) -> Result<Self, Problem> {
        let mut columns = Vec::new();
        for key in &expected.columns {
            columns.push(schema.index_of(&key.name).map_err(|_| {
                let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                let message = format!(
                    "{} has no column {}; there are {}",
                    expected.result,
                    key.name,
                    names.join(", ")
                );
                Problem { at: key.at, message }
            })?);
        }
        let mut rows = Vec::new();
        for row in &expected.rows {
            let cells = row.cells.iter().zip(&columns).map(|(cell, at)| {
                let text = cell.as_deref().map(|text| canonical(text, schema.field(*at)));
                text.transpose().map_err(|message| Problem { at: row.at, message })
            });
            rows.push((cells.collect::<Result<_, _>>()?, row));
        }
        Ok(Self { expected, columns, rows })
    }

    /// `None` if the rows are the expected ones, in any order; else both, side by side.
    ///
    /// # Errors
    /// If a value has no text.
    pub(super) fn difference(&self, shown: &[RecordBatch]) -> Result<Option<String>, ArrowError> {
        let all: Vec<usize>;
        let columns = if self.rows.is_empty() {
            // Nothing is expected: show whatever is there.
            all = (0..shown.first().map_or(0, RecordBatch::num_columns)).collect();
            &all
        } else {
            &self.columns
        };
        let mut lines: BTreeMap<TextRow, Line> = BTreeMap::new();
        for (row, expected) in &self.rows {
            lines.entry(row.clone()).or_default().wanted.push(expected.at.line);
        }
        for batch in shown {
            for row in 0..batch.num_rows() {
                lines.entry(text_row(batch, row, columns)?).or_default().shown += 1;
            }
        }
        if lines.values().all(|line| line.wanted.len() == line.shown) {
            return Ok(None);
        }
        let header = match shown.first() {
            Some(batch) => names(&batch.schema(), columns),
            None => self.expected.columns.iter().map(|key| key.name.clone()).collect(),
        };
        Ok(Some(table(&header, &lines)))
    }
}

#[derive(Default)]
struct Line {
    /// The lines of the file that expect this row.
    wanted: Vec<usize>,
    /// How often it is there.
    shown: usize,
}

fn names(schema: &Schema, columns: &[usize]) -> Vec<String> {
    columns.iter().map(|at| schema.field(*at).name().clone()).collect()
}

/// `-` is expected and missing, `+` is there and not expected.
fn table(header: &[String], lines: &BTreeMap<TextRow, Line>) -> String {
    let mut rows: Vec<(char, Vec<String>, String)> = vec![(' ', header.to_vec(), String::new())];
    for (row, line) in lines {
        let cells: Vec<String> =
            row.iter().map(|cell| cell.clone().unwrap_or_else(|| "NULL".to_owned())).collect();
        let both = line.wanted.len().min(line.shown);
        rows.extend((0..both).map(|_| (' ', cells.clone(), String::new())));
        let missing = line.wanted.iter().skip(both);
        rows.extend(missing.map(|at| ('-', cells.clone(), format!("   <- line {at}"))));
        rows.extend((both..line.shown).map(|_| ('+', cells.clone(), String::new())));
    }
    let width = |at: usize| rows.iter().map(|row| row.1[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let text = rows.iter().map(|(mark, cells, note)| {
        let cells: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("    {mark} {}{note}", cells.join(" | ")).trim_end().to_owned()
    });
    text.collect::<Vec<_>>().join("\n")
}

/// The text that a value of the column has in a result.
fn canonical(text: &str, field: &Field) -> Result<String, String> {
    let data_type = field.data_type();
    let wrong = || format!("column {}: '{text}' is no {}", field.name(), sql_type(data_type));
    let written = match data_type {
        // `10:00` is `10:00:00`.
        DataType::Timestamp(_, _) if text.len() == 16 => format!("{text}:00"),
        DataType::Decimal128(_, scale) => {
            let fraction = text.split_once('.').map_or("", |(_, digits)| digits);
            let has_room = i64::try_from(fraction.trim_end_matches('0').len())
                .is_ok_and(|digits| digits <= i64::from(*scale));
            // It would be rounded, and then a wrong expectation could be met.
            if !has_room {
                return Err(wrong());
            }
            text.to_owned()
        }
        DataType::Utf8 => return Ok(text.to_owned()),
        DataType::Binary => return Ok(text.to_lowercase()),
        _ => text.to_owned(),
    };
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let array: ArrayRef = Arc::new(StringArray::from(vec![written]));
    let array = cast_with_options(&array, data_type, &options).map_err(|_| wrong())?;
    let schema = Arc::new(Schema::new(vec![field.clone().with_nullable(true)]));
    let row = RecordBatch::try_new(schema, vec![array]).and_then(|b| text_row(&b, 0, &[0]));
    row.ok().and_then(|mut cells| cells.pop().flatten()).ok_or_else(wrong)
}

/// What a test can say about a dead letter.
pub(super) fn dead_letter_schema() -> SchemaRef {
    let field = |name| Field::new(name, DataType::Utf8, true);
    Arc::new(Schema::new(["error_type", "phase", "error_message"].map(field).to_vec()))
}

/// # Errors
/// Never, as long as [`dead_letter_schema`] has these three columns.
pub(super) fn dead_letter_rows(letters: &[DeadLetter]) -> Result<RecordBatch, ArrowError> {
    let column = |text: &dyn Fn(&DeadLetter) -> String| -> ArrayRef {
        Arc::new(letters.iter().map(|letter| Some(text(letter))).collect::<StringArray>())
    };
    let columns = vec![
        column(&|letter| letter.error_type.as_str().to_owned()),
        column(&|letter| letter.phase().as_str().to_owned()),
        column(&|letter| letter.message.clone()),
    ];
    RecordBatch::try_new(dead_letter_schema(), columns)
}
