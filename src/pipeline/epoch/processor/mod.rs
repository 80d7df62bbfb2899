//! Messages of one epoch to what it commits: drop what is known, decode, divert what is late, fold, run the SQL.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use metrics::counter;
use tracing::info;

use crate::config::DeadLetterConfig;
use crate::decode::{Decoded, Decoder, register};
use crate::model::{
    Changelog, Epoch, EpochCommit, Generations, Knowledge, KnownOffsets, LedgerPosition, Message,
    Offset, OffsetSet, Receipt, RefusedRequest, ReplayOutcome, ReplayRequest, Replayed,
    ResultTable, SchemaChange, TableDelta,
};
use crate::pipeline::epoch::decode_floods::DecodeFloods;
use crate::pipeline::epoch::diversion::{Diversion, divert_failing};
use crate::pipeline::epoch::epochs_in_flight::{Computed, EpochsInFlight};
use crate::pipeline::epoch::job::Job;
use crate::pipeline::epoch::landing_reader::LandingReader;
use crate::pipeline::epoch::open_epoch::{Applied, Decoding, OpenEpoch, retain};
use crate::pipeline::epoch::result_letters::ResultLetters;
use crate::pipeline::epoch::screening::{
    ImplausibleTimes, late_events, stale_snapshots, unknown_lobs,
};
use crate::pipeline::epoch::{counters, replay};
use crate::pipeline::error::{PipelineError, Stopped};
use crate::sink::PreflightLevel;
use crate::state::{MemoryExcess, StateStores};
use crate::telemetry::names;
use crate::transform::{TransformError, Transforms};

mod state;
#[cfg(test)]
mod test_hooks;

/// Everything that outlives an epoch on the processing side.
pub(crate) struct Processor {
    queue: String,
    decoder: Decoder,
    stores: StateStores,
    transforms: Transforms,
    landing_reader: LandingReader,
    implausible_times: ImplausibleTimes,
    result_letters: ResultLetters,
    decode_floods: DecodeFloods,
    /// Results whose queries failed at the start.
    failed: Vec<TransformError>,
    /// What is committed, and is not processed again.
    known: KnownOffsets,
    /// Epochs that were handed on and wait for their commit.
    epochs: EpochsInFlight,
    /// Whose topics are those of published dead letters.
    letters: DeadLetterConfig,
    generations: Generations,
    last: Epoch,
    /// The newest epoch that the target has.
    committed: Epoch,
    /// Of the sink that commits.
    run_id: String,
    /// Those of the epoch at hand.
    messages: usize,
    has_learned: bool,
    /// Messages that have shown a table or a column that the next session will know; they are in no epoch yet.
    held: HashSet<Offset>,
    /// What the events of an aborted epoch have shown: the decoder tells it once.
    untold_changes: Vec<SchemaChange>,
    #[cfg(test)]
    fails_next: bool,
}

/// The share of refused events that stops nothing.
const DIVERTS_ALL: u8 = 100;

/// What a processor is made of.
pub(crate) struct ProcessorParts {
    pub(crate) pipeline: String,
    pub(crate) queue: String,
    pub(crate) decoder: Decoder,
    pub(crate) stores: StateStores,
    pub(crate) transforms: Transforms,
    pub(crate) landing_reader: LandingReader,
    pub(crate) result_letters: ResultLetters,
}

impl Processor {
    pub(crate) fn new(parts: ProcessorParts, position: LedgerPosition) -> Self {
        let ProcessorParts { queue, decoder, stores, transforms, .. } = parts;
        let ProcessorParts { landing_reader, result_letters, .. } = parts;
        Self {
            decode_floods: floods(&decoder, &stores, DIVERTS_ALL),
            generations: position.generations(),
            queue,
            decoder,
            stores,
            transforms,
            landing_reader,
            implausible_times: ImplausibleTimes::default(),
            result_letters,
            failed: Vec::new(),
            known: KnownOffsets::new(position.offsets, position.forgotten_to),
            epochs: EpochsInFlight::default(),
            letters: DeadLetterConfig::default(),
            last: position.epoch.unwrap_or(Epoch(0)),
            committed: position.epoch.unwrap_or(Epoch(0)),
            run_id: String::new(),
            messages: 0,
            has_learned: false,
            held: HashSet::new(),
            untold_changes: Vec::new(),
            #[cfg(test)]
            fails_next: false,
        }
    }

    /// Notes results that don't run, because their queries failed at the start.
    pub(crate) fn with_failed(self, failed: Vec<TransformError>) -> Self {
        Self { failed, ..self }
    }

    /// Stops when more than this share of the events of a table can't be decoded.
    pub(crate) fn with_max_refused(self, percent: u8) -> Self {
        Self { decode_floods: floods(&self.decoder, &self.stores, percent), ..self }
    }

