//! Values by key that an operator keeps: those in use in memory, all of them on disk as of the last flush.
//!
//! Before an epoch touches keys they are recalled ([`KeyedState::recall`]); from then on memory alone says what is known of
//! them. A value may leave memory when the disk has it as it is.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use arrow::error::ArrowError;
use hashbrown::HashMap;

use super::rows::PART_BYTES;
use crate::model::{KeyBytes, StateSpace, StateWrites};

/// A value that can be on disk.
pub(crate) trait StateValue: fmt::Debug + Sized {
    fn write(&self, bytes: &mut Vec<u8>);

    /// `None` if the bytes are none of a value.
    fn read(bytes: &[u8]) -> Option<Self>;

    /// Bytes that it takes beside itself.
    fn memory(&self) -> usize;
}

/// Bytes of values at which they go to the disk while they are built from all rows.
const SPILLED_AT: usize = 32 << 20;

/// Values that are shown together.
const PART: usize = 8192;

/// What is shown keys and their values; an error ends it.
type VisitValues<'a, V, E> = &'a mut dyn FnMut(&[(&[u8], &V)]) -> Result<(), E>;

#[derive(Debug)]
pub(crate) struct KeyedState<V> {
    entries: HashMap<KeyBytes, Entry<V>>,
    space: Option<Arc<dyn StateSpace>>,
    /// A flush has named the space.
    is_marked: bool,
    /// How many keys are on disk.
    stored: u64,
    /// How many of them are in memory as well.
    stored_here: u64,
    /// Keys that have changed since the last flush.
    changed: Vec<KeyBytes>,
    /// Keys that are being written, and whether their values are gone.
    flushing: Vec<(KeyBytes, bool)>,
    /// What the values take beside themselves.
    bytes: usize,
    /// The last value that was written, for the next one.
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Entry<V> {
    /// `None`: it is gone, and the disk does not know yet.
    value: Option<V>,
    is_changed: bool,
    /// The disk has a value of it.
    is_stored: bool,
    /// Since values last left memory.
    is_used: bool,
}

/// A value, in memory or just read.
#[derive(Debug)]
pub(crate) enum Held<'a, V> {
    Here(&'a V),
    Read(V),
}

impl<V> Deref for Held<'_, V> {
    type Target = V;

    fn deref(&self) -> &V {
        match self {
            Self::Here(value) => value,
            Self::Read(value) => value,
        }
    }
}

impl<V> Default for KeyedState<V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            space: None,
            is_marked: false,
            stored: 0,
            stored_here: 0,
            changed: Vec::new(),
            flushing: Vec::new(),
            bytes: 0,
            buffer: Vec::new(),
        }
    }
}

impl<V: StateValue> KeyedState<V> {
    /// Says where the values are on disk, and how many of them are there.
    pub(crate) fn open(&mut self, space: Arc<dyn StateSpace>, stored: Option<u64>) {
        *self = Self::default();
        self.space = Some(space);
        self.is_marked = stored.is_some();
        self.stored = stored.unwrap_or(0);
    }

