//! Checkpoints: the ledger's committed epochs as Parquet, for people and tools to query.
//!
//! With a Postgres ledger the checkpoints are a copy: losing one loses no data, and a full disk stops
//! nothing. Files are written whole and appear by rename; many small ones are compacted into one.
//!
//! It knows object stores and Parquet. It does not know Postgres; the pipeline hands it the epochs.

mod error;
mod paths;
mod read;
mod rows;
mod schema;
mod storage;

use std::time::{Duration, SystemTime};

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use serde::Deserialize;

use crate::model::{Epoch, LedgerEntry, RecordedEpoch, SchemaChange};
pub use error::CheckpointError;
use paths::{CheckpointFile, Naming};
use storage::Storage;

/// Small files of one pipeline that start a compaction.
const COMPACT_AT: usize = 60;
/// Larger files stay as they are: a compaction costs what is new, not the whole history.
const SMALL: u64 = 8 << 20;

/// The `[checkpoint]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// `file:///path`, a relative path, or `s3://bucket/prefix`; S3 credentials come from the usual
    /// `AWS_*` variables. Default: `checkpoints`.
    pub url: String,
    /// How often committed epochs are written. Default: 10 s.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// How long files are kept, by the time of their newest epoch. Default: 7 days.
    #[serde(with = "humantime_serde")]
    pub retention: Duration,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self {
            url: "checkpoints".to_owned(),
            interval: Duration::from_secs(10),
            retention: Duration::from_secs(7 * 86_400),
        }
    }
}

impl CheckpointConfig {
    /// Everything that is wrong with it, each with its key; no I/O.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.interval.is_zero() {
            problems.push("interval: must be above 0".to_owned());
        }
        if let Err(error) = Storage::new(&self.url) {
            problems.push(format!(
                "url: '{}' is neither a path, file:///path nor s3://bucket/prefix: {error}",
                self.url
            ));
        }
        problems
    }
}

/// A file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct StoredFile {
    file: CheckpointFile,
    bytes: u64,
}

/// Reads and writes the checkpoints of one pipeline.
#[derive(Debug)]
pub struct Checkpoints {
    storage: Storage,
    naming: Naming,
    retention: Duration,
}

impl Checkpoints {
    /// Touches no storage: a folder is made when it is needed, because it may be away at a start.
    ///
    /// # Errors
    /// If the URL is of no kind that is known.
    pub fn new(config: &CheckpointConfig, pipeline: &str) -> Result<Self, CheckpointError> {
        let storage = Storage::new(&config.url)
            .map_err(|source| CheckpointError::Url { url: config.url.clone(), source })?;
        let naming = Naming::new(storage.prefix(), pipeline);
        Ok(Self { storage, naming, retention: config.retention })
    }

    /// The newest epoch that a checkpoint holds.
    ///
    /// # Errors
    /// If the folder can't be listed.
    pub async fn newest(&self) -> Result<Option<Epoch>, CheckpointError> {
        Ok(self.list().await?.into_iter().map(|stored| stored.file.last).max())
    }

    /// Hands each epoch from `first` on to `take`, each once and in no particular order.
    ///
    /// # Errors
    /// If a file can't be read.
    pub async fn read_from(
        &self,
        first: Epoch,
        mut take: impl FnMut(RecordedEpoch),
    ) -> Result<(), CheckpointError> {
        let mut files = self.list().await?;
        files.retain(|stored| stored.file.last >= first);
        let mut read: Vec<CheckpointFile> = Vec::new();
        for StoredFile { file, .. } in files {
            // A merged file may stand beside its parts.
            if read.iter().any(|other| other.covers(&file)) {
                continue;
            }
            let path = self.naming.path(&file);
            let bytes = self.get(&path).await?;
            read::decode(bytes, first, &mut take)
                .map_err(|source| CheckpointError::Parquet { path: path.to_string(), source })?;
            read.push(file);
        }
        Ok(())
    }

    /// Publishes one file with these epochs; nothing if there are none.
    ///
    /// # Errors
    /// If it can't be written. Nothing half-written is ever visible.
    pub async fn write(&self, entries: &[LedgerEntry]) -> Result<(), CheckpointError> {
        let epochs = || entries.iter().map(|entry| entry.epoch);
        let (Some(first), Some(last)) = (epochs().min(), epochs().max()) else { return Ok(()) };
        let path = self.naming.path(&CheckpointFile { first, last });
        let bytes = rows::encode(entries)
            .map_err(|source| CheckpointError::Parquet { path: path.to_string(), source })?;
        self.put(&path, bytes).await
    }

    /// Writes a small file and removes it.
    ///
    /// # Errors
    /// If either can't be done.
    pub async fn try_out(&self) -> Result<(), CheckpointError> {
        let path = self.naming.trial_path();
        self.put(&path, b"written by tidemark doctor".to_vec()).await?;
        self.delete(&path).await
    }

