//! Messages of one epoch to what it commits: drop what is known, decode, divert what is late, read back
//! what it needs, fold, run the SQL.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use metrics::{counter, gauge};
use tracing::info;

use crate::config::DeadLetterConfig;
use crate::decode::{Decoded, Decoder, Passed};
use crate::model::{
    Changelog, DeadLetter, Epoch, EpochCommit, LedgerPosition, Message, NewColumns, Offset,
    OffsetSet, Receipt, RefusedRequest, ReplayOutcome, ReplayRequest, Replayed, ResultTable,
    SchemaChange, SchemaChangeKind, SeenType, SpoolOrder, Table, TableDelta,
};
use crate::pipeline::epoch::diversion::Diversion;
use crate::pipeline::epoch::implausible_times::ImplausibleTimes;
use crate::pipeline::epoch::job::Job;
use crate::pipeline::epoch::landing_reader::LandingReader;
use crate::pipeline::epoch::{late_events, replay, stale_snapshots, unknown_lobs};
use crate::pipeline::error::PipelineError;
use crate::state::{MemoryExcess, StateStores};
use crate::telemetry::{Stages, names};
use crate::transform::Transforms;

/// Everything that outlives an epoch on the processing side.
pub(in crate::pipeline) struct Processor {
    queue: String,
    decoder: Decoder,
    stores: StateStores,
    transforms: Transforms,
    landed: LandingReader,
    implausible_times: ImplausibleTimes,
    /// Committed, or handed to the committer: what is in it is not processed again.
    known: OffsetSet,
    /// Whose topics are those of published dead letters.
    letters: DeadLetterConfig,
    spools: SpoolOrder,
    last: Epoch,
    has_learned: bool,
    /// Events that have shown a table or a column that the next session will know; they are in no epoch yet.
    held: HashSet<Offset>,
}

impl Processor {
    pub(in crate::pipeline) fn new(
        queue: String,
        decoder: Decoder,
        (stores, transforms): (StateStores, Transforms),
        landed: LandingReader,
        position: LedgerPosition,
    ) -> Self {
        Self {
            queue,
            decoder,
            stores,
            transforms,
            landed,
            implausible_times: ImplausibleTimes::default(),
            known: position.offsets,
            letters: DeadLetterConfig::default(),
            spools: position.spools,
            last: position.epoch.unwrap_or(Epoch(0)),
            has_learned: false,
            held: HashSet::new(),
        }
    }

    pub(in crate::pipeline) fn with_letters(self, letters: &DeadLetterConfig) -> Self {
        Self { letters: letters.clone(), ..self }
    }

    /// One epoch; events in `failing` become dead letters. Its number is used up only if there is something
    /// to commit. `None`: shutdown came while the target was away.
    pub(in crate::pipeline) async fn process(
        &mut self,
        messages: Vec<Message>,
        failing: &HashMap<Offset, Diversion>,
    ) -> Result<Option<Job>, PipelineError> {
        let opened_at = SystemTime::now();
        counter!(names::MESSAGES).increment(messages.len() as u64);
        let delivered: Vec<(Offset, Receipt)> =
            messages.iter().map(|message| (message.offset, message.receipt)).collect();
        let (fresh, offsets) = self.drop_known(messages);
        if fresh.is_empty() {
            let receipts = delivered.into_iter().map(|(_, receipt)| receipt).collect();
            return Ok(Some(Job { commit: None, receipts }));
        }
        let fresh = self.pass_own(fresh);
        let commit = self.compute((fresh, opened_at), failing, None).await?;
        let is_held = |offset: &Offset| self.held.contains(offset);
        let offsets = offsets.into_iter().filter(|offset| !is_held(offset)).fold(
            OffsetSet::default(),
            |mut offsets, offset| {
                offsets.insert(offset);
                offsets
            },
        );
        let receipts = delivered.iter().filter(|(offset, _)| !is_held(offset));
        let receipts = receipts.map(|(_, receipt)| *receipt).collect();
        Ok(commit.map(|commit| Job { commit: Some(EpochCommit { offsets, ..commit }), receipts }))
    }

    /// Dead letters once more, as an epoch of their own; nothing may be under way to the target. `None` as
    /// in [`Self::process`].
    pub(in crate::pipeline) async fn replay(
        &mut self,
        asked: Vec<ReplayRequest>,
        failing: &HashMap<Offset, Diversion>,
    ) -> Result<Option<Job>, PipelineError> {
        let (asked, lost) = replay::placed(asked, |at| self.spools.position(at).ok());
        let messages = asked.iter().map(|request| request.message.clone()).collect();
        let mut superseded = HashSet::new();
        let work = (messages, SystemTime::now());
        let Some(mut commit) = self.compute(work, failing, Some(&mut superseded)).await? else {
            return Ok(None);
        };
        // These are asked for until a session knows their tables.
        let asked: Vec<ReplayRequest> =
            asked.into_iter().filter(|request| !self.is_held(request.message.offset)).collect();
        replay::settle(&mut commit, &asked, &superseded, lost);
        Ok(Some(Job { commit: Some(commit), receipts: Vec::new() }))
    }

