//! The open elements of a document, and what was found in those before.

use std::ops::Range;

use super::attributes::{Attributes, local};
use super::input::{ScanInput, Tag};
use super::text;
use crate::xml::error::{XmlError, XmlLimits, XmlProblem};
use crate::xml::paths::{ColumnPlace, CompiledColumn, PathEntry, PathOf, Program, ValuePart};

/// Where no instance is.
const NONE: usize = usize::MAX;

/// So many times its own bytes the values of a document's rows may take, and a little more for small ones.
const MAX_REPETITION: usize = 16;
const SMALL: usize = 64 << 10;

/// All of it is reused between documents.
#[derive(Debug, Default)]
pub(super) struct ScanState {
    frames: Vec<OpenElement>,
    /// The entries of all open elements, one after the other.
    active: Vec<PathEntry>,
    /// Per open element: how many children matched each counted step.
    counts: Vec<u32>,
    /// Per open element: its instance for each group.
    group_instances: Vec<usize>,
    captures: Vec<Capture>,
    reached: Vec<PathOf>,
    attributes: Attributes,
    above: Attributes,
    instances: Vec<Instance>,
    cells: Vec<CellPlace>,
    rows: Vec<FoundRow>,
    /// Per shape.
    row_counts: Vec<usize>,
    /// Attributes of the rows' own elements that no column reads, per shape.
    unread_attributes: Vec<usize>,
    /// Per row: its instance for each group of its shape.
    row_instances: Vec<usize>,
    /// Text of elements, in document order.
    text: String,
    /// Values of attributes.
    values: String,
    /// Of all rows, once they are found.
    value_bytes: usize,
}

#[derive(Debug, Clone)]
struct OpenElement {
    tag: Tag,
    /// Where its entries begin.
    entries: usize,
    /// What there was before it.
    before: Extent,
}

/// How many instances and cells there are.
#[derive(Debug, Clone, Copy)]
struct Extent {
    instances: usize,
    cells: usize,
}

/// The cells of one element: of a row, or of an element above rows.
#[derive(Debug, Clone, Copy)]
struct Instance {
    cells: usize,
    is_used: bool,
}

/// A found row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FoundRow {
    pub(crate) shape: usize,
    cells: usize,
    instances: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CellPlace {
    Missing,
    /// Its element is still open.
    Open,
    Text {
        start: usize,
        length: usize,
    },
    Value {
        start: usize,
        length: usize,
    },
}

/// An element whose text is a cell, while it is open.
#[derive(Debug, Clone, Copy)]
struct Capture {
    cell: usize,
    depth: usize,
    start: usize,
    /// Only down to its first child, if there is text before that.
    is_own: bool,
    has_children: bool,
    /// Of own text that has ended.
    length: Option<usize>,
}

impl ScanState {
    pub(super) fn clear(&mut self, program: &Program) {
        self.row_counts.clear();
        self.row_counts.resize(program.shapes.len(), 0);
        self.unread_attributes.clear();
        self.unread_attributes.resize(program.shapes.len(), 0);
        self.frames.clear();
        self.active.clear();
        self.counts.clear();
        self.group_instances.clear();
        self.captures.clear();
        self.instances.clear();
        self.cells.clear();
        self.rows.clear();
        self.row_instances.clear();
        self.text.clear();
        self.values.clear();
        self.value_bytes = 0;
    }

    /// The document itself is the outermost frame.
    pub(super) fn begin(&mut self, program: &Program) {
        self.push_frame(program, Tag { name: 0..0, attributes: 0..0 });
        let rows = (0..program.shapes.len()).map(|shape| PathEntry::first(PathOf::Row(shape)));
        self.active.extend(rows);
    }

    /// How many elements are open.
    pub(super) fn depth(&self) -> usize {
        self.frames.len().saturating_sub(1)
    }

    /// The name of the innermost open element.
    pub(super) fn innermost(&self) -> Range<usize> {
        self.frames.last().map_or(0..0, |frame| frame.tag.name.clone())
    }

