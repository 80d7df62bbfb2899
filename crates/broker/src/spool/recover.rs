//! Rebuilding the index from the segment files at start.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::catalog::{Catalog, Change, TEMPORARY_BIT};
use super::record::{self, Record};
use super::{Refs, Segment, SegmentState, Spool, SpoolError, Stored};

/// Ids that may have been given out in a tail that was cut; skipping them keeps ids unique.
const IDS_SKIPPED_AFTER_CUT: u64 = 1 << 20;

/// Bytes at the end of the last segment that a crash left half-written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TornTail {
    pub(crate) path: PathBuf,
    pub(crate) position: u64,
    pub(crate) cut_bytes: u64,
}

/// A message that a queue still had: its id, hash and size.
pub(crate) type Waiting = (u64, u32, u32);

/// What a start found besides the catalog.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// Per queue its messages, ascending by id.
    pub(crate) queues: BTreeMap<u32, Vec<Waiting>>,
    pub(crate) torn_tail: Option<TornTail>,
}

impl Spool {
    /// Opens the spool in `dir`, creating it if there is none.
    ///
    /// # Errors
    /// [`SpoolError::Damaged`] for any damage that is not a torn tail; nothing is changed then.
    pub(crate) fn open(dir: &Path, segment_size: u64) -> Result<(Self, Recovered), SpoolError> {
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |source| SpoolError::Io { action, path, source }
        };
        fs::create_dir_all(dir).map_err(io("create the directory of", dir))?;
        let lock = lock(dir)?;
        let numbers = Segment::list(dir).map_err(io("list", dir))?;
        let mut replay = Replay::default();
        for (at, number) in numbers.iter().enumerate() {
            let expected = numbers[0] + at as u64;
            if *number != expected {
                let path = Segment::planned(dir, expected).path().to_owned();
                return Err(SpoolError::Missing { path });
            }
            replay.segment(Segment::open(dir, *number)?, at + 1 == numbers.len())?;
        }
        let torn_tail = replay.torn_tail.clone();
        let (mut spool, queues) = replay.finish(dir, segment_size, lock)?;
        spool.rotate();
        Ok((spool, Recovered { queues, torn_tail }))
    }
}

