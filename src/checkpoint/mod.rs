//! Checkpoints: the ledger's committed epochs as Parquet, for people and tools to query.
//!
//! With a Postgres ledger the checkpoints are a copy: losing one loses no data, and a full disk stops
//! nothing. Files are written whole and appear by rename; many small ones are compacted into one.
//!
//! It knows object stores and Parquet. It does not know Postgres; the pipeline hands it the epochs.

mod paths;
mod read;
mod rows;
mod schema;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use serde::Deserialize;
use url::Url;

use crate::model::{Epoch, LedgerEntry, RecordedEpoch, SchemaChange};
use paths::{CheckpointFile, Naming};

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

#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("checkpoint.url '{url}' is neither a path, file:/// nor s3://bucket/prefix")]
    Url {
        url: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Tried again.
    #[error("checkpoint.url: the folder {path} can't be made; the data is safe in the ledger")]
    Folder {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "can't {action} {path}; the data is safe in the ledger and is tried again: check space and permissions"
    )]
    Store {
        action: &'static str,
        path: String,
        #[source]
        source: object_store::Error,
    },
    #[error("checkpoint {path} can't be encoded or decoded")]
    Parquet {
        path: String,
        #[source]
        source: parquet::errors::ParquetError,
    },
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
    store: Arc<dyn ObjectStore>,
    naming: Naming,
    retention: Duration,
}

impl Checkpoints {
    /// # Errors
    /// [`CheckpointError::Url`] if the URL is of no kind that is known, [`CheckpointError::Folder`] if a local folder
    /// can't be made now.
    pub fn open(config: &CheckpointConfig, pipeline: &str) -> Result<Self, CheckpointError> {
        let (store, folder) = open_store(&config.url)?;
        Ok(Self { store, naming: Naming::new(folder, pipeline), retention: config.retention })
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
            let head = self.store.head(&path).await;
            let meta = head.map_err(|source| store_error("read", &path, source))?;
            if SystemTime::from(meta.last_modified) < before {
                self.delete(&path).await?;
            }
        }
        Ok(())
    }

    /// By their first epochs, and of those with the same one the longest first.
    async fn list(&self) -> Result<Vec<StoredFile>, CheckpointError> {
        let objects: Vec<_> = self
            .store
            .list(Some(self.naming.folder()))
            .try_collect()
            .await
            .map_err(|source| store_error("list", self.naming.folder(), source))?;
        let stored = |object: &object_store::ObjectMeta| {
            let file = self.naming.parse(&object.location)?;
            Some(StoredFile { file, bytes: object.size })
        };
        let mut files: Vec<StoredFile> = objects.iter().filter_map(stored).collect();
        files.sort_by_key(|stored| (stored.file.first, std::cmp::Reverse(stored.file.last)));
        Ok(files)
    }

    async fn put(&self, path: &Path, bytes: Vec<u8>) -> Result<(), CheckpointError> {
        let put = self.store.put(path, PutPayload::from(bytes)).await;
        put.map(drop).map_err(|source| store_error("write", path, source))
    }

    async fn get(&self, path: &Path) -> Result<bytes::Bytes, CheckpointError> {
        let read = async { self.store.get(path).await?.bytes().await };
        read.await.map_err(|source| store_error("read", path, source))
    }

    async fn delete(&self, path: &Path) -> Result<(), CheckpointError> {
        self.store.delete(path).await.map_err(|source| store_error("remove", path, source))
    }
}

fn store_error(action: &'static str, path: &Path, source: object_store::Error) -> CheckpointError {
    CheckpointError::Store { action, path: path.to_string(), source }
}

fn open_store(url: &str) -> Result<(Arc<dyn ObjectStore>, Path), CheckpointError> {
    let wrong = |source: Box<dyn std::error::Error + Send + Sync>| CheckpointError::Url {
        url: url.to_owned(),
        source,
    };
    match Url::parse(url) {
        Ok(parsed) if parsed.scheme() == "s3" => {
            let builder = object_store::aws::AmazonS3Builder::from_env().with_url(url);
            let s3 = builder.build().map_err(|error| wrong(error.into()))?;
            let folder = Path::from_url_path(parsed.path()).map_err(|error| wrong(error.into()))?;
            Ok((Arc::new(s3), folder))
        }
        Ok(parsed) if parsed.scheme() == "file" => {
            let folder = parsed.to_file_path();
            open_folder(&folder.map_err(|()| wrong("a file URL needs an absolute path".into()))?)
        }
        Ok(parsed) => Err(wrong(format!("scheme {} is not known", parsed.scheme()).into())),
        Err(_) => open_folder(std::path::Path::new(url)),
    }
}

fn open_folder(folder: &std::path::Path) -> Result<(Arc<dyn ObjectStore>, Path), CheckpointError> {
    let path = || folder.display().to_string();
    std::fs::create_dir_all(folder)
        .map_err(|source| CheckpointError::Folder { path: path(), source })?;
    let opened = object_store::local::LocalFileSystem::new_with_prefix(folder);
    let store =
        opened.map_err(|source| CheckpointError::Store { action: "open", path: path(), source })?;
    Ok((Arc::new(store), Path::default()))
}

#[cfg(test)]
mod tests;
