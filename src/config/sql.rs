//! The `[sql]` section.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// The `[sql]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SqlConfig {
    /// The folder with `tables/`, `transforms/` and `ods/`. Default: `sql`.
    pub folder: PathBuf,
    /// Further folders of transforms, such as `alerts`; a relative one is below `folder`, an empty text is none.
    pub also: Vec<String>,
    /// How far the watermark stays behind the newest event time. Default: 10 s.
    #[serde(with = "humantime_serde")]
    pub watermark_delay: Duration,
    /// How long a table may be without events, by the source's clock, before the watermark goes on
    /// without it. Default: 30 s.
    #[serde(with = "humantime_serde")]
    pub idle_after: Duration,
    /// Where the source's clock starts, in place of what the ledger says; microseconds since 1970. Of the command line,
    /// because it is for one start.
    #[serde(skip)]
    pub start_time: Option<i64>,
}

impl Default for SqlConfig {
    fn default() -> Self {
        Self {
            folder: PathBuf::from("sql"),
            also: Vec::new(),
            watermark_delay: Duration::from_secs(10),
            idle_after: Duration::from_secs(30),
            start_time: None,
        }
    }
}

impl SqlConfig {
    /// The folders that transforms are in.
    pub fn transforms(&self) -> Vec<PathBuf> {
        let also = self.also.iter().filter(|folder| !folder.is_empty());
        let also = also.map(|folder| self.folder.join(folder));
        std::iter::once(self.folder.join("transforms")).chain(also).collect()
    }
}
