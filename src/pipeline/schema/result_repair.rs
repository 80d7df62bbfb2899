//! Rows of results that a target has refused, and that somebody wants put right.
//!
//! What such a row is today is asked of the result as it is over all landed rows, so at a start, before ttl has
//! dropped any: of a result in memory nobody could tell a row that is gone from one that ttl has dropped.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::model::{
    Channel, CurrentRows, Landing, Mending, RefusedResultRow, ReplayOutcome, Replayed,
    ResultChanges, ResultMode, ResultTable, RowLetter, cell_text, rows_of, texts_of,
};
use crate::pipeline::error::PipelineError;
use crate::state::StateError;
use crate::transform::Transforms;

/// The text of each key column of a row.
type KeyText = Vec<Option<String>>;

/// What the letters ask for, by result; and what became of those that ask for nothing that can be done.
pub(crate) fn mendings(
    transforms: &Transforms,
    tables: &dyn CurrentRows,
    asked: Vec<RefusedResultRow>,
) -> Result<(Vec<Mending>, Vec<Replayed>), PipelineError> {
    let mut by_result: BTreeMap<String, Vec<RefusedResultRow>> = BTreeMap::new();
    for row in asked {
        by_result.entry(row.result.clone()).or_default().push(row);
    }
    let (mut mendings, mut settled) = (Vec::new(), Vec::new());
    for (name, letters) in by_result {
        let result = match mendable(transforms, &name) {
            Ok(result) => result,
            Err(reason) => {
                settled.extend(letters.iter().map(|row| not_tried(row.letter, &reason)));
                continue;
            }
        };
        let mending = match &result.mode {
            ResultMode::Append => appended(&result, letters, &mut settled),
            ResultMode::Keyed { key } => {
                let rows = transforms.rows_now(&name, tables)?.unwrap_or_default();
                keyed(KeyedResult { result: &result, key }, &rows, letters, &mut settled)
                    .map_err(|source| StateError::Arrow { table: name.clone(), source })?
            }
        };
        mendings.extend(Some(mending).filter(|mending| !mending.changes.is_empty()));
    }
    Ok((mendings, settled))
}

/// The result, or why its rows can't be put right.
fn mendable(transforms: &Transforms, name: &str) -> Result<Arc<ResultTable>, String> {
    let result = transforms.results().find(|result| result.name == name);
    let Some(result) = result.filter(|result| result.channel == Channel::Table) else {
        return Err(format!(
            "no SQL file keeps a result {name} in a table any more, or its file waits for a column"
        ));
    };
    let mut read = vec![name];
    // Through other results, down to the source tables.
    let mut at = 0;
    while let Some(name) = read.get(at).copied() {
        at += 1;
        let of_name = transforms.reads().find(|(result, _)| *result == name);
        read.extend(of_name.into_iter().flat_map(|(_, reads)| reads));
    }
    let is_kept_nowhere = |name: &&str| {
        let table = transforms.tables().iter().find(|table| table.name == **name);
        table.is_some_and(|table| table.options.landing == Landing::None)
    };
    match read.iter().find(|name| is_kept_nowhere(name)) {
        Some(table) if result.mode != ResultMode::Append => Err(format!(
            "{name} reads {table}, which has no landing table, so the row of today is not known; the next change of \
             the row writes it"
        )),
        _ => Ok(Arc::clone(result)),
    }
}

fn not_tried(letter: RowLetter, reason: &str) -> Replayed {
    Replayed { id: letter.id, outcome: ReplayOutcome::NotTried(reason.to_owned()) }
}

/// Appended rows are what they were: nothing is newer.
fn appended(
    result: &Arc<ResultTable>,
    letters: Vec<RefusedResultRow>,
    settled: &mut Vec<Replayed>,
) -> Mending {
    let names: Vec<&str> =
        result.schema.fields().iter().map(|field| field.name().as_str()).collect();
    let (mut rows, mut of_rows) = (Vec::new(), Vec::new());
    for RefusedResultRow { letter, row, .. } in letters {
        let texts = texts_of(&row, &names);
        match texts.filter(|texts| rows_of(&result.schema, std::slice::from_ref(texts)).is_some()) {
            Some(texts) => {
                rows.push(texts);
                of_rows.push(vec![letter]);
            }
            None => {
                let reason = format!(
                    "the row has not the columns that {} has today, or other types; insert it by hand",
                    result.name
                );
                settled.push(not_tried(letter, &reason));
            }
        }
    }
    let none = || RecordBatch::new_empty(Arc::clone(&result.schema));
    let upserts = rows_of(&result.schema, &rows).unwrap_or_else(none);
    let keys = RecordBatch::new_empty(Arc::new(Schema::empty()));
    let changes = changes(result, upserts, keys);
    Mending { changes, of_upserts: of_rows, of_deletes: Vec::new() }
}

/// A result and the positions of its key columns.
struct KeyedResult<'a> {
    result: &'a Arc<ResultTable>,
    key: &'a [usize],
}

/// The rows with the keys of the letters, as they are today.
fn keyed(
    KeyedResult { result, key }: KeyedResult<'_>,
    rows: &[RecordBatch],
    letters: Vec<RefusedResultRow>,
    settled: &mut Vec<Replayed>,
) -> Result<Mending, ArrowError> {
    let names: Vec<&str> = key.iter().map(|at| result.schema.field(*at).name().as_str()).collect();
    let key_schema: SchemaRef = Arc::new(result.schema.project(key)?);
    let mut wanted: HashMap<KeyText, Vec<RowLetter>> = HashMap::new();
    for RefusedResultRow { letter, row, .. } in letters {
        match texts_of(&row, &names) {
            Some(text) if rows_of(&key_schema, std::slice::from_ref(&text)).is_some() => {
                wanted.entry(text).or_default().push(letter);
            }
            // The result has another key than when the row was refused, so its target was written anew since.
            _ => {
                let outcome = ReplayOutcome::Superseded;
                settled.push(Replayed { id: letter.id, outcome });
            }
        }
    }
    wanted.values_mut().for_each(|letters| letters.sort_by_key(|letter| -letter.id));
    let (mut found, mut of_found) = (Vec::new(), Vec::new());
    for part in rows {
        let key_columns: Vec<_> = key.iter().map(|at| part.column(*at)).collect();
        let mut of_part: Vec<u32> = Vec::new();
        for row in 0..part.num_rows() {
            // A key is never NULL.
            let text = key_columns.iter().map(|array| Some(cell_text(array, row)));
            if let Some(letters) = wanted.remove(&text.collect::<KeyText>()) {
                of_part.push(row as u32);
                of_found.push(letters);
            }
            if wanted.is_empty() {
                break;
            }
        }
        found.push(take_record_batch(part, &UInt32Array::from(of_part))?);
    }
    let upserts = concat_batches(&result.schema, &found)?;
    let (gone, of_gone): (Vec<KeyText>, Vec<Vec<RowLetter>>) = wanted.into_iter().unzip();
    let none = || RecordBatch::new_empty(Arc::clone(&key_schema));
    let deletes = rows_of(&key_schema, &gone).unwrap_or_else(none);
    let changes = changes(result, upserts, deletes);
    Ok(Mending { changes, of_upserts: of_found, of_deletes: of_gone })
}

fn changes(result: &Arc<ResultTable>, upserts: RecordBatch, deletes: RecordBatch) -> ResultChanges {
    let (table, held) = (Arc::clone(result), Vec::new());
    ResultChanges { table, upserts, held, deletes, is_new_definition: false }
}
