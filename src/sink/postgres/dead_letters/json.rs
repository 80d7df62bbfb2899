//! A dead letter as JSON, for the topic and for the command line.

use std::borrow::Cow;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::store::StoredLetter;

impl StoredLetter {
    /// `{dlq_metadata, original_payload}` as JSON. The payload is its exact text, or base64 if it is none, or NULL if it was
    /// left out, which `payload_encoding` tells. It may be large, so no copy is made on the way.
    pub fn envelope(&self) -> String {
        let is_left_out = self.payload.is_empty() && self.payload_bytes > 0;
        let (payload, encoding) = match std::str::from_utf8(&self.payload) {
            _ if is_left_out => (None, "omitted"),
            Ok(text) => (Some(Cow::Borrowed(text)), "text"),
            Err(_) => (Some(Cow::Owned(STANDARD.encode(&self.payload))), "base64"),
        };
        let mut metadata = self.metadata();
        metadata["payload_encoding"] = encoding.into();
        let metadata = metadata.to_string();
        // What is escaped takes two bytes; in JSON about each fifth character is a quote.
        let length = payload.as_ref().map_or(0, |payload| payload.len());
        let mut json = Vec::with_capacity(metadata.len() + length + length / 4 + 64);
        json.extend_from_slice(b"{\"dlq_metadata\":");
        json.extend_from_slice(metadata.as_bytes());
        json.extend_from_slice(b",\"original_payload\":");
        serde_json::to_writer(&mut json, &payload).expect("a text is JSON, and memory takes it");
        json.push(b'}');
        String::from_utf8(json).expect("JSON is text")
    }

    /// Everything but the payload.
    pub fn metadata(&self) -> Value {
        json!({
            "id": self.id,
            "event_id": self.event_id,
            "original_topic": self.topic,
            "payload_bytes": self.payload_bytes,
            "properties": self.properties,
            "phase": self.phase,
            "error_type": self.error_type,
            "error_message": self.message,
            "table": self.table,
            "column": self.column,
            "retry_count": self.retry_count,
            "first_failure": text(self.first_failure),
            "last_failure": text(self.last_failure),
            "consumer_id": self.consumer_id,
            "pipeline": self.pipeline,
            "status": self.status,
            "settled_at": self.settled_at.map(text),
            "published_at": self.published_at.map(text),
        })
    }
}

fn text(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::LetterStatus;

    fn letter(payload: &'static [u8]) -> StoredLetter {
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_001);
        StoredLetter {
            id: 7,
            event_id: Some("rmid1:12345-00000abcdef-00000000-00000001".to_owned()),
            topic: "cdc/oracle/SALES/ORDERS/insert".to_owned(),
            payload: payload.into(),
            payload_bytes: payload.len(),
            properties: json!({"tenant": "a"}),
            phase: "decode".to_owned(),
            error_type: "MALFORMED_JSON".to_owned(),
            message: "the payload is not JSON".to_owned(),
            table: None,
            column: None,
            retry_count: 0,
            first_failure: at,
            last_failure: at,
            consumer_id: None,
            pipeline: Some("sales".to_owned()),
            status: LetterStatus::Dead,
            settled_at: None,
            published_at: None,
        }
    }

    #[test]
    fn a_payload_is_its_text_or_base64_of_its_bytes() {
        let envelope =
            |payload| -> Value { serde_json::from_str(&letter(payload).envelope()).expect("JSON") };
        let text = envelope(b"{\"op\": tru");
        assert_eq!(text["original_payload"], "{\"op\": tru");
        assert_eq!(text["dlq_metadata"]["payload_encoding"], "text");
        assert_eq!(text["dlq_metadata"]["first_failure"], "2023-11-14T22:13:20.000001Z");
        let bytes = envelope(b"\xff\x00");
        assert_eq!(bytes["original_payload"], "/wA=");
        assert_eq!(bytes["dlq_metadata"]["payload_encoding"], "base64");
    }

    #[test]
    fn a_payload_that_was_left_out_is_null_and_not_empty() {
        let json = |letter: StoredLetter| -> Value {
            serde_json::from_str(&letter.envelope()).expect("JSON")
        };
        let left_out = json(StoredLetter { payload_bytes: 5_000_000, ..letter(b"") });
        assert_eq!(left_out["original_payload"], Value::Null);
        assert_eq!(left_out["dlq_metadata"]["payload_encoding"], "omitted");
        assert_eq!(left_out["dlq_metadata"]["payload_bytes"], 5_000_000);
        assert_eq!(json(letter(b""))["original_payload"], "");
    }
}
