//! Debezium's envelope: what kind of event it is, and the parts of a change in it, all borrowed.
//!
//! Source: "Change event values" and "Transaction metadata" of the Debezium connector for Oracle.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::value::Unit;
use crate::decode::refusal::EventRefusal;
use crate::model::{Operation, Scn};

/// A payload, understood as far as its outermost fields.
#[derive(Debug, PartialEq)]
pub(in crate::decode) enum DebeziumEvent<'a> {
    Change(ChangeEvent<'a>),
    /// No value at all: the key was deleted before, by an event of its own.
    Tombstone,
    Heartbeat,
    /// BEGIN or END of a transaction.
    Transaction,
    /// DDL of the source.
    SchemaChange(SchemaMessage<'a>),
}

/// What the source says about its tables; JSON texts.
#[derive(Debug, PartialEq)]
pub(in crate::decode) struct SchemaMessage<'a> {
    pub(in crate::decode) ddl: Option<Cow<'a, str>>,
    pub(in crate::decode) table_changes: Option<&'a str>,
    /// Of tables that the DDL names without one; may be empty.
    pub(in crate::decode) schema: Cow<'a, str>,
}

/// The parts of a change event. `before` and `after` are JSON texts, `None` for null.
#[derive(Debug, PartialEq)]
pub(in crate::decode) struct ChangeEvent<'a> {
    /// Empty if only the table is known.
    pub(in crate::decode) schema: Cow<'a, str>,
    pub(in crate::decode) table: Cow<'a, str>,
    pub(in crate::decode) action: ChangeAction,
    pub(in crate::decode) before: Option<&'a str>,
    pub(in crate::decode) after: Option<&'a str>,
    /// Microseconds since 1970: when the database made the change, else when Debezium saw it.
    pub(in crate::decode) source_ts: Option<i64>,
    /// When the change was committed or the row was read, by the database's own count.
    pub(in crate::decode) scn: Option<Scn>,
    pub(in crate::decode) schema_section: Option<&'a str>,
    /// Its rows have fields of the envelope too, whose names begin with `__`.
    pub(in crate::decode) is_flat: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::decode) enum ChangeAction {
    Row(Operation),
    /// The source emptied the table.
    Truncate,
    /// A generic message.
    Message,
}

impl ChangeAction {
    /// As the envelope's `op` has it.
    pub(super) fn from_letter(letter: &str) -> Option<Self> {
        match letter {
            "t" => Some(Self::Truncate),
            "m" => Some(Self::Message),
            _ => Operation::from_letter(letter).map(Self::Row),
        }
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

/// The raw value of each known field, at the top level or in `source`.
#[derive(Default)]
pub(super) struct EnvelopeFields<'a> {
    before: Option<&'a str>,
    after: Option<&'a str>,
    source: Option<&'a str>,
    op: Option<&'a str>,
    ts_ms: Option<&'a str>,
    ts_us: Option<&'a str>,
    ts_ns: Option<&'a str>,
    scn: Option<&'a str>,
    commit_scn: Option<&'a str>,
    status: Option<&'a str>,
    ddl: Option<&'a str>,
    table_changes: Option<&'a str>,
    payload: Option<&'a str>,
    schema: Option<&'a str>,
    table: Option<&'a str>,
    /// EnvelopeFields of any other name.
    others: usize,
}

impl<'a> EnvelopeFields<'a> {
    /// What this is, if it is one of Debezium's own forms.
    pub(super) fn event(
        self,
        schema_section: Option<&'a str>,
    ) -> Result<Option<DebeziumEvent<'a>>, EventRefusal> {
        Ok(match self.op {
            // A flattened row may have a column of that name.
            Some(op) if self.source.is_some() || self.is_plain() => {
                Some(DebeziumEvent::Change(self.change(op, schema_section)?))
            }
            _ if self.ddl.is_some() || self.table_changes.is_some() => {
                Some(DebeziumEvent::SchemaChange(self.schema_message()))
            }
            _ if matches!(self.status, Some(r#""BEGIN""# | r#""END""#)) => {
                Some(DebeziumEvent::Transaction)
            }
            _ if self.is_heartbeat() => Some(DebeziumEvent::Heartbeat),
            _ => None,
        })
    }

    fn schema_message(&self) -> SchemaMessage<'a> {
        let source = self.source.and_then(|source| parse(source).ok().flatten());
        SchemaMessage {
            ddl: self.ddl.and_then(text),
            table_changes: not_null(self.table_changes),
            schema: source.and_then(|source| text(source.schema?)).unwrap_or_default(),
        }
    }

    /// `before` and `after`.
    pub(super) fn rows(&self) -> (Option<&'a str>, Option<&'a str>) {
        (not_null(self.before), not_null(self.after))
    }

