//! What is judged: the one file that knows how state stores and transforms are called.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use tidemark::model::{Changelog, CommittedEpoch, Epoch, ResultChanges, Table, Upkeep};
use tidemark::resilience::chain;
use tidemark::state::{StateFolder, StateLoader, StateStores};
use tidemark::transform::{PlanRequest, SqlError, SqlFile, TransformError, Transforms};

/// A query that failed to run, and why.
pub(crate) struct Refused {
    pub(crate) file: String,
    pub(crate) why: String,
}

impl From<&SqlError> for Refused {
    fn from(error: &SqlError) -> Self {
        Self { file: name_of(&error.path), why: error.to_string() }
    }
}

impl From<TransformError> for Refused {
    fn from(error: TransformError) -> Self {
        Self { file: name_of(Path::new(&error.path)), why: chain(&error) }
    }
}

fn name_of(path: &Path) -> String {
    path.file_stem().and_then(|name| name.to_str()).unwrap().to_owned()
}

pub(crate) struct Engine {
    stores: StateStores,
    transforms: Transforms,
    tables: Vec<Arc<Table>>,
    files: Vec<SqlFile>,
    folder: Arc<StateFolder>,
    watermark: Option<i64>,
    epochs: u64,
}

/// The pipeline whose state is on disk.
const PIPELINE: &str = "corpus";

async fn planned(tables: &[Arc<Table>], files: &[SqlFile]) -> Result<Transforms, Refused> {
    let planned = Transforms::plan(PlanRequest::new(tables, files)).await;
    planned.map_err(|errors| Refused::from(&errors[0]))
}

/// Stores without rows, with the indexes of the transforms.
fn empty(tables: &[Arc<Table>], transforms: &Transforms, folder: &Arc<StateFolder>) -> StateStores {
    let mut stores = StateStores::new(tables, Duration::ZERO).unwrap();
    stores.use_folder(folder);
    stores.set_memory_limit(ByteSize(0));
    for (table, columns) in transforms.indexes() {
        stores.add_index(table, columns).unwrap();
    }
    stores
}

impl Engine {
    /// Comes up on rows that are there already, as a process does that starts.
    pub(crate) async fn start(
        tables: &[Arc<Table>],
        files: &[SqlFile],
        landed: Vec<Changelog>,
        watermark: Option<i64>,
    ) -> Result<Self, Refused> {
        let folder = StateFolder::temporary(1 << 20).unwrap();
        let mut transforms = planned(tables, files).await?;
        let mut stores = empty(tables, &transforms, &folder);
        stores.find_kept(PIPELINE).unwrap();
        transforms.open(&mut stores, &HashSet::new(), watermark)?;
        for changelog in landed {
            stores.fold(changelog).unwrap();
        }
        if let Some(error) = transforms.load(&stores, watermark).await.pop() {
            return Err(error.into());
        }
        let (tables, files) = (tables.to_vec(), files.to_vec());
        let mut engine = Self { stores, transforms, tables, files, folder, watermark, epochs: 0 };
        engine.end_epoch().await?;
        Ok(engine)
    }

    /// Another process, which goes on from what this one has on disk.
    async fn restart(&mut self) -> Result<(), Refused> {
        let mut transforms = planned(&self.tables, &self.files).await?;
        let mut loader = StateLoader::new(empty(&self.tables, &transforms, &self.folder));
        assert!(loader.find_kept(PIPELINE).unwrap().is_some());
        loader.accept_kept();
        let mut kept = HashSet::new();
        for table in &self.tables {
            let all: Vec<usize> = (0..table.columns.len()).collect();
            if loader.open(&table.name, &all, Vec::new()).unwrap() {
                kept.insert(table.name.clone());
            }
        }
        assert_eq!(kept.len(), self.tables.len());
        transforms.open(loader.stores_mut(), &kept, self.watermark)?;
        self.stores = loader.finish(None).unwrap();
        if let Some(error) = transforms.load(&self.stores, self.watermark).await.pop() {
            return Err(error.into());
        }
        self.transforms = transforms;
        Ok(())
    }

    /// The whole of every result, as it is written to targets that have never been written.
    pub(crate) async fn whole(&mut self) -> Result<Vec<ResultChanges>, Refused> {
        let mut whole = self.transforms.redefined(&BTreeMap::new(), &self.stores).await;
        match whole.failed.pop() {
            Some(error) => Err(error.into()),
            None => Ok(whole.results),
        }
    }

    /// One epoch.
    pub(crate) async fn run(
        &mut self,
        changelogs: Vec<Changelog>,
        watermark: Option<i64>,
    ) -> Result<Vec<ResultChanges>, Refused> {
        let (mut changes, mut deltas) = (Vec::new(), Vec::new());
        for changelog in changelogs {
            let folded = self.stores.fold(changelog).unwrap();
            changes.push(folded.changelog);
            deltas.push(folded.delta);
        }
        let results = self.transforms.run(&self.stores, deltas, &changes, watermark).await?;
        self.watermark = watermark;
        self.end_epoch().await?;
        Ok(results)
    }

    /// In two epochs of three nothing is in memory when they begin, and one of seven is the first of a process.
    async fn end_epoch(&mut self) -> Result<(), Refused> {
        self.epochs += 1;
        if !self.epochs.is_multiple_of(3) {
            self.flush()?;
            self.stores.evict_now(Upkeep::default()).unwrap();
            self.transforms.let_go(usize::MAX)?;
        }
        if self.epochs.is_multiple_of(7) {
            self.flush()?;
            Box::pin(self.restart()).await?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Refused> {
        let committed = CommittedEpoch { epoch: Epoch(self.epochs), run_id: PIPELINE.to_owned() };
        self.stores.note_committed(committed);
        let mut flush = self.stores.begin_flush().unwrap().unwrap();
        let operators = self.transforms.flush(flush.writes())?;
        flush.note_operators(operators);
        self.stores.run_flush(flush);
        self.stores.finish_flush(true).unwrap().unwrap();
        Ok(self.transforms.note_flushed(true)?)
    }

    /// The results that are computed anew in every epoch, by name.
    pub(crate) fn costly(&self) -> Vec<&str> {
        let costly = self.transforms.explain().filter(|(_, how)| how.is_costly());
        let mut names: Vec<&str> = costly.map(|(table, _)| table.name.as_str()).collect();
        names.sort_unstable();
        names
    }
}
