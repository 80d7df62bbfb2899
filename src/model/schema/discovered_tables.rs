//! Tables that no file declares and that are treated as if one did: what the registry says about them.
//!
//! Their columns are those whose types the source has named, and their keys. Everything else is in
//! `extra_fields`, as with declared tables.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::DataType;

use super::schema_change::{SchemaChange, SchemaChangeKind};
use super::table::{Column, Landing, NewColumns, SourceTable, Table, TableOptions};

/// The key column of a table whose key nobody knows.
pub const CHANGE_ID: &str = "change_id";

/// Columns that a key may have: PostgreSQL's indexes have 32, and beside a key they have `change_seq`.
pub const MAX_KEY_COLUMNS: usize = 31;

/// Columns that every table of PostgreSQL has of its own.
const SYSTEM: [&str; 6] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

/// What PostgreSQL takes for a name, in bytes.
pub const MAX_NAME: usize = 63;

/// Columns that changelogs and landing tables have of their own. `cdc_` and the name is what they are called
/// beside a column of that name.
const OWN: [&str; 11] = [
    "op",
    "operation",
    "source_ts",
    "source_scn",
    "event_time",
    "event_id",
    "topic",
    "extra_fields",
    "change_seq",
    "processed_at",
    "unavailable_columns",
];

/// The name that a field has as a column: in lower case if it is all upper case, as Oracle writes it. `None` if
/// it can't be a column's.
pub fn column_name(field: &str) -> Option<String> {
    let is_own = field.to_lowercase().strip_prefix("cdc_").is_some_and(|name| OWN.contains(&name));
    let is_name =
        !field.is_empty() && field.len() <= MAX_NAME && !field.contains(|c: char| c.is_control());
    let is_upper = field == field.to_uppercase();
    let name = || if is_upper { field.to_lowercase() } else { field.to_owned() };
    let name = (is_name && !is_own).then(name);
    name.filter(|name| name.len() <= MAX_NAME && !SYSTEM.contains(&name.as_str()))
}

/// The registered tables among those that are not `declared`, oldest first.
pub fn registered_tables(registry: &[SchemaChange], declared: &[Arc<Table>]) -> Vec<Arc<Table>> {
    let mut drafts: Vec<Draft> = Vec::new();
    let mut by_source: HashMap<&SourceTable, usize> = HashMap::new();
    let mut keys: HashMap<&SourceTable, Vec<String>> = HashMap::new();
    for SchemaChange { source, column, kind, seen, .. } in registry {
        let known = by_source.get(source).copied();
        match (kind, known) {
            (SchemaChangeKind::Key, None) => {
                keys.insert(source, serde_json::from_str(column).unwrap_or_default());
            }
            (SchemaChangeKind::Registered, None) => {
                by_source.insert(source, drafts.len());
                let key = keys.remove(source).unwrap_or_default();
                let key = if key.len() > MAX_KEY_COLUMNS { Vec::new() } else { key };
                let (source, name) = (source.clone(), column.clone());
                drafts.push(Draft { source, name, key, columns: Vec::new() });
            }
            (SchemaChangeKind::Typed, Some(at)) => {
                drafts[at].columns.push((column.clone(), seen.data_type()));
            }
            _ => {}
        }
    }
    let is_declared = |draft: &Draft| declared.iter().any(|table| table.source == draft.source);
    drafts.into_iter().filter(|draft| !is_declared(draft)).map(Draft::table).map(Arc::new).collect()
}

struct Draft {
    source: SourceTable,
    name: String,
    /// Fields.
    key: Vec<String>,
    columns: Vec<(String, DataType)>,
}

impl Draft {
    fn table(self) -> Table {
        let mut columns: Vec<Column> = Vec::new();
        let mut key = Vec::new();
        if self.key.is_empty() {
            let (name, data_type) = (CHANGE_ID.to_owned(), DataType::Utf8);
            columns.push(Column { name, data_type, nullable: false });
            key.push(0);
        }
        for (field, data_type) in self.columns {
            let Some(name) = column_name(&field) else { continue };
            if columns.iter().any(|column| column.name == name) {
                continue;
            }
            let is_key = self.key.contains(&field);
            if is_key {
                key.push(columns.len());
            }
            columns.push(Column { name, data_type, nullable: !is_key });
        }
        let options = TableOptions {
            ttl: Some(TableOptions::DEFAULT_TTL),
            landing: Landing::History(format!("cdc_{}", self.name)),
            has_no_key: self.key.is_empty(),
            is_registered: true,
            new_columns: NewColumns::Alter,
            ..TableOptions::default()
        };
        Table { name: self.name, source: self.source, columns, key, options }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Offset, SeenType, SureType};

    fn change(table: &str, kind: SchemaChangeKind, column: &str, seen: SeenType) -> SchemaChange {
        let source = SourceTable { schema: "S".to_owned(), table: table.to_owned() };
        SchemaChange { source, column: column.to_owned(), kind, seen, offset: Offset::new(1, 1) }
    }

    fn sure(known: SureType) -> SeenType {
        SeenType::Sure(known)
    }

    #[test]
    fn a_table_is_what_the_registry_said_when_it_was_registered() {
        let registry = [
            change("T", SchemaChangeKind::Key, r#"["A"]"#, SeenType::Null),
            change("T", SchemaChangeKind::Key, r#"["B","A"]"#, SeenType::Null),
            change("T", SchemaChangeKind::Registered, "t", SeenType::Null),
            change("T", SchemaChangeKind::Typed, "A", sure(SureType::Bigint)),
            change("T", SchemaChangeKind::Typed, "Mixed", sure(SureType::Decimal { scale: 2 })),
            change("T", SchemaChangeKind::Typed, "B", sure(SureType::Varchar)),
            change("T", SchemaChangeKind::Added, "C", SeenType::Integer),
            // Too late: the rows that have landed go by the other key.
            change("T", SchemaChangeKind::Key, r#"["C"]"#, SeenType::Null),
            change("U", SchemaChangeKind::Registered, "u", SeenType::Null),
            change("V", SchemaChangeKind::Key, r#"["A"]"#, SeenType::Null),
        ];
        let tables = registered_tables(&registry, &[]);
        let [t, u] = tables.as_slice() else { panic!("{tables:?}") };
        let columns: Vec<_> = t.columns.iter().map(|c| (c.name.as_str(), c.nullable)).collect();
        assert_eq!(columns, [("a", false), ("Mixed", true), ("b", false)]);
        assert_eq!(t.columns[1].data_type, DataType::Decimal128(38, 2));
        assert_eq!((&t.key, t.options.has_no_key), (&vec![0, 2], false));
        assert_eq!(t.options.landing, Landing::History("cdc_t".to_owned()));
        assert_eq!((u.columns[0].name.as_str(), u.options.has_no_key), (CHANGE_ID, true));
        // A file wins.
        let left = registered_tables(&registry, &[Arc::clone(t)]);
        assert_eq!(left.iter().map(|table| table.name.as_str()).collect::<Vec<_>>(), ["u"]);
    }

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
