//! Tells operators what the sources changed about their tables: once, when it is committed.

use std::collections::BTreeMap;

use metrics::counter;
use tracing::{info, warn};

use crate::model::{SchemaChange, SchemaChangeKind, SourceTable};
use crate::telemetry::names;

/// Columns that one log line names.
const MAX_SHOWN: usize = 20;

/// One line per table and kind of change, however many columns an event brings.
pub(crate) fn tell(changes: &[SchemaChange]) {
    let mut groups: BTreeMap<(&SourceTable, SchemaChangeKind), Vec<&SchemaChange>> =
        BTreeMap::new();
    for change in changes {
        groups.entry((&change.source, change.kind)).or_default().push(change);
    }
    for ((table, kind), changes) in groups {
        let labels = [("table", table.to_string()), ("change", kind.as_str().to_owned())];
        counter!(names::SCHEMA_CHANGES, &labels).increment(changes.len() as u64);
        let columns = shown(&changes);
        match kind {
            SchemaChangeKind::Missing => info!(
                table = %table,
                columns,
                "[SCHEMA_CHANGE] declared columns are missing in an event: they are NULL"
            ),
            SchemaChangeKind::Registered => {
                counter!(names::ALERTS, "kind" => "schema_change").increment(1);
                let (table, change) = (table.to_string(), kind.as_str());
                let what = "[SCHEMA_CHANGE] a table that no file declares is registered";
                warn!(alert = "schema_change", table, change, name = columns, "{what}");
            }
            SchemaChangeKind::Key => {
                info!(table = %table, columns, "[SCHEMA_CHANGE] the key of a table that no file declares");
            }
            SchemaChangeKind::Typed => {
                info!(table = %table, columns, "[SCHEMA_CHANGE] the columns of a registered table");
            }
            SchemaChangeKind::Altered => {
                info!(table = %table, columns, "[SCHEMA_CHANGE] the landing table was altered");
            }
            SchemaChangeKind::Renamed => {
                counter!(names::ALERTS, "kind" => "schema_change").increment(1);
                let table = table.to_string();
                let what = "[SCHEMA_CHANGE] the source has renamed columns";
                warn!(alert = "schema_change", table, change = kind.as_str(), columns, "{what}");
            }
            SchemaChangeKind::Added | SchemaChangeKind::Widened => {
                counter!(names::ALERTS, "kind" => "schema_change").increment(1);
                let (table, change) = (table.to_string(), kind.as_str());
                warn!(
                    alert = "schema_change",
                    table,
                    change,
                    columns,
                    "[SCHEMA_CHANGE] columns that the table does not declare"
                );
            }
        }
    }
}

/// As in `LOYALTY_POINTS integer, NOTE text`.
fn shown(changes: &[&SchemaChange]) -> String {
    let column = |change: &&SchemaChange| match change.kind {
        SchemaChangeKind::Missing
        | SchemaChangeKind::Renamed
        | SchemaChangeKind::Registered
        | SchemaChangeKind::Key => change.column.clone(),
        SchemaChangeKind::Added
        | SchemaChangeKind::Widened
        | SchemaChangeKind::Typed
        | SchemaChangeKind::Altered => {
            format!("{} {}", change.column, change.seen)
        }
    };
    let mut columns: Vec<String> = changes.iter().take(MAX_SHOWN).map(column).collect();
    if changes.len() > MAX_SHOWN {
        columns.push(format!("and {} more", changes.len() - MAX_SHOWN));
    }
    columns.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Offset, SeenType};

    #[test]
    fn a_line_names_some_columns_and_counts_the_rest() {
        let change = |at: usize| SchemaChange {
            source: SourceTable { schema: "S".to_owned(), table: "T".to_owned() },
            column: format!("C{at}"),
            kind: SchemaChangeKind::Added,
            seen: SeenType::Text,
            offset: Offset::new(1, 1),
        };
        let changes: Vec<SchemaChange> = (0..25).map(change).collect();
        let line = shown(&changes.iter().collect::<Vec<_>>());
        assert!(line.starts_with("C0 text, C1 text, "), "{line}");
        assert!(line.ends_with("C19 text, and 5 more"), "{line}");
    }
}
