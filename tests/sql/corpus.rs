use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemark::changelog::Table;
use tidemark::transform::{SqlFile, parse_tables, read_folder};

/// The queries.
pub(crate) struct Corpus {
    pub(crate) files: Vec<SqlFile>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql").join(name)
}

pub(crate) fn tables() -> Vec<Arc<Table>> {
    parse_tables(&read_folder(&folder("tables")).unwrap()).unwrap()
}

impl Corpus {
    pub(crate) fn read() -> Self {
        Self { files: read_folder(&folder("corpus")).unwrap() }
    }

    fn file(&self, name: &str) -> &SqlFile {
        self.files.iter().find(|file| file.name == name).unwrap()
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        &self.file(name).text
    }

    /// One query and the queries whose results it reads.
    pub(crate) fn needed_by(&self, name: &str) -> Vec<SqlFile> {
        let mut needed = vec![self.file(name).clone()];
        let mut at = 0;
        while let Some(SqlFile { text, .. }) = needed.get(at).cloned() {
            let reads = |file: &&SqlFile| {
                ["FROM ", "JOIN "]
                    .iter()
                    .any(|word| text.contains(&format!("{word}{} ", file.name)))
            };
            needed.extend(self.files.iter().filter(reads).cloned());
            at += 1;
        }
        needed.sort_by(|a, b| a.name.cmp(&b.name));
        needed.dedup_by(|a, b| a.name == b.name);
        needed
    }

    /// The queries that Postgres understands as they are, with their SELECTs.
    pub(crate) fn plain(&self) -> impl Iterator<Item = (&str, String)> {
        let plain = self.files.iter().filter(|file| file.text.contains("-- postgres: yes"));
        plain.map(|file| {
            let select = file.text.lines().filter(|line| !line.starts_with("--"));
            (file.name.as_str(), select.collect::<Vec<_>>().join("\n"))
        })
    }
}
