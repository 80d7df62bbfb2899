//! The columns of landing tables: their names, and which of them no field may have.

use super::table::SystemColumn;

/// The columns of a landing table besides the declared ones; beside a declared column of that name each is
/// called as [`super::Table::free_name`] says.
pub const OPERATION: &str = "operation";
pub const SOURCE_TS: &str = "source_ts";
pub const EXTRA_FIELDS: &str = "extra_fields";
pub const EVENT_ID: &str = "event_id";

/// The position: what "newest row per key" goes by.
pub const CHANGE_SEQ: &str = "change_seq";

/// The change's SCN: a snapshot row that was read before it is not applied. A table need not have it; after a
/// restart snapshot rows then count as they come.
pub const SOURCE_SCN: &str = "source_scn";

/// JSON array of the columns that a change did not carry because their LOBs were unchanged. A table need
/// not have it; its changes then land with the old values.
pub const UNAVAILABLE: &str = "unavailable_columns";

/// When the row was written.
pub const PROCESSED_AT: &str = "processed_at";

/// All of them.
pub const ALL: [&str; 8] = [
    OPERATION,
    SOURCE_TS,
    EXTRA_FIELDS,
    EVENT_ID,
    CHANGE_SEQ,
    SOURCE_SCN,
    UNAVAILABLE,
    PROCESSED_AT,
];

/// What PostgreSQL takes for a name, in bytes.
pub const MAX_NAME: usize = 63;

/// Columns that every table of PostgreSQL has of its own.
const SYSTEM: [&str; 6] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

/// The name that a field has as a column: in lower case if it is all upper case, as Oracle writes it. `None` if
/// it can't be a column's: changelogs and landing tables have the `cdc_` names of their own columns.
pub fn column_name(field: &str) -> Option<String> {
    let is_own = field.to_lowercase().strip_prefix("cdc_").is_some_and(is_own);
    let is_name =
        !field.is_empty() && field.len() <= MAX_NAME && !field.contains(|c: char| c.is_control());
    let is_upper = field == field.to_uppercase();
    let name = || if is_upper { field.to_lowercase() } else { field.to_owned() };
    let name = (is_name && !is_own).then(name);
    name.filter(|name| name.len() <= MAX_NAME && !SYSTEM.contains(&name.as_str()))
}

fn is_own(name: &str) -> bool {
    ALL.contains(&name) || SystemColumn::ALL.iter().any(|column| column.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_a_column_if_postgres_and_we_can_name_it() {
        let long = "X".repeat(64);
        for (field, expected) in [
            ("ORDER_ID", Some("order_id")),
            ("Order", Some("Order")),
            ("TOPIC", Some("topic")),
            ("CDC_TOPIC", None),
            ("", None),
            ("A\0", None),
            (&long, None),
        ] {
            assert_eq!(column_name(field).as_deref(), expected, "{field}");
        }
    }
}
