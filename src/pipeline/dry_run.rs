//! The pipeline without a queue and without Postgres: for trying out SQL on a few events.
//!
//! Decoding, state, transforms, late events and restarts are the ones of the real processor; only the
//! target is in memory, and whoever rehearses says where batches end.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::config::SqlConfig;
use crate::decode::{DecodeConfig, Decoder, DecoderSetup, Limits};
use crate::model::{
    DeadLetter, EpochCommit, Message, Offset, Receipt, ResultLetter, ResultTable, SchemaChange,
};
use crate::pipeline::epoch::landing_reader::LandingReader;
use crate::pipeline::epoch::poison_search::{Attempt, PoisonSearch};
use crate::pipeline::epoch::processor::{Processor, ProcessorParts};
use crate::pipeline::epoch::result_letters::ResultLetters;
use crate::pipeline::error::{PipelineError, Stopped};
use crate::pipeline::schema::discovered_tables::DiscoveredTables;
use crate::pipeline::session::resume::resume;
use crate::pipeline::sql_folder::Sql;
use crate::pipeline::target_retry::TargetRetry;
use crate::resilience::CircuitBreaker;
use crate::sink::Sink;
use crate::sink::memory::{MemorySink, MemoryTarget, place};
use crate::state::StateStores;
use crate::telemetry::Health;
use crate::transform::learned_columns;

const PIPELINE: &str = "rehearsal";
const TOPIC: &str = "rehearsal";

/// A processor over a target in memory.
pub struct DryRun<'a> {
    sql: &'a Sql,
    decode: DecodeConfig,
    target: MemoryTarget,
    running: Running,
    sent: u64,
}

struct Running {
    processor: Processor,
    sink: MemorySink,
    results: Vec<Arc<ResultTable>>,
}

impl Running {
    async fn commit(&mut self, commit: &EpochCommit) -> Result<(), PipelineError> {
        self.sink.commit(commit).await?;
        self.processor.committed(commit.epoch)
    }
}

impl<'a> DryRun<'a> {
    /// Starts with an empty target.
    ///
    /// # Errors
    /// If the SQL can't be planned.
    pub async fn start(sql: &'a Sql) -> Result<Self, PipelineError> {
        let unknown_tables = sql.unknown_tables;
        Self::start_with(sql, DecodeConfig { unknown_tables, ..DecodeConfig::default() }).await
    }

