//! The outermost fields of a body, by the names that Debezium and GoldenGate have for them.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::event::unknown;
use super::json_text::text;
use crate::decode::refusal::EventRefusal;

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
pub(super) enum EnvelopeField {
    Before,
    After,
    Source,
    Op,
    TsMs,
    TsUs,
    TsNs,
    Transaction,
    Message,
    Scn,
    CommitScn,
    Status,
    Id,
    EventCount,
    DataCollections,
    Ddl,
    #[serde(rename = "tableChanges")]
    TableChanges,
    #[serde(rename = "databaseName")]
    DatabaseName,
    #[serde(rename = "schemaName")]
    SchemaName,
    Position,
    Payload,
    Schema,
    Table,
    AggregateType,
    Type,
    AdditionalData,
    Timestamp,
    Data,
    #[serde(rename = "__op")]
    RowOp,
    #[serde(rename = "__deleted")]
    RowDeleted,
    OpType,
    OpTs,
    CurrentTs,
    Pos,
    PrimaryKeys,
    Tokens,
    #[serde(other)]
    Other,
}

/// How many fields are known by their names.
const FIELDS: usize = EnvelopeField::Other as usize;

/// The raw value of each known field, at the top level or in `source`.
pub(super) struct EnvelopeFields<'a> {
    values: [Option<&'a str>; FIELDS],
    /// Fields of any other name.
    others: usize,
}

impl<'a> EnvelopeFields<'a> {
    pub(super) fn get(&self, field: EnvelopeField) -> Option<&'a str> {
        self.values[field as usize]
    }

    /// The characters of a field that is a text.
    pub(super) fn text(&self, field: EnvelopeField) -> Option<Cow<'a, str>> {
        self.get(field).and_then(text)
    }

    pub(super) fn has(&self, field: EnvelopeField) -> bool {
        self.get(field).is_some()
    }

    pub(super) fn has_any(&self, fields: &[EnvelopeField]) -> bool {
        fields.iter().any(|field| self.has(*field))
    }

    /// Whether it has no field but some of these.
    pub(super) fn has_only(&self, fields: &[EnvelopeField]) -> bool {
        let expected = fields.iter().filter(|field| self.has(**field)).count();
        self.others == 0 && self.values.iter().flatten().count() == expected
    }
}

/// `None` for null.
pub(super) fn parse(text: &str) -> Result<Option<EnvelopeFields<'_>>, EventRefusal> {
    serde_json::from_str(text).map(|EnvelopeObject(fields)| fields).map_err(|error| {
        // It stops at the first wrong type, so the rest may still be no JSON.
        match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => unknown(&error.to_string()),
            Err(error) => EventRefusal::MalformedJson { reason: error.to_string() },
        }
    })
}

/// A JSON object or null; anything else is an error.
struct EnvelopeObject<'a>(Option<EnvelopeFields<'a>>);

impl<'de> Deserialize<'de> for EnvelopeObject<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EnvelopeVisitor)
    }
}

struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = EnvelopeObject<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(EnvelopeObject(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = EnvelopeFields { values: [None; FIELDS], others: 0 };
        while let Some(name) = map.next_key::<EnvelopeField>()? {
            if matches!(name, EnvelopeField::Other) {
                fields.others += 1;
                map.next_value::<IgnoredAny>()?;
            } else {
                fields.values[name as usize] = Some(map.next_value::<&RawValue>()?.get());
            }
        }
        Ok(EnvelopeObject(Some(fields)))
    }
}
