//! Where rows and their columns are in a document.

mod path;
mod program;
mod shape;

pub(super) use path::ValuePart;
#[cfg(test)]
pub(super) use path::{PathStep, column_path, row_path};
pub(super) use program::{ColumnPlace, CompiledColumn, PathEntry, PathOf, Program};
pub use shape::{Shape, ShapeColumn};
