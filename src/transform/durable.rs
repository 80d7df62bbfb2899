//! What results keep, beyond the process: a start goes on from what the disk has of them.
//!
//! A result is followed when the disk has what its operators keep, and the rows of all that it reads: then the changes since
//! bring it up to date. Every other result is built from all rows ([`Transforms::load`]).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use datafusion::error::DataFusionError;
use sha2::{Digest, Sha256};

use super::dataflow::{EvalContext, OperatorState, WatermarkStep};
use super::error::TransformError;
use super::run::EarlierViews;
use super::transforms::Transforms;
use crate::model::{
    CurrentRows, KeptOperators, KeptSpace, StateSpaces, StateWrites, TableDelta, Upkeep,
};

/// Other operators for the same plan have another number.
const FORMAT: u32 = 1;

impl Transforms {
    /// Opens the spaces of all results. `tables` are those whose rows are on disk, `watermark` is the one that they are of.
    ///
    /// # Errors
    /// If the disk can't be read.
    pub fn open(
        &mut self,
        spaces: &mut dyn StateSpaces,
        tables: &HashSet<String>,
        watermark: Option<i64>,
    ) -> Result<(), TransformError> {
        self.set_watermark(watermark);
        self.followed.clear();
        self.unfollowed.clear();
        let mut identities: BTreeMap<String, String> = BTreeMap::new();
        for at in 0..self.views.len() {
            let view = &mut self.views[at];
            let name = view.table().name.clone();
            let reads: Vec<String> = view.reads().map(str::to_owned).collect();
            let identity = identity(&view.computation(), &reads, &identities);
            let is_there = |read: &String| tables.contains(read) || self.followed.contains(read);
            let kept = spaces.kept(&name).filter(|kept| kept.identity == identity);
            let kept = kept.filter(|_| view.is_incremental() && reads.iter().all(is_there));
            let kept = kept.map(|kept| kept.spaces.clone());
            identities.insert(name.clone(), identity);
            let mut states = 0;
            view.each_state(&mut |_| {
                states += 1;
                Ok(())
            })?;
            match kept.filter(|kept| kept.len() == states) {
                Some(kept) => {
                    let mut kept = kept.into_iter();
                    view.each_state(&mut |state| {
                        let Some(KeptSpace { id, counts }) = kept.next() else { return Ok(()) };
                        spaces.open(id).map_or(Ok(()), |space| state.open(space, Some(&counts)))
                    })?;
                    self.followed.insert(name);
                }
                None => self.open_new(at, spaces)?,
            }
        }
        self.identities = identities;
        Ok(())
    }

    /// Gives a result spaces without anything in them.
    fn open_new(&mut self, at: usize, spaces: &mut dyn StateSpaces) -> Result<(), TransformError> {
        self.views[at].each_state(&mut |state| {
            spaces.new_space().map_or(Ok(()), |space| state.open(space, None))
        })
    }

    /// The results that go on from the disk.
    pub fn followed(&self) -> impl Iterator<Item = &str> {
        self.followed.iter().map(String::as_str)
    }

    pub(super) fn is_followed(&self, result: &str) -> bool {
        self.followed.contains(result)
    }

    /// Brings what is followed up to date with a difference that the targets have already. What fails is to be built from all
    /// rows.
    pub fn follow(
        &mut self,
        tables: &dyn CurrentRows,
        delta: Option<TableDelta>,
        watermark: Option<i64>,
    ) {
        let before = self.watermark;
        self.set_watermark(watermark);
        let deltas: HashMap<String, TableDelta> =
            delta.into_iter().map(|delta| (delta.table.clone(), delta)).collect();
        let mut changed: HashSet<String> = deltas.keys().cloned().collect();
        for at in 0..self.views.len() {
            let (earlier, rest) = self.views.split_at_mut(at);
            let view = &mut rest[0];
            view.begin();
            let name = view.table().name.clone();
            if !self.followed.contains(&name) || !view.is_affected(&changed, before != watermark) {
                continue;
            }
            let results = EarlierViews(earlier);
            let watermark = WatermarkStep { before, now: watermark };
            let context = EvalContext { tables, deltas: &deltas, results: &results, watermark };
            let followed = catch_unwind(AssertUnwindSafe(|| view.follow(&context)));
            let panicked = || DataFusionError::Execution("it panicked".to_owned());
            match followed.unwrap_or_else(|_| Err(view.failed(panicked()))) {
                Ok(()) if view.delta().is_some() => drop(changed.insert(name)),
                Ok(()) => {}
                Err(_) => self.unfollow(name),
            }
        }
    }

