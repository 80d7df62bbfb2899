//! Rows by key and by index.

use std::collections::BTreeSet;

use arrow::array::Array;
use proptest::prelude::*;

use super::*;
use crate::model::{CurrentRows, GroupBound, Lookup};

fn find(stores: &StateStores, columns: &[usize], keys: &[ArrayRef]) -> Vec<(u32, i64)> {
    let lookup = Lookup { columns, keys, nulls_match: false };
    let found = stores.find("t", lookup, &[0, 2]).unwrap();
    let ids = found.rows.column(0).as_primitive::<Int64Type>().values().iter().copied();
    let mut pairs: Vec<(u32, i64)> = found.key_of.iter().copied().zip(ids).collect();
    pairs.sort_unstable();
    let mut counts = vec![0; keys[0].len()];
    pairs.iter().for_each(|(key, _)| counts[*key as usize] += 1);
    assert_eq!(stores.count("t", lookup).unwrap(), counts);
    pairs
}

/// The same by looking at every row.
fn scan(stores: &StateStores, parents: &[i64]) -> Vec<(u32, i64)> {
    let mut pairs = Vec::new();
    for batch in stores.all("t").unwrap() {
        let ids = batch.column(0).as_primitive::<Int64Type>();
        let column = batch.column(1).as_primitive::<Int64Type>();
        for row in (0..batch.num_rows()).filter(|row| column.is_valid(*row)) {
            let keys = (0..parents.len()).filter(|key| parents[*key] == column.value(row));
            pairs.extend(keys.map(|key| (key as u32, ids.value(row))));
        }
    }
    pairs.sort_unstable();
    pairs
}

fn stores(options: TableOptions) -> (Arc<Table>, StateStores) {
    let table = table("t", options);
    let stores = StateStores::new(&[Arc::clone(&table)], Duration::ZERO).unwrap();
    (table, stores)
}

proptest! {
    #[test]
    fn an_index_finds_what_a_scan_finds(
        stream in prop::collection::vec((prop::bool::weighted(0.3), 0i64..12, prop::option::of(0i64..4)), 1..150),
        size in 1usize..20,
        indexed_from in 0usize..5,
    ) {
        let (table, mut stores) = stores(TableOptions {
            group: Some(GroupBound { column: 1, limit: 3, keep: 2 }),
            ..TableOptions::default()
        });
        for (epoch, batch) in stream.chunks(size).enumerate() {
            if epoch == indexed_from {
                stores.add_index("t", &[1]).unwrap();
            }
            let changes: Vec<Change> = batch.iter().enumerate().map(|(at, (is_delete, id, parent))| {
                let position = (epoch * size + at) as i64;
                let change = if *is_delete { delete(position, *id) } else { change(position, *id, "") };
                Change { parent: *parent, ..change }
            }).collect();
            stores.fold(changelog(&table, &changes)).unwrap();
            if epoch >= indexed_from {
                let parents = [0, 1, 2, 3, 2, 9];
                let keys: ArrayRef = Arc::new(Int64Array::from(parents.to_vec()));
                prop_assert_eq!(find(&stores, &[1], &[keys]), scan(&stores, &parents));
            }
        }
    }
}

#[test]
fn rows_are_found_by_their_key_and_null_finds_nothing() {
    let (table, mut stores) = stores(TableOptions::default());
    stores.add_index("t", &[1]).unwrap();
    let changes =
        [change(1, 1, "a").of(7), change(2, 2, "b"), change(3, 3, "c").of(7), delete(4, 3)];
    stores.fold(changelog(&table, &changes)).unwrap();
    let keys = |keys: &[Option<i64>]| [Arc::new(Int64Array::from(keys.to_vec())) as ArrayRef];
    assert_eq!(find(&stores, &[0], &keys(&[Some(2), Some(3), Some(1)])), [(0, 2), (2, 1)]);
    assert_eq!(find(&stores, &[1], &keys(&[None, Some(7)])), [(1, 1)]);
    let lookup = Lookup { columns: &[1], keys: &keys(&[None]), nulls_match: true };
    assert_eq!(stores.count("t", lookup).unwrap(), [1]);
}

#[test]
fn a_column_without_an_index_is_refused_by_name() {
    let (_, stores) = stores(TableOptions::default());
    let keys: [ArrayRef; 1] = [Arc::new(StringArray::from(vec!["x"]))];
    let lookup = Lookup { columns: &[2], keys: &keys, nulls_match: false };
    let error = stores.find("t", lookup, &[0]).unwrap_err();
    assert!(error.to_string().contains("table t has no index on [2]"), "{error}");
}

#[test]
fn many_rows_of_one_value_go_one_by_one() {
    let (table, mut stores) = stores(TableOptions::default());
    stores.add_index("t", &[1]).unwrap();
    let many: Vec<Change> = (0..200).map(|id| change(id, id, "").of(5)).collect();
    stores.fold(changelog(&table, &many)).unwrap();
    let keys: [ArrayRef; 1] = [Arc::new(Int64Array::from(vec![5]))];
    for id in 0..200 {
        let left: BTreeSet<i64> =
            find(&stores, &[1], &keys).into_iter().map(|(_, id)| id).collect();
        assert_eq!(left, (id..200).collect::<BTreeSet<i64>>());
        stores.fold(changelog(&table, &[delete(1000 + id, id)])).unwrap();
    }
    assert!(find(&stores, &[1], &keys).is_empty());
}
