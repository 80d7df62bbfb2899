//! Whether too many events can't be decoded for them to be to blame: a wrong `source =`, a wrong format, wrong
//! declarations. It is the rule for rows that a target refuses ([`FloodGauge`]), with the same option.
//!
//! Events of tables that no file declares are dead letters because `decode.unknown_tables` says so, however many they are;
//! unless a declared table without an event yet is likely to be meant.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use datafusion::common::utils::datafusion_strsim::levenshtein;

use crate::decode::Decoded;
use crate::model::{DeadLetter, ErrorType, SourceTable, Table};
use crate::pipeline::decode_flood::{Cause, DecodeFlood};
use crate::resilience::{Flood, FloodGauge};

/// In place of the table of events that can't be read.
const UNREADABLE: &str = "the queue";

/// The same for events of tables that no file declares, all together.
const UNDECLARED: &str = "tables that no file declares";

/// Goes by the events of an epoch and about a thousand before them.
#[derive(Debug)]
pub(crate) struct DecodeFloods {
    gauge: FloodGauge,
    declared: Vec<Arc<Table>>,
    /// Tables that have had an event.
    seen: HashSet<SourceTable>,
}

impl DecodeFloods {
    /// `seen` are tables that have rows.
    pub(crate) fn new(
        max_percent: u8,
        declared: impl Iterator<Item = Arc<Table>>,
        seen: impl Iterator<Item = SourceTable>,
    ) -> Self {
        let declared = declared.filter(|table| !table.is_extracted()).collect();
        Self { gauge: FloodGauge::new(max_percent), declared, seen: seen.collect() }
    }

    /// Notes what became of the messages of an epoch.
    ///
    /// # Errors
    /// If too many can't be decoded: the first table that is flooded.
    pub(crate) fn note(
        &mut self,
        decoded: &Decoded,
        messages: usize,
    ) -> Result<(), Box<DecodeFlood>> {
        let sources = decoded.changes.iter().map(|changes| changes.table.source.clone());
        self.seen.extend(sources);
        self.note_unreadable(decoded, messages)?;
        self.note_misfits(decoded)?;
        self.note_unknown(decoded, messages)
    }

    fn note_unreadable(
        &mut self,
        decoded: &Decoded,
        messages: usize,
    ) -> Result<(), Box<DecodeFlood>> {
        let is_unreadable = |letter: &&DeadLetter| {
            matches!(
                letter.error_type,
                ErrorType::MalformedJson | ErrorType::UnknownEnvelope | ErrorType::EventTooLarge
            )
        };
        let letters: Vec<&DeadLetter> = decoded.dead_letters.iter().filter(is_unreadable).collect();
        let noted = self.gauge.note(UNREADABLE, letters.len(), messages, first(&letters));
        noted.map_err(|flood| Box::new(DecodeFlood { flood, cause: Cause::Format }))
    }

    fn note_misfits(&mut self, decoded: &Decoded) -> Result<(), Box<DecodeFlood>> {
        let is_misfit = |letter: &DeadLetter| {
            matches!(
                letter.error_type,
                ErrorType::SchemaMismatch
                    | ErrorType::InvalidKey
                    | ErrorType::TooManyColumns
                    | ErrorType::UndeclaredTooLarge
                    | ErrorType::TooDeep
            )
        };
        let by_table = by_table(decoded, is_misfit);
        for table in &self.declared {
            let source = table.source.to_string();
            let letters = by_table.get(source.as_str()).map_or(&[][..], Vec::as_slice);
            let changes =
                decoded.changes.iter().find(|changes| changes.table.source == table.source);
            let of = letters.len() + changes.map_or(0, |changes| changes.len());
            let noted = self.gauge.note(&source, letters.len(), of, first(letters));
            let declaration = || Cause::Declaration { table: table.name.clone() };
            noted.map_err(|flood| Box::new(DecodeFlood { flood, cause: declaration() }))?;
        }
        Ok(())
    }

    fn note_unknown(&mut self, decoded: &Decoded, messages: usize) -> Result<(), Box<DecodeFlood>> {
        let by_table = by_table(decoded, |letter| letter.error_type == ErrorType::UnknownTable);
        for (source, letters) in &by_table {
            let Some(meant) = self.meant_by(source) else { continue };
            let cause = Cause::Source { table: meant.name.clone(), source: meant.source.clone() };
            let noted = self.gauge.note(source, letters.len(), letters.len(), first(letters));
            noted.map_err(|flood| Box::new(DecodeFlood { flood, cause }))?;
        }
        if self.declared.iter().any(|table| self.seen.contains(&table.source)) {
            return Ok(());
        }
        let Some(largest) = by_table.iter().max_by_key(|(_, letters)| letters.len()) else {
            return Ok(());
        };
        let all = by_table.values().map(Vec::len).sum();
        let noted = self.gauge.note(UNDECLARED, all, messages, first(largest.1));
        let declared = || self.declared.iter().map(|table| table.source.clone()).collect();
        let flood = |flood: Flood| DecodeFlood {
            flood: Flood { table: (*largest.0).to_owned(), ..flood },
            cause: Cause::Sources { declared: declared() },
        };
        noted.map_err(|it| Box::new(flood(it)))
    }