    /// An epoch that says of dead letters that they are not looked at, and why.
    pub(in crate::pipeline) fn refuse(&mut self, asked: &[ReplayRequest], reason: &str) -> Job {
        self.last = self.last.next();
        let now = SystemTime::now();
        let outcome = || ReplayOutcome::NotTried(reason.to_owned());
        let replayed =
            asked.iter().map(|request| Replayed { id: request.id, outcome: outcome() }).collect();
        let commit = EpochCommit { replayed, ..self.empty(now) };
        Job { commit: Some(commit), receipts: Vec::new() }
    }

    /// Requests that the API refused, as an epoch that puts them back into the outbox.
    pub(in crate::pipeline) fn resend(&mut self, asked: &[RefusedRequest]) -> Job {
        self.last = self.last.next();
        let (resent, replayed) = replay::resendable(&self.results(), asked);
        let commit = EpochCommit { resent, replayed, ..self.empty(SystemTime::now()) };
        Job { commit: Some(commit), receipts: Vec::new() }
    }

    pub(in crate::pipeline) fn results(&self) -> Vec<Arc<ResultTable>> {
        self.transforms.results().cloned().collect()
    }

    /// What the epoch of these messages commits, without their offsets; of dead letters with those that
    /// have newer rows.
    async fn compute(
        &mut self,
        (fresh, opened_at): (Vec<Message>, SystemTime),
        failing: &HashMap<Offset, Diversion>,
        mut superseded: Option<&mut HashSet<Offset>>,
    ) -> Result<Option<EpochCommit>, PipelineError> {
        let (failed, fresh) = divert_failing(fresh, failing);
        let mut stages = Stages::start();
        let mut decoded = self.decoder.decode(&fresh, &self.spools)?;
        stages.done("decode");
        let changes = &decoded.schema_changes;
        if changes.iter().any(|change| self.transforms.awaits(change)) {
            let delivered = fresh.iter().map(|message| message.offset);
            self.held.extend(delivered.chain(failed.iter().map(|letter| letter.offset)));
            return Ok(Some(self.lesson(decoded.schema_changes, opened_at)));
        }
        self.has_learned |= changes.iter().any(|change| self.gets_a_column(change));
        self.has_learned |= !decoded.held.is_empty();
        self.held.extend(decoded.held.drain(..));
        decoded.dead_letters.extend(failed);
        if let Some(superseded) = &mut superseded {
            let (stores, landed) = (&self.stores, &mut self.landed);
            match replay::take_superseded(stores, landed, &mut decoded).await? {
                Some(offsets) => **superseded = offsets,
                None => return Ok(None),
            }
        }
        if !self.landed.divert_refused(&fresh, &mut decoded).await? {
            return Ok(None);
        }
        let advanced = self.stores.advance(&decoded.changes);
        self.implausible_times.tell(&advanced.ahead);
        let behind = &advanced.behind;
        let mut landed_only = late_events::divert(&self.stores, &fresh, &mut decoded, behind)?;
        let outdated = self.read_back(&fresh, &mut decoded, &mut landed_only).await?;
        match (outdated, superseded) {
            (None, _) => return Ok(None),
            (Some(outdated), Some(superseded)) => superseded.extend(outdated),
            (Some(_), None) => {}
        }
        unknown_lobs::divert(&self.stores, &fresh, &mut decoded)?;
        stages.done("late");
        for table in &decoded.ignored {
            info!(%table, "events of a table that no file declares are ignored");
        }
        count_decoded(&decoded.changes, &decoded.dead_letters, decoded.passed);
        count_rows(&landed_only);
        count_unread(&decoded);
        let changes = self.stores.extract(decoded.changes, &decoded.kept)?;
        let (mut landing, deltas) = self.fold(changes)?;
        stages.done("fold");
        let watermark = self.stores.clock().watermark;
        let results = self.transforms.run(&self.stores, deltas, &landing, watermark).await?;
        landing.extend(landed_only);
        stages.done("sql");
        self.expire().await?;
        stages.done("ttl");
        self.last = self.last.next();
        let (dead_letters, schema_changes) = (decoded.dead_letters, decoded.schema_changes);
        let empty = self.empty(opened_at);
        Ok(Some(EpochCommit { landing, results, dead_letters, schema_changes, watermark, ..empty }))
    }

