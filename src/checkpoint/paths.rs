use object_store::path::Path;

use crate::changelog::Epoch;

/// The name of a checkpoint file: which epochs it holds. The only place that builds such names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CheckpointFile {
    pub(super) first: Epoch,
    pub(super) last: Epoch,
}

impl CheckpointFile {
    pub(super) fn path(&self, folder: &Path) -> Path {
        folder.clone().join(format!("epochs-{:016}-{:016}.parquet", self.first.0, self.last.0))
    }

    /// `None` for files that are not checkpoints.
    pub(super) fn parse(path: &Path) -> Option<Self> {
        let name = path.filename()?.strip_prefix("epochs-")?.strip_suffix(".parquet")?;
        let (first, last) = name.split_once('-')?;
        Some(Self { first: Epoch(first.parse().ok()?), last: Epoch(last.parse().ok()?) })
    }

    pub(super) fn covers(&self, other: &Self) -> bool {
        self.first <= other.first && self.last >= other.last
    }
}