    /// The declared table without events whose source is likely to be this one.
    fn meant_by(&self, source: &str) -> Option<&Arc<Table>> {
        let (schema, name) = source.rsplit_once('.').unwrap_or(("", source));
        let unseen = self.declared.iter().filter(|table| !self.seen.contains(&table.source));
        let is_near = |table: &&Arc<Table>| {
            let declared = &table.source;
            let is_same = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
            let distance = levenshtein(&declared.table.to_lowercase(), &name.to_lowercase());
            is_same(&declared.table, name)
                || is_same(&table.name, name)
                || (is_same(&declared.schema, schema) && distance <= declared.table.len() / 4)
        };
        unseen.filter(is_near).min_by_key(|table| levenshtein(&table.source.to_string(), source))
    }
}

fn by_table(
    decoded: &Decoded,
    is_it: impl Fn(&DeadLetter) -> bool,
) -> BTreeMap<&str, Vec<&DeadLetter>> {
    let mut by_table: BTreeMap<&str, Vec<&DeadLetter>> = BTreeMap::new();
    for letter in decoded.dead_letters.iter().filter(|letter| is_it(letter)) {
        if let Some(table) = &letter.table {
            by_table.entry(table).or_default().push(letter);
        }
    }
    by_table
}

fn first<'a>(letters: &[&'a DeadLetter]) -> &'a str {
    letters.first().map_or("", |letter| letter.message.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::{SqlFile, parse_tables};

    fn table(name: &str, source: &str) -> Arc<Table> {
        let text =
            format!("CREATE TABLE {name} (id BIGINT PRIMARY KEY) WITH (source = '{source}')");
        let file = SqlFile { path: format!("{name}.sql").into(), name: name.into(), text };
        Arc::clone(&parse_tables(&[file]).unwrap()[0])
    }

    fn floods(declared: &[Arc<Table>]) -> DecodeFloods {
        DecodeFloods::new(10, declared.iter().cloned(), std::iter::empty())
    }

    fn letters(count: usize, error_type: ErrorType, table: Option<&str>) -> Decoded {
        let letter = DeadLetter {
            offset: crate::model::Offset::new(1, 1),
            topic: String::new(),
            payload: bytes::Bytes::new(),
            properties: Vec::new(),
            error_type,
            message: "value 7 is none".to_owned(),
            table: table.map(str::to_owned),
            column: None,
        };
        Decoded { dead_letters: vec![letter; count], ..Decoded::default() }
    }

    #[test]
    fn a_wrong_source_is_found_by_its_likely_name() {
        let declared = [table("orders", "SALES.ORDER"), table("items", "SALES.ITEMS")];
        for source in ["SALES.ORDERS", "OTHER.ORDER", "sales.order", "APP.ORDERS"] {
            let unknown = letters(21, ErrorType::UnknownTable, Some(source));
            let flood = floods(&declared).note(&unknown, 1000).unwrap_err().to_string();
            assert!(
                flood.contains(&format!("source = '{source}' in sql/tables/orders.sql")),
                "{flood}"
            );
            assert!(
                floods(&declared)
                    .note(&letters(20, ErrorType::UnknownTable, Some(source)), 20)
                    .is_ok()
            );
        }
    }

    #[test]
    fn a_shared_queue_goes_on_once_a_declared_table_has_come() {
        let declared = [table("orders", "SALES.ORDERS")];
        let unknown = letters(900, ErrorType::UnknownTable, Some("HR.STAFF"));
        let flood = floods(&declared).note(&unknown, 1000).unwrap_err().to_string();
        assert!(flood.contains("none is of a declared table (SALES.ORDERS)"), "{flood}");
        let seen = declared.iter().map(|table| table.source.clone());
        let mut floods = DecodeFloods::new(10, declared.iter().cloned(), seen);
        assert!(floods.note(&unknown, 1000).is_ok());
        // Of a table with events, other tables may have names that are like its own.
        assert!(
            floods.note(&letters(900, ErrorType::UnknownTable, Some("OLD.ORDERS")), 1000).is_ok()
        );
    }

    #[test]
    fn what_no_declaration_or_format_fits_stops_the_flow_beyond_its_share() {
        let declared = [table("orders", "SALES.ORDERS")];
        let misfits = letters(600, ErrorType::SchemaMismatch, Some("SALES.ORDERS"));
        let flood = floods(&declared).note(&misfits, 10_000).unwrap_err().to_string();
        assert!(flood.contains("600 of 600 events of SALES.ORDERS"), "{flood}");
        assert!(
            flood.contains("sql/tables/orders.sql") && flood.contains("value 7 is none"),
            "{flood}"
        );
        let unreadable = letters(600, ErrorType::MalformedJson, None);
        assert!(floods(&declared).note(&unreadable, 10_000).is_ok(), "6 % are no flood");
        let flood = floods(&declared).note(&unreadable, 5000).unwrap_err().to_string();
        assert!(flood.contains("600 of 5000 events can't be read"), "{flood}");
        let late = letters(600, ErrorType::LateEvent, Some("SALES.ORDERS"));
        assert!(floods(&declared).note(&late, 600).is_ok(), "no decoder is to blame");
    }
}
