//! What is judged: the one file that knows how state stores and transforms are called.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use tidemark::model::{Changelog, ResultChanges, Table};
use tidemark::resilience::chain;
use tidemark::state::{StateFolder, StateStores};
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
    epochs: usize,
}

impl Engine {
    /// Comes up on rows that are there already, as a process does that starts.
    pub(crate) async fn start(
        tables: &[Arc<Table>],
        files: &[SqlFile],
        landed: Vec<Changelog>,
        watermark: Option<i64>,
    ) -> Result<Self, Refused> {
        let planned = Transforms::plan(PlanRequest::new(tables, files)).await;
        let mut transforms = planned.map_err(|errors| Refused::from(&errors[0]))?;
        let mut stores = StateStores::new(tables, Duration::ZERO).unwrap();
        stores.use_folder(&StateFolder::temporary(1 << 20).unwrap());
        stores.set_memory_limit(ByteSize(0));
        for (table, columns) in transforms.indexes() {
            stores.add_index(table, columns).unwrap();
        }
        for changelog in landed {
            stores.fold(changelog).unwrap();
        }
        if let Some(error) = transforms.load(&stores, watermark).await.pop() {
            return Err(error.into());
        }
        let mut engine = Self { stores, transforms, epochs: 0 };
        engine.evict();
        Ok(engine)
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
        self.evict();
        Ok(results)
    }

    /// In two epochs of three no row is in memory when they begin.
    fn evict(&mut self) {
        self.epochs += 1;
        if !self.epochs.is_multiple_of(3) {
            self.stores.evict_now(0).unwrap();
        }
    }

    /// The results that are computed anew in every epoch, by name.
    pub(crate) fn costly(&self) -> Vec<&str> {
        let costly = self.transforms.explain().filter(|(_, how)| how.is_costly());
        let mut names: Vec<&str> = costly.map(|(table, _)| table.name.as_str()).collect();
        names.sort_unstable();
        names
    }
}