    fn push_frame(&mut self, program: &Program, tag: Tag) {
        let before = Extent { instances: self.instances.len(), cells: self.cells.len() };
        self.frames.push(OpenElement { tag, entries: self.active.len(), before });
        self.counts.resize(self.counts.len() + program.counted.len(), 0);
        self.group_instances.resize(self.group_instances.len() + program.groups.len(), NONE);
    }

    pub(super) fn open(&mut self, input: ScanInput<'_>, tag: Tag) -> Result<(), XmlError> {
        let ScanInput { document, program, .. } = input;
        self.attributes.read(document, tag.attributes.clone())?;
        self.end_own_texts();
        let name = local(&document.as_bytes()[tag.name.clone()]);
        let parent = self.frames.len() - 1;
        let counts = parent * program.counted.len()..(parent + 1) * program.counted.len();
        for (count, counted) in self.counts[counts.clone()].iter_mut().zip(&program.counted) {
            *count += u32::from(counted.as_deref().is_none_or(|counted| counted == name));
        }
        let entries = self.frames[parent].entries..self.active.len();
        let at = tag.name.start;
        self.push_frame(program, tag);
        self.reached.clear();
        for entry in entries {
            let entry = self.active[entry];
            let advance = program.advance(entry, name, &self.counts[counts.clone()]);
            if advance.stays {
                self.add_entry(entry);
            }
            if let Some(next) = advance.next {
                self.add_entry(next);
            }
            if advance.is_reached && !self.reached.contains(&entry.path) {
                self.reached.push(entry.path);
            }
        }
        self.begin_groups(input)?;
        for at_path in 0..self.reached.len() {
            match self.reached[at_path] {
                PathOf::Row(shape) => self.begin_row(input, shape, at)?,
                PathOf::Column(column) => self.reach(input, column)?,
            }
        }
        Ok(())
    }

    /// One path may come to one step on several ways.
    fn add_entry(&mut self, entry: PathEntry) {
        let own = self.frames.last().map_or(0, |frame| frame.entries);
        if !self.active[own..].contains(&entry) {
            self.active.push(entry);
        }
    }

    /// Rows for columns that rows below this element have in it.
    fn begin_groups(&mut self, input: ScanInput<'_>) -> Result<(), XmlError> {
        let ScanInput { program, .. } = input;
        let own = self.frames.last().map_or(0, |frame| frame.entries);
        let first = (self.frames.len() - 1) * program.groups.len();
        for (number, group) in program.groups.iter().enumerate() {
            let is_row = |entry: &PathEntry| entry.path == PathOf::Row(group.shape);
            if !self.active[own..].iter().any(is_row) {
                continue;
            }
            let instance = self.new_instance(group.columns.len());
            self.group_instances[first + number] = instance;
            for column in &group.columns {
                self.begin_column(
                    input,
                    ColumnPlace { instance, shape: group.shape, column: *column },
                )?;
            }
        }
        Ok(())
    }

    fn new_instance(&mut self, cells: usize) -> usize {
        self.instances.push(Instance { cells: self.cells.len(), is_used: false });
        self.cells.resize(self.cells.len() + cells, CellPlace::Missing);
        self.instances.len() - 1
    }

    fn begin_column(&mut self, input: ScanInput<'_>, at: ColumnPlace) -> Result<(), XmlError> {
        if input.program.shapes[at.shape].columns[at.column].is_reached_at_once() {
            return self.reach(input, at);
        }
        self.add_entry(PathEntry::first(PathOf::Column(at)));
        Ok(())
    }