    /// Notes which sink value commits.
    pub(crate) fn with_run(self, run_id: String) -> Self {
        Self { run_id, ..self }
    }

    pub(crate) fn take_failed(&mut self) -> Vec<TransformError> {
        std::mem::take(&mut self.failed)
    }

    pub(crate) fn transforms(&self) -> &Transforms {
        &self.transforms
    }

    pub(crate) fn with_letters(self, letters: &DeadLetterConfig) -> Self {
        Self { letters: letters.clone(), ..self }
    }

    /// One epoch; events in `failing` become dead letters. Its number is used up only if there is something
    /// to commit.
    pub(crate) async fn process(
        &mut self,
        messages: Arc<Vec<Message>>,
        failing: &HashMap<Offset, Diversion>,
    ) -> Result<Job, Stopped> {
        let opened_at = SystemTime::now();
        counter!(names::MESSAGES).increment(messages.len() as u64);
        self.messages = messages.len();
        let delivered: Vec<(Offset, Receipt)> =
            messages.iter().map(|message| (message.offset, message.receipt)).collect();
        let committed = self.landing_reader.committed_before(&self.known, &messages).await?;
        let (fresh, taken) = self.drop_known(messages, &committed);
        if fresh.is_empty() {
            let receipts = delivered.into_iter().map(|(_, receipt)| receipt).collect();
            return Ok(Job { commit: None, receipts });
        }
        let mut epoch = OpenEpoch::new(self.pass_own(fresh), opened_at);
        let computed = Computed::new(&mut self.stores, &mut self.transforms);
        self.epochs.begin(computed)?;
        let commit = match self.decode(&mut epoch, failing)? {
            Decoding::Lesson(commit) => *commit,
            Decoding::Changes(decoded) => {
                let noted = self.decode_floods.note(&decoded, epoch.messages.len());
                noted.map_err(PipelineError::Flooded)?;
                self.apply(epoch, *decoded).await?.commit
            }
        };
        let mut offsets = OffsetSet::default();
        for (offset, _) in &delivered {
            if taken.contains(*offset) && !self.is_held(*offset) {
                offsets.insert(*offset);
            }
        }
        let receipts = delivered.iter().filter(|(offset, _)| !self.is_held(*offset));
        let receipts = receipts.map(|(_, receipt)| *receipt).collect();
        let computed = Computed::new(&mut self.stores, &mut self.transforms);
        self.epochs.finish(computed, &commit, taken)?;
        Ok(Job { commit: Some(EpochCommit { offsets, ..commit }), receipts })
    }

    /// Dead letters once more, as an epoch of their own; nothing may be under way to the target.
    pub(crate) async fn replay(
        &mut self,
        asked: Vec<ReplayRequest>,
        failing: &HashMap<Offset, Diversion>,
    ) -> Result<Job, Stopped> {
        let (asked, lost) = replay::placed(asked, |at| self.generations.position(at).ok());
        let messages = asked.iter().map(|request| request.message.clone()).collect();
        let mut epoch = OpenEpoch::new(Arc::new(messages), SystemTime::now());
        let computed = Computed::new(&mut self.stores, &mut self.transforms);
        self.epochs.begin(computed)?;
        let mut superseded = HashSet::new();
        let mut commit = match self.decode(&mut epoch, failing)? {
            Decoding::Lesson(commit) => *commit,
            Decoding::Changes(mut decoded) => {
                counters::count_recalled(self.stores.recall(&decoded.changes)?);
                let (stores, landing) = (&self.stores, &mut self.landing_reader);
                superseded = replay::take_superseded(stores, landing, &mut decoded).await?;
                let applied = self.apply(epoch, *decoded).await?;
                superseded.extend(applied.stale_snapshots);
                applied.commit
            }
        };
        // These are asked for until a session knows their tables.
        let asked: Vec<ReplayRequest> =
            asked.into_iter().filter(|request| !self.is_held(request.message.offset)).collect();
        replay::settle(&mut commit, &asked, &superseded, lost);
        let computed = Computed::new(&mut self.stores, &mut self.transforms);
        self.epochs.finish(computed, &commit, OffsetSet::default())?;
        Ok(Job::without_messages(commit))
    }

    /// An epoch that says of dead letters that they are not looked at, and why.
    pub(crate) fn refuse(&mut self, asked: &[ReplayRequest], reason: &str) -> Job {
        let outcome = || ReplayOutcome::NotTried(reason.to_owned());
        let replayed =
            asked.iter().map(|request| Replayed { id: request.id, outcome: outcome() }).collect();
        let empty = self.next_epoch(SystemTime::now());
        Job::without_messages(EpochCommit { replayed, ..empty })
    }

