//! A change event as rows: which image counts, and whether the key changed.

use super::extra_fields;
use super::route::Route;
use super::table_rows::DecodedRow;
use crate::decode::debezium::{ChangeEvent, Image, Value};
use crate::decode::refusal::EventRefusal;
use crate::model::Operation;

/// Rows in the making: a refused one leaves nothing behind in the batch. Reused between events.
#[derive(Default)]
pub(in crate::decode) struct Scratch<'a> {
    /// The row that the change is about.
    pub(in crate::decode) current: ConvertedRow<'a>,
    /// The row under its old key; filled only if an update changes the key.
    pub(in crate::decode) before: ConvertedRow<'a>,
}

#[derive(Default)]
pub(in crate::decode) struct ConvertedRow<'a> {
    pub(super) image: Image<'a>,
    pub(super) cells: Vec<Value<'a>>,
    /// Empty if there are none.
    extra_fields: String,
}

impl<'a> Scratch<'a> {
    /// Converts the row of `change`; `true` if it also has to be deleted under its old key.
    pub(in crate::decode) fn fill(
        &mut self,
        route: &mut Route,
        change: &ChangeEvent<'a>,
        operation: Operation,
    ) -> Result<bool, EventRefusal> {
        for row in [&mut self.current, &mut self.before] {
            row.image.reading = change.reading();
        }
        let text = match operation {
            Operation::Delete => change.before.ok_or_else(|| no_old_key(route))?,
            _ => change.after.ok_or_else(|| no_row(operation))?,
        };
        route.read(text, &mut self.current.image)?;
        self.current.convert(route, operation)?;
        match change.before {
            Some(before) if operation == Operation::Update => {
                if has_same_start(before, text, self.current.end_of_key(route, text)) {
                    return Ok(false);
                }
                route.read(before, &mut self.before.image)?;
                let key_changes = self.key_changes(route)?;
                if key_changes {
                    self.before.convert(route, Operation::Delete)?;
                }
                Ok(key_changes)
            }
            _ => Ok(false),
        }
    }

    /// Compares values, not texts: `1` and `"1"` are one key. A part that `before` lacks is taken as
    /// unchanged, because Debezium may leave out what the redo log did not hold.
    fn key_changes(&self, route: &Route) -> Result<bool, EventRefusal> {
        let (mut differs, mut is_whole) = (false, true);
        for index in &route.table.key {
            match self.before.image.columns[*index].as_ref().filter(|f| f.raw != "null") {
                Some(_) => {
                    let old = route.cell(*index, &self.before.image)?;
                    differs |= old != self.current.cells[*index];
                }
                None => is_whole = false,
            }
        }
        if differs && !is_whole { Err(no_old_key(route)) } else { Ok(differs) }
    }
}

impl<'a> ConvertedRow<'a> {
    pub(in crate::decode) fn row(
        &self,
        operation: Operation,
        event_id_suffix: &'static str,
    ) -> DecodedRow<'_, 'a> {
        let extra_fields = Some(&*self.extra_fields).filter(|text| !text.is_empty());
        DecodedRow { operation, cells: &self.cells, extra_fields, event_id_suffix }
    }

    fn convert(&mut self, route: &Route, operation: Operation) -> Result<(), EventRefusal> {
        route.convert(&self.image, operation, &mut self.cells)?;
        extra_fields::write(&self.image, route, &mut self.extra_fields)
    }

    pub(in crate::decode) fn image(&self) -> &Image<'a> {
        &self.image
    }

    /// Bytes of `text` up to its last key field, with the separator after that.
    fn end_of_key(&self, route: &Route, text: &str) -> usize {
        let ends = route.table.key.iter().filter_map(|index| self.image.columns[*index].as_ref());
        let end = |raw: &str| raw.as_ptr().addr() - text.as_ptr().addr() + raw.len() + 1;
        ends.map(|field| end(field.raw)).max().unwrap_or(text.len())
    }
}

/// Whether both images hold the same key because they are the same text that far: saves reading
/// the old image, since keys are usually the first columns.
fn has_same_start(before: &str, after: &str, length: usize) -> bool {
    let (before, after) = (before.as_bytes().get(..length), after.as_bytes().get(..length));
    before.is_some() && before == after
}

pub(in crate::decode) fn no_row(operation: Operation) -> EventRefusal {
    EventRefusal::UnknownEnvelope { reason: format!("op {} without after", operation.letter()) }
}

fn no_old_key(route: &Route) -> EventRefusal {
    EventRefusal::InvalidKey {
        table: route.table.source.to_string(),
        column: None,
        reason: "before does not hold the key of the old row: enable supplemental logging of the \
                 primary key in the source"
            .to_owned(),
    }
}
