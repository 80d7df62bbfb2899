//! The Solace client as a source.

use tidemark_solace::{SolaceAcknowledger, SolaceSource};

use super::{Acknowledge, Pressure, Source, SourceError, SourceEvent};
use crate::model::Receipt;

impl Source for SolaceSource {
    type Acknowledger = SolaceAcknowledger;

    async fn recv_many(
        &mut self,
        buffer: &mut Vec<SourceEvent>,
        limit: usize,
    ) -> Result<usize, SourceError> {
        Ok(Self::recv_many(self, buffer, limit).await?)
    }

    fn pressure(&self) -> Pressure {
        Self::pressure(self)
    }

    fn acknowledger(&self) -> SolaceAcknowledger {
        Self::acknowledger(self)
    }

    async fn close(self) {
        Self::close(self).await;
    }
}

impl Acknowledge for SolaceAcknowledger {
    async fn ack(&self, receipts: Vec<Receipt>) {
        Self::ack(self, receipts).await;
    }
}
