//! The schema registry: which columns the events of a table have had, beside those that it declares.
//!
//! It only grows, by one entry per column and type, so a source that changes its mind event by event
//! is told of once. What it learned goes out with the epoch and comes back at the next start.

use std::collections::HashMap;

use super::schema_message::AnnouncedColumn;
use crate::decode::debezium::Image;
use crate::decode::refusal::EventRefusal;
use crate::decode::rows::Route;
use crate::model::{NewColumns, Offset, SchemaChange, SchemaChangeKind, SeenType, Table};

/// What the events of one table have shown.
#[derive(Debug)]
pub(in crate::decode) struct ObservedColumns {
    undeclared: ExtraColumns,
    /// By declared column: it was missing in an event.
    missing: Vec<bool>,
}

/// The columns that a table does not declare, as they were first seen.
#[derive(Debug, Default)]
struct ExtraColumns {
    columns: Vec<(Box<str>, SeenType)>,
    by_name: HashMap<Box<str>, usize>,
    /// Which column the undeclared fields of the last row were: the next one almost always has the same.
    order: Vec<usize>,
}

impl ExtraColumns {
    fn find(&mut self, place: usize, name: &str) -> Option<&mut SeenType> {
        let at = match self.order.get(place) {
            Some(at) if *self.columns[*at].0 == *name => *at,
            _ => {
                let at = *self.by_name.get(name)?;
                self.order.truncate(place);
                // Not, if a field before it is new.
                if self.order.len() == place {
                    self.order.push(at);
                }
                at
            }
        };
        Some(&mut self.columns[at].1)
    }

    fn set(&mut self, name: &str, seen: SeenType) {
        match self.by_name.get(name) {
            Some(at) => self.columns[*at].1 = seen,
            None => {
                self.by_name.insert(name.into(), self.columns.len());
                self.columns.push((name.into(), seen));
            }
        }
    }
}

impl ObservedColumns {
    pub(in crate::decode) fn new(table: &Table) -> Self {
        let mut missing = vec![false; table.declared().len()];
        // Nobody expects a change's own id.
        missing[..usize::from(table.has_no_key())].fill(true);
        Self { undeclared: ExtraColumns::default(), missing }
    }

    /// Takes in what was learned before.
    pub(in crate::decode) fn remember(&mut self, table: &Table, change: &SchemaChange) {
        match change.kind {
            SchemaChangeKind::Missing => {
                let column = table.declared().iter().position(|c| c.name == change.column);
                if let Some(column) = column {
                    self.missing[column] = true;
                }
            }
            SchemaChangeKind::Added | SchemaChangeKind::Widened => {
                self.undeclared.set(&change.column, change.seen);
            }
            // Its new name is a column of its own; the columns of a registered table are declared.
            SchemaChangeKind::Renamed
            | SchemaChangeKind::Registered
            | SchemaChangeKind::Key
            | SchemaChangeKind::Typed
            | SchemaChangeKind::Altered => {}
        }
    }

    /// Notes a column that the source has announced, before any event has shown it.
    pub(in crate::decode) fn announce(
        &mut self,
        route: &Route,
        announced: AnnouncedColumn,
        offset: Offset,
        learned: &mut Vec<SchemaChange>,
    ) {
        let AnnouncedColumn { column, seen, .. } = announced;
        let undeclared = &mut self.undeclared;
        let is_known = route.has_place(&column) || undeclared.by_name.contains_key(&*column);
        if is_known || undeclared.columns.len() >= route.limits.max_undeclared_columns.get() {
            return;
        }
        undeclared.set(&column, seen);
        let source = route.table.source.clone();
        learned.push(SchemaChange { source, column, kind: SchemaChangeKind::Added, seen, offset });
    }

    /// Notes what the row of an event shows; what is new goes to `learned`.
    ///
    /// # Errors
    /// If the table takes no undeclared columns, or not so many; nothing is noted of too many.
    pub(in crate::decode) fn observe(
        &mut self,
        route: &Route,
        image: &Image<'_>,
        offset: Offset,
        learned: &mut Vec<SchemaChange>,
    ) -> Result<(), EventRefusal> {
        let table = &*route.table;
        let note = |column: &str, kind, seen| {
            let (source, column) = (table.source.clone(), column.to_owned());
            SchemaChange { source, column, kind, seen, offset }
        };
        let mut fields = image.extra.iter().enumerate();
        if fields.any(|(place, field)| self.undeclared.find(place, &field.name).is_none()) {
            self.refuse_too_many(route, image)?;
        }
        for (place, field) in image.extra.iter().enumerate() {
            if route.unavailable.is(field.raw) {
                continue;
            }
            let kept = route.kept(field, image);
            let seen = route.seen(field, &kept, image);
            match self.undeclared.find(place, &field.name) {
                Some(known) if known.after(seen, &kept) == *known => {}
                Some(known) => {
                    *known = known.after(seen, &kept);
                    learned.push(note(&field.name, SchemaChangeKind::Widened, *known));
                }
                None => {
                    self.undeclared.set(&field.name, seen);
                    learned.push(note(&field.name, SchemaChangeKind::Added, seen));
                }
            }
        }
        if image.reading.is_partial {
            return refuse_undeclared(table, image);
        }
        // Behind the declared columns are documents that are not declared.
        for (column, field) in image.columns[..table.declared().len()].iter().enumerate() {
            if field.is_none() && !std::mem::replace(&mut self.missing[column], true) {
                let name = &table.columns[column].name;
                learned.push(note(name, SchemaChangeKind::Missing, SeenType::Null));
            }
        }
        refuse_undeclared(table, image)
    }

    fn refuse_too_many(&self, route: &Route, image: &Image<'_>) -> Result<(), EventRefusal> {
        let limit = route.limits.max_undeclared_columns.get();
        let (names, known) = (&self.undeclared.by_name, self.undeclared.columns.len());
        let new = image.extra.iter().filter(|field| !names.contains_key(&*field.name)).count();
        if new > 0 && known + new > limit {
            let table = route.table.source.to_string();
            return Err(EventRefusal::TooManyColumns { table, known, new, limit });
        }
        Ok(())
    }
}

fn refuse_undeclared(table: &Table, image: &Image<'_>) -> Result<(), EventRefusal> {
    match image.extra.first() {
        Some(field) if table.options.new_columns == NewColumns::Strict => {
            Err(EventRefusal::SchemaMismatch {
                table: table.source.to_string(),
                column: Some(field.name.to_string()),
                reason: format!(
                    "column {} is not declared, and new_columns = 'strict' refuses it: declare it",
                    field.name
                ),
            })
        }
        _ => Ok(()),
    }
}