    fn begin_row(&mut self, input: ScanInput<'_>, shape: usize, at: usize) -> Result<(), XmlError> {
        let ScanInput { program, limits, .. } = input;
        if self.row_counts[shape] == limits.rows {
            return Err(XmlProblem::TooManyRows(limits.rows).at(at));
        }
        self.row_counts[shape] += 1;
        let compiled = &program.shapes[shape];
        let is_read = |name: &[u8]| compiled.columns.iter().any(|column| column.is_attribute(name));
        let unread = self.attributes.names(input.document).filter(|name| !is_read(name)).count();
        self.unread_attributes[shape] += unread;
        let instance = self.new_instance(compiled.own_cells);
        self.instances[instance].is_used = true;
        let cells = self.instances[instance].cells;
        self.rows.push(FoundRow { shape, cells, instances: self.row_instances.len() });
        let depth = self.frames.len() - 1;
        for group in &compiled.groups {
            let above = depth.checked_sub(program.groups[*group].up);
            let known =
                above.map(|frame| self.group_instances[frame * program.groups.len() + group]);
            let known = known.unwrap_or(NONE);
            if let Some(instance) = self.instances.get_mut(known) {
                instance.is_used = true;
            }
            self.row_instances.push(known);
        }
        for (number, column) in compiled.columns.iter().enumerate() {
            match column.group {
                Some(_) => {}
                None if column.is_attribute_above() => {
                    let above = depth.checked_sub(column.up).filter(|frame| *frame > 0);
                    self.reach_above(input, above, &column.part, cells + column.slot)?;
                }
                None => {
                    self.begin_column(input, ColumnPlace { instance, shape, column: number })?
                }
            }
        }
        Ok(())
    }

    fn reach_above(
        &mut self,
        input: ScanInput<'_>,
        frame: Option<usize>,
        part: &ValuePart,
        cell: usize,
    ) -> Result<(), XmlError> {
        let ScanInput { document, .. } = input;
        let (Some(frame), ValuePart::Attribute(name)) = (frame, part) else { return Ok(()) };
        self.above.read(document, self.frames[frame].tag.attributes.clone())?;
        match self.above.get(document, name) {
            Some(place) => self.put_value(input, place, cell),
            None => Ok(()),
        }
    }

    /// The element at hand is where a column is. The first one counts.
    fn reach(&mut self, input: ScanInput<'_>, at: ColumnPlace) -> Result<(), XmlError> {
        let ScanInput { document, .. } = input;
        let column = &input.program.shapes[at.shape].columns[at.column];
        let cell = self.instances[at.instance].cells + column.slot;
        if self.cells[cell] != CellPlace::Missing {
            return Ok(());
        }
        if let ValuePart::Attribute(name) = &column.part {
            return match self.attributes.get(document, name) {
                Some(place) => self.put_value(input, place, cell),
                None => Ok(()),
            };
        }
        self.cells[cell] = CellPlace::Open;
        self.captures.push(Capture {
            cell,
            depth: self.frames.len() - 1,
            start: self.text.len(),
            is_own: column.part == ValuePart::OwnText,
            has_children: false,
            length: None,
        });
        Ok(())
    }

    fn put_value(
        &mut self,
        input: ScanInput<'_>,
        place: Range<usize>,
        cell: usize,
    ) -> Result<(), XmlError> {
        let ScanInput { document, limits, .. } = input;
        let start = self.values.len();
        text::push_attribute(&document[place.clone()], place.start, &mut self.values)?;
        if self.values.len() - start > limits.value_bytes {
            return Err(XmlProblem::ValueTooLarge(limits.value_bytes).at(place.start));
        }
        if self.values.len() > most_bytes(document.len()) {
            return Err(XmlProblem::TooMuchRepetition(MAX_REPETITION).at(place.start));
        }
        self.cells[cell] = CellPlace::Value { start, length: self.values.len() - start };
        Ok(())
    }

    pub(super) fn close(&mut self, program: &Program) {
        let depth = self.depth();
        while let Some(capture) = self.captures.pop_if(|capture| capture.depth == depth) {
            let start = capture.start;
            let length = capture.length.unwrap_or(self.text.len() - start);
            let text = &self.text[start..start + length];
            let is_none = text.is_empty() || (capture.has_children && text.trim().is_empty());
            let is_missing = capture.is_own && is_none;
            self.cells[capture.cell] =
                if is_missing { CellPlace::Missing } else { CellPlace::Text { start, length } };
        }
        let Some(frame) = self.frames.pop() else { return };
        self.active.truncate(frame.entries);
        self.counts.truncate(self.frames.len() * program.counted.len());
        self.group_instances.truncate(self.frames.len() * program.groups.len());
        self.forget_unused(frame.before);
        for capture in self.captures.iter_mut().rev().take_while(|c| c.depth == depth - 1) {
            if capture.is_own && capture.length.is_none() {
                (capture.start, capture.has_children) = (self.text.len(), true);
            }
        }
    }

