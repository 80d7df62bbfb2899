//! Rows that ttl has dropped and that an epoch needs come back from the landing tables; events for which that
//! can't be are dead letters, because a result that is computed from a row without its partners would be wrong.
//!
//! Which rows an epoch needs: those that it changes, those that
//! these reference, and those that reference a row that comes back or is new. Up the references first,
//! then down, so that each table is asked once on either way.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use metrics::counter;

use crate::decode::Decoded;
use crate::model::{Changelog, KeyBytes, Message, Offset, Table, TableDelta};
use crate::pipeline::epoch::diversion::{
    ChangedRow, Diversion, dropped_reason, take_out, too_many_reason,
};
use crate::pipeline::epoch::landing_reader::LandingReader;
use crate::pipeline::error::Stopped;
use crate::sink::KeyQuery;
use crate::state::{MissingRows, StateError, StateStores};
use crate::telemetry::names;

/// So many rows come back in one epoch at most; what needs more is a dead letter.
const MOST_ROWS: usize = 100_000;

impl LandingReader {
    /// Puts the rows that the epoch needs back into the stores; how these differ after it. Events that
    /// need what can't come back become dead letters. A message is late as a whole.
    pub(crate) async fn put_back(
        &mut self,
        stores: &mut StateStores,
        messages: &[Message],
        decoded: &mut Decoded,
    ) -> Result<Vec<TableDelta>, Stopped> {
        let mut needed = Rehydration::new(stores, &decoded.changes)?;
        needed.find(self).await?;
        let (late, rows) = needed.finish()?;
        let mut deltas = Vec::new();
        for changelog in rows {
            let delta = stores.put_back(changelog)?;
            let count = delta.inserted.num_rows() as u64;
            counter!(names::READ_BACK_ROWS, "table" => delta.table.clone()).increment(count);
            deltas.push(delta);
        }
        if !deltas.is_empty() {
            let history = self.history(stores.doubtful(&deltas)?).await?;
            deltas.extend(stores.look_up_landed(&deltas, &history)?);
        }
        if !late.is_empty() {
            let late = late.into_iter().map(|(offset, reason)| (offset, Diversion::late(reason)));
            take_out(decoded, messages, late.collect());
        }
        Ok(deltas)
    }
}

/// A change of the epoch that needs a row: which changelog, which row of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Need {
    changelog: usize,
    row: usize,
}

/// Keys of one table to be asked for.
#[derive(Default)]
struct WantedKeys {
    keys: Vec<RecordBatch>,
    /// One per row of `keys`.
    encoded: Vec<KeyBytes>,
    needs: HashMap<KeyBytes, Vec<Need>>,
}

/// Rows of one table that were found.
#[derive(Default)]
struct FoundRows {
    parts: Vec<Changelog>,
    /// Per key: where its row is, and who needs it.
    rows: HashMap<KeyBytes, (usize, usize, Vec<Need>)>,
    /// Keys that the epoch makes, of which nothing is landed.
    new: WantedKeys,
}

/// What is found out about one epoch.
pub(crate) struct Rehydration<'a> {
    stores: &'a StateStores,
    changes: &'a [Changelog],
    wanted: HashMap<String, WantedKeys>,
    found: HashMap<String, FoundRows>,
    late: HashMap<Offset, String>,
    rest: usize,
}

impl<'a> Rehydration<'a> {
    pub(crate) fn new(
        stores: &'a StateStores,
        changes: &'a [Changelog],
    ) -> Result<Self, StateError> {
        let (wanted, found, late) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut new = Self { stores, changes, wanted, found, late, rest: MOST_ROWS };
        for (at, changelog) in changes.iter().enumerate() {
            for missing in stores.missing_looked_up(changelog)? {
                want(&mut new.wanted, Some(missing), |row| vec![Need { changelog: at, row }])?;
            }
            // Extracted rows come back with the row that they were extracted from.
            if changelog.table.is_extracted() {
                continue;
            }
            for missing in [stores.missing_changed(changelog)?, stores.missing_parents(changelog)?]
            {
                let wanted = &mut new.wanted;
                want(wanted, missing, |row| vec![Need { changelog: at, row }])?;
            }
            if let Some(missing) = stores.made_anew(changelog)? {
                let found = new.found.entry(changelog.table.name.clone()).or_default();
                found.new.add(&missing, |row| vec![Need { changelog: at, row }])?;
            }
        }
        Ok(new)
    }

