//! Rows that are extracted from a column of another table: what its changes make of them.
//!
//! An event has a whole document, or says nothing about it. So the rows that a row of the source table had are
//! replaced as a whole: what differs is written, what is not there any more is deleted, and what is the same
//! stays as it was.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt64Array, new_null_array,
};
use arrow::compute::{cast, interleave, take};
use arrow::datatypes::{DataType, Int32Type};
use arrow::error::ArrowError;
use arrow::row::Rows;

use super::error::StateError;
use super::store::{KeyEncoder, TableStore};
use super::stores::StateStores;
use crate::model::{Changelog, EventId, Lookup, Offset, Operation, Position, SystemColumn};

impl StateStores {
    /// Makes of the rows of new documents the changes of their tables; the changes of other tables stay
    /// as they are. `kept` has, by table, the changes of its source table that say nothing about its rows.
    ///
    /// To be called before any of it is folded, and when all rows that it needs are in memory.
    ///
    /// # Errors
    /// If Arrow can't process a batch.
    pub fn extract(
        &self,
        changes: Vec<Changelog>,
        kept: &HashMap<String, HashSet<Position>>,
    ) -> Result<Vec<Changelog>, StateError> {
        let is_extracted = |c: &Changelog| c.table.is_extracted();
        let (found, mut rest): (Vec<_>, Vec<_>) = changes.into_iter().partition(is_extracted);
        let mut extracted = Vec::new();
        for store in &self.stores {
            let table = store.table();
            let Some(parent) = table.extracted_from() else { continue };
            let parent_changes = rest.iter().find(|changelog| changelog.table.name == parent);
            let Some(changes) = parent_changes else { continue };
            let replacing = Replacing {
                store,
                parent: &self.stores[self.by_name[parent]],
                changes,
                found: found.iter().find(|changelog| changelog.table.name == table.name),
                kept: kept.get(&table.name),
            };
            let changelog = replacing.changelog().map_err(|source| store.error(source))?;
            extracted.extend((!changelog.is_empty()).then_some(changelog));
        }
        rest.extend(extracted);
        Ok(rest)
    }
}

/// One table and one epoch.
struct Replacing<'a> {
    store: &'a TableStore,
    parent: &'a TableStore,
    changes: &'a Changelog,
    found: Option<&'a Changelog>,
    kept: Option<&'a HashSet<Position>>,
}

/// Where a row is: in memory or in the changelog of found rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowSource {
    Stored(usize),
    Found(usize),
}

/// The rows of one row of the source table, by `row_no`.
type Children = BTreeMap<i32, RowSource>;

/// A row of the source table while its changes are gone through.
struct Parent {
    /// Its newest change so far; older ones are stale.
    newest: Option<Position>,
    children: Children,
}

/// A change to be written: made by which row of the source table's changelog.
struct RowChange {
    by: usize,
    source: RowSource,
    operation: Operation,
}

/// The rows that the changes are about, and found rows, as Arrow has them.
struct KnownRows {
    stored: RecordBatch,
    found: RecordBatch,
    stored_rows: Rows,
    found_rows: Rows,
    /// The found rows of each event.
    of_event: HashMap<Position, std::ops::Range<usize>>,
}