    /// What was made for rows that did not come.
    fn forget_unused(&mut self, before: Extent) {
        let Extent { instances, cells } = before;
        if self.instances[instances..].iter().all(|instance| !instance.is_used) {
            self.instances.truncate(instances);
            self.cells.truncate(cells);
        }
    }

    /// A child begins: own text ends, if there was any.
    fn end_own_texts(&mut self) {
        let depth = self.depth();
        for capture in self.captures.iter_mut().rev().take_while(|c| c.depth == depth) {
            let text = &self.text[capture.start..];
            if capture.is_own && capture.length.is_none() && !text.trim().is_empty() {
                capture.length = Some(text.len());
            }
        }
    }

    pub(super) fn push_text(&mut self, raw: &str, at: usize) -> Result<(), XmlError> {
        if self.captures.is_empty() {
            return Ok(());
        }
        text::push_text(raw, at, &mut self.text)
    }

    pub(super) fn push_character(&mut self, character: char) {
        if !self.captures.is_empty() {
            self.text.push(character);
        }
    }

    pub(super) fn check_value(&self, limits: &XmlLimits, at: usize) -> Result<(), XmlError> {
        let depth = self.depth();
        let grows = |c: &&Capture| !c.is_own || (c.length.is_none() && c.depth == depth);
        let longest = self.captures.iter().filter(grows).map(|c| self.text.len() - c.start).max();
        if longest.is_some_and(|length| length > limits.value_bytes) {
            return Err(XmlProblem::ValueTooLarge(limits.value_bytes).at(at));
        }
        Ok(())
    }

    /// A long value above many rows, or rows inside of each other, could make much of little.
    pub(super) fn check_repetition(
        &mut self,
        program: &Program,
        bytes: usize,
    ) -> Result<(), XmlError> {
        let length = |cell: Option<&str>| cell.map_or(0, str::len);
        let taken: usize = self.rows().flat_map(|row| self.cells(program, row)).map(length).sum();
        self.value_bytes = taken;
        if taken > most_bytes(bytes) {
            return Err(XmlProblem::TooMuchRepetition(MAX_REPETITION).at(bytes));
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        let of_rows = self.rows.capacity() * size_of::<FoundRow>()
            + self.row_instances.capacity() * size_of::<usize>();
        let of_cells = self.cells.capacity() * size_of::<CellPlace>()
            + self.instances.capacity() * size_of::<Instance>();
        let of_elements = self.frames.capacity() * size_of::<OpenElement>()
            + self.active.capacity() * size_of::<PathEntry>()
            + self.captures.capacity() * size_of::<Capture>();
        of_rows + of_cells + of_elements + self.text.capacity() + self.values.capacity()
    }

    pub(super) fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    pub(super) fn unread_attributes(&self, shape: usize) -> usize {
        self.unread_attributes.get(shape).copied().unwrap_or(0)
    }

    pub(super) fn row_count(&self, shape: usize) -> usize {
        self.row_counts.get(shape).copied().unwrap_or(0)
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &FoundRow> {
        self.rows.iter()
    }

    pub(super) fn cells<'a>(
        &'a self,
        program: &'a Program,
        row: &'a FoundRow,
    ) -> impl Iterator<Item = Option<&'a str>> {
        let shape = &program.shapes[row.shape];
        let starts = std::iter::once(0).chain(shape.ends.iter().copied());
        starts.zip(&shape.ends).map(move |(start, end)| {
            shape.columns[start..*end].iter().find_map(|column| self.cell(row, column))
        })
    }

    fn cell(&self, row: &FoundRow, column: &CompiledColumn) -> Option<&str> {
        let cells = match column.group {
            None => row.cells,
            Some(group) => self.instances.get(self.row_instances[row.instances + group])?.cells,
        };
        match self.cells[cells + column.slot] {
            CellPlace::Missing | CellPlace::Open => None,
            CellPlace::Text { start, length } => Some(&self.text[start..start + length]),
            CellPlace::Value { start, length } => Some(&self.values[start..start + length]),
        }
    }
}

fn most_bytes(document: usize) -> usize {
    document.saturating_mul(MAX_REPETITION).saturating_add(SMALL)
}