    pub(crate) async fn find(&mut self, landing: &mut LandingReader) -> Result<(), Stopped> {
        let tables: Vec<_> = self.stores.children_first().cloned().collect();
        for table in &tables {
            let Some(wanted) = self.wanted.remove(&table.name) else { continue };
            let keys = concatenated(table, &table.key, &wanted.keys)?;
            let query = KeyQuery { columns: &table.key, keys: &keys };
            let rows = landing.newest_rows(table, query, self.rest).await?;
            let Some(rows) = rows else {
                self.refuse(wanted.needs.into_values().flatten(), table);
                continue;
            };
            for part in rows {
                let keys = self.stores.row_keys(&part)?;
                let needs_of = |key| wanted.needs.get(key).cloned().unwrap_or_default();
                let needs: Vec<Vec<Need>> = keys.iter().map(needs_of).collect();
                let parents = self.stores.missing_parents(&part)?;
                want(&mut self.wanted, parents, |row| needs[row].clone())?;
                self.note_found(part, keys, needs);
            }
            self.note_new(table, wanted, keys)?;
        }
        for table in tables.iter().rev() {
            self.find_children(table, landing).await?;
        }
        Ok(())
    }

    /// The rows of `table` that reference a row that comes back.
    async fn find_children(
        &mut self,
        table: &Arc<Table>,
        landing: &mut LandingReader,
    ) -> Result<(), Stopped> {
        let Some(reference) = &table.options.references else { return Ok(()) };
        let parents = self.found.get(&reference.table);
        let Some(parents) = parents.filter(|_| self.stores.has_dropped(&table.name)) else {
            return Ok(());
        };
        let needs = self.needs_in_time(parents);
        if needs.is_empty() {
            return Ok(());
        }
        let keys = key_column(parents, &needs, table, reference.column)?;
        let query = KeyQuery { columns: &[reference.column], keys: &keys };
        let rows = landing.newest_rows(table, query, self.rest).await?;
        let Some(rows) = rows else {
            self.refuse(needs.into_values().flatten(), table);
            return Ok(());
        };
        for part in rows {
            let of_parent = self.stores.parent_keys(&part)?.into_iter();
            let needs = of_parent.map(|key| needs.get(&key).cloned().unwrap_or_default()).collect();
            let keys = self.stores.row_keys(&part)?;
            self.note_found(part, keys, needs);
        }
        Ok(())
    }

    /// The events that can't be processed and why, and the rows to put back for the others, as one
    /// changelog per table.
    pub(crate) fn finish(self) -> Result<(HashMap<Offset, String>, Vec<Changelog>), StateError> {
        let mut put_back = Vec::new();
        for found in self.found.values() {
            let mut is_gone: Vec<Vec<bool>> =
                found.parts.iter().map(|part| vec![true; part.len()]).collect();
            for (part, row, needs) in found.rows.values() {
                is_gone[*part][*row] = !needs.iter().any(|need| self.is_in_time(*need));
            }
            let parts = found.parts.iter().zip(is_gone);
            let rest = parts.map(|(part, is_gone)| part.clone().without(&is_gone));
            put_back.extend(joined(rest.filter(|part| !part.is_empty()).collect())?);
        }
        Ok((self.late, put_back))
    }

    /// Keys that the epoch itself makes and that are not landed: rows may be that reference them.
    fn note_new(
        &mut self,
        table: &Table,
        wanted: WantedKeys,
        keys: RecordBatch,
    ) -> Result<(), StateError> {
        let failed = |source| StateError::Arrow { table: table.name.clone(), source };
        let found = self.found.entry(table.name.clone()).or_default();
        let is_own = |need: &Need| self.changes[need.changelog].table.name == table.name;
        let is_new =
            |key: &KeyBytes| !found.rows.contains_key(key) && wanted.needs[key].iter().any(is_own);
        let is_new: Vec<bool> = wanted.encoded.iter().map(is_new).collect();
        let keys = filter_record_batch(&keys, &is_new.clone().into()).map_err(failed)?;
        found.new.keys.push(keys);
        let mut needs = wanted.needs;
        for (key, _) in wanted.encoded.into_iter().zip(is_new).filter(|(_, is_new)| *is_new) {
            let of_key = needs.remove(&key).unwrap_or_default();
            found.new.needs.insert(key.clone(), of_key);
            found.new.encoded.push(key);
        }
        Ok(())
    }

    /// Notes found rows; who needs one in a window that has lost rows is late.
    fn note_found(&mut self, part: Changelog, keys: Vec<KeyBytes>, needs: Vec<Vec<Need>>) {
        self.rest = self.rest.saturating_sub(part.len());
        let mut forgotten: HashMap<String, Vec<bool>> = HashMap::new();
        for (row, needs) in needs.iter().enumerate() {
            for need in needs {
                let name = &self.changes[need.changelog].table.name;
                let is_late = forgotten
                    .entry(name.clone())
                    .or_insert_with(|| self.stores.are_forgotten(&part, name))[row];
                if is_late {
                    let reason = || {
                        dropped_reason(
                            ChangedRow { changelog: &self.changes[need.changelog], row: need.row },
                            ChangedRow { changelog: &part, row },
                        )
                    };
                    let offset = self.changes[need.changelog].offsets[need.row];
                    self.late.entry(offset).or_insert_with(reason);
                }
            }
        }
        let found = self.found.entry(part.table.name.clone()).or_default();
        for (row, (key, needs)) in keys.into_iter().zip(needs).enumerate() {
            let place = (found.parts.len(), row, Vec::new());
            found.rows.entry(key).or_insert(place).2.extend(needs);
        }
        found.parts.push(part);
    }

