//! Which state is on disk: the pipeline, the epoch, and the shape of each table.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::engine::{Engine, Kind, Number};
use super::error::DiskError;
use crate::model::{CommittedEpoch, KeptOperators};
use crate::state::time::ClockMark;

/// Another form of the rows or of the mark has another number.
const FORMAT: u32 = 2;

const MARK: &[u8] = b"mark";

/// The state on disk is the one after this epoch. It is written together with what has changed since the mark before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::state) struct Mark {
    format: u32,
    pipeline: String,
    pub(in crate::state) epoch: CommittedEpoch,
    pub(in crate::state) clocks: ClockMark,
    pub(in crate::state) tables: BTreeMap<String, TableMark>,
    /// By result.
    pub(in crate::state) operators: BTreeMap<String, KeptOperators>,
}

/// A table on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::state) struct TableMark {
    pub(in crate::state) number: Number,
    /// What its rows are like: a table of another shape is read from its landing table.
    pub(in crate::state) shape: String,
    /// The newest truncate: its position and its SCN.
    pub(in crate::state) truncated: Option<(i64, Option<i64>)>,
}

impl Mark {
    pub(in crate::state) fn new(
        pipeline: &str,
        epoch: CommittedEpoch,
        clocks: ClockMark,
        tables: BTreeMap<String, TableMark>,
    ) -> Self {
        let (pipeline, operators) = (pipeline.to_owned(), BTreeMap::new());
        Self { format: FORMAT, pipeline, epoch, clocks, tables, operators }
    }

    /// What a folder is of; `None` if nothing of this pipeline is there.
    pub(in crate::state) fn read(
        engine: &Engine,
        pipeline: &str,
    ) -> Result<Option<Self>, DiskError> {
        let Some(mark) = engine.get(Kind::Marks, MARK)? else { return Ok(None) };
        let mark: Option<Self> = serde_json::from_slice(&mark).ok();
        let is_ours = |mark: &Self| mark.format == FORMAT && mark.pipeline == pipeline;
        Ok(mark.filter(is_ours))
    }

    /// The numbers whose keys are of this state.
    pub(in crate::state) fn numbers(&self) -> BTreeSet<Number> {
        let spaces = self.operators.values().flat_map(|kept| &kept.spaces);
        let tables = self.tables.values().map(|table| table.number);
        tables.chain(spaces.map(|space| space.id.0)).collect()
    }

    /// Its place among the marks, and its bytes.
    pub(in crate::state) fn record(&self) -> (&'static [u8], Vec<u8>) {
        (MARK, serde_json::to_vec(self).unwrap_or_default())
    }
}
