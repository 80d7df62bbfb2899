//! The names of checkpoint files.

use object_store::path::Path;

use crate::model::Epoch;

/// Names the files of one pipeline: the only place that builds or reads such names.
///
/// All files are in one folder: DataFusion does not look into folders below the one of a pattern.
#[derive(Debug)]
pub(super) struct Naming {
    folder: Path,
    pipeline: String,
    prefix: String,
}

/// Which epochs a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CheckpointFile {
    pub(super) first: Epoch,
    pub(super) last: Epoch,
}

impl CheckpointFile {
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.first <= other.first && self.last >= other.last
    }
}

impl Naming {
    pub(super) fn new(folder: Path, pipeline: &str) -> Self {
        Self { folder, pipeline: pipeline.to_owned(), prefix: format!("{pipeline}-epochs-") }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// In a folder of its own, because its rows are of another shape.
    pub(super) fn schema_path(&self) -> Path {
        self.folder.clone().join("schema").join(format!("{}.parquet", self.pipeline))
    }

    /// Of no checkpoint.
    pub(super) fn trial_path(&self) -> Path {
        self.folder.clone().join(format!("{}-trial", self.pipeline))
    }

    pub(super) fn path(&self, file: &CheckpointFile) -> Path {
        let (first, last) = (file.first.0, file.last.0);
        self.folder.clone().join(format!("{}{first:016}-{last:016}.parquet", self.prefix))
    }

    /// `None` for anything that is not a checkpoint of this pipeline.
    pub(super) fn parse(&self, path: &Path) -> Option<CheckpointFile> {
        let name = path.filename()?.strip_prefix(&self.prefix)?.strip_suffix(".parquet")?;
        let (first, last) = name.split_once('-')?;
        Some(CheckpointFile { first: Epoch(first.parse().ok()?), last: Epoch(last.parse().ok()?) })
    }
}