fn lock(dir: &Path) -> Result<File, SpoolError> {
    let path = dir.join("lock");
    let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file =
        opened.map_err(|source| SpoolError::Io { action: "open", path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SpoolError::InUse { path: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(SpoolError::Io { action: "lock", path, source }),
    }
}

struct Rebuilt {
    stored: Stored,
    hash: u32,
}

#[derive(Default)]
struct Replay {
    catalog: Option<Catalog>,
    messages: HashMap<u64, Rebuilt>,
    segments: VecDeque<SegmentState>,
    highest_id: u64,
    torn_tail: Option<TornTail>,
}

impl Replay {
    fn segment(&mut self, segment: Segment, is_last: bool) -> Result<(), SpoolError> {
        let bytes = segment.read_all()?;
        let mut at = 0;
        while at < bytes.len() {
            let damaged =
                || SpoolError::Damaged { path: segment.path().to_owned(), position: at as u64 };
            let Some(checked) = record::check(&bytes[at..]) else {
                if !is_last || promises_more(&bytes, at) {
                    return Err(damaged());
                }
                break;
            };
            let record = record::parse(checked.payload).ok_or_else(damaged)?;
            let has_catalog = at > 0 || matches!(record, Record::Snapshot(_));
            if !has_catalog {
                return Err(damaged());
            }
            let length = checked.record_len();
            self.record(record, segment.number, at as u32, length as u32).ok_or_else(damaged)?;
            at += length;
        }
        // An older segment is deleted only after the catalog of a newer one is on disk, so the
        // first record of the only segment can be missing in a brand new spool alone.
        let is_catalog_lost = at == 0 && self.segments.is_empty() && segment.number > 1;
        if at == 0 && (is_catalog_lost || !is_last) {
            return Err(SpoolError::Damaged { path: segment.path().to_owned(), position: 0 });
        }
        if at < bytes.len() {
            let path = segment.path().to_owned();
            let (position, cut_bytes) = (at as u64, (bytes.len() - at) as u64);
            segment.cut(position)?;
            self.torn_tail = Some(TornTail { path, position, cut_bytes });
        }
        if is_last {
            // A killed broker leaves bytes in the page cache; from here on they count as synced.
            segment.sync()?;
        }
        if at == 0 {
            // Created just before the crash; the next start of a segment uses its name again.
            return segment.delete();
        }
        self.segments.push_back(SegmentState {
            segment: Arc::new(segment),
            length: at as u64,
            live_messages: 0,
            live_bytes: 0,
        });
        Ok(())
    }

    /// Applies one record; `None` if it makes no sense.
    fn record(
        &mut self,
        record: Record<'_>,
        segment: u64,
        position: u32,
        length: u32,
    ) -> Option<()> {
        match record {
            Record::Snapshot(json) => self.catalog = Some(serde_json::from_slice(json).ok()?),
            Record::Change(json) => {
                let change: Change = serde_json::from_slice(json).ok()?;
                self.catalog.as_mut()?.apply(change);
            }
            Record::Message { message, mut queues } => {
                self.highest_id = self.highest_id.max(message.id);
                if let Some(origin) = message.origin {
                    self.catalog.as_mut()?.set_flow(origin.flow, origin.message_id);
                }
                queues.retain(|queue| queue & TEMPORARY_BIT == 0);
                if !queues.is_empty() {
                    let refs = Refs::new(&queues);
                    let size = message.content.size();
                    let stored = Stored { segment, position, length, size, refs };
                    self.messages.insert(message.id, Rebuilt { stored, hash: message.hash });
                }
            }
            Record::Ack { queue, runs } => {
                for (first, count) in runs {
                    for id in first..first.saturating_add(u64::from(count)) {
                        self.ack(queue, id);
                    }
                }
            }
        }
        Some(())
    }

    fn ack(&mut self, queue: u32, id: u64) {
        let Some(rebuilt) = self.messages.get_mut(&id) else { return };
        let refs = rebuilt.stored.refs.as_slice();
        let left: Vec<u32> = refs.iter().copied().filter(|have| *have != queue).collect();
        if left.is_empty() {
            self.messages.remove(&id);
        } else {
            rebuilt.stored.refs = Refs::new(&left);
        }
    }

    fn finish(
        self,
        dir: &Path,
        segment_size: u64,
        lock: File,
    ) -> Result<(Spool, BTreeMap<u32, Vec<Waiting>>), SpoolError> {
        let mut catalog = self.catalog.unwrap_or_else(Catalog::new);
        catalog.next_id = catalog.next_id.max(self.highest_id + 1);
        if self.torn_tail.is_some() {
            catalog.next_id += IDS_SKIPPED_AFTER_CUT;
        }
        let synced = self.segments.back().map_or((0, 0), |last| (last.segment.number, last.length));
        let mut spool = Spool {
            dir: dir.to_owned(),
            segment_size,
            ids_between: 0,
            catalog,
            index: HashMap::with_capacity(self.messages.len()),
            segments: self.segments,
            pending: Vec::new(),
            pending_bytes: 0,
            needs_sync: false,
            synced,
            survivors: None,
            _lock: lock,
        };
        let mut queues: BTreeMap<u32, Vec<Waiting>> = BTreeMap::new();
        for (id, Rebuilt { mut stored, hash }) in self.messages {
            let mut left = stored.refs.as_slice().to_vec();
            left.retain(|queue| spool.catalog.queues.contains_key(queue));
            if left.is_empty() {
                continue;
            }
            for queue in &left {
                queues.entry(*queue).or_default().push((id, hash, stored.size));
            }
            stored.refs = Refs::new(&left);
            if let Some(state) = spool.segment_mut(stored.segment) {
                state.live_messages += 1;
                state.live_bytes += u64::from(stored.length);
            }
            spool.index.insert(id, stored);
        }
        for messages in queues.values_mut() {
            messages.sort_unstable();
        }
        Ok((spool, queues))
    }
}

/// True if a whole record after the bad one at `at` says that `at` had been synced when it was
/// written: then this is damage to promised bytes and not the end of an unfinished write.
fn promises_more(bytes: &[u8], at: usize) -> bool {
    let mut from = at + 1;
    while let Some(offset) = bytes.get(from..).and_then(record::find_magic) {
        let candidate = from + offset;
        if let Some(checked) = record::check(&bytes[candidate..])
            && checked.synced as usize > at
        {
            return true;
        }
        from = candidate + 1;
    }
    false
}
