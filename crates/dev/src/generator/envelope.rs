//! Debezium envelopes and topics.

use std::io::Write;

use bytes::Bytes;
use serde_json::{Value, json};

use super::event::Operation;
use super::row::{Kind, Row, SalesTable, columns, documents, put};

const SCHEMA: &str = "SALES";
const SERVER: &str = "oracle-cdc";
/// Bytes that a typical envelope has.
const TYPICAL_SIZE: usize = 1_024;

/// A change, with what the envelope says about its transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change<'row, R> {
    pub(super) before: Option<&'row R>,
    pub(super) after: Option<&'row R>,
    pub(super) operation: Operation,
    /// When the database made the change, microseconds since 1970.
    pub(super) at_us: i64,
    pub(super) transaction: u64,
    /// Oracle gives several changes the same; here each transaction has one.
    pub(super) scn: u64,
}

/// Writes Debezium envelopes, with the schema section or without.
pub(super) struct EnvelopeWriter {
    /// The text of each table's schema section; empty without.
    schemas: Vec<String>,
}

impl EnvelopeWriter {
    pub(super) fn new(with_schema: bool, with_documents: bool) -> Self {
        let tables: &[SalesTable] = if with_schema { &SalesTable::ALL } else { &[] };
        let section = |table: &SalesTable| schema_section(*table, with_documents).to_string();
        Self { schemas: tables.iter().map(section).collect() }
    }

    pub(super) fn write<R: Row>(&self, change: &Change<'_, R>) -> Bytes {
        let mut out = Vec::with_capacity(TYPICAL_SIZE);
        let schema = self.schemas.get(R::TABLE as usize);
        if let Some(schema) = schema {
            put!(out, "{{\"schema\":{schema},\"payload\":");
        }
        out.extend_from_slice(b"{\"before\":");
        put_row(&mut out, change.before);
        out.extend_from_slice(b",\"after\":");
        put_row(&mut out, change.after);
        put_source(&mut out, change);
        let read_us = change.at_us + 150_000;
        let letter = change.operation.letter();
        put!(out, ",\"op\":\"{letter}\",\"ts_ms\":{},\"transaction\":null}}", read_us / 1_000);
        if schema.is_some() {
            out.push(b'}');
        }
        Bytes::from(out)
    }
}

fn put_row<R: Row>(out: &mut Vec<u8>, row: Option<&R>) {
    match row {
        Some(row) => row.write_json(out),
        None => out.extend_from_slice(b"null"),
    }
}

fn put_source<R: Row>(out: &mut Vec<u8>, change: &Change<'_, R>) {
    let is_snapshot = change.operation == Operation::Read;
    let (at_us, table) = (change.at_us, R::TABLE.name());
    let scn = change.scn;
    put!(out, ",\"source\":{{\"version\":\"2.7.4.Final\",\"connector\":\"oracle\"");
    put!(out, ",\"name\":\"{SERVER}\",\"ts_ms\":{},\"ts_us\":{at_us}", at_us / 1_000);
    put!(out, ",\"snapshot\":\"{is_snapshot}\",\"db\":\"ORCL\",\"schema\":\"{SCHEMA}\"");
    put!(out, ",\"table\":\"{table}\",\"txId\":\"{:016x}\"", change.transaction);
    put!(out, ",\"scn\":\"{scn}\",\"commit_scn\":\"{}\"}}", scn + 2);
}

/// The topic of a change: `cdc/oracle/{schema}/{table}/{insert|update|delete|read}`.
pub(super) fn topic(table: SalesTable, operation: Operation) -> String {
    let verb = match operation {
        Operation::Create => "insert",
        Operation::Update => "update",
        Operation::Delete => "delete",
        Operation::Read => "read",
    };
    format!("cdc/oracle/{SCHEMA}/{}/{verb}", table.name())
}

fn schema_section(table: SalesTable, with_documents: bool) -> Value {
    let documents = if with_documents { documents(table) } else { &[] };
    let fields: Vec<Value> = columns(table)
        .iter()
        .chain(documents)
        .enumerate()
        .map(|(position, (name, kind))| field(name, *kind, position > 0))
        .collect();
    let name = format!("{SERVER}.{SCHEMA}.{}", table.name());
    let row = |role: &str| {
        json!({"type": "struct", "fields": fields, "optional": true,
               "name": format!("{name}.Value"), "field": role})
    };
    json!({
        "type": "struct",
        "fields": [
            row("before"),
            row("after"),
            {"type": "string", "optional": false, "field": "op"},
            {"type": "int64", "optional": true, "field": "ts_ms"},
        ],
        "optional": false,
        "name": format!("{name}.Envelope"),
    })
}

fn field(name: &str, kind: Kind, is_optional: bool) -> Value {
    match kind {
        Kind::Integer => json!({"type": "int64", "optional": is_optional, "field": name}),
        Kind::Text => json!({"type": "string", "optional": is_optional, "field": name}),
        Kind::Timestamp => json!({"type": "int64", "optional": is_optional, "field": name,
            "name": "io.debezium.time.MicroTimestamp", "version": 1}),
    }
}