    /// A result is to be built from all rows after all, and so are those that read it.
    fn unfollow(&mut self, result: String) {
        let mut over = vec![result];
        for view in &self.views {
            if view.reads().any(|read| over.iter().any(|result| result == read)) {
                over.push(view.table().name.clone());
            }
        }
        for result in over.into_iter().filter(|result| self.followed.remove(result)) {
            self.unfollowed.insert(result);
        }
    }

    /// Gives results that can't be followed spaces without anything in them.
    ///
    /// # Errors
    /// None of those that rows cause.
    pub fn open_unfollowed(&mut self, spaces: &mut dyn StateSpaces) -> Result<(), TransformError> {
        let unfollowed = std::mem::take(&mut self.unfollowed);
        for at in 0..self.views.len() {
            if unfollowed.contains(&self.views[at].table().name) {
                self.open_new(at, spaces)?;
            }
        }
        Ok(())
    }

    /// Adds the writes that bring what results keep to the disk; no epoch is in flight. What each then has there.
    ///
    /// # Errors
    /// None of those that rows cause.
    pub fn flush(
        &mut self,
        writes: &mut dyn StateWrites,
    ) -> Result<BTreeMap<String, KeptOperators>, TransformError> {
        let mut kept = BTreeMap::new();
        for view in self.views.iter_mut().filter(|view| view.is_incremental()) {
            let name = view.table().name.clone();
            let Some(identity) = self.identities.get(&name).cloned() else { continue };
            let mut spaces = Vec::new();
            view.each_state(&mut |state| {
                state.flush(writes);
                if let Some((space, counts)) = state.kept() {
                    spaces.push(KeptSpace { id: space.id(), counts });
                }
                Ok(())
            })?;
            kept.insert(name, KeptOperators { identity, spaces });
        }
        Ok(kept)
    }

    /// The writes of the last flush are done, or have failed.
    ///
    /// # Errors
    /// None of those that rows cause.
    pub fn note_flushed(&mut self, is_done: bool) -> Result<(), TransformError> {
        let noted = self.each_state(&mut |state| {
            state.note_flushed(is_done);
            0
        });
        noted.map(drop)
    }

    /// Lets about `bytes` leave memory that the disk has.
    ///
    /// # Errors
    /// None of those that rows cause.
    pub fn let_go(&mut self, bytes: usize) -> Result<usize, TransformError> {
        let mut left = bytes;
        self.each_state(&mut |state| {
            let freed = if left > 0 { state.let_go(left) } else { 0 };
            left = left.saturating_sub(freed);
            freed
        })
    }

    /// What each result keeps.
    ///
    /// # Errors
    /// None of those that rows cause.
    pub fn upkeep(&mut self) -> Result<Vec<(String, Upkeep)>, TransformError> {
        let mut all = Vec::with_capacity(self.views.len());
        for view in &mut self.views {
            let mut upkeep = Upkeep { bytes: view.memory(), may_leave: 0 };
            view.each_state(&mut |state| {
                upkeep.may_leave += state.may_leave();
                Ok(())
            })?;
            all.push((view.table().name.clone(), upkeep));
        }
        Ok(all)
    }

    /// Bytes, roughly, that differ from the disk.
    ///
    /// # Errors
    /// None of those that rows cause.
    pub fn changed_bytes(&mut self) -> Result<usize, TransformError> {
        self.each_state(&mut |state| state.changed_bytes())
    }

    fn each_state(
        &mut self,
        count: &mut dyn FnMut(&mut dyn OperatorState) -> usize,
    ) -> Result<usize, TransformError> {
        let mut total = 0;
        for view in self.views.iter_mut() {
            view.each_state(&mut |state| {
                total += count(state);
                Ok(())
            })?;
        }
        Ok(total)
    }
}

/// What operators compute: the state of others is of no use to them.
fn identity(plan: &str, reads: &[String], earlier: &BTreeMap<String, String>) -> String {
    let mut hash = Sha256::new();
    hash.update(FORMAT.to_be_bytes());
    hash.update(env!("CARGO_PKG_VERSION"));
    hash.update(datafusion::DATAFUSION_VERSION);
    hash.update(plan);
    for result in reads.iter().filter_map(|read| earlier.get(read)) {
        hash.update(result);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
