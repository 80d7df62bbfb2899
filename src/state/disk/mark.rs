//! Whose state is on disk: the pipeline, the epoch that it reaches, and the shape of each table.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::engine::{Engine, Kind};
use super::error::DiskError;
use crate::model::{CommittedEpoch, KeptEpochs};
use crate::state::time::ClockMark;

/// Another form of the rows or of the mark has another number.
const FORMAT: u32 = 1;

const MARK: &[u8] = b"mark";
const NEWEST: &[u8] = b"newest";

/// All changes of epochs up to this one are on disk; some of later ones may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::state) struct Mark {
    format: u32,
    pipeline: String,
    whole: CommittedEpoch,
    pub(in crate::state) clocks: ClockMark,
    pub(in crate::state) tables: BTreeMap<String, TableMark>,
}

/// A table on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::state) struct TableMark {
    /// Tells its keys from those of other tables.
    pub(in crate::state) number: u16,
    /// What its rows are like: a table of another shape is read from its landing table.
    pub(in crate::state) shape: String,
    /// The newest truncate: its position and its SCN.
    pub(in crate::state) truncated: Option<(i64, Option<i64>)>,
}

impl Mark {
    pub(in crate::state) fn new(
        pipeline: &str,
        whole: CommittedEpoch,
        clocks: ClockMark,
        tables: BTreeMap<String, TableMark>,
    ) -> Self {
        Self { format: FORMAT, pipeline: pipeline.to_owned(), whole, clocks, tables }
    }

    /// What a folder is of, and which epochs are in it; `None` if nothing whole of this pipeline is there.
    pub(in crate::state) fn read(
        engine: &Engine,
        pipeline: &str,
    ) -> Result<Option<(Self, KeptEpochs)>, DiskError> {
        if !engine.is_valid()? {
            return Ok(None);
        }
        let Some(mark) = engine.get(Kind::Marks, MARK)? else { return Ok(None) };
        let newest = engine.get(Kind::Marks, NEWEST)?;
        let mark: Option<Self> = serde_json::from_slice(&mark).ok();
        let is_ours = |mark: &Self| mark.format == FORMAT && mark.pipeline == pipeline;
        let Some(mark) = mark.filter(is_ours) else { return Ok(None) };
        let whole = mark.whole.clone();
        let newest: Option<CommittedEpoch> =
            newest.and_then(|newest| serde_json::from_slice(&newest).ok());
        let newest = newest.filter(|newest| newest.epoch >= whole.epoch);
        let newest = newest.unwrap_or_else(|| whole.clone());
        Ok(Some((mark, KeptEpochs { whole, newest })))
    }

    pub(in crate::state) fn whole_epoch(&self) -> u64 {
        self.whole.epoch.0
    }

    /// Its place among the marks, and its bytes.
    pub(in crate::state) fn record(&self) -> (&'static [u8], Vec<u8>) {
        (MARK, serde_json::to_vec(self).unwrap_or_default())
    }
}

/// The place and the bytes of the newest epoch whose rows may be on disk.
pub(in crate::state) fn newest_record(newest: &CommittedEpoch) -> (&'static [u8], Vec<u8>) {
    (NEWEST, serde_json::to_vec(newest).unwrap_or_default())
}
