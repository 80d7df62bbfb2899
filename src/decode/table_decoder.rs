//! One declared or registered table: the rows of its change events.

use std::sync::Arc;

use super::debezium::{ChangeAction, ChangeEvent, Unavailable};
use super::epoch_rows::EpochRows;
use super::limits::Limits;
use super::refusal::EventRefusal;
use super::rows::{Documents, EventOrigin, Route, TableRows};
use super::schema::{AnnouncedColumn, ObservedColumns};
use crate::model::{Offset, Operation, SchemaChange, Table, Truncate};
use crate::xml::Extraction;

/// The key's old row of an update that changes the key.
const BEFORE_SUFFIX: &str = "#before";

const TRUNCATED: &str = "the source truncated it (op t), and the option truncate of the table is 'dlq': \
                         set it to 'apply' and replay the dead letter (tidemark dlq replay)";
const MESSAGE: &str = "a generic message (op m) changes no row";

/// A table with what its events have shown.
#[derive(Debug)]
pub(super) struct TableDecoder {
    /// Its place among all tables.
    number: usize,
    pub(super) route: Route,
    observed: ObservedColumns,
    documents: Documents,
}

impl TableDecoder {
    pub(super) fn new(
        number: usize,
        table: Arc<Table>,
        unavailable: Arc<Unavailable>,
        extractions: &[Arc<Extraction>],
        limits: &Limits,
    ) -> Self {
        let observed = ObservedColumns::new(&table);
        let documents = Documents::new(&table, extractions, limits.xml());
        let route = Route::new(table, unavailable, &documents.undeclared(), limits);
        Self { number, route, observed, documents }
    }

    /// Takes in what was learned before.
    pub(super) fn remember(&mut self, change: &SchemaChange) {
        self.observed.remember(&self.route.table, change);
    }

    /// Notes a column that the source has announced.
    pub(super) fn announce(
        &mut self,
        column: AnnouncedColumn,
        offset: Offset,
        learned: &mut Vec<SchemaChange>,
    ) {
        self.observed.announce(&self.route, column, offset, learned);
    }

    /// Appends the rows of a change, or none if it is refused. What comes back is wrong with a document alone.
    pub(super) fn change<'a>(
        &mut self,
        change: &ChangeEvent<'a>,
        origin: &EventOrigin<'_>,
        epoch: &mut EpochRows<'a>,
    ) -> Result<Option<EventRefusal>, EventRefusal> {
        let route = &mut self.route;
        let operation = match (change.action, route.table.options.truncate) {
            (ChangeAction::Row(operation), _) => operation,
            (ChangeAction::Truncate, Truncate::Apply) => {
                epoch.tables[self.number].get_or_insert_with(|| rows_of(route)).truncate(origin);
                return Ok(None);
            }
            (ChangeAction::Truncate, Truncate::Dlq) => {
                return Err(unsupported(&route.table, TRUNCATED));
            }
            (ChangeAction::Message, _) => return Err(unsupported(&route.table, MESSAGE)),
        };
        route.follow(change.schema_section)?;
        let key_changes = epoch.scratch.fill(route, change, operation)?;
        let mut problem = None;
        // The image of a delete may be no more than a key.
        if operation != Operation::Delete {
            let (row, decoded) = (&epoch.scratch.current, &mut epoch.decoded);
            let learned = &mut decoded.schema_changes;
            self.observed.observe(route, row.image(), origin.offset, learned)?;
            problem = self.documents.read(route, row, &mut decoded.unread_documents)?;
            let row = row.row(operation, "");
            self.documents.append(&row, origin, &mut epoch.extracted);
        }
        let (scratch, rows) = (&epoch.scratch, &mut epoch.tables[self.number]);
        let rows = rows.get_or_insert_with(|| rows_of(route));
        if key_changes {
            rows.append(&scratch.before.row(Operation::Delete, BEFORE_SUFFIX), origin);
        }
        rows.append(&scratch.current.row(operation, ""), origin);
        Ok(problem)
    }
}

fn rows_of(route: &Route) -> TableRows {
    TableRows::new(Arc::clone(&route.table))
}

fn unsupported(table: &Table, reason: &str) -> EventRefusal {
    let table = table.source.to_string();
    EventRefusal::UnsupportedOperation { table, reason: reason.to_owned() }
}
