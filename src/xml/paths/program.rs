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

use super::path::{PathStep, ValuePart};
use super::shape::Shape;

/// Paths with what matching needs to know of them.
#[derive(Debug)]
pub(in crate::xml) struct Program {
    pub(in crate::xml) shapes: Vec<Compiled>,
    /// Columns of one shape that go up by the same number of levels.
    pub(in crate::xml) groups: Vec<ColumnGroup>,
    /// The names of steps with a position, whose children are counted.
    pub(in crate::xml) counted: Vec<Option<Box<[u8]>>>,
}

#[derive(Debug)]
pub(in crate::xml) struct Compiled {
    row: Vec<CompiledStep>,
    /// One for each path of a column.
    pub(in crate::xml) columns: Vec<CompiledColumn>,
    /// Where the paths of each column of the shape end in `columns`.
    pub(in crate::xml) ends: Vec<usize>,
    /// ShapeRows of its rows' own instances.
    pub(in crate::xml) own_cells: usize,
    /// Positions in [`Program::groups`], in rising order.
    pub(in crate::xml) groups: Vec<usize>,
}

#[derive(Debug)]
struct CompiledStep {
    step: PathStep,
    counter: usize,
}

#[derive(Debug)]
pub(in crate::xml) struct CompiledColumn {
    steps: Vec<CompiledStep>,
    pub(in crate::xml) part: ValuePart,
    pub(in crate::xml) up: usize,
    /// Which of the cells of its instance.
    pub(in crate::xml) slot: usize,
    /// Which of its shape's groups; only if it goes up and needs an instance there.
    pub(in crate::xml) group: Option<usize>,
}

impl CompiledColumn {
    /// Whether it is an attribute of the row's own element.
    pub(in crate::xml) fn is_attribute(&self, local_name: &[u8]) -> bool {
        let is_it = matches!(&self.part, ValuePart::Attribute(name) if **name == *local_name);
        is_it && self.up == 0 && self.steps.is_empty()
    }

    /// Attributes of an element above the row are read when the row begins.
    pub(in crate::xml) fn is_attribute_above(&self) -> bool {
        self.up > 0 && self.steps.is_empty() && matches!(self.part, ValuePart::Attribute(_))
    }

    pub(in crate::xml) fn is_reached_at_once(&self) -> bool {
        self.steps.is_empty()
    }
}

#[derive(Debug)]
pub(in crate::xml) struct ColumnGroup {
    pub(in crate::xml) shape: usize,
    pub(in crate::xml) up: usize,
    pub(in crate::xml) columns: Vec<usize>,
}

/// A path under way: its next step is to be matched by children of the element that has the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::xml) struct PathEntry {
    pub(in crate::xml) path: PathOf,
    step: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::xml) enum PathOf {
    /// The rows of a shape.
    Row(usize),
    Column(ColumnPlace),
}

/// A column of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::xml) struct ColumnPlace {
    pub(in crate::xml) instance: usize,
    pub(in crate::xml) shape: usize,
    pub(in crate::xml) column: usize,
}

impl PathEntry {
    pub(in crate::xml) fn first(path: PathOf) -> Self {
        Self { path, step: 0 }
    }
}

impl Program {
    pub(in crate::xml) fn new(shapes: &[Arc<Shape>]) -> Self {
        let mut program = Self { shapes: Vec::new(), groups: Vec::new(), counted: Vec::new() };
        for (number, shape) in shapes.iter().enumerate() {
            let row = program.lines(&shape.row);
            let mut compiled = Compiled {
                row,
                columns: Vec::new(),
                ends: Vec::new(),
                own_cells: 0,
                groups: Vec::new(),
            };
            for column in &shape.columns {
                for path in &column.paths {
                    let steps = program.lines(&path.steps);
                    let (part, up) = (path.part.clone(), path.up);
                    let mut column = CompiledColumn { steps, part, up, slot: 0, group: None };
                    if up == 0 || column.is_attribute_above() {
                        column.slot = compiled.own_cells;
                        compiled.own_cells += 1;
                    } else {
                        let (group, slot) = program.join_group(number, up, &mut compiled.groups);
                        program.groups[compiled.groups[group]].columns.push(compiled.columns.len());
                        (column.group, column.slot) = (Some(group), slot);
                    }
                    compiled.columns.push(column);
                }
                compiled.ends.push(compiled.columns.len());
            }
            program.shapes.push(compiled);
        }
        program
    }

    /// Which of the shape's groups the next column with this `up` is in, and its place there.
    fn join_group(&mut self, shape: usize, up: usize, of_shape: &mut Vec<usize>) -> (usize, usize) {
        let known = of_shape.iter().position(|group| self.groups[*group].up == up);
        let place = known.unwrap_or_else(|| {
            of_shape.push(self.groups.len());
            self.groups.push(ColumnGroup { shape, up, columns: Vec::new() });
            of_shape.len() - 1
        });
        (place, self.groups[of_shape[place]].columns.len())
    }

    fn lines(&mut self, steps: &[PathStep]) -> Vec<CompiledStep> {
        let line = |step: &PathStep| {
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
            CompiledStep { step: step.clone(), counter }
        };
        steps.iter().map(line).collect()
    }

    fn lines_of(&self, path: PathOf) -> &[CompiledStep] {
        match path {
            PathOf::Row(shape) => &self.shapes[shape].row,
            PathOf::Column(ColumnPlace { shape, column, .. }) => {
                &self.shapes[shape].columns[column].steps
            }
        }
    }

    /// What an entry becomes at a child: it stays for the child's own children, it moves on, its path is reached.
    pub(in crate::xml) fn advance(&self, entry: PathEntry, name: &[u8], counts: &[u32]) -> Advance {
        let lines = self.lines_of(entry.path);
        let CompiledStep { step, counter } = &lines[entry.step as usize];
        let is_there = step.position.is_none_or(|position| counts[*counter] == position);
        let stays = step.is_deep;
        if !step.matches(name) || !is_there {
            return Advance { stays, next: None, is_reached: false };
        }
        let next = PathEntry { step: entry.step + 1, ..entry };
        let is_reached = lines.len() == next.step as usize;
        Advance { stays, next: Some(next).filter(|_| !is_reached), is_reached }
    }
}

pub(in crate::xml) struct Advance {
    pub(in crate::xml) stays: bool,
    pub(in crate::xml) next: Option<PathEntry>,
    pub(in crate::xml) is_reached: bool,
}