    /// The payload and its schema section, if this is what the converter puts around a value.
    pub(super) fn wrapped(&self) -> Option<(&'a str, Option<&'a str>)> {
        let others = [self.before, self.after, self.source, self.op, self.status, self.table];
        let is_wrapper = self.others == 0 && others.iter().all(Option::is_none);
        self.payload.filter(|_| is_wrapper).map(|payload| (payload, not_null(self.schema)))
    }

    /// It has no field that an envelope has not.
    fn is_plain(&self) -> bool {
        self.others == 0
    }

    fn is_heartbeat(&self) -> bool {
        let rest = [self.before, self.after, self.source, self.status, self.payload];
        self.ts_ms.is_some()
            && self.others == 0
            && rest.iter().chain(&[self.schema, self.table]).all(Option::is_none)
    }

    fn change(
        self,
        op: &'a str,
        schema_section: Option<&'a str>,
    ) -> Result<ChangeEvent<'a>, EventRefusal> {
        let op = text(op).ok_or_else(|| unknown("its op is no text"))?;
        let action = ChangeAction::from_letter(&op);
        let action = action.ok_or_else(|| unknown("its op is none of c, u, d, r, t, m"))?;
        let source = self.source.map(parse).transpose()?.flatten();
        let source = source.ok_or_else(|| unknown("it has no source block"))?;
        let name = |raw: Option<&'a str>| raw.and_then(text).filter(|name| !name.is_empty());
        let (schema, table) = match (name(source.schema), name(source.table)) {
            (Some(schema), Some(table)) => (schema, table),
            // User properties or the topic may name them.
            _ => (Cow::default(), Cow::default()),
        };
        Ok(ChangeEvent {
            schema,
            table,
            action,
            before: not_null(self.before),
            after: not_null(self.after),
            source_ts: source.timestamp().or_else(|| self.timestamp()),
            scn: newest_scn([source.scn, source.commit_scn]),
            schema_section,
            is_flat: false,
        })
    }

    /// The finest of the three.
    fn timestamp(&self) -> Option<i64> {
        let read = |raw: Option<&str>, unit: Unit| unit.micros(raw?.parse().ok()?);
        read(self.ts_ns, Unit::Nanos)
            .or_else(|| read(self.ts_us, Unit::Micros))
            .or_else(|| read(self.ts_ms, Unit::Millis))
    }
}

/// What counts of the SCNs that an event has: of the change and of its commit, which is the higher one. A
/// snapshot row has the SCN that it was read at; one of an incremental snapshot has those that the log was
/// read up to when its chunk was complete.
pub(super) fn newest_scn<'a>(scns: impl IntoIterator<Item = Option<&'a str>>) -> Option<Scn> {
    let digits = scns.into_iter().flatten().map(|raw| raw.trim_matches('"'));
    digits.filter_map(Scn::from_digits).max()
}

pub(super) fn unknown(reason: &str) -> EventRefusal {
    EventRefusal::UnknownEnvelope { reason: reason.to_owned() }
}

fn not_null(raw: Option<&str>) -> Option<&str> {
    raw.filter(|raw| *raw != "null")
}

/// The characters of a JSON string.
pub(super) fn text(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(raw).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum EnvelopeField {
    Before,
    After,
    Source,
    Op,
    TsMs,
    TsUs,
    TsNs,
    Scn,
    CommitScn,
    Status,
    Ddl,
    #[serde(rename = "tableChanges")]
    TableChanges,
    Payload,
    Schema,
    Table,
    #[serde(other)]
    Other,
}

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
        let mut fields = EnvelopeFields::default();
        while let Some(name) = map.next_key()? {
            let slot = match name {
                EnvelopeField::Before => &mut fields.before,
                EnvelopeField::After => &mut fields.after,
                EnvelopeField::Source => &mut fields.source,
                EnvelopeField::Op => &mut fields.op,
                EnvelopeField::TsMs => &mut fields.ts_ms,
                EnvelopeField::TsUs => &mut fields.ts_us,
                EnvelopeField::TsNs => &mut fields.ts_ns,
                // Known in `source`; elsewhere it is a column.
                EnvelopeField::Scn => {
                    fields.others += 1;
                    &mut fields.scn
                }
                EnvelopeField::CommitScn => {
                    fields.others += 1;
                    &mut fields.commit_scn
                }
                EnvelopeField::Status => &mut fields.status,
                EnvelopeField::Ddl => &mut fields.ddl,
                EnvelopeField::TableChanges => &mut fields.table_changes,
                EnvelopeField::Payload => &mut fields.payload,
                EnvelopeField::Schema => &mut fields.schema,
                EnvelopeField::Table => &mut fields.table,
                EnvelopeField::Other => {
                    fields.others += 1;
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *slot = Some(map.next_value::<&RawValue>()?.get());
        }
        Ok(EnvelopeObject(Some(fields)))
    }
}
