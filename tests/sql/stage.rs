//! A stream through the state stores and the transforms, judged after every epoch.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidemark::changelog::{ResultChanges, ResultMode, ResultTable, Table};
use tidemark::recovery::chain;
use tidemark::state::StateStores;
use tidemark::transform::{SqlFile, TransformError, Transforms};

use crate::corpus::tables;
use crate::rows::{Cell, START, cells, changelog};
use crate::stream::{Change, Epoch, TABLES};

/// What is wrong.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) file: String,
    epoch: usize,
    what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, epoch {}: {}", self.file, self.epoch, self.what)
    }
}

/// The rows of a target by key.
pub(crate) type Target = BTreeMap<String, Vec<Cell>>;

pub(crate) async fn plan(files: &[SqlFile]) -> Transforms {
    match Transforms::plan(&tables(), files).await {
        Ok(transforms) => transforms,
        Err(errors) => panic!("{errors:#?}"),
    }
}

pub(crate) struct Stage {
    tables: Vec<Arc<Table>>,
    pub(crate) stores: StateStores,
    transforms: Transforms,
    targets: BTreeMap<String, Target>,
    position: i64,
    watermark: Option<i64>,
    epoch: usize,
}

impl Stage {
    pub(crate) async fn new(files: &[SqlFile]) -> Self {
        let tables = tables();
        let transforms = plan(files).await;
        let stores = stores(&tables, &transforms);
        let targets = BTreeMap::new();
        let mut stage =
            Self { tables, stores, transforms, targets, position: 0, watermark: None, epoch: 0 };
        stage.transforms.load(&stage.stores, None).await.unwrap();
        for changes in stage.transforms.redefined(&BTreeMap::new(), &stage.stores).unwrap() {
            stage.write(&changes).unwrap();
        }
        stage
    }

    pub(crate) fn target(&self, name: &str) -> Target {
        self.targets.get(name).cloned().unwrap_or_default()
    }

    pub(crate) async fn play(&mut self, epoch: &Epoch) -> Result<(), Failure> {
        let (mut changes, mut deltas) = (Vec::new(), Vec::new());
        for (number, (name, _)) in TABLES.iter().enumerate() {
            let of_table: Vec<&Change> =
                epoch.changes.iter().filter(|change| change.table == number).collect();
            if of_table.is_empty() {
                continue;
            }
            let table = self.tables.iter().find(|table| table.name == *name).unwrap();
            let changelog = changelog(table, &of_table, self.position);
            self.position += of_table.len() as i64;
            let folded = self.stores.fold(changelog).unwrap();
            changes.push(folded.changelog);
            deltas.push(folded.delta);
        }
        if let Some(minutes) = epoch.watermark_moves {
            self.watermark = Some(self.watermark.unwrap_or(START) + minutes * 60_000_000);
        }
        let run = self.transforms.run(&self.stores, deltas, &changes, self.watermark).await;
        let results = run.map_err(|error| self.failure(file_of(&error), chain(&error)))?;
        for changes in &results {
            self.write(changes)?;
        }
        self.judge().await?;
        if epoch.is_restarted {
            self.restart().await?;
        }
        self.epoch += 1;
        Ok(())
    }

    fn failure(&self, file: &str, what: String) -> Failure {
        Failure { file: file.to_owned(), epoch: self.epoch, what }
    }

    /// Applies changes as a target does, and refuses those that change nothing.
    fn write(&mut self, changes: &ResultChanges) -> Result<(), Failure> {
        let name = &changes.table.name;
        let mut target = self.targets.remove(name).unwrap_or_default();
        for row in 0..changes.deletes.num_rows() {
            let key = format!("{:?}", cells(&changes.deletes, row));
            if target.remove(&key).is_none() {
                return Err(self.failure(name, format!("deletes {key}, which is not there")));
            }
        }
        for row in 0..changes.upserts.num_rows() {
            let (key, cells) =
                (key(&changes.table, &changes.upserts, row), cells(&changes.upserts, row));
            if target.get(&key) == Some(&cells) {
                return Err(self.failure(name, format!("writes {cells:?}, which is there already")));
            }
            target.insert(key, cells);
        }
        self.targets.insert(name.clone(), target);
        Ok(())
    }

    /// Every target is what its query gives from scratch.
    async fn judge(&self) -> Result<(), Failure> {
        let anew = self.transforms.computed_anew(&self.stores, self.watermark).await.unwrap();
        for (table, rows) in anew {
            let mut expected = Target::new();
            for row in 0..rows.num_rows() {
                expected.insert(key(&table, &rows, row), cells(&rows, row));
            }
            assert_eq!(expected.len(), rows.num_rows(), "{}: its key is not unique", table.name);
            let shown = self.target(&table.name);
            if let Some(difference) = difference(&shown, &expected) {
                return Err(self.failure(&table.name, difference));
            }
        }
        Ok(())
    }

    /// Comes up on the rows of before, as after a crash: nothing may be written for that.
    async fn restart(&mut self) -> Result<(), Failure> {
        let mut stores = stores(&self.tables, &self.transforms);
        std::mem::swap(&mut stores, &mut self.stores);
        self.position += 1;
        for table in &self.tables {
            let store = stores.stores().find(|store| store.table().name == table.name).unwrap();
            for batch in store.rows().unwrap() {
                let changelog = crate::rows::landed(table, &batch, self.position);
                self.position += batch.num_rows() as i64;
                self.stores.fold(changelog).unwrap();
            }
        }
        let loaded = self.transforms.load(&self.stores, self.watermark).await;
        loaded.map_err(|error| self.failure(file_of(&error), chain(&error)))?;
        let run = self.transforms.run(&self.stores, Vec::new(), &[], self.watermark).await.unwrap();
        match run.first() {
            Some(changes) => {
                Err(self.failure(&changes.table.name, "writes after a restart".to_owned()))
            }
            None => Ok(()),
        }
    }
}

/// The name of the query that failed.
fn file_of(error: &TransformError) -> &str {
    let (TransformError::Run { path, .. }
    | TransformError::DuplicateKey { path, .. }
    | TransformError::NullKey { path, .. }
    | TransformError::Compare { path, .. }) = error;
    Path::new(path).file_stem().and_then(|name| name.to_str()).unwrap()
}

fn stores(tables: &[Arc<Table>], transforms: &Transforms) -> StateStores {
    let mut stores = StateStores::new(tables, Duration::ZERO).unwrap();
    for (table, columns) in transforms.indexes() {
        stores.add_index(table, columns).unwrap();
    }
    stores
}

fn key(table: &ResultTable, rows: &arrow::array::RecordBatch, row: usize) -> String {
    let ResultMode::Keyed { key } = &table.mode else { panic!("{} has no key", table.name) };
    format!("{:?}", cells(&rows.project(key).unwrap(), row))
}

/// The first key that is not the same.
pub(crate) fn difference(shown: &Target, expected: &Target) -> Option<String> {
    let keys = shown.keys().chain(expected.keys());
    keys.into_iter().find_map(|key| {
        let (one, other) = (shown.get(key), expected.get(key));
        let is_like = match (one, other) {
            (Some(one), Some(other)) => one.iter().zip(other).all(|(a, b)| a.is_like(b)),
            (None, None) => true,
            _ => false,
        };
        (!is_like).then(|| format!("{key}\n  shown:    {one:?}\n  expected: {other:?}"))
    })
}

pub(crate) async fn play(files: &[SqlFile], epochs: &[Epoch]) -> Result<(), Failure> {
    let mut stage = Stage::new(files).await;
    for epoch in epochs {
        stage.play(epoch).await?;
    }
    Ok(())
}