    /// Forgets all values, before they are built from all rows. No flush has named them.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.changed.clear();
        self.bytes = 0;
    }

    pub(crate) fn space(&self) -> Option<&Arc<dyn StateSpace>> {
        self.space.as_ref()
    }

    /// How many keys are on disk when the last flush is done.
    pub(crate) fn stored(&self) -> u64 {
        self.stored - self.flushing.iter().filter(|(_, is_gone)| *is_gone).count() as u64
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.stored == 0
    }

    fn is_all_here(&self) -> bool {
        self.stored == self.stored_here
    }

    /// Brings the values of some keys into memory.
    pub(crate) fn recall<'a>(
        &mut self,
        keys: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), ArrowError> {
        if self.is_all_here() {
            return Ok(());
        }
        for key in keys {
            if self.entries.contains_key(key) {
                continue;
            }
            let Some(value) = self.stored_value(key)? else { continue };
            self.bytes += value.memory();
            self.stored_here += 1;
            let entry =
                Entry { value: Some(value), is_changed: false, is_stored: true, is_used: true };
            self.entries.insert(key.into(), entry);
        }
        Ok(())
    }

    fn stored_value(&self, key: &[u8]) -> Result<Option<V>, ArrowError> {
        let Some(space) = &self.space else { return Ok(None) };
        space.get(key)?.map(|bytes| read(&bytes)).transpose()
    }

    /// A value in memory: that of a key which was recalled.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&V> {
        self.entries.get(key)?.value.as_ref()
    }

    /// A value wherever it is.
    pub(crate) fn find(&self, key: &[u8]) -> Result<Option<Held<'_, V>>, ArrowError> {
        match self.entries.get(key) {
            Some(entry) => Ok(entry.value.as_ref().map(Held::Here)),
            None if self.is_all_here() => Ok(None),
            None => Ok(self.stored_value(key)?.map(Held::Read)),
        }
    }

    /// Changes the value of a key that was recalled; `None` if it has none.
    pub(crate) fn change<R>(&mut self, key: &[u8], change: impl FnOnce(&mut V) -> R) -> Option<R> {
        let entry = self.entries.get_mut(key)?;
        let value = entry.value.as_mut()?;
        let before = value.memory();
        let done = change(value);
        self.bytes = self.bytes + value.memory() - before;
        entry.is_used = true;
        if !std::mem::replace(&mut entry.is_changed, true) && self.space.is_some() {
            self.changed.push(key.into());
        }
        Some(done)
    }

    /// Gives a key that was recalled another value.
    pub(crate) fn insert(&mut self, key: &[u8], value: V) {
        self.bytes += value.memory();
        let is_changed = match self.entries.get_mut(key) {
            Some(entry) => {
                self.bytes -= entry.value.as_ref().map_or(0, V::memory);
                entry.value = Some(value);
                entry.is_used = true;
                std::mem::replace(&mut entry.is_changed, true)
            }
            None => {
                let entry =
                    Entry { value: Some(value), is_changed: true, is_stored: false, is_used: true };
                self.entries.insert(key.into(), entry);
                false
            }
        };
        if !is_changed && self.space.is_some() {
            self.changed.push(key.into());
        }
    }

    /// Takes away the value of a key that was recalled.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<V> {
        let entry = self.entries.get_mut(key)?;
        let value = entry.value.take();
        self.bytes -= value.as_ref().map_or(0, V::memory);
        if !entry.is_stored {
            self.entries.remove(key);
        } else if !std::mem::replace(&mut entry.is_changed, true) {
            self.changed.push(key.into());
        }
        value
    }

    /// Shows all values, part by part.
    pub(crate) fn scan<E: From<ArrowError>>(&self, visit: VisitValues<'_, V, E>) -> Result<(), E> {
        let (mut part, mut bytes): (Vec<(&[u8], &V)>, usize) = (Vec::new(), 0);
        for (key, entry) in &self.entries {
            let Some(value) = &entry.value else { continue };
            part.push((key, value));
            bytes += key.len() + value.memory();
            if part.len() == PART || bytes > PART_BYTES {
                visit(&part)?;
                (part, bytes) = (Vec::new(), 0);
            }
        }
        visit(&part)?;
        match &self.space {
            Some(space) if !self.is_all_here() => self.scan_disk(&**space, visit),
            Some(_) | None => Ok(()),
        }
    }

    fn scan_disk<E: From<ArrowError>>(
        &self,
        space: &dyn StateSpace,
        visit: VisitValues<'_, V, E>,
    ) -> Result<(), E> {
        let (mut part, mut bytes): (Vec<(KeyBytes, V)>, usize) = (Vec::new(), 0);
        let mut failed: Option<E> = None;
        let mut show = |part: &mut Vec<(KeyBytes, V)>| {
            let shown: Vec<(&[u8], &V)> = part.iter().map(|(key, value)| (&**key, value)).collect();
            let done = visit(&shown).map_err(|error| {
                failed = Some(error);
                ArrowError::ComputeError("the reader of a scan has failed".to_owned())
            });
            part.clear();
            done
        };
        let scanned = space.each(&mut |key, stored| {
            if self.entries.contains_key(key) {
                return Ok(());
            }
            let value: V = read(stored)?;
            bytes += key.len() + value.memory();
            part.push((key.into(), value));
            if part.len() < PART && bytes <= PART_BYTES {
                return Ok(());
            }
            bytes = 0;
            show(&mut part)
        });
        let scanned = scanned.and_then(|()| show(&mut part));
        match failed {
            Some(error) => Err(error),
            None => Ok(scanned?),
        }
    }

    /// Adds the writes that bring the disk up to date.
    pub(crate) fn flush(&mut self, writes: &mut dyn StateWrites) {
        let Some(space) = &self.space else { return };
        let id = space.id();
        for key in std::mem::take(&mut self.changed) {
            let Some(entry) = self.entries.get_mut(&*key).filter(|entry| entry.is_changed) else {
                continue;
            };
            match &entry.value {
                Some(value) => {
                    self.buffer.clear();
                    value.write(&mut self.buffer);
                    writes.put(id, &key, &self.buffer);
                }
                None => writes.remove(id, &key),
            }
            entry.is_changed = false;
            let is_gone = entry.value.is_none();
            if !is_gone && !std::mem::replace(&mut entry.is_stored, true) {
                (self.stored, self.stored_here) = (self.stored + 1, self.stored_here + 1);
            }
            self.flushing.push((key, is_gone));
        }
    }

    /// The writes of the last flush are done, or have failed.
    pub(crate) fn note_flushed(&mut self, is_done: bool) {
        self.is_marked |= is_done;
        for (key, is_gone) in std::mem::take(&mut self.flushing) {
            let Some(entry) = self.entries.get_mut(&*key) else { continue };
            if !is_done {
                if !std::mem::replace(&mut entry.is_changed, true) {
                    self.changed.push(key);
                }
                continue;
            }
            if is_gone {
                entry.is_stored = false;
                (self.stored, self.stored_here) = (self.stored - 1, self.stored_here - 1);
            }
            if entry.value.is_none() && !entry.is_stored {
                self.entries.remove(&*key);
            }
        }
    }

    /// Brings values to the disk while they are built from all rows, if they are many.
    pub(crate) fn spill(&mut self) -> Result<(), ArrowError> {
        let Some(space) = self.space.clone().filter(|_| !self.is_marked) else { return Ok(()) };
        if self.memory() < SPILLED_AT {
            return Ok(());
        }
        let spilled = space.spill(&mut |writes| self.flush(writes));
        self.note_flushed(spilled.is_ok());
        self.is_marked = false;
        self.let_go(usize::MAX);
        spilled
    }

    /// Lets about `bytes` of values leave memory that the disk has. Those that were not used since the last time go first. No flush may
    /// be under way.
    pub(crate) fn let_go(&mut self, bytes: usize) -> usize {
        let mut freed = 0;
        for only_unused in [true, false] {
            self.entries.retain(|key, entry| {
                let may_leave = entry.is_stored && !entry.is_changed && entry.value.is_some();
                let is_kept = only_unused && std::mem::take(&mut entry.is_used);
                if freed >= bytes || !may_leave || is_kept {
                    return true;
                }
                let held = entry.value.as_ref().map_or(0, V::memory);
                freed += held + Self::entry_bytes(key);
                self.bytes -= held;
                self.stored_here -= 1;
                false
            });
        }
        if self.entries.len() * 2 < self.entries.capacity() {
            self.entries.shrink_to(self.entries.len());
        }
        freed
    }

    fn entry_bytes(key: &KeyBytes) -> usize {
        size_of::<(KeyBytes, Entry<V>)>() + 1 + key.allocated()
    }

    pub(crate) fn memory(&self) -> usize {
        let entries = self.entries.capacity() * (size_of::<(KeyBytes, Entry<V>)>() + 1);
        entries + self.bytes + self.changed.capacity() * size_of::<KeyBytes>()
    }

    /// Bytes, roughly, that differ from the disk.
    pub(crate) fn changed_bytes(&self) -> usize {
        self.changed.len() * self.memory() / self.entries.len().max(1)
    }
}

fn read<V: StateValue>(bytes: &[u8]) -> Result<V, ArrowError> {
    let damaged = || {
        let what = "what an operator keeps on disk can't be read: is the disk sound? Remove the folder of [state] path";
        ArrowError::ComputeError(what.to_owned())
    };
    V::read(bytes).ok_or_else(damaged)
}

#[cfg(test)]
mod tests;
