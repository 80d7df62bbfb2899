//! How much memory rows take, and who may take how much.

use bytesize::ByteSize;

use super::*;

#[test]
fn a_table_may_not_take_more_memory_than_its_option_says() {
    let limit = Some(ByteSize::kib(64));
    let table = table("orders", TableOptions { memory_limit: limit, ..an_hour() });
    let mut stores = StateStores::new(&[Arc::clone(&table)], Duration::ZERO).unwrap();
    let excess = |stores: &StateStores| stores.excess(std::iter::empty());
    assert_eq!(excess(&stores), None);
    let note = "x".repeat(1000);
    let changes: Vec<Change> = (0..100).map(|id| change(id, id, &note)).collect();
    stores.fold(changelog(&table, &changes)).unwrap();
    let said = excess(&stores).unwrap().to_string();
    assert!(said.starts_with("table orders takes 1"), "{said}");
    assert!(said.contains("its option memory_limit is 64.0 KiB"), "{said}");
}

#[test]
fn values_that_nobody_reads_take_no_memory() {
    let table = table("orders", an_hour());
    let [mut all, mut few] = [0, 1].map(|_| TableStore::new(Arc::clone(&table)).unwrap());
    few.keep_columns(&[]);
    let note = "x".repeat(1000);
    let changes: Vec<Change> = (0..100).map(|id| change(id, id, &note).of(7)).collect();
    let landed = [&mut all, &mut few]
        .map(|store| store.fold(changelog(&table, &changes)).unwrap().changelog.batch);
    assert_eq!(landed[0], landed[1], "what is landed has them");
    assert_eq!((rows(&few).len(), rows(&few)[7].clone()), (100, (7, "NULL".to_owned())));
    assert!(all.memory() > 100_000 && few.memory() < 20_000, "{} {}", all.memory(), few.memory());
}

#[test]
fn what_the_store_needs_itself_is_kept() {
    let group = GroupBound { column: 1, limit: 2, keep: 1 };
    let options = TableOptions { event_time: Some(3), group: Some(group), ..an_hour() };
    let table = table("items", options);
    let mut store = TableStore::new(Arc::clone(&table)).unwrap();
    store.add_index(&[2]).unwrap();
    store.keep_columns(&[]);
    store.fold(changelog(&table, &[change(1, 1, "a").of(7).at(5)])).unwrap();
    let batches = store.rows().unwrap();
    assert!(batches[0].columns().iter().all(|column| column.null_count() == 0), "{batches:?}");
}

#[test]
fn all_tables_and_results_together_have_a_limit_too() {
    let table = table("orders", an_hour());
    let mut stores = StateStores::new(&[Arc::clone(&table)], Duration::ZERO).unwrap();
    stores.set_memory_limit(ByteSize::mib(1));
    stores.fold(changelog(&table, &[change(1, 1, "a")])).unwrap();
    assert_eq!(stores.excess([("order_stats", 1000)].into_iter()), None);
    let said = stores.excess([("order_stats", 2 << 20)].into_iter()).unwrap().to_string();
    assert!(
        said.contains("takes 2.0 MiB and state.memory is 1.0 MiB (order_stats 2.0 MiB, orders "),
        "{said}"
    );
}

#[test]
fn groups_are_counted_and_take_little_for_a_row() {
    let group = GroupBound { column: 1, limit: 100, keep: 50 };
    let grouped = table("items", TableOptions { group: Some(group), ..an_hour() });
    let [mut plain, mut bound] =
        [table("items", an_hour()), grouped].map(|table| TableStore::new(table).unwrap());
    let changes: Vec<Change> = (0..700).map(|id| change(id, id, "a").of(id / 2)).collect();
    for store in [&mut plain, &mut bound] {
        let table = Arc::clone(store.table());
        store.fold(changelog(&table, &changes)).unwrap();
    }
    let more = bound.memory() - plain.memory();
    assert!((350 * 41..700 * 40).contains(&more), "{more}");
}