impl Replacing<'_> {
    fn changelog(&self) -> Result<Changelog, ArrowError> {
        let keys = self.parent.encode(&self.changes.batch)?;
        let mut ids = HashMap::new();
        let mut first = Vec::new();
        let of_row: Vec<usize> = (0..self.changes.len())
            .map(|row| {
                *ids.entry(keys.row(row)).or_insert_with(|| {
                    first.push(row as u64);
                    first.len() - 1
                })
            })
            .collect();
        let (known, children) = self.known(&UInt64Array::from(first.clone()))?;
        let mut parents: Vec<Parent> = Vec::with_capacity(first.len());
        for (row, children) in first.iter().zip(children) {
            let entry = self.parent.entry(keys.row(*row as usize).as_ref());
            let newest = self.parent.newest_of(entry);
            parents.push(Parent { newest, children });
        }
        let written = self.written(&known, &of_row, &mut parents);
        self.batch(&known, &written)
    }

    /// How many columns the key of the source table has.
    fn width(&self) -> usize {
        self.parent.table().key.len()
    }

    /// The rows that the source table's rows have now; `first` has one change of each.
    fn known(&self, first: &UInt64Array) -> Result<(KnownRows, Vec<Children>), ArrowError> {
        let keys = self.parent.table().key.iter();
        let keys = keys.map(|at| take(self.changes.batch.column(*at), first, None));
        let keys = keys.collect::<Result<Vec<ArrayRef>, _>>()?;
        let columns: Vec<usize> = (0..self.width()).collect();
        let all = self.store.all_columns();
        let lookup = Lookup { columns: &columns, keys: &keys, nulls_match: false };
        let stored = self.store.find(lookup, &all)?;
        let found = match self.found {
            Some(changelog) => changelog.batch.project(&all)?,
            None => RecordBatch::new_empty(Arc::clone(self.store.schema())),
        };
        let content = KeyEncoder::new(self.store.schema(), &all[self.width()..])?;
        let mut children = vec![Children::new(); first.len()];
        let numbers = stored.rows.column(self.width()).as_primitive::<Int32Type>();
        for (row, of) in stored.key_of.iter().enumerate() {
            children[*of as usize].insert(numbers.value(row), RowSource::Stored(row));
        }
        let known = KnownRows {
            stored_rows: content.encode(&stored.rows)?,
            found_rows: content.encode(&found)?,
            of_event: self.of_event(),
            stored: stored.rows,
            found,
        };
        Ok((known, children))
    }

    fn of_event(&self) -> HashMap<Position, std::ops::Range<usize>> {
        let mut of_event: HashMap<Position, std::ops::Range<usize>> = HashMap::new();
        let positions = self.found.iter().flat_map(|found| found.positions.iter().enumerate());
        for (row, position) in positions {
            of_event.entry(*position).or_insert(row..row).end = row + 1;
        }
        of_event
    }

    /// Goes through the changes of the source table in their order.
    fn written(
        &self,
        known: &KnownRows,
        of_row: &[usize],
        parents: &mut [Parent],
    ) -> Vec<RowChange> {
        let mut written = Vec::new();
        let mut truncations = self.changes.truncations.iter().peekable();
        // An event that changes a key is a delete under the old one, and then the row under the new one.
        let mut moved: Option<(Position, Children)> = None;
        for (row, parent) in of_row.iter().enumerate() {
            let position = self.changes.positions[row];
            if truncations.next_if(|t| t.position < position).is_some() {
                while truncations.next_if(|t| t.position < position).is_some() {}
                parents.iter_mut().for_each(|parent| parent.children.clear());
            }
            let parent = &mut parents[*parent];
            if parent.newest.is_some_and(|newest| newest >= position) {
                continue;
            }
            parent.newest = Some(position);
            let is_kept = self.kept.is_some_and(|kept| kept.contains(&position));
            let new = match self.changes.operations[row] {
                Operation::Delete => {
                    moved = Some((position, parent.children.clone()));
                    Children::new()
                }
                _ if is_kept => match moved.take().filter(|(of, _)| *of == position) {
                    Some((_, children)) => children,
                    None => continue,
                },
                _ => self.new_children(known, position),
            };
            let old = std::mem::take(&mut parent.children);
            parent.children = self.replace(known, row, old, new, &mut written);
        }
        written
    }

    fn new_children(&self, known: &KnownRows, position: Position) -> Children {
        let numbers = known.found.column(self.width()).as_primitive::<Int32Type>();
        let rows = known.of_event.get(&position).cloned().unwrap_or(0..0);
        rows.map(|row| (numbers.value(row), RowSource::Found(row))).collect()
    }

    fn replace(
        &self,
        known: &KnownRows,
        by: usize,
        old: Children,
        new: Children,
        written: &mut Vec<RowChange>,
    ) -> Children {
        for (number, source) in old.iter().filter(|(number, _)| !new.contains_key(number)) {
            debug_assert!(*number > 0, "numbers count from 1");
            written.push(RowChange { by, source: *source, operation: Operation::Delete });
        }
        let new_row = match self.changes.operations[by] {
            Operation::Read => Operation::Read,
            _ => Operation::Create,
        };
        let mut now = Children::new();
        for (number, source) in new {
            let (source, operation) = match old.get(&number) {
                // What stays as it is keeps its place, so that nothing is written.
                Some(before) if known.are_equal(*before, source) => {
                    now.insert(number, *before);
                    continue;
                }
                Some(_) => (source, Operation::Update),
                None => (source, new_row),
            };
            written.push(RowChange { by, source, operation });
            now.insert(number, source);
        }
        now
    }

    fn batch(&self, known: &KnownRows, written: &[RowChange]) -> Result<Changelog, ArrowError> {
        let (width, parent) = (self.width(), self.parent.table());
        let by = UInt64Array::from_iter_values(written.iter().map(|written| written.by as u64));
        let of_parent = |at: usize| take(self.changes.batch.column(at), &by, None);
        let places: Vec<(usize, usize)> = written.iter().map(|w| w.source.place()).collect();
        let mut arrays = Vec::new();
        for (at, field) in self.store.schema().fields().iter().enumerate() {
            arrays.push(match parent.key.get(at) {
                Some(key) => cast(&of_parent(*key)?, field.data_type())?,
                None => {
                    let columns = [known.stored.column(at), known.found.column(at)];
                    interleave(&columns.map(|column| column.as_ref() as &dyn Array), &places)?
                }
            });
        }
        debug_assert_eq!(width, parent.key.len());
        let letters = written.iter().map(|written| written.operation.letter());
        arrays.push(Arc::new(StringArray::from_iter_values(letters)));
        let source_ts = of_parent(parent.system_column(SystemColumn::SourceTs))?;
        arrays.extend([Arc::clone(&source_ts), source_ts]);
        let offsets: Vec<Offset> = written.iter().map(|w| self.changes.offsets[w.by]).collect();
        let positions: Vec<Position> =
            written.iter().map(|w| self.changes.positions[w.by]).collect();
        arrays.push(Arc::new(event_ids(&offsets, &positions)));
        arrays.push(of_parent(parent.system_column(SystemColumn::Topic))?);
        arrays.push(new_null_array(&DataType::Utf8, written.len()));
        Ok(Changelog {
            table: Arc::clone(self.store.table()),
            batch: RecordBatch::try_new(self.store.table().changelog_schema(), arrays)?,
            positions,
            offsets,
            scns: vec![None; written.len()],
            operations: written.iter().map(|written| written.operation).collect(),
            unchanged: Vec::new(),
            truncations: self.changes.truncations.clone(),
        })
    }
}

impl KnownRows {
    fn are_equal(&self, one: RowSource, other: RowSource) -> bool {
        self.content(one) == self.content(other)
    }

    fn content(&self, source: RowSource) -> arrow::row::Row<'_> {
        match source {
            RowSource::Stored(row) => self.stored_rows.row(row),
            RowSource::Found(row) => self.found_rows.row(row),
        }
    }
}

impl RowSource {
    /// As `interleave` takes it.
    fn place(self) -> (usize, usize) {
        match self {
            Self::Stored(row) => (0, row),
            Self::Found(row) => (1, row),
        }
    }
}

/// The id of the event with the number of the row among those of it.
fn event_ids(offsets: &[Offset], positions: &[Position]) -> StringArray {
    let (mut last, mut number) = (None, 0);
    let ids = offsets.iter().zip(positions).map(|(offset, position)| {
        number = if last == Some(*position) { number + 1 } else { 1 };
        last = Some(*position);
        format!("{}#{number}", EventId::new(*offset, *position))
    });
    StringArray::from_iter_values(ids)
}
