//! Writes to the dead-letter table what became of letters that an epoch has processed again.

use std::time::SystemTime;

use super::letter_table;
use crate::model::LetterStatus::{self, Dead};
use crate::model::{ErrorType, ReplayOutcome, Replayed};
use crate::sink::postgres::client::quote;
use crate::sink::postgres::schema::system_tables::DEAD_LETTERS;
use crate::sink::postgres::target::rows::BoundStatement;

/// What changes of one letter; `None` stays as it is.
struct LetterUpdate {
    status: LetterStatus,
    error_type: Option<&'static str>,
    message: Option<String>,
    phase: Option<&'static str>,
    table: Option<String>,
    column: Option<String>,
}

impl LetterUpdate {
    fn new(status: LetterStatus) -> Self {
        let (error_type, message, phase, table, column) = (None, None, None, None, None);
        Self { status, error_type, message, phase, table, column }
    }
}

/// Goes by the id alone: whoever has asked may have taken it back, and this is what happened all the same.
pub(crate) fn update(schema: &str, settled: &[Replayed], at: SystemTime) -> Option<BoundStatement> {
    if settled.is_empty() {
        return None;
    }
    let ids: Vec<i64> = settled.iter().map(|replayed| replayed.id).collect();
    let updates: Vec<LetterUpdate> =
        settled.iter().map(|replayed| update_of(&replayed.outcome)).collect();
    let sql = format!(
        "UPDATE {} AS letter SET status = given.status, \
         settled_at = CASE WHEN given.status = '{Dead}' THEN settled_at ELSE $8::timestamptz END, \
         last_failure = CASE WHEN given.status = '{Dead}' THEN $8 ELSE last_failure END, \
         retry_count = retry_count + 1, \
         error_type = COALESCE(given.error_type, letter.error_type), \
         error_message = COALESCE(given.message, letter.error_message), \
         phase = COALESCE(given.phase, letter.phase), \
         source_table = COALESCE(given.source_table, letter.source_table), \
         column_name = CASE WHEN given.error_type IS NULL THEN letter.column_name \
         ELSE given.column_name END \
         FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) \
         AS given(id, status, error_type, message, phase, source_table, column_name) \
         WHERE letter.id = given.id",
        quote::table(schema, DEAD_LETTERS)
    );
    let texts = |text: fn(&LetterUpdate) -> Option<String>| -> Vec<Option<String>> {
        updates.iter().map(text).collect()
    };
    let owned = |text: Option<&'static str>| text.map(str::to_owned);
    Some(BoundStatement {
        table: DEAD_LETTERS.to_owned(),
        sql,
        params: vec![
            Box::new(ids),
            Box::new(updates.iter().map(|update| update.status.as_str()).collect::<Vec<_>>()),
            Box::new(updates.iter().map(|update| owned(update.error_type)).collect::<Vec<_>>()),
            Box::new(texts(|update| update.message.clone())),
            Box::new(updates.iter().map(|update| owned(update.phase)).collect::<Vec<_>>()),
            Box::new(texts(|update| update.table.clone())),
            Box::new(texts(|update| update.column.clone())),
            Box::new(at),
        ],
    })
}

fn update_of(outcome: &ReplayOutcome) -> LetterUpdate {
    match outcome {
        ReplayOutcome::Applied => LetterUpdate::new(LetterStatus::Replayed),
        ReplayOutcome::Superseded => LetterUpdate::new(LetterStatus::Superseded),
        ReplayOutcome::NotTried(reason) => LetterUpdate {
            message: Some(letter_table::printable(reason)),
            ..LetterUpdate::new(LetterStatus::Dead)
        },
        ReplayOutcome::RefusedAgain { column, message } => LetterUpdate {
            status: LetterStatus::Dead,
            error_type: Some(ErrorType::RowRefused.as_str()),
            message: Some(letter_table::printable(message)),
            phase: Some(ErrorType::RowRefused.phase().as_str()),
            table: None,
            column: column.as_deref().map(letter_table::printable),
        },
        ReplayOutcome::Failed(letter) => LetterUpdate {
            status: LetterStatus::Dead,
            error_type: Some(letter.error_type.as_str()),
            message: Some(letter_table::printable(&letter.message)),
            phase: Some(letter.phase().as_str()),
            table: letter.table.as_deref().map(letter_table::printable),
            column: letter.column.as_deref().map(letter_table::printable),
        },
    }
}
