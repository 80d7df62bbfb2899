//! Against a model that looks at all rows each time.

use std::sync::Arc;

use arrow::array::{Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use proptest::prelude::*;

use super::*;

type Pair = (Option<i64>, Option<&'static str>);

fn schema() -> SchemaRef {
    let field = |name, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![field("id", DataType::Int64), field("v", DataType::Utf8)]))
}

fn rows(pairs: &[Pair]) -> RecordBatch {
    let ids: Int64Array = pairs.iter().map(|pair| pair.0).collect();
    let values: StringArray = pairs.iter().map(|pair| pair.1).collect();
    RecordBatch::try_new(schema(), vec![Arc::new(ids), Arc::new(values)]).unwrap()
}

fn delta(changes: &[(Pair, i64)]) -> Delta {
    let pairs: Vec<Pair> = changes.iter().map(|change| change.0).collect();
    Delta::new(rows(&pairs), changes.iter().map(|change| change.1).collect())
}

fn rule() -> KeyRule {
    KeyRule::new(&schema(), &[0], Keys::Unproven).unwrap()
}

fn pairs(batch: &RecordBatch) -> Vec<(Option<i64>, Option<String>)> {
    let ids = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
    let values = batch.column(1).as_any().downcast_ref::<StringArray>().unwrap();
    ids.iter().zip(values).map(|(id, value)| (id, value.map(str::to_owned))).collect()
}

/// As in `-7 a`; sorted.
fn lines(ruled: &Ruled) -> Vec<String> {
    let pairs = pairs(&ruled.delta.rows).into_iter().zip(&ruled.delta.weights);
    let text = |((id, value), weight): ((Option<i64>, Option<String>), &i64)| {
        let sign = if *weight < 0 { '-' } else { '+' };
        format!("{sign}{} {}", id.unwrap(), value.unwrap_or_else(|| "NULL".to_owned()))
    };
    let mut lines: Vec<String> = pairs.map(text).collect();
    lines.sort();
    lines
}

const A: Pair = (Some(7), Some("a"));
const B: Pair = (Some(7), Some("b"));
const N: Pair = (Some(7), None);

#[test]
fn the_smallest_row_stays_and_the_next_one_appears_when_it_goes() {
    let mut rule = rule();
    let first = rule.apply(&delta(&[(B, 1)])).unwrap();
    assert_eq!((lines(&first), first.left_out.duplicates.count), (vec!["+7 b".to_owned()], 0));
    let second = rule.apply(&delta(&[(A, 1)])).unwrap();
    assert_eq!(lines(&second), ["+7 a", "-7 b"]);
    assert_eq!(second.left_out.duplicates.count, 1);
    let twin = second.left_out.duplicates.some.as_ref().unwrap();
    assert_eq!(pairs(twin), [(Some(7), Some("b".to_owned()))], "the one that is shown no longer");
    let third = rule.apply(&delta(&[(A, -1)])).unwrap();
    assert_eq!(lines(&third), ["+7 b", "-7 a"]);
    assert!(third.left_out.is_empty());
    let fourth = rule.apply(&delta(&[(B, -1)])).unwrap();
    assert_eq!(lines(&fourth), ["-7 b"]);
    assert!(rule.held.as_ref().is_some_and(KeyedState::is_empty));
}

#[test]
fn null_comes_before_every_value_and_equal_rows_are_shown_once() {
    let mut rule = rule();
    let ruled = rule.apply(&delta(&[(A, 2), (N, 1)])).unwrap();
    assert_eq!((lines(&ruled), ruled.left_out.duplicates.count), (vec!["+7 NULL".to_owned()], 2));
    let ruled = rule.apply(&delta(&[(N, -1)])).unwrap();
    assert_eq!((lines(&ruled).len(), ruled.left_out.duplicates.count), (2, 0));
    let mut seen = Seen::default();
    let mut shown = |part| rule.shown(part, &mut seen).unwrap().num_rows();
    assert_eq!((shown(rows(&[A, A])), shown(rows(&[A]))), (1, 0));
    let ruled = rule.apply(&delta(&[(A, -1)])).unwrap();
    assert!(ruled.delta.is_empty(), "{ruled:?}");
}

