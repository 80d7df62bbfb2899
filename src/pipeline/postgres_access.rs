//! The way to the target, for each part of the processor that needs a connection of its own.

use crate::config::Config;
use crate::pipeline::target_retry::TargetRetry;
use crate::sink::SinkError;
use crate::sink::postgres::{
    LandingPruner, LedgerReader, LetterStore, Outbox, PostgresConfig, PostgresSink, SchemaAdmin,
};
use crate::telemetry::Health;

/// The target, and the name that this pipeline has there.
#[derive(Debug, Clone)]
pub(super) struct PostgresAccess {
    config: PostgresConfig,
    pipeline: String,
}

impl PostgresAccess {
    pub(super) fn new(config: &Config) -> Self {
        Self { config: config.sink.postgres.clone(), pipeline: config.pipeline.clone() }
    }

    pub(super) fn pipeline(&self) -> &str {
        &self.pipeline
    }

    pub(super) fn creates_tables(&self) -> bool {
        self.config.create_tables
    }

    /// # Errors
    /// If the configuration is wrong; no connection is made.
    pub(super) fn sink(&self, queue: &str) -> Result<PostgresSink, SinkError> {
        PostgresSink::new(self.config.clone(), self.pipeline.as_str(), queue)
    }

    /// # Errors
    /// If the configuration is wrong; no connection is made.
    pub(super) fn schema_admin(&self) -> Result<SchemaAdmin, SinkError> {
        SchemaAdmin::new(self.config.clone(), self.pipeline.as_str())
    }

    /// The same that creates and alters no table.
    ///
    /// # Errors
    /// If the configuration is wrong; no connection is made.
    pub(super) fn schema_examiner(&self) -> Result<SchemaAdmin, SinkError> {
        let config = PostgresConfig { create_tables: false, ..self.config.clone() };
        SchemaAdmin::new(config, self.pipeline.as_str())
    }

    /// # Errors
    /// If the configuration is wrong; no connection is made.
    pub(super) fn ledger_reader(&self) -> Result<LedgerReader, SinkError> {
        LedgerReader::new(self.config.clone(), self.pipeline.as_str())
    }

    /// # Errors
    /// If the configuration is wrong; no connection is made.
    pub(super) fn landing_pruner(&self) -> Result<LandingPruner, SinkError> {
        LandingPruner::new(self.config.clone(), self.pipeline.as_str())
    }

    pub(super) fn letters(&self) -> LetterStore {
        LetterStore::new(self.config.clone(), self.pipeline.as_str())
    }

    pub(super) fn outbox(&self) -> Outbox {
        Outbox::new(self.config.clone(), self.pipeline.as_str())
    }

    /// For one user of the target, which is used for `using`: `write` or `read`.
    pub(super) fn retry(&self, health: &Health, using: &'static str) -> TargetRetry {
        TargetRetry::new(self.config.breaker(), health.clone(), using)
    }
}
