//! Paths of several shapes, followed at once along the open elements of a document.
//!
//! For each open element there is a list of entries: which step of which path comes next for its children. A
//! child that matches moves an entry on to the child's own list, and a path that is at its end is *reached*:
//! a row begins, or a column has its value. So the work per element follows the paths that are under way.
//!
//! A column that goes up first (`../name`) belongs to an element that is open before anybody knows whether a
//! row is in it. Such an element gets an [`Instance`] with the cells of these columns as soon as a row may come,
//! and rows point to it; they are read when the document is at its end.

use std::sync::Arc;

use super::path::{Part, Step};
use super::shape::Shape;

/// Paths with what matching needs to know of them.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) shapes: Vec<Compiled>,
    /// Columns of one shape that go up by the same number of levels.
    pub(super) groups: Vec<Group>,
    /// The names of steps with a position, whose children are counted.
    pub(super) counted: Vec<Option<Box<[u8]>>>,
}

#[derive(Debug)]
pub(super) struct Compiled {
    row: Vec<Line>,
    pub(super) columns: Vec<Column>,
    /// Cells of its rows' own instances.
    pub(super) own_cells: usize,
    /// Positions in [`Program::groups`], in rising order.
    pub(super) groups: Vec<usize>,
}

#[derive(Debug)]
struct Line {
    step: Step,
    counter: usize,
}

#[derive(Debug)]
pub(super) struct Column {
    steps: Vec<Line>,
    pub(super) part: Part,
    pub(super) up: usize,
    /// Which of the cells of its instance.
    pub(super) slot: usize,
    /// Which of its shape's groups; only if it goes up and needs an instance there.
    pub(super) group: Option<usize>,
}

impl Column {
    /// Attributes of an element above the row are read when the row begins.
    pub(super) fn is_attribute_above(&self) -> bool {
        self.up > 0 && self.steps.is_empty() && matches!(self.part, Part::Attribute(_))
    }

    pub(super) fn is_reached_at_once(&self) -> bool {
        self.steps.is_empty()
    }
}

#[derive(Debug)]
pub(super) struct Group {
    pub(super) shape: usize,
    pub(super) up: usize,
    pub(super) columns: Vec<usize>,
}

/// A path under way: its next step is to be matched by children of the element that has the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: PathOf,
    step: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathOf {
    /// The rows of a shape.
    Row(usize),
    /// A column of an instance.
    Column { instance: usize, shape: usize, column: usize },
}

impl Entry {
    pub(super) fn first(path: PathOf) -> Self {
        Self { path, step: 0 }
    }
}

impl Program {
    pub(super) fn new(shapes: &[Arc<Shape>]) -> Self {
        let mut program = Self { shapes: Vec::new(), groups: Vec::new(), counted: Vec::new() };
        for (number, shape) in shapes.iter().enumerate() {
            let row = program.lines(&shape.row);
            let mut compiled =
                Compiled { row, columns: Vec::new(), own_cells: 0, groups: Vec::new() };
            for (at, column) in shape.columns.iter().enumerate() {
                let path = &column.path;
                let steps = program.lines(&path.steps);
                let (part, up) = (path.part.clone(), path.up);
                let mut column = Column { steps, part, up, slot: 0, group: None };
                if up == 0 || column.is_attribute_above() {
                    column.slot = compiled.own_cells;
                    compiled.own_cells += 1;
                } else {
                    let (group, slot) = program.join_group((number, at, up), &mut compiled.groups);
                    (column.group, column.slot) = (Some(group), slot);
                }
                compiled.columns.push(column);
            }
            program.shapes.push(compiled);
        }
        program
    }

    /// Which of the shape's groups the column is in, and its place there.
    fn join_group(
        &mut self,
        (shape, column, up): (usize, usize, usize),
        of_shape: &mut Vec<usize>,
    ) -> (usize, usize) {
        let known = of_shape.iter().position(|group| self.groups[*group].up == up);
        let place = known.unwrap_or_else(|| {
            of_shape.push(self.groups.len());
            self.groups.push(Group { shape, up, columns: Vec::new() });
            of_shape.len() - 1
        });
        let group = &mut self.groups[of_shape[place]];
        group.columns.push(column);
        (place, group.columns.len() - 1)
    }

    fn lines(&mut self, steps: &[Step]) -> Vec<Line> {
        let line = |step: &Step| {
            let counter = match step.position {
                None => 0,
                Some(_) => {
                    let known = self.counted.iter().position(|name| *name == step.name);
                    known.unwrap_or_else(|| {
                        self.counted.push(step.name.clone());
                        self.counted.len() - 1
                    })
                }
            };
            Line { step: step.clone(), counter }
        };
        steps.iter().map(line).collect()
    }

    fn lines_of(&self, path: PathOf) -> &[Line] {
        match path {
            PathOf::Row(shape) => &self.shapes[shape].row,
            PathOf::Column { shape, column, .. } => &self.shapes[shape].columns[column].steps,
        }
    }

    /// What an entry becomes at a child: it stays for the child's own children, it moves on, its path is reached.
    pub(super) fn advance(&self, entry: Entry, name: &[u8], counts: &[u32]) -> Advance {
        let lines = self.lines_of(entry.path);
        let Line { step, counter } = &lines[entry.step as usize];
        let is_there = step.position.is_none_or(|position| counts[*counter] == position);
        let stays = step.is_deep;
        if !step.matches(name) || !is_there {
            return Advance { stays, next: None, is_reached: false };
        }
        let next = Entry { step: entry.step + 1, ..entry };
        match lines.len() == next.step as usize {
            true => Advance { stays, next: None, is_reached: true },
            false => Advance { stays, next: Some(next), is_reached: false },
        }
    }
}

pub(super) struct Advance {
    pub(super) stays: bool,
    pub(super) next: Option<Entry>,
    pub(super) is_reached: bool,
}