#[test]
fn a_row_without_a_key_is_left_out_and_one_that_cancels_out_is_not_told() {
    for keys in [Keys::ProvenUnique, Keys::Unproven] {
        let mut rule = KeyRule::new(&schema(), &[0], keys).unwrap();
        let broken: Pair = (None, Some("x"));
        let ruled = rule.apply(&delta(&[(broken, 1), (A, 1)])).unwrap();
        assert_eq!((lines(&ruled), ruled.left_out.null_keys.count), (vec!["+7 a".to_owned()], 1));
        let ruled = rule.apply(&delta(&[(broken, -1), (broken, 1)])).unwrap();
        assert!(ruled.left_out.is_empty() && ruled.delta.is_empty());
        let ruled = rule.apply(&delta(&[(broken, -1)])).unwrap();
        assert!(ruled.left_out.is_empty() && ruled.delta.is_empty());
        let key_of = vec![0, 0, 1];
        let found = Found { rows: rows(&[broken, A, A]), key_of };
        assert_eq!(rule.found(found).unwrap().key_of, [0, 1]);
    }
}

#[test]
fn a_key_with_very_many_rows_costs_a_change_no_more_than_its_own() {
    let mut rule = rule();
    let texts: Vec<String> = (0..20_000).map(|at| format!("{at:06}")).collect();
    let ids = Int64Array::from(vec![Some(7); texts.len()]);
    let columns: Vec<ArrayRef> = vec![Arc::new(ids), Arc::new(StringArray::from(texts))];
    let batch = RecordBatch::try_new(schema(), columns).unwrap();
    let ruled = rule.apply(&Delta::of(batch.clone(), 1)).unwrap();
    assert_eq!(ruled.left_out.duplicates.count, 19_999);
    assert_eq!(ruled.left_out.duplicates.some.unwrap().num_rows(), LeftOut::MOST_ROWS);
    for at in 0..5000 {
        let gone = rule.apply(&Delta::of(batch.slice(at, 1), -1)).unwrap();
        assert_eq!(gone.delta.weights, [-1, 1], "the next one appears");
    }
    let (mut left, mut seen) = (LeftOut::default(), Seen::default());
    for part in [batch.slice(5000, 5000), batch.slice(10_000, 10_000)] {
        rule.add_left_out(&part, &mut seen, &mut left).unwrap();
    }
    assert_eq!(left.duplicates.count, 14_999);
}

proptest! {
    #[test]
    fn batch_borders_make_no_difference(
        changes in prop::collection::vec((0_i64..4, 0_usize..4), 1..60),
        border in 1_usize..9,
    ) {
        const VALUES: [Option<&str>; 4] = [None, Some("a"), Some("b"), Some("c")];
        let mut rule = rule();
        let mut held: BTreeMap<(i64, Option<&str>), i64> = BTreeMap::new();
        let mut target: BTreeMap<i64, Option<String>> = BTreeMap::new();
        for part in changes.chunks(border) {
            // A row that is there goes, another one comes.
            let epoch: Vec<(Pair, i64)> = part.iter().map(|(id, value)| {
                let row = (*id, VALUES[*value]);
                let count = held.entry(row).or_insert(0);
                let weight = if *count > 0 { -1 } else { 1 };
                *count += weight;
                ((Some(row.0), row.1), weight)
            }).collect();
            let ruled = rule.apply(&delta(&epoch)).unwrap();
            let changed: Vec<_> = pairs(&ruled.delta.rows).into_iter().zip(&ruled.delta.weights).collect();
            for ((id, value), _) in changed.iter().filter(|(_, weight)| **weight < 0) {
                prop_assert_eq!(target.remove(&id.unwrap()), Some(value.clone()));
            }
            for ((id, value), _) in changed.iter().filter(|(_, weight)| **weight > 0) {
                prop_assert_eq!(target.insert(id.unwrap(), value.clone()), None);
            }
        }
        let mut expected: BTreeMap<i64, Option<String>> = BTreeMap::new();
        for ((id, value), _) in held.iter().filter(|(_, count)| **count > 0) {
            expected.entry(*id).or_insert_with(|| value.map(str::to_owned));
        }
        prop_assert_eq!(target, expected);
    }
}