    /// An epoch with nothing but what its events have shown. They come again, to queries that know it, so that
    /// what is appended of changes has them, and no result shows a value in a type that is not its own.
    fn lesson(&mut self, schema_changes: Vec<SchemaChange>, opened_at: SystemTime) -> EpochCommit {
        self.has_learned = true;
        self.last = self.last.next();
        EpochCommit { schema_changes, ..self.empty(opened_at) }
    }

    /// Whether the next session gives a field a column where its table lands, or a wider one.
    fn gets_a_column(&self, change: &SchemaChange) -> bool {
        let is_new = match change.kind {
            SchemaChangeKind::Added | SchemaChangeKind::Widened => change.seen != SeenType::Null,
            _ => false,
        };
        let alters = |table: &Arc<Table>| {
            table.source == change.source && table.options.new_columns == NewColumns::Alter
        };
        is_new && self.transforms.tables().iter().any(alters)
    }

    /// The epoch at hand without anything in it.
    fn empty(&self, opened_at: SystemTime) -> EpochCommit {
        EpochCommit {
            epoch: self.last,
            queue: self.queue.clone(),
            offsets: OffsetSet::default(),
            spools: self.spools.clone(),
            landing: Vec::new(),
            results: Vec::new(),
            retired: Vec::new(),
            dead_letters: Vec::new(),
            replayed: Vec::new(),
            mended: Vec::new(),
            resent: Vec::new(),
            schema_changes: Vec::new(),
            watermark: self.stores.clock().watermark,
            opened_at,
            closed_at: SystemTime::now(),
        }
    }

    #[cfg(test)]
    pub(in crate::pipeline) fn store_len(&self, table: &str) -> usize {
        let mut stores = self.stores.stores();
        stores.find(|store| store.table().name == table).map_or(0, |store| store.len())
    }

    #[cfg(test)]
    pub(in crate::pipeline) fn views(&self) -> Vec<(usize, usize)> {
        self.stores.views().map(|(_, rows, versions, _)| (rows, versions)).collect()
    }

    /// Takes out what the ledger holds or an epoch before this one will commit.
    fn drop_known(&mut self, messages: Vec<Message>) -> (Vec<Message>, Vec<Offset>) {
        let mut offsets = Vec::new();
        let delivered = messages.len();
        let fresh: Vec<Message> = messages
            .into_iter()
            .filter(|message| {
                let is_new = self.known.insert(message.offset);
                if is_new {
                    self.spools.register(message.offset);
                    offsets.push(message.offset);
                }
                is_new
            })
            .collect();
        counter!(names::DUPLICATES).increment((delivered - fresh.len()) as u64);
        (fresh, offsets)
    }

    /// Without dead letters that were published: a queue may subscribe to their topics as well, and each
    /// of them would die again and be published again.
    fn pass_own(&self, mut messages: Vec<Message>) -> Vec<Message> {
        let all = messages.len();
        messages.retain(|message| !self.letters.is_own(&message.topic));
        if messages.len() < all {
            let passed = (all - messages.len()) as u64;
            counter!(names::PASSED, "kind" => "dead_letter").increment(passed);
        }
        messages
    }

    /// The changes as they are to be landed, and how the current rows differ after them.
    fn fold(
        &mut self,
        changes: Vec<Changelog>,
    ) -> Result<(Vec<Changelog>, Vec<TableDelta>), PipelineError> {
        let (mut landing, mut deltas) = (Vec::new(), Vec::new());
        for changelog in changes {
            let folded = self.stores.fold(changelog)?;
            let table = folded.changelog.table.name.clone();
            counter!(names::STALE_ROWS, "table" => table.clone()).increment(folded.stale as u64);
            counter!(names::TRIMMED_ROWS, "table" => table.clone())
                .increment(folded.trimmed as u64);
            for truncation in &folded.changelog.truncations {
                let rows = folded.truncated;
                info!(table, offset = %truncation.offset, rows, "the source truncated a table");
                counter!(names::TRUNCATES, "table" => table.clone()).increment(1);
            }
            landing.push(folded.changelog);
            deltas.push(folded.delta);
        }
        deltas.extend(self.stores.look_up(&deltas, &landing)?);
        Ok((landing, deltas))
    }

    #[cfg(test)]
    pub(in crate::pipeline) fn limit_memory(&mut self, limit: bytesize::ByteSize) {
        self.stores.set_memory_limit(limit);
    }

    /// Whether an event has to come again, to a session that knows its table and its columns.
    pub(in crate::pipeline) fn is_held(&self, offset: Offset) -> bool {
        self.held.contains(&offset)
    }

    /// Whether a transform that waits may run when all so far is committed, or a new table has come.
    pub(in crate::pipeline) fn has_learned(&self) -> bool {
        self.has_learned
    }

    /// Who takes more memory than it may, as of the last epoch.
    pub(in crate::pipeline) fn excess(&self) -> Option<MemoryExcess> {
        self.stores.excess(self.transforms.memory())
    }

