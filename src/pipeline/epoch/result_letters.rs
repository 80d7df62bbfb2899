//! Dead letters about rows that results don't show: few of each result, and after that how many there are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, RecordBatch};
use metrics::counter;

use crate::model::{
    LeftOutReason, LeftOutRows, ResultLetter, ResultMode, ResultTable, cell_text, row_json,
};
use crate::telemetry::names;

/// Rows of a result that get a letter of their own while this process runs. A query may leave out a row for each
/// event that comes: the rest is counted.
const MOST_LETTERS: u64 = 100;

/// What was written of each result. It outlives sessions; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResultLetters(Arc<Mutex<HashMap<String, Told>>>);

#[derive(Debug, Default)]
struct Told {
    letters: u64,
    /// Rows that were left out.
    rows: u64,
    /// The number of rows at which one more letter says how many there are.
    next_count: u64,
}

impl ResultLetters {
    /// Counts the rows of an epoch, and writes what is to be known of them.
    pub(crate) fn of(&self, left_out: &[LeftOutRows]) -> Vec<ResultLetter> {
        let mut letters = Vec::new();
        for rows in left_out {
            let (result, reason) = (rows.result.name.clone(), rows.reason.error_type().as_str());
            counter!(names::LEFT_OUT_ROWS, "result" => result.clone(), "reason" => reason)
                .increment(rows.count);
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            letters.extend(all.entry(result).or_default().tell(rows));
        }
        for letter in &letters {
            let error_type = letter.error_type.as_str();
            counter!(names::DEAD_LETTERS, "type" => error_type).increment(1);
        }
        letters
    }
}

impl Told {
    fn tell(&mut self, left_out: &LeftOutRows) -> Vec<ResultLetter> {
        self.rows += left_out.count;
        let room = MOST_LETTERS.saturating_sub(self.letters);
        let some = left_out.some.num_rows().min(usize::try_from(room).unwrap_or(usize::MAX));
        let mut letters: Vec<ResultLetter> = (0..some).map(|row| letter(left_out, row)).collect();
        self.letters += some as u64;
        let is_cut = left_out.count > some as u64;
        if is_cut && self.rows >= self.next_count {
            self.next_count = self.rows.saturating_mul(10);
            if letters.is_empty() {
                letters.push(letter(left_out, 0));
            }
            let more = format!(
                "; {} rows of this result were left out since the process started, and most of them have no letter of \
                 their own: the metric {} counts them",
                self.rows,
                names::LEFT_OUT_ROWS
            );
            letters.iter_mut().next_back().into_iter().for_each(|last| last.message += &more);
        }
        letters
    }
}

fn letter(left_out: &LeftOutRows, row: usize) -> ResultLetter {
    let LeftOutRows { result, path, reason, some, .. } = left_out;
    let key = match &result.mode {
        ResultMode::Keyed { key } => key.as_slice(),
        ResultMode::Append => &[],
    };
    let name = &result.name;
    let is_null = |at: &&usize| some.column(**at).is_null(row);
    let null = key.iter().find(is_null).map(|at| result.schema.field(*at).name().clone());
    let message = match (reason, &null) {
        (LeftOutReason::NullKey, Some(column)) => format!(
            "the result {name} ({path}) does not show a row whose key column {column} is NULL, because a key must \
             have a value: leave such rows out with WHERE {column} IS NOT NULL, or give it a value with COALESCE"
        ),
        _ => format!(
            "the result {name} ({path}) does not show this row, because another one has the same key ({}), and of \
             these the smallest is shown: correct the -- key: line or the SELECT",
            key_text(some, result, row)
        ),
    };
    let (result, error_type) = (name.clone(), reason.error_type());
    ResultLetter { result, error_type, column: null, message, row: row_json(some, row) }
}

/// As in `id = 7, item = 1`.
fn key_text(rows: &RecordBatch, result: &ResultTable, row: usize) -> String {
    let ResultMode::Keyed { key } = &result.mode else { return String::new() };
    let cell = |at: &usize| {
        format!("{} = {}", result.schema.field(*at).name(), cell_text(rows.column(*at), row))
    };
    key.iter().map(cell).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;
    use crate::model::{Channel, ErrorType};

    fn left_out(ids: &[Option<i64>], count: u64, reason: LeftOutReason) -> LeftOutRows {
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
        let column = Arc::new(Int64Array::from(ids.to_vec()));
        let result = ResultTable {
            name: "r".to_owned(),
            target: "t".to_owned(),
            channel: Channel::Table,
            schema: Arc::clone(&schema),
            mode: ResultMode::Keyed { key: vec![0] },
            definition: String::new(),
        };
        let some = RecordBatch::try_new(schema, vec![column]).unwrap();
        LeftOutRows { result: Arc::new(result), path: "sql/r.sql".to_owned(), reason, count, some }
    }

    #[test]
    fn a_letter_names_result_file_key_and_row() {
        let letters = ResultLetters::default();
        let nulls = left_out(&[None], 1, LeftOutReason::NullKey);
        let twins = left_out(&[Some(7)], 1, LeftOutReason::DuplicateKey);
        let told = letters.of(&[nulls, twins]);
        assert_eq!(told[0].error_type, ErrorType::NullKey);
        assert_eq!(told[0].column.as_deref(), Some("id"));
        assert_eq!(told[0].row, "{\"id\":null}");
        assert!(
            told[0].message.contains("r (sql/r.sql)")
                && told[0].message.contains("WHERE id IS NOT NULL")
        );
        assert_eq!(told[1].error_type, ErrorType::DuplicateKey);
        assert!(told[1].message.contains("(id = 7)"), "{}", told[1].message);
    }

    #[test]
    fn a_million_rows_make_few_letters_and_the_last_one_counts() {
        let letters = ResultLetters::default();
        let mut told = Vec::new();
        for epoch in 0..1000 {
            let ids: Vec<Option<i64>> = (0..100).map(|id| Some(epoch * 1000 + id)).collect();
            told.extend(letters.of(&[left_out(&ids, 1000, LeftOutReason::DuplicateKey)]));
        }
        let counts: Vec<&str> = told
            .iter()
            .filter_map(|letter| {
                letter.message.split_once("; ")?.1.split_once(" rows of this result")
            })
            .map(|(count, _)| count)
            .collect();
        assert_eq!(counts, ["1000", "10000", "100000", "1000000"]);
        assert_eq!(told.len(), MOST_LETTERS as usize + 3);
    }

    #[test]
    fn what_sessions_share_is_one_bound() {
        let letters = ResultLetters::default();
        let ids: Vec<Option<i64>> = (0..60).map(Some).collect();
        let of_session = |letters: ResultLetters| {
            letters.of(&[left_out(&ids, 60, LeftOutReason::DuplicateKey)]).len()
        };
        assert_eq!((of_session(letters.clone()), of_session(letters)), (60, 40));
    }
}
