//! Checkpoints: the ledger's committed epochs as Parquet, for people and tools to query.
//!
//! With a Postgres ledger the checkpoints are a copy: losing one loses no data, and a full disk stops
//! nothing. Files are written whole and appear by rename; many small ones are compacted into one.
//!
//! It knows object stores and Parquet. It does not know Postgres; the pipeline hands it the epochs.

mod paths;
mod rows;
mod schema;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use serde::Deserialize;
use url::Url;

use crate::model::{Epoch, LedgerEntry, SchemaChange};
use paths::{CheckpointFile, Naming};

/// Files of one pipeline that start a compaction.
const COMPACT_AT: usize = 60;

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

/// Writes the checkpoints of one pipeline.
#[derive(Debug)]
pub struct Checkpoints {
    store: Arc<dyn ObjectStore>,
    naming: Naming,
    retention: Duration,
}

impl Checkpoints {
    /// # Errors
    /// If the URL is of no kind that is known, or a local folder can't be made.
    pub fn open(config: &CheckpointConfig, pipeline: &str) -> Result<Self, CheckpointError> {
        let (store, folder) = open_store(&config.url)
            .map_err(|source| CheckpointError::Url { url: config.url.clone(), source })?;
        Ok(Self { store, naming: Naming::new(folder, pipeline), retention: config.retention })
    }

    /// The newest epoch that a checkpoint holds.
    ///
    /// # Errors
    /// If the folder can't be listed.
    pub async fn newest(&self) -> Result<Option<Epoch>, CheckpointError> {
        Ok(self.list().await?.into_iter().map(|file| file.last).max())
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
        let mut files = self.list().await?;
        files.sort_by_key(|file| (file.first, std::cmp::Reverse(file.last)));
        files = self.remove_covered(files).await?;
        if files.len() >= COMPACT_AT {
            files = self.compact(files).await?;
        }
        self.remove_expired(files, now).await
    }

    /// A crash between publishing a merged file and removing its parts leaves both.
    async fn remove_covered(
        &self,
        files: Vec<CheckpointFile>,
    ) -> Result<Vec<CheckpointFile>, CheckpointError> {
        let mut kept: Vec<CheckpointFile> = Vec::new();
        for file in files {
            if kept.iter().any(|other| other.covers(&file)) {
                self.delete(&self.naming.path(&file)).await?;
            } else {
                kept.push(file);
            }
        }
        Ok(kept)
    }

    async fn compact(
        &self,
        files: Vec<CheckpointFile>,
    ) -> Result<Vec<CheckpointFile>, CheckpointError> {
        let (Some(first), Some(last)) = (files.first(), files.last()) else { return Ok(files) };
        let merged = CheckpointFile { first: first.first, last: last.last };
        let mut parts = Vec::with_capacity(files.len());
        for file in &files {
            parts.push(self.get(&self.naming.path(file)).await?);
        }
        let path = self.naming.path(&merged);
        let bytes = rows::merge(parts)
            .map_err(|source| CheckpointError::Parquet { path: path.to_string(), source })?;
        self.put(&path, bytes).await?;
        self.remove_covered(std::iter::once(merged).chain(files).collect()).await
    }

    async fn remove_expired(
        &self,
        files: Vec<CheckpointFile>,
        now: SystemTime,
    ) -> Result<(), CheckpointError> {
        let Some(before) = now.checked_sub(self.retention) else { return Ok(()) };
        // The newest file stays: it says where the pipeline is.
        let newest = files.iter().map(|file| file.last).max();
        for file in files.iter().filter(|file| Some(file.last) != newest) {
            let path = self.naming.path(file);
            let head = self.store.head(&path).await;
            let meta = head.map_err(|source| store_error("read", &path, source))?;
            if SystemTime::from(meta.last_modified) < before {
                self.delete(&path).await?;
            }
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<CheckpointFile>, CheckpointError> {
        let objects: Vec<_> = self
            .store
            .list(Some(self.naming.folder()))
            .try_collect()
            .await
            .map_err(|source| store_error("list", self.naming.folder(), source))?;
        Ok(objects.iter().filter_map(|object| self.naming.parse(&object.location)).collect())
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

type OpenError = Box<dyn std::error::Error + Send + Sync>;

fn open_store(url: &str) -> Result<(Arc<dyn ObjectStore>, Path), OpenError> {
    match Url::parse(url) {
        Ok(url) if url.scheme() == "s3" => {
            let s3 =
                object_store::aws::AmazonS3Builder::from_env().with_url(url.as_str()).build()?;
            Ok((Arc::new(s3), Path::from_url_path(url.path())?))
        }
        Ok(url) if url.scheme() == "file" => {
            open_folder(&url.to_file_path().map_err(|()| "a file URL needs an absolute path")?)
        }
        Ok(url) => Err(format!("scheme {} is not known", url.scheme()).into()),
        Err(_) => open_folder(std::path::Path::new(url)),
    }
}

fn open_folder(folder: &std::path::Path) -> Result<(Arc<dyn ObjectStore>, Path), OpenError> {
    std::fs::create_dir_all(folder)?;
    let store = object_store::local::LocalFileSystem::new_with_prefix(folder)?;
    Ok((Arc::new(store), Path::default()))
}

#[cfg(test)]
mod tests;