    /// Puts rows back that the epoch needs and ttl has dropped; the targets show them already. With them it
    /// is known which snapshot rows are outdated: these are taken out, and their events returned. `None`:
    /// shutdown came while the target was away.
    async fn read_back(
        &mut self,
        messages: &[Message],
        decoded: &mut Decoded,
        landed_only: &mut Vec<Changelog>,
    ) -> Result<Option<HashSet<Offset>>, PipelineError> {
        let put_back = self.landed.put_back(&mut self.stores, messages, decoded).await?;
        let Some(put_back) = put_back else { return Ok(None) };
        if !put_back.is_empty() {
            self.transforms.remember(&self.stores, put_back).await?;
        }
        let mut outdated = HashSet::new();
        for changes in [&mut decoded.changes, landed_only] {
            match stale_snapshots::take_out(&self.stores, &mut self.landed, changes).await? {
                Some(offsets) => outdated.extend(offsets),
                None => return Ok(None),
            }
        }
        Ok(Some(outdated))
    }

    /// Lets ttl drop rows, and takes what is left as what the targets show.
    async fn expire(&mut self) -> Result<(), PipelineError> {
        let mut dropped = self.stores.expire()?;
        for delta in &dropped {
            let rows = delta.deleted.num_rows() as u64;
            counter!(names::EXPIRED_ROWS, "table" => delta.table.clone()).increment(rows);
        }
        for store in self.stores.stores() {
            let table = store.table().name.clone();
            gauge!(names::STATE_ROWS, "table" => table.clone()).set(store.len() as f64);
            gauge!(names::STATE_BYTES, "table" => table).set(store.memory() as f64);
        }
        for (view, rows, versions, bytes) in self.stores.views() {
            gauge!(names::LOOKUP_ROWS, "view" => view.to_owned()).set(rows as f64);
            gauge!(names::LOOKUP_VERSIONS, "view" => view.to_owned()).set(versions as f64);
            gauge!(names::LOOKUP_BYTES, "view" => view.to_owned()).set(bytes as f64);
        }
        for (result, bytes) in self.transforms.memory() {
            gauge!(names::UPKEEP_BYTES, "result" => result.to_owned()).set(bytes as f64);
        }
        if !dropped.is_empty() {
            dropped.extend(self.stores.look_up(&dropped, &[])?);
            self.transforms.forget(&self.stores, dropped).await?;
        }
        Ok(())
    }
}

/// Events that are known to fail, as dead letters, and the others.
fn divert_failing(
    messages: Vec<Message>,
    failing: &HashMap<Offset, Diversion>,
) -> (Vec<DeadLetter>, Vec<Message>) {
    let mut letters = Vec::new();
    let rest = messages.into_iter().filter(|message| match failing.get(&message.offset) {
        None => true,
        Some(diversion) => {
            letters.push(diversion.clone().letter(message));
            false
        }
    });
    let rest = rest.collect();
    (letters, rest)
}

fn count_rows(changes: &[Changelog]) {
    for changelog in changes {
        let table = changelog.table.name.clone();
        counter!(names::ROWS, "table" => table.clone()).increment(changelog.len() as u64);
        if !changelog.unchanged.is_empty() {
            let cells = changelog.unchanged.len() as u64;
            counter!(names::UNAVAILABLE_VALUES, "table" => table).increment(cells);
        }
    }
}

/// Counts what of documents was not read.
fn count_unread(decoded: &Decoded) {
    for table in &decoded.unread_documents {
        counter!(names::UNREAD_DOCUMENTS, "table" => table.clone()).increment(1);
    }
    for (table, unread) in &decoded.unread_parts {
        let (values, attributes) = (unread.values as u64, unread.attributes as u64);
        counter!(names::UNREAD_VALUES, "table" => table.clone()).increment(values);
        counter!(names::UNREAD_ATTRIBUTES, "table" => table.clone()).increment(attributes);
    }
}

fn count_decoded(changes: &[Changelog], dead_letters: &[DeadLetter], passed: Passed) {
    count_rows(changes);
    for letter in dead_letters {
        counter!(names::DEAD_LETTERS, "type" => letter.error_type.as_str()).increment(1);
    }
    let kinds = [
        ("tombstone", passed.tombstones),
        ("heartbeat", passed.heartbeats),
        ("transaction_marker", passed.transaction_markers),
        ("schema_change", passed.schema_changes),
        ("notification", passed.notifications),
        ("signal", passed.signals),
        ("unknown_table", passed.unknown_tables),
    ];
    for (kind, count) in kinds.into_iter().filter(|(_, count)| *count > 0) {
        counter!(names::PASSED, "kind" => kind).increment(count as u64);
    }
}
