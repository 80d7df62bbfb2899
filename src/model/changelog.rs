//! Changes of a source table's rows, as an epoch has them.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::filter_record_batch;

use super::{Offset, Position, Scn, SystemColumn, Table};

/// What happened to a row. The letters are Debezium's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A row of a snapshot: it never overwrites a newer row.
    Read,
    Create,
    Update,
    Delete,
}

impl Operation {
    /// The letter of the envelope's `op` field.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Read => "r",
            Self::Create => "c",
            Self::Update => "u",
            Self::Delete => "d",
        }
    }

    pub fn from_letter(letter: &str) -> Option<Self> {
        match letter {
            "r" => Some(Self::Read),
            "c" => Some(Self::Create),
            "u" => Some(Self::Update),
            "d" => Some(Self::Delete),
            _ => None,
        }
    }
}

/// The changes of one table within an epoch, in broker order.
///
/// Shape: `batch` has the schema of [`Table::changelog_schema`]: the columns (of the row
/// after the change; of the row before it for a delete, possibly only its key) and then the system
/// columns. `offsets[i]`, `positions[i]`,
/// `operations[i]` and `scns[i]` belong to row `i`.
#[derive(Debug, Clone)]
pub struct Changelog {
    pub table: Arc<Table>,
    pub batch: RecordBatch,
    pub offsets: Vec<Offset>,
    pub positions: Vec<Position>,
    pub operations: Vec<Operation>,
    /// `None` where the event did not say.
    pub scns: Vec<Option<Scn>>,
    /// Cells that the event did not carry because a LOB was unchanged (Debezium's "unavailable
    /// value"). NULL in `batch` until the state store fills in the old value, where it knows one.
    /// Almost always empty.
    pub unchanged: Vec<Cell>,
    /// When the source emptied the table, in broker order. Almost always empty.
    pub truncations: Vec<Truncation>,
}

/// A place in a changelog's batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    pub row: usize,
    pub column: usize,
}

/// The source emptied the table: every row of an older position is gone. It is no row of the changelog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncation {
    pub offset: Offset,
    pub position: Position,
    /// When the database did it, microseconds since 1970.
    pub source_ts: Option<i64>,
    pub scn: Option<Scn>,
}

impl Changelog {
    /// How many rows it has.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty() && self.truncations.is_empty()
    }

    /// The changelog without some of its rows; `is_gone` has one flag per row.
    pub fn without(mut self, is_gone: &[bool]) -> Self {
        fn keep<T>(values: &mut Vec<T>, is_gone: &[bool]) {
            let mut is_gone = is_gone.iter();
            values.retain(|_| is_gone.next() == Some(&false));
        }
        let mask: BooleanArray = is_gone.iter().map(|gone| Some(!gone)).collect();
        self.batch =
            filter_record_batch(&self.batch, &mask).expect("the mask has one flag per row");
        keep(&mut self.offsets, is_gone);
        keep(&mut self.positions, is_gone);
        keep(&mut self.operations, is_gone);
        keep(&mut self.scns, is_gone);
        self.unchanged.retain(|cell| !is_gone[cell.row]);
        for cell in &mut self.unchanged {
            cell.row -= is_gone[..cell.row].iter().filter(|gone| **gone).count();
        }
        self
    }

    /// The `source_ts` of the rows that have one, microseconds since 1970.
    pub fn source_times(&self) -> impl Iterator<Item = i64> + '_ {
        let times = self.batch.column(self.table.system_column(SystemColumn::SourceTs));
        let times = times.as_any().downcast_ref::<TimestampMicrosecondArray>();
        times.into_iter().flatten().flatten()
    }
}
