//! The schema registry: which columns the events of a table have had, beside those that it declares.
//!
//! It only grows, by one entry per column and type, so a source that changes its mind event by event
//! is told of once. What it learned goes out with the epoch and comes back at the next start.

use std::collections::HashMap;

use super::debezium::Image;
use super::limits::Limits;
use super::refusal::Refusal;
use super::route::Route;
use crate::changelog::{NewColumns, Offset, SchemaChange, SchemaChangeKind, SeenType, Table};

/// What the events of one table have shown.
#[derive(Debug)]
pub(super) struct Observed {
    undeclared: HashMap<Box<str>, SeenType>,
    /// By declared column: it was missing in an event.
    missing: Vec<bool>,
}

impl Observed {
    pub(super) fn new(table: &Table) -> Self {
        Self { undeclared: HashMap::new(), missing: vec![false; table.declared().len()] }
    }

    /// Takes in what was learned before.
    pub(super) fn remember(&mut self, table: &Table, change: &SchemaChange) {
        match change.kind {
            SchemaChangeKind::Missing => {
                let column = table.declared().iter().position(|c| c.name == change.column);
                if let Some(column) = column {
                    self.missing[column] = true;
                }
            }
            SchemaChangeKind::Added | SchemaChangeKind::Widened => {
                self.undeclared.insert(change.column.as_str().into(), change.seen);
            }
        }
    }

    /// Notes what the row of an event shows; what is new goes to `learned`.
    ///
    /// # Errors
    /// If the table takes no undeclared columns, or not so many; nothing is noted of too many.
    pub(super) fn observe(
        &mut self,
        (route, limits): (&Route, &Limits),
        image: &Image<'_>,
        offset: Offset,
        learned: &mut Vec<SchemaChange>,
    ) -> Result<(), Refusal> {
        let table = &*route.table;
        let note = |column: &str, kind, seen| {
            let (source, column) = (table.source.clone(), column.to_owned());
            SchemaChange { source, column, kind, seen, offset }
        };
        if !image.extra.is_empty() {
            self.refuse_too_many((table, limits), image)?;
        }
        for field in image.extra.iter().filter(|field| !route.unavailable.is(field.raw)) {
            let seen = SeenType::of(field.raw);
            match self.undeclared.get_mut(&*field.name) {
                Some(known) if known.or(seen) == *known => {}
                Some(known) => {
                    *known = known.or(seen);
                    learned.push(note(&field.name, SchemaChangeKind::Widened, *known));
                }
                None => {
                    self.undeclared.insert((&*field.name).into(), seen);
                    learned.push(note(&field.name, SchemaChangeKind::Added, seen));
                }
            }
        }
        // Behind the declared columns are documents that are not declared.
        for (column, field) in image.columns[..table.columns.len()].iter().enumerate() {
            if field.is_none() && !std::mem::replace(&mut self.missing[column], true) {
                let name = &table.columns[column].name;
                learned.push(note(name, SchemaChangeKind::Missing, SeenType::Null));
            }
        }
        refuse_undeclared(table, image)
    }

    fn refuse_too_many(
        &self,
        (table, limits): (&Table, &Limits),
        image: &Image<'_>,
    ) -> Result<(), Refusal> {
        let limit = limits.max_undeclared_columns.get();
        let new = image.extra.iter().filter(|f| !self.undeclared.contains_key(&*f.name)).count();
        if new > 0 && self.undeclared.len() + new > limit {
            let table = table.source.to_string();
            return Err(Refusal::TooManyColumns {
                table,
                known: self.undeclared.len(),
                new,
                limit,
            });
        }
        Ok(())
    }
}

fn refuse_undeclared(table: &Table, image: &Image<'_>) -> Result<(), Refusal> {
    match image.extra.first() {
        Some(field) if table.options.new_columns == NewColumns::Strict => {
            Err(Refusal::SchemaMismatch {
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
