//! Where checkpoints are kept: a folder or a bucket, opened when it is first needed.

use std::error::Error;
use std::io::ErrorKind;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use tokio::sync::OnceCell;
use url::Url;

use super::error::CheckpointError;

/// The place that `checkpoint.url` names.
#[derive(Debug)]
pub(super) struct Storage {
    /// `None` of a bucket.
    folder: Option<PathBuf>,
    prefix: Path,
    store: OnceCell<Arc<dyn ObjectStore>>,
}

impl Storage {
    /// No I/O.
    ///
    /// # Errors
    /// If the URL is of no kind that is known.
    pub(super) fn new(url: &str) -> Result<Self, Box<dyn Error + Send + Sync>> {
        match Url::parse(url) {
            Ok(url) if url.scheme() == "s3" => {
                let bucket = AmazonS3Builder::from_env().with_url(url.as_str()).build()?;
                let store: Arc<dyn ObjectStore> = Arc::new(bucket);
                let prefix = Path::from_url_path(url.path())?;
                Ok(Self { folder: None, prefix, store: OnceCell::new_with(Some(store)) })
            }
            Ok(url) if url.scheme() == "file" => {
                let folder = url.to_file_path();
                folder.map(Self::folder).map_err(|()| "a file URL needs an absolute path".into())
            }
            Ok(url) => Err(format!("scheme {} is not known", url.scheme()).into()),
            Err(_) if url.is_empty() => Err("it is empty".into()),
            Err(_) => Ok(Self::folder(PathBuf::from(url))),
        }
    }

    fn folder(folder: PathBuf) -> Self {
        Self { folder: Some(folder), prefix: Path::default(), store: OnceCell::new() }
    }

    /// Of all names in the store.
    pub(super) fn prefix(&self) -> Path {
        self.prefix.clone()
    }

    /// The store; a folder that is not there is made.
    ///
    /// # Errors
    /// If it can't be made. The next call tries again.
    pub(super) async fn store(&self) -> Result<&dyn ObjectStore, CheckpointError> {
        let opened = self.store.get_or_try_init(|| async {
            let folder = self.folder.clone().unwrap_or_default();
            let made = tokio::fs::create_dir_all(&folder).await;
            made.map_err(|source| not_made(&folder, source))?;
            let failed = |source| CheckpointError::Store {
                action: "open",
                path: folder.display().to_string(),
                source,
            };
            let store = LocalFileSystem::new_with_prefix(&folder).map_err(failed)?;
            Ok::<Arc<dyn ObjectStore>, CheckpointError>(Arc::new(store))
        });
        opened.await.map(|store| &**store)
    }
}

/// The system's words for a file in the place of the folder, "File exists", don't say what to do.
fn not_made(folder: &FilePath, source: std::io::Error) -> CheckpointError {
    let is_file = |path: &&FilePath| path.is_file();
    let in_the_way = match source.kind() {
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory => folder.ancestors().find(is_file),
        _ => None,
    };
    match in_the_way {
        Some(path) => CheckpointError::FileInTheWay { path: path.to_owned() },
        None => CheckpointError::Folder { path: folder.to_owned(), source },
    }
}
