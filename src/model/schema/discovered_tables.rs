//! Tables that no file declares and that are treated as if one did: what the registry says about them.
//!
//! Their columns are those whose types the source has named, and their keys. Everything else is in
//! `extra_fields`, as with declared tables.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::DataType;

use super::landing_columns::column_name;
use super::schema_change::{SchemaChange, SchemaChangeKind};
use super::table::{
    Column, Landing, LearnedColumns, NewColumns, SourceTable, Table, TableOptions, TableOrigin,
};

/// The key column of a table whose key nobody knows.
pub const CHANGE_ID: &str = "change_id";

/// Columns that a key may have: PostgreSQL's indexes have 32, and beside a key they have `change_seq`.
pub const MAX_KEY_COLUMNS: usize = 31;

/// The discovered tables among those that are not `declared`, oldest first.
pub fn discovered_tables(registry: &[SchemaChange], declared: &[Arc<Table>]) -> Vec<Arc<Table>> {
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
            landing: Landing::History(format!("cdc_{}", self.name)),
            new_columns: NewColumns::Alter,
            ..TableOptions::default()
        };
        Table {
            name: self.name,
            source: self.source,
            columns,
            key,
            options,
            origin: TableOrigin::Discovered { has_key: !self.key.is_empty() },
            learned: LearnedColumns::default(),
        }
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
        let tables = discovered_tables(&registry, &[]);
        let [t, u] = tables.as_slice() else { panic!("{tables:?}") };
        let columns: Vec<_> = t.columns.iter().map(|c| (c.name.as_str(), c.nullable)).collect();
        assert_eq!(columns, [("a", false), ("Mixed", true), ("b", false)]);
        assert_eq!(t.columns[1].data_type, DataType::Decimal128(38, 2));
        assert_eq!((&t.key, t.has_no_key()), (&vec![0, 2], false));
        assert_eq!(t.options.landing, Landing::History("cdc_t".to_owned()));
        assert_eq!((u.columns[0].name.as_str(), u.has_no_key()), (CHANGE_ID, true));
        // A file wins.
        let left = discovered_tables(&registry, &[Arc::clone(t)]);
        assert_eq!(left.iter().map(|table| table.name.as_str()).collect::<Vec<_>>(), ["u"]);
    }
}
