//! Columns that a table does not declare and that queries read all the same: each is one field of
//! `extra_fields`.
//!
//! A query must not see another value after a restart, when rows come from a `jsonb` column, than from the
//! event's own text. So a column whose type nobody has named is what `extra_fields ->> 'FIELD'` is in
//! PostgreSQL. One of a named type has a value where the field is exactly one of it, and else NULL.

use arrow::array::{ArrayRef, StringArray};

use super::json_fields::{JsonObject, array};
use super::table::{Column, Table};

/// The values of a table's extra columns, given `extra_fields` of the same rows.
pub fn extract(table: &Table, extra_fields: &StringArray) -> Vec<ArrayRef> {
    if table.learned.fields.is_empty() {
        return Vec::new();
    }
    let rows: Vec<Option<JsonObject<'_>>> =
        extra_fields.iter().map(|text| JsonObject::parse(text?)).collect();
    let column = |(column, field): (&Column, &str)| {
        let raw: Vec<Option<&str>> = rows.iter().map(|row| row.as_ref()?.get(field)).collect();
        array(&raw, &column.data_type)
    };
    table.learned().map(column).collect()
}