    /// Requests that the API refused, as an epoch that puts them back into the outbox.
    pub(crate) fn resend(&mut self, asked: &[RefusedRequest]) -> Job {
        let (resent, replayed) = replay::resendable(&self.results(), asked);
        let empty = self.next_epoch(SystemTime::now());
        Job::without_messages(EpochCommit { resent, replayed, ..empty })
    }

    pub(crate) fn results(&self) -> Vec<Arc<ResultTable>> {
        self.transforms.results().cloned().collect()
    }

    /// The changes of the epoch's messages, and those in `failing` as dead letters.
    fn decode(
        &mut self,
        epoch: &mut OpenEpoch,
        failing: &HashMap<Offset, Diversion>,
    ) -> Result<Decoding, PipelineError> {
        let failed = divert_failing(&mut epoch.messages, failing);
        let mut decoded = self.decoder.decode(&epoch.messages, &self.generations)?;
        epoch.stages.done("decode");
        let changes = &decoded.schema_changes;
        if changes.iter().any(|change| self.transforms.awaits(change)) {
            let delivered = epoch.messages.iter().map(|message| message.offset);
            self.held.extend(delivered.chain(failed.iter().map(|letter| letter.offset)));
            return Ok(self.lesson(decoded.schema_changes, epoch.opened_at));
        }
        let tables = self.transforms.tables();
        self.has_learned |= changes.iter().any(|change| change.gets_a_column(tables));
        self.has_learned |= !decoded.held.is_empty();
        self.held.extend(decoded.held.drain(..));
        decoded.dead_letters.extend(failed);
        decoded.schema_changes.splice(0..0, self.untold_changes.drain(..));
        Ok(Decoding::Changes(Box::new(decoded)))
    }

    /// What the epoch commits, without the offsets of its messages. A query that fails leaves the state as it was.
    async fn apply(&mut self, epoch: OpenEpoch, decoded: Decoded) -> Result<Applied, Stopped> {
        let schema_changes = decoded.schema_changes.clone();
        // Boxed, because every caller's future would hold it.
        let applied = Box::pin(self.compute(epoch, decoded)).await;
        if let Err(Stopped::Failed(PipelineError::Transform(_))) = &applied {
            self.untold_changes = schema_changes;
            let computed = Computed::new(&mut self.stores, &mut self.transforms);
            self.epochs.abort_open(computed)?;
        }
        applied
    }

    /// Looks at the rows of these tables before they are applied.
    pub(crate) fn raise_preflight(&mut self, levels: &[(String, PreflightLevel)]) {
        self.landing_reader.raise_preflight(levels);
    }

    async fn compute(
        &mut self,
        mut epoch: OpenEpoch,
        mut decoded: Decoded,
    ) -> Result<Applied, Stopped> {
        let (fresh, stages) = (&epoch.messages, &mut epoch.stages);
        self.landing_reader.divert_refused(fresh, &mut decoded).await?;
        let advanced = self.stores.advance(&decoded.changes);
        self.implausible_times.tell(&advanced.ahead);
        let behind = &advanced.behind;
        counters::count_recalled(self.stores.recall(&decoded.changes)?);
        let mut landed_only = late_events::divert(&self.stores, fresh, &mut decoded, behind)?;
        let stale_snapshots = self.take_stale_snapshots(&mut decoded, &mut landed_only).await?;
        unknown_lobs::divert(&self.stores, fresh, &mut decoded)?;
        stages.done("late");
        for table in &decoded.ignored {
            info!(%table, "events of a table that no file declares are ignored");
        }
        counters::count_decoded(&decoded);
        counters::count_rows(&landed_only);
        let changes = self.stores.extract(decoded.changes, &decoded.kept)?;
        let (mut landing, deltas) = self.fold(changes)?;
        stages.done("fold");
        let watermark = self.stores.clock().watermark;
        let results = self.transforms.run(&self.stores, deltas, &landing, watermark).await?;
        let result_letters = self.result_letters.of(&self.transforms.left_out());
        landing.extend(landed_only);
        stages.done("sql");
        self.evict()?;
        stages.done("evict");
        #[cfg(test)]
        self.fail_if_asked()?;
        let (dead_letters, schema_changes) = (decoded.dead_letters, decoded.schema_changes);
        let empty = self.next_epoch(epoch.opened_at);
        let commit = EpochCommit {
            landing,
            results,
            dead_letters,
            result_letters,
            schema_changes,
            watermark,
            ..empty
        };
        Ok(Applied { commit, stale_snapshots })
    }

