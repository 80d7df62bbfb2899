//! Cells that an event did not carry.

use super::*;

/// A store that has row 1 with the note "old" of position 10.
fn with_row() -> (Arc<Table>, TableStore) {
    let table = table("t", TableOptions::default());
    let mut store = TableStore::new(Arc::clone(&table)).unwrap();
    store.fold(changelog(&table, &[change(10, 1, "old")])).unwrap();
    (table, store)
}

/// The notes of the changelog's rows, and the rows whose event did not carry one.
fn landed(
    table: &Arc<Table>,
    store: &mut TableStore,
    changes: &[Change],
) -> (Vec<String>, Vec<usize>) {
    let folded = store.fold(changelog(table, changes)).unwrap().changelog;
    let notes = notes(&folded.batch).into_iter();
    let notes = notes.map(|(_, note)| note.unwrap_or_else(|| "NULL".to_owned())).collect();
    (notes, folded.unchanged.iter().map(|cell| cell.row).collect())
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn an_unchanged_cell_keeps_the_value_of_the_store() {
    let (table, mut store) = with_row();
    let changes = [change(11, 2, "other"), change(12, 1, "").with_old_note()];
    let expected = (texts(&["other", "old"]), vec![1]);
    assert_eq!(landed(&table, &mut store, &changes), expected);
    assert_eq!(rows(&store), [(1, "old".to_owned()), (2, "other".to_owned())]);
}

#[test]
fn an_unchanged_cell_keeps_the_value_of_an_earlier_row_of_its_batch() {
    let (table, mut store) = with_row();
    let changes = [
        change(11, 1, "newer"),
        change(12, 1, "").with_old_note(),
        change(13, 1, "").with_old_note(),
        change(14, 1, "newest"),
        change(15, 1, "").with_old_note(),
    ];
    let expected = (texts(&["newer", "newer", "newer", "newest", "newest"]), vec![1, 2, 4]);
    assert_eq!(landed(&table, &mut store, &changes), expected);
    assert_eq!(rows(&store), [(1, "newest".to_owned())]);
}

#[test]
fn unchanged_cells_are_chained_from_the_store_through_a_batch() {
    let (table, mut store) = with_row();
    let changes = [change(11, 1, "").with_old_note(), change(12, 1, "").with_old_note()];
    assert_eq!(landed(&table, &mut store, &changes), (texts(&["old", "old"]), vec![0, 1]));
}

#[test]
fn a_cell_that_nobody_knows_stays_null() {
    let (table, mut store) = with_row();
    let changes = [change(11, 5, "").with_old_note(), change(12, 5, "").with_old_note()];
    assert_eq!(landed(&table, &mut store, &changes), (texts(&["NULL", "NULL"]), vec![0, 1]));
    assert_eq!(rows(&store), [(1, "old".to_owned()), (5, "NULL".to_owned())]);
}

#[test]
fn a_row_that_comes_back_after_a_delete_does_not_inherit() {
    let (table, mut store) = with_row();
    let changes = [delete(11, 1), change(12, 1, "").with_old_note()];
    assert_eq!(landed(&table, &mut store, &changes), (texts(&["", "NULL"]), vec![1]));
    // Batch borders make no difference.
    let (table, mut store) = with_row();
    landed(&table, &mut store, &changes[..1]);
    assert_eq!(landed(&table, &mut store, &changes[1..]), (texts(&["NULL"]), vec![0]));
}

#[test]
fn an_older_row_of_the_batch_does_not_give_its_value() {
    let (table, mut store) = with_row();
    let changes = [change(5, 1, "much older"), change(12, 1, "").with_old_note()];
    let expected = (texts(&["much older", "old"]), vec![1]);
    assert_eq!(landed(&table, &mut store, &changes), expected);
    // What an older row had is not what a newer one has.
    let older = [change(6, 1, "").with_old_note()];
    assert_eq!(landed(&table, &mut store, &older), (texts(&["NULL"]), vec![0]));
    assert_eq!(rows(&store), [(1, "old".to_owned())]);
}

#[test]
fn a_changelog_without_some_rows_keeps_the_unchanged_cells_of_the_others() {
    let (table, mut store) = with_row();
    let changes = [
        change(11, 7, "gone").with_old_note(),
        change(12, 1, "").with_old_note(),
        change(13, 2, "other"),
        change(14, 8, "gone"),
        change(15, 9, "").with_old_note(),
    ];
    let rest = changelog(&table, &changes).without(&[true, false, false, true, false]);
    assert_eq!(rest.positions, [12, 13, 15].map(Position));
    assert_eq!(rest.offsets, [12, 13, 15].map(|id| Offset::new(7, id)));
    assert_eq!(rest.operations.len(), 3);
    assert_eq!(rest.unchanged, [0, 2].map(|row| Cell { row, column: 2 }));
    let folded = store.fold(rest).unwrap().changelog;
    let expected = [(1, Some("old")), (2, Some("other")), (9, None)];
    assert_eq!(notes(&folded.batch), expected.map(|(id, note)| (id, note.map(str::to_owned))));
}

/// The row of `id` under a new key, as one event at `position`: a delete and the row.
fn moved(position: i64, id: i64, new_id: i64) -> [Change; 2] {
    [delete(position, id), change(position, new_id, "").with_old_note()]
}

/// The same as Debezium sends it: a delete, and a create that lacks the LOB.
fn moved_in_two(position: i64, id: i64, new_id: i64) -> [Change; 2] {
    let row = change(position + 1, new_id, "").with_old_note();
    [delete(position, id), Change { operation: Operation::Create, ..row }]
}

#[test]
fn a_row_under_a_new_key_keeps_its_value_and_lands_it() {
    for changes in [moved(11, 1, 2), moved_in_two(11, 1, 2)] {
        for size in [1, 2] {
            let (table, mut store) = with_row();
            let mut unchanged = Vec::new();
            for epoch in changes.chunks(size) {
                assert_eq!(store.unknown_cells(&changelog(&table, epoch)).unwrap(), []);
                unchanged.extend(landed(&table, &mut store, epoch).1);
            }
            assert_eq!(rows(&store), [(2, "old".to_owned())], "{size} changes an epoch");
            assert_eq!(unchanged, [0; 0], "the new key has landed no value yet");
        }
    }
}

#[test]
fn rows_that_swap_their_keys_swap_their_values() {
    let (table, mut store) = with_row();
    store.fold(changelog(&table, &[change(11, 2, "other")])).unwrap();
    let swap = [moved(12, 1, -1), moved(13, 2, 1), moved(14, -1, 2)].concat();
    assert_eq!(store.unknown_cells(&changelog(&table, &swap)).unwrap(), []);
    landed(&table, &mut store, &swap);
    assert_eq!(rows(&store), [(1, "other".to_owned()), (2, "old".to_owned())]);
}

#[test]
fn a_row_whose_value_under_the_old_key_is_not_known_is_told() {
    let (table, store) = with_row();
    let unknown = |changes: &[Change]| store.unknown_cells(&changelog(&table, changes)).unwrap();
    for [deleted, row] in [moved(11, 7, 8), moved_in_two(10, 7, 8)] {
        assert_eq!(unknown(&[deleted.with_old_note(), row]), [(Offset::new(7, 11), 2)]);
    }
    // The old row may carry it.
    assert_eq!(unknown(&moved(11, 7, 8)), []);
    // A create without a delete before it.
    assert_eq!(unknown(&moved_in_two(10, 1, 8)[1..]), [(Offset::new(7, 11), 2)]);
    // Its key is as it was: history tells the value.
    assert_eq!(unknown(&[change(11, 9, "").with_old_note()]), []);
}
