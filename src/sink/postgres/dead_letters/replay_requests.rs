//! Dead letters that somebody wants back, as the pipeline takes them up: events, requests that an API refused, and
//! rows of results that their targets refused.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::letter_table::{DELETED, OF_RESULT};
use super::pages::PageQuery;
use super::store::{LetterStore, StoredLetter};
use crate::model::{Message, Receipt, RefusedRequest, RefusedResultRow, ReplayRequest, RowLetter};
use crate::sink::SinkError;

/// Letters of events have the positions of their messages.
const IS_EVENT: &str = "event_id LIKE 'rmid1:%'";
const IS_REQUEST: &str = "phase = 'rest'";
const IS_ROW: &str = "phase = 'sink' AND event_id IS NULL AND original_topic LIKE 'result/%'";

/// Of this pipeline.
const IS_ASKED: &str = "status = 'requested' AND pipeline = $1";

impl LetterStore {
    /// The first `limit` events that are asked for, in the order of their spools' ids; fewer if they are large, and one at
    /// least. A message that can't be told is left out.
    ///
    /// # Errors
    /// If the database can't be asked.
    pub async fn requests(&mut self, limit: i64) -> Result<Vec<ReplayRequest>, SinkError> {
        let letters = format!(
            "SELECT * FROM {} WHERE {IS_ASKED} AND {IS_EVENT} ORDER BY event_id, id LIMIT $2",
            self.table
        );
        let (order, filter, more) = ("event_id, id", None, &[&limit as &(dyn ToSql + Sync)]);
        let query = PageQuery { doing: "reading replays", letters: &letters, order, filter, more };
        let letters = self.page(&query).await?;
        Ok(letters.into_iter().filter_map(StoredLetter::into_request).collect())
    }

    /// The first `limit` refused requests that are asked for, the oldest first.
    ///
    /// # Errors
    /// As [`Self::requests`].
    pub async fn rest_requests(&mut self, limit: i64) -> Result<Vec<RefusedRequest>, SinkError> {
        let sql = format!(
            "SELECT id, COALESCE(properties->>'result', ''), properties ?& '{{lane,place}}' FROM {} \
             WHERE {IS_ASKED} AND {IS_REQUEST} \
             ORDER BY (properties->>'place')::bigint, id LIMIT $2",
            self.table
        );
        let read = |row: &Row| {
            Ok(RefusedRequest {
                id: row.try_get(0)?,
                result: row.try_get(1)?,
                has_place: row.try_get::<_, Option<bool>>(2)?.unwrap_or(false),
            })
        };
        self.ask("reading requests to post again", &sql, None, &[&limit], read).await
    }

    /// The first `limit` refused rows of results that are asked for, the oldest first; fewer if they are large, and one at
    /// least if there is one.
    ///
    /// # Errors
    /// As [`Self::requests`].
    pub async fn result_requests(
        &mut self,
        limit: i64,
    ) -> Result<Vec<RefusedResultRow>, SinkError> {
        let letters = format!(
            "SELECT * FROM {} WHERE {IS_ASKED} AND {IS_ROW} ORDER BY id LIMIT $2",
            self.table
        );
        let doing = "reading refused rows of results";
        let (filter, more) = (None, &[&limit as &(dyn ToSql + Sync)]);
        let query = PageQuery { doing, letters: &letters, order: "id", filter, more };
        let letters = self.page(&query).await?;
        Ok(letters.into_iter().map(StoredLetter::into_row).collect())
    }
}

impl StoredLetter {
    fn into_row(self) -> RefusedResultRow {
        RefusedResultRow {
            letter: RowLetter { id: self.id, is_deletion: self.properties["operation"] == DELETED },
            result: self.topic.strip_prefix(OF_RESULT).unwrap_or(&self.topic).to_owned(),
            row: String::from_utf8_lossy(&self.payload).into_owned(),
        }
    }

    /// `None` for what is no event.
    fn into_request(self) -> Option<ReplayRequest> {
        let offset = self.event_id.as_deref()?.parse().ok()?;
        let text = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let properties = self.properties.as_object().into_iter().flatten();
        let message = Message {
            offset,
            receipt: Receipt { flow: 0, id: 0 },
            topic: self.topic,
            payload: self.payload,
            redelivered: true,
            properties: properties.map(|(name, value)| (name.clone(), text(value))).collect(),
        };
        Some(ReplayRequest { id: self.id, message })
    }
}