    /// An epoch with nothing but what its events have shown. They come again, to queries that know it, so that
    /// what is appended of changes has them, and no result shows a value in a type that is not its own.
    fn lesson(&mut self, schema_changes: Vec<SchemaChange>, opened_at: SystemTime) -> Decoding {
        self.has_learned = true;
        let commit = EpochCommit { schema_changes, ..self.next_epoch(opened_at) };
        Decoding::Lesson(Box::new(commit))
    }

    /// The next epoch without anything in it.
    fn next_epoch(&mut self, opened_at: SystemTime) -> EpochCommit {
        self.last = self.last.next();
        let (generations, watermark) = (self.generations.clone(), self.stores.clock().watermark);
        EpochCommit {
            generations,
            watermark,
            opened_at,
            ..EpochCommit::empty(self.last, &self.queue)
        }
    }

    #[cfg(test)]
    pub(crate) fn store_len(&self, table: &str) -> usize {
        let mut stores = self.stores.stores();
        stores.find(|store| store.table().name == table).map_or(0, |store| store.len())
    }

    /// As if so many messages had come since that none of these is remembered.
    #[cfg(test)]
    pub(crate) fn forget_offsets_to(&mut self, last: Offset) {
        self.known = KnownOffsets::new(OffsetSet::default(), [(last.spool, last.id)].into());
    }

    /// The next epoch runs to its end, and then a query has failed.
    #[cfg(test)]
    pub(crate) fn fail_next(&mut self) {
        self.fails_next = true;
    }

    #[cfg(test)]
    fn fail_if_asked(&mut self) -> Result<(), crate::transform::TransformError> {
        if !std::mem::take(&mut self.fails_next) {
            return Ok(());
        }
        let source = datafusion::error::DataFusionError::Execution("as asked".to_owned());
        let (result, path) = ("asked".to_owned(), "asked.sql".to_owned());
        Err(crate::transform::TransformError { result, path, source: Box::new(source) })
    }

    #[cfg(test)]
    pub(crate) fn views(&self) -> Vec<(usize, usize)> {
        self.stores.views().map(|(_, rows, versions, _)| (rows, versions)).collect()
    }

    /// Without what is committed or an epoch before this one will commit; and the offsets of the rest.
    fn drop_known(
        &mut self,
        mut messages: Arc<Vec<Message>>,
        committed: &HashSet<Offset>,
    ) -> (Arc<Vec<Message>>, OffsetSet) {
        let mut taken = OffsetSet::default();
        let delivered = messages.len();
        retain(&mut messages, |message| {
            let offset = message.offset;
            let is_new = self.known.of(offset) != Knowledge::Taken
                && !self.epochs.contain(offset)
                && !committed.contains(&offset)
                && taken.insert(offset);
            if is_new {
                register(&mut self.generations, message);
            }
            is_new
        });
        counter!(names::DUPLICATES).increment((delivered - messages.len()) as u64);
        (messages, taken)
    }

    /// Without dead letters that were published: a queue may subscribe to their topics as well, and each
    /// of them would die again and be published again.
    fn pass_own(&self, mut messages: Arc<Vec<Message>>) -> Arc<Vec<Message>> {
        let all = messages.len();
        retain(&mut messages, |message| !self.letters.is_own(&message.topic));
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

    /// Whether an event has to come again, to a session that knows its table and its columns.
    pub(crate) fn is_held(&self, offset: Offset) -> bool {
        self.held.contains(&offset)
    }

    /// Whether a transform that waits may run when all so far is committed, or a new table has come.
    pub(crate) fn has_learned(&self) -> bool {
        self.has_learned
    }

    /// Who takes more memory than it may, as of the last epoch.
    pub(crate) fn excess(&mut self) -> Result<Option<MemoryExcess>, PipelineError> {
        let upkeep = self.transforms.upkeep()?;
        let upkeep = upkeep.iter().map(|(result, upkeep)| (result.as_str(), *upkeep));
        Ok(self.stores.lasting_excess(upkeep))
    }

    /// Takes out the snapshot rows that are older than what is known of their keys; their events.
    async fn take_stale_snapshots(
        &mut self,
        decoded: &mut Decoded,
        landed_only: &mut Vec<Changelog>,
    ) -> Result<HashSet<Offset>, Stopped> {
        let mut outdated = HashSet::new();
        for changes in [&mut decoded.changes, landed_only] {
            let landing = &mut self.landing_reader;
            outdated.extend(stale_snapshots::take_out(&self.stores, landing, changes).await?);
        }
        Ok(outdated)
    }
}

fn floods(decoder: &Decoder, stores: &StateStores, max_percent: u8) -> DecodeFloods {
    let with_rows = stores.stores().filter(|store| !store.is_empty());
    let seen = with_rows.map(|store| store.table().source.clone());
    DecodeFloods::new(max_percent, decoder.tables().cloned(), seen)
}
