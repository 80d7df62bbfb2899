//! A stream through the engine, judged after every epoch.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tidemark::model::{PriorRow, ResultChanges, ResultMode, ResultTable, Table};
use tidemark::transform::SqlFile;

use crate::corpus::tables;
use crate::engine::{Engine, Refused};
use crate::model::Model;
use crate::rows::{Cell, MINUTE, START, cells};
use crate::scratch::{Rows, Scratch};
use crate::stream::Epoch;

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

pub(crate) struct Stage<'a> {
    tables: Vec<Arc<Table>>,
    files: &'a [SqlFile],
    scratch: Scratch,
    engine: Engine,
    pub(crate) model: Model,
    targets: BTreeMap<String, Rows>,
    position: i64,
    pub(crate) watermark: Option<i64>,
    epoch: usize,
}

impl<'a> Stage<'a> {
    pub(crate) async fn new(files: &'a [SqlFile]) -> Result<Self, Failure> {
        let tables = tables();
        let at_start = |refused: Refused| failure(0, &refused.file, refused.why);
        let mut engine = Engine::start(&tables, files, Vec::new(), None).await.map_err(at_start)?;
        let written = engine.whole().await.map_err(at_start)?;
        let mut stage = Self {
            scratch: Scratch::new(files),
            model: Model::new(&tables),
            targets: BTreeMap::new(),
            tables,
            files,
            engine,
            position: 0,
            watermark: None,
            epoch: 0,
        };
        stage.write(&written)?;
        stage.judge().await?;
        Ok(stage)
    }

    pub(crate) fn target(&self, name: &str) -> Rows {
        self.targets.get(name).cloned().unwrap_or_default()
    }

    pub(crate) async fn play(&mut self, epoch: &Epoch) -> Result<(), Failure> {
        let changelogs = self.model.changelogs(&epoch.changes, &mut self.position);
        epoch.changes.iter().for_each(|change| self.model.apply(change));
        if let Some(minutes) = epoch.watermark_moves {
            self.watermark = Some(self.watermark.unwrap_or(START) + minutes * MINUTE);
        }
        let run = self.engine.run(changelogs, self.watermark).await;
        let written = run.map_err(|refused| failure(self.epoch, &refused.file, refused.why))?;
        self.write(&written)?;
        self.judge().await?;
        if epoch.is_restarted {
            self.restart().await?;
        }
        self.epoch += 1;
        Ok(())
    }

    /// Applies changes as a target does, and refuses those that change nothing.
    fn write(&mut self, results: &[ResultChanges]) -> Result<(), Failure> {
        for changes in results {
            let target = self.targets.entry(changes.table.name.clone()).or_default();
            apply(target, changes).map_err(|w| failure(self.epoch, &changes.table.name, w))?;
        }
        Ok(())
    }

    /// Every target is what its query gives from scratch.
    async fn judge(&self) -> Result<(), Failure> {
        let expected = self.scratch.run(&self.model, self.watermark).await;
        for (name, expected) in expected.map_err(|(name, what)| failure(self.epoch, &name, what))? {
            if let Some(difference) = difference(&self.target(name), &expected) {
                return Err(failure(self.epoch, name, difference));
            }
        }
        Ok(())
    }

    /// Comes up on the rows of before, as after a crash: nothing may be written for that.
    async fn restart(&mut self) -> Result<(), Failure> {
        let epoch = self.epoch;
        let refused = |refused: Refused| failure(epoch, &refused.file, refused.why);
        let landed = self.model.landed(&mut self.position);
        let started = Engine::start(&self.tables, self.files, landed, self.watermark).await;
        self.engine = started.map_err(refused)?;
        let written = self.engine.run(Vec::new(), self.watermark).await.map_err(refused)?;
        match written.first() {
            Some(changes) => {
                Err(failure(epoch, &changes.table.name, "writes after a restart".to_owned()))
            }
            None => Ok(()),
        }
    }
}

fn failure(epoch: usize, file: &str, what: String) -> Failure {
    Failure { file: file.to_owned(), epoch, what }
}

fn apply(target: &mut Rows, changes: &ResultChanges) -> Result<(), String> {
    if changes.upserts.num_rows() + changes.deletes.num_rows() == 0 && !changes.is_new_definition {
        return Err("reports a change without any row".to_owned());
    }
    for row in 0..changes.deletes.num_rows() {
        let key = format!("{:?}", cells(&changes.deletes, row));
        if target.remove(&key).is_none() {
            return Err(format!("deletes {key}, which is not there"));
        }
    }
    let mut keys = Vec::new();
    for row in 0..changes.upserts.num_rows() {
        let key = key(&changes.table, changes, row);
        let cells = cells(&changes.upserts, row);
        if target.get(&key) == Some(&cells) {
            return Err(format!("writes {cells:?}, which is there already"));
        }
        if keys.contains(&key) {
            return Err(format!("writes {key} twice"));
        }
        if !changes.is_new_definition {
            is_true(changes.held[row], target.get(&key), &cells)
                .map_err(|what| format!("{what} of {cells:?}"))?;
        }
        target.insert(key.clone(), cells);
        keys.push(key);
    }
    Ok(())
}

/// Whether the target holds what is said of it.
fn is_true(said: PriorRow, holds: Option<&Vec<Cell>>, cells: &[Cell]) -> Result<(), String> {
    match (said, holds) {
        (PriorRow::Nothing, None) => Ok(()),
        (PriorRow::Other(columns), Some(old)) => {
            let mut others = (0..cells.len()).filter(|at| !columns.contains(*at));
            match others.find(|at| old[*at] != cells[*at]) {
                Some(at) => Err(format!("says that column {at} does not differ: {old:?}, instead")),
                None => Ok(()),
            }
        }
        (said, holds) => Err(format!("says {said:?} of {holds:?}, instead")),
    }
}

fn key(table: &ResultTable, changes: &ResultChanges, row: usize) -> String {
    let ResultMode::Keyed { key } = &table.mode else { panic!("{} has no key", table.name) };
    format!("{:?}", cells(&changes.upserts.project(key).unwrap(), row))
}

/// The first key that is not the same.
fn difference(shown: &Rows, expected: &Rows) -> Option<String> {
    let is_like = |one: &[Cell], other: &[Cell]| {
        one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a.is_like(b))
    };
    shown.keys().chain(expected.keys()).find_map(|key| {
        let (one, other) = (shown.get(key), expected.get(key));
        let is_same = match (one, other) {
            (Some(one), Some(other)) => is_like(one, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        (!is_same).then(|| format!("{key}\n  shown:    {one:?}\n  expected: {other:?}"))
    })
}

pub(crate) async fn play(files: &[SqlFile], epochs: &[Epoch]) -> Result<(), Failure> {
    let mut stage = Stage::new(files).await?;
    for epoch in epochs {
        stage.play(epoch).await?;
    }
    Ok(())
}
