use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemark::model::Table;
use tidemark::transform::{SqlFile, parse_tables, read_folder};

/// The queries.
pub(crate) struct Corpus {
    pub(crate) files: Vec<SqlFile>,
    /// Those with a line `-- broken:` and a part of what is said then: the engine is known not to get
    /// them right.
    pub(crate) broken: Vec<SqlFile>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql").join(name)
}

pub(crate) fn tables() -> Vec<Arc<Table>> {
    parse_tables(&read_folder(&folder("tables")).unwrap()).unwrap()
}

impl Corpus {
    pub(crate) fn read() -> Self {
        let all = read_folder(&folder("corpus")).unwrap();
        let is_broken = |file: &SqlFile| header(&file.text, "broken").is_some();
        let (broken, files) = all.into_iter().partition(is_broken);
        Self { files, broken }
    }

    fn file(&self, name: &str) -> &SqlFile {
        self.files.iter().chain(&self.broken).find(|file| file.name == name).unwrap()
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        &self.file(name).text
    }

    /// One query and the queries whose results it reads.
    pub(crate) fn needed_by(&self, name: &str) -> Vec<SqlFile> {
        let mut needed = vec![self.file(name).clone()];
        let mut at = 0;
        while let Some(SqlFile { text, .. }) = needed.get(at).cloned() {
            let is_read = |file: &&SqlFile| reads(&text).any(|name| name == file.name);
            needed.extend(self.files.iter().filter(is_read).cloned());
            at += 1;
        }
        needed.sort_by(|a, b| a.name.cmp(&b.name));
        needed.dedup_by(|a, b| a.name == b.name);
        needed
    }

    /// The queries that Postgres understands as they are, with their SELECTs.
    pub(crate) fn plain(&self) -> impl Iterator<Item = (&str, String)> {
        let plain = self.files.iter().filter(|file| header(&file.text, "postgres") == Some("yes"));
        plain.map(|file| (file.name.as_str(), select(&file.text)))
    }
}

/// The names after FROM and JOIN.
pub(crate) fn reads(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split_whitespace();
    let next = words.clone().skip(1).map(|word| word.trim_end_matches([')', ',']));
    words.zip(next).filter(|(word, _)| matches!(*word, "FROM" | "JOIN")).map(|(_, name)| name)
}

/// The text without its header.
pub(crate) fn select(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n")
}

/// What a line of the header says.
pub(crate) fn header<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let labelled = text.lines().filter_map(|line| line.strip_prefix("-- ")?.split_once(": "));
    labelled.into_iter().find_map(|(name, value)| (name == label).then_some(value))
}

pub(crate) fn key_columns(text: &str) -> Vec<String> {
    let key = header(text, "key").expect("a line `-- key:`");
    key.split(',').map(|column| column.trim().to_owned()).collect()
}