    /// The same with other settings of the decoder.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(sql: &'a Sql, decode: DecodeConfig) -> Result<Self, PipelineError> {
        let target = MemoryTarget::default();
        // Boxed, because every caller's future would hold it.
        let running = Box::pin(run(sql, &decode, &target)).await?;
        Ok(Self { sql, decode, target, running, sent: 0 })
    }

    /// Processes the payloads as one epoch and commits it.
    ///
    /// # Errors
    /// What would stop the processor, or make it look for the event that a query fails on.
    pub async fn feed(&mut self, payloads: &[String]) -> Result<(), PipelineError> {
        let mut messages: Vec<Message> =
            payloads.iter().map(|payload| self.next_message(payload)).collect();
        loop {
            let job =
                self.running.processor.process(messages.clone().into(), &HashMap::new()).await;
            if let Some(commit) = job.map_err(failure)?.commit {
                self.running.commit(&commit).await?;
            }
            if !self.running.processor.has_learned() {
                return Ok(());
            }
            let processor = &self.running.processor;
            messages.retain(|message| processor.is_held(message.offset));
            self.restart().await?;
        }
    }

    /// Processes messages as the processor would: those that make a query fail are found and become dead
    /// letters. What the messages teach about the columns of their tables.
    ///
    /// # Errors
    /// What would stop the processor.
    pub async fn feed_messages(
        &mut self,
        mut messages: Vec<Message>,
    ) -> Result<Vec<SchemaChange>, PipelineError> {
        let mut poison_search = PoisonSearch::default();
        let mut learned = Vec::new();
        while !messages.is_empty() {
            let mut rest = messages.clone();
            let part = poison_search.next_part(&mut rest);
            let offsets: Vec<Offset> = part.iter().map(|message| message.offset).collect();
            let processed = messages.len() - rest.len();
            let processor = &mut self.running.processor;
            let epoch = async |failing: &_| processor.process(part.into(), failing).await;
            // Boxed, because every caller's future would hold it.
            let attempt = Box::pin(poison_search.attempt(&offsets, epoch));
            match attempt.await.map_err(failure)? {
                Attempt::Done(job) => {
                    if let Some(commit) = job.commit {
                        self.running.commit(&commit).await?;
                        learned.extend(commit.schema_changes);
                    }
                    messages.truncate(processed);
                    messages.retain(|message| self.running.processor.is_held(message.offset));
                    messages.extend(rest);
                    if self.running.processor.has_learned() {
                        self.restart().await?;
                    }
                }
                Attempt::QueryFailed if self.running.processor.is_broken() => {
                    self.restart().await?
                }
                Attempt::QueryFailed => {}
                Attempt::GivenUp(error) => return Err(error),
            }
        }
        Ok(learned)
    }

    /// Forgets everything in memory and starts from what is committed.
    ///
    /// # Errors
    /// As a start of the processor.
    pub async fn restart(&mut self) -> Result<(), PipelineError> {
        self.running = Box::pin(run(self.sql, &self.decode, &self.target)).await?;
        Ok(())
    }

    /// The results that the SQL folder describes.
    pub fn results(&self) -> &[Arc<ResultTable>] {
        &self.running.results
    }

    /// What the target of a result shows, in batches of one row.
    pub fn rows(&self, result: &ResultTable) -> Vec<RecordBatch> {
        self.target.result(place(result))
    }

    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.target.dead_letters()
    }

    /// Those about rows of results.
    pub fn result_letters(&self) -> Vec<ResultLetter> {
        self.target.result_letters()
    }

    fn next_message(&mut self, payload: &str) -> Message {
        self.sent += 1;
        Message {
            offset: Offset::new(1, self.sent),
            receipt: Receipt { flow: 1, id: self.sent },
            topic: TOPIC.to_owned(),
            payload: Bytes::from(payload.to_owned()),
            redelivered: false,
            properties: Vec::new(),
        }
    }
}

async fn run(
    sql: &Sql,
    decode: &DecodeConfig,
    target: &MemoryTarget,
) -> Result<Running, PipelineError> {
    let (mut sink, landing) = (target.sink(PIPELINE, TOPIC), target.sink(PIPELINE, TOPIC));
    let mut registry = sink.resume().await?.schema_changes;
    let learned = learned_columns(&sql.transforms, &sql.tables).map_err(PipelineError::Sql)?;
    registry.extend(learned);
    let discovered = DiscoveredTables::of(sql, &registry);
    let transforms = discovered.plan(sql, &registry).await.map_err(PipelineError::Sql)?;
    let tables = transforms.tables().to_vec();
    let results: Vec<Arc<ResultTable>> = transforms.results().cloned().collect();
    let stores = StateStores::new(&tables, SqlConfig::default().watermark_delay)?;
    let retry = TargetRetry::new(CircuitBreaker::default(), Health::default(), "read");
    let landing_reader = LandingReader::new(Box::new(landing), retry, CancellationToken::new());
    let decoder = Decoder::new(DecoderSetup {
        config: decode.clone(),
        limits: Limits::default(),
        tables,
        extractions: sql.extractions.clone(),
        registered: discovered.known(sql, &results),
    });
    let (pipeline, queue) = (PIPELINE.to_owned(), TOPIC.to_owned());
    let result_letters = ResultLetters::default();
    let parts = ProcessorParts {
        pipeline,
        queue,
        decoder,
        stores,
        transforms,
        landing_reader,
        result_letters,
    };
    let mut processor = Box::pin(resume(&mut sink, parts, Vec::new())).await?;
    if let Some(error) = processor.take_failed().pop() {
        return Err(error.into());
    }
    Ok(Running { processor, sink, results })
}

/// Nobody shuts a dry run down.
fn failure(stopped: Stopped) -> PipelineError {
    match stopped {
        Stopped::Failed(error) => error,
        Stopped::Shutdown => unreachable!("the token is never cancelled"),
    }
}