    fn refuse(&mut self, needs: impl Iterator<Item = Need>, table: &Table) {
        for Need { changelog, row } in needs {
            let changelog = &self.changes[changelog];
            let reason = || too_many_reason(ChangedRow { changelog, row }, table, MOST_ROWS);
            self.late.entry(changelog.offsets[row]).or_insert_with(reason);
        }
    }

    fn is_in_time(&self, need: Need) -> bool {
        !self.late.contains_key(&self.changes[need.changelog].offsets[need.row])
    }

    /// By key of the found rows and the new ones: who needs it, without the late ones.
    fn needs_in_time(&self, found: &FoundRows) -> HashMap<KeyBytes, Vec<Need>> {
        let of_rows = found.rows.iter().map(|(key, (_, _, needs))| (key, needs));
        let in_time = of_rows.chain(&found.new.needs).map(|(key, needs)| {
            let needs: HashSet<Need> =
                needs.iter().copied().filter(|need| self.is_in_time(*need)).collect();
            (key.clone(), needs.into_iter().collect::<Vec<Need>>())
        });
        in_time.filter(|(_, needs)| !needs.is_empty()).collect()
    }
}

impl WantedKeys {
    fn add(
        &mut self,
        missing: &MissingRows,
        needs_of: impl Fn(usize) -> Vec<Need>,
    ) -> Result<(), StateError> {
        let is_new: Vec<bool> =
            missing.encoded.iter().map(|key| !self.needs.contains_key(key)).collect();
        self.keys.push(missing.keys_where(is_new)?);
        for (key, rows) in missing.encoded.iter().zip(&missing.needed_by) {
            if !self.needs.contains_key(key) {
                self.encoded.push(key.clone());
            }
            let needs = rows.iter().flat_map(|row| needs_of(*row));
            self.needs.entry(key.clone()).or_default().extend(needs);
        }
        Ok(())
    }
}

fn want(
    wanted: &mut HashMap<String, WantedKeys>,
    missing: Option<MissingRows>,
    needs_of: impl Fn(usize) -> Vec<Need>,
) -> Result<(), StateError> {
    let Some(missing) = missing else { return Ok(()) };
    wanted.entry(missing.table.name.clone()).or_default().add(&missing, needs_of)
}

/// The keys of parents that somebody needs, as values of the column of `table` that references them.
fn key_column(
    parents: &FoundRows,
    needs: &HashMap<KeyBytes, Vec<Need>>,
    table: &Table,
    column: usize,
) -> Result<RecordBatch, StateError> {
    let failed = |source| StateError::Arrow { table: table.name.clone(), source };
    let schema = Arc::new(table.schema().project(&[column]).map_err(failed)?);
    let mut batches = Vec::new();
    for (at, part) in parents.parts.iter().enumerate() {
        let rows =
            parents.rows.iter().filter(|(key, (p, ..))| *p == at && needs.contains_key(*key));
        let rows: UInt64Array = rows.map(|(_, (_, row, _))| *row as u64).collect();
        let keys = part.batch.project(&part.table.key).map_err(failed)?;
        batches.push(take_record_batch(&keys, &rows).map_err(failed)?);
    }
    batches.extend(parents.new.keys.iter().cloned());
    let named = batches
        .into_iter()
        .map(|keys| RecordBatch::try_new(Arc::clone(&schema), keys.columns().to_vec()));
    let named = named.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    concatenated(table, &[column], &named)
}

/// One changelog of several of one table.
fn joined(parts: Vec<Changelog>) -> Result<Option<Changelog>, StateError> {
    let mut parts = parts.into_iter();
    let Some(mut whole) = parts.next() else { return Ok(None) };
    let mut batches = vec![whole.batch.clone()];
    for part in parts {
        batches.push(part.batch);
        whole.offsets.extend(part.offsets);
        whole.positions.extend(part.positions);
        whole.operations.extend(part.operations);
        whole.scns.extend(part.scns);
    }
    let failed = |source| StateError::Arrow { table: whole.table.name.clone(), source };
    whole.batch = concat_batches(&whole.batch.schema(), &batches).map_err(failed)?;
    Ok(Some(whole))
}

fn concatenated(
    table: &Table,
    columns: &[usize],
    batches: &[RecordBatch],
) -> Result<RecordBatch, StateError> {
    let failed = |source| StateError::Arrow { table: table.name.clone(), source };
    let schema = Arc::new(table.schema().project(columns).map_err(failed)?);
    concat_batches(&schema, batches).map_err(failed)
}