    /// Replaces the file of the schema registry, `schema/<pipeline>.parquet`.
    ///
    /// # Errors
    /// If it can't be written; the file of before then stays.
    pub async fn write_schema(&self, changes: &[SchemaChange]) -> Result<(), CheckpointError> {
        let path = self.naming.schema_path();
        let bytes = schema::encode(self.naming.pipeline(), changes)
            .map_err(|source| CheckpointError::Parquet { path: path.to_string(), source })?;
        self.put(&path, bytes).await
    }

    /// Merges small files and removes old ones.
    ///
    /// # Errors
    /// If a file can't be read, written or removed; what is there stays readable.
    pub async fn tidy(&self, now: SystemTime) -> Result<(), CheckpointError> {
        let mut files = self.remove_covered(self.list().await?).await?;
        let large = files.iter().rposition(|stored| stored.bytes >= SMALL);
        let small = files.split_off(large.map_or(0, |at| at + 1));
        if small.len() >= COMPACT_AT {
            files.push(self.compact(small).await?);
        } else {
            files.extend(small);
        }
        self.remove_expired(&files, now).await
    }

    /// A crash between publishing a merged file and removing its parts leaves both.
    async fn remove_covered(
        &self,
        files: Vec<StoredFile>,
    ) -> Result<Vec<StoredFile>, CheckpointError> {
        let mut kept: Vec<StoredFile> = Vec::new();
        for stored in files {
            if kept.iter().any(|other| other.file.covers(&stored.file)) {
                self.delete(&self.naming.path(&stored.file)).await?;
            } else {
                kept.push(stored);
            }
        }
        Ok(kept)
    }

    /// One file in the place of these, which are at least two.
    async fn compact(&self, files: Vec<StoredFile>) -> Result<StoredFile, CheckpointError> {
        let numbers = || files.iter().map(|stored| stored.file);
        let merged = CheckpointFile {
            first: numbers().map(|file| file.first).min().unwrap_or(Epoch(0)),
            last: numbers().map(|file| file.last).max().unwrap_or(Epoch(0)),
        };
        let mut parts = Vec::with_capacity(files.len());
        for file in numbers() {
            parts.push(self.get(&self.naming.path(&file)).await?);
        }
        let path = self.naming.path(&merged);
        let bytes = rows::merge(parts)
            .map_err(|source| CheckpointError::Parquet { path: path.to_string(), source })?;
        let merged = StoredFile { file: merged, bytes: bytes.len() as u64 };
        self.put(&path, bytes).await?;
        for part in numbers() {
            self.delete(&self.naming.path(&part)).await?;
        }
        Ok(merged)
    }

    async fn remove_expired(
        &self,
        files: &[StoredFile],
        now: SystemTime,
    ) -> Result<(), CheckpointError> {
        let Some(before) = now.checked_sub(self.retention) else { return Ok(()) };
        // The newest file stays: it says where the pipeline is.
        let newest = files.iter().map(|stored| stored.file.last).max();
        let numbers = files.iter().map(|stored| &stored.file);
        for file in numbers.filter(|file| Some(file.last) != newest) {
            let path = self.naming.path(file);
            let head = self.storage.store().await?.head(&path).await;
            let meta = head.map_err(|source| CheckpointError::of_store("read", &path, source))?;
            if SystemTime::from(meta.last_modified) < before {
                self.delete(&path).await?;
            }
        }
        Ok(())
    }

    /// By their first epochs, and of those with the same one the longest first.
    async fn list(&self) -> Result<Vec<StoredFile>, CheckpointError> {
        let store = self.storage.store().await?;
        let objects: Vec<_> =
            store.list(Some(self.naming.folder())).try_collect().await.map_err(|source| {
                CheckpointError::of_store("list", self.naming.folder(), source)
            })?;
        let stored = |object: &object_store::ObjectMeta| {
            let file = self.naming.parse(&object.location)?;
            Some(StoredFile { file, bytes: object.size })
        };
        let mut files: Vec<StoredFile> = objects.iter().filter_map(stored).collect();
        files.sort_by_key(|stored| (stored.file.first, std::cmp::Reverse(stored.file.last)));
        Ok(files)
    }

    async fn put(&self, path: &Path, bytes: Vec<u8>) -> Result<(), CheckpointError> {
        let put = self.storage.store().await?.put(path, PutPayload::from(bytes)).await;
        put.map(drop).map_err(|source| CheckpointError::of_store("write", path, source))
    }

    async fn get(&self, path: &Path) -> Result<bytes::Bytes, CheckpointError> {
        let store = self.storage.store().await?;
        let read = async { store.get(path).await?.bytes().await };
        read.await.map_err(|source| CheckpointError::of_store("read", path, source))
    }

    async fn delete(&self, path: &Path) -> Result<(), CheckpointError> {
        let deleted = self.storage.store().await?.delete(path).await;
        deleted.map_err(|source| CheckpointError::of_store("remove", path, source))
    }
}

#[cfg(test)]
mod tests;
