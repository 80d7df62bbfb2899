//! Truncates.

use super::*;
use crate::model::Truncation;

/// Changes and, at the given positions, truncates of the table.
fn with_truncates(table: &Arc<Table>, changes: &[Change], at: &[i64]) -> Changelog {
    let truncation = |position: &i64| Truncation {
        offset: Offset::new(7, *position as u64),
        position: Position(*position),
        source_ts: None,
        scn: None,
    };
    Changelog { truncations: at.iter().map(truncation).collect(), ..changelog(table, changes) }
}

fn shown(rows: &[(i64, &str)]) -> Vec<(i64, String)> {
    rows.iter().map(|(id, note)| (*id, (*note).to_owned())).collect()
}

#[test]
fn a_truncate_takes_away_what_is_older_wherever_batches_end() {
    let table = table("t", TableOptions::default());
    let changes = [
        change(1, 1, "a"),
        change(2, 2, "a"),
        delete(3, 2),
        change(5, 1, "b"),
        change(6, 3, "b"),
        change(9, 4, "c"),
    ];
    for border in 0..=changes.len() {
        let mut store = TableStore::new(Arc::clone(&table)).unwrap();
        let next = changes.get(border).map_or(i64::MAX, |change| change.position);
        let (first, second): (Vec<i64>, Vec<i64>) = [4, 8].into_iter().partition(|at| *at < next);
        let deltas = [(&changes[..border], first), (&changes[border..], second)]
            .map(|(part, at)| store.fold(with_truncates(&table, part, &at)).unwrap());
        assert_eq!(rows(&store), shown(&[(4, "c")]), "border {border}");
        assert_eq!(store.len(), 1);
        let weight: isize = deltas
            .iter()
            .map(|f| f.delta.inserted.num_rows() as isize - f.delta.deleted.num_rows() as isize)
            .sum();
        assert_eq!(weight, 1, "border {border}");
    }
}

#[test]
fn its_delta_has_all_rows_and_indexes_forget_them() {
    let table = table("t", TableOptions::default());
    let mut store = TableStore::new(Arc::clone(&table)).unwrap();
    store.add_index(&[1]).unwrap();
    store.fold(changelog(&table, &[change(1, 1, "a").of(7), change(2, 2, "b").of(7)])).unwrap();
    let changes = [change(3, 3, "c").of(7), change(5, 1, "d").of(7)];
    let folded = store.fold(with_truncates(&table, &changes, &[4])).unwrap();
    assert_eq!(folded.truncated, 3);
    assert_eq!(notes(&folded.delta.deleted), [(2, Some("b".to_owned()))]);
    assert_eq!(notes(&folded.delta.before), [(1, Some("a".to_owned()))]);
    assert_eq!(notes(&folded.delta.after), [(1, Some("d".to_owned()))]);
    assert_eq!(folded.delta.inserted.num_rows(), 0);
    assert_eq!(rows(&store), shown(&[(1, "d")]));
}

#[test]
fn an_older_change_that_comes_after_it_is_stale() {
    let table = table("t", TableOptions::default());
    let mut store = TableStore::new(Arc::clone(&table)).unwrap();
    store.fold(with_truncates(&table, &[], &[10])).unwrap();
    let folded = store.fold(changelog(&table, &[change(9, 1, "old"), change(11, 2, "new")]));
    assert_eq!(folded.unwrap().stale, 1);
    assert_eq!(rows(&store), shown(&[(2, "new")]));
}

#[test]
fn what_comes_after_it_inherits_no_lob() {
    let table = table("t", TableOptions::default());
    let mut store = TableStore::new(Arc::clone(&table)).unwrap();
    store.fold(changelog(&table, &[change(1, 1, "old")])).unwrap();
    let changes = [change(2, 1, "").with_old_note(), change(4, 1, "").with_old_note()];
    let folded = store.fold(with_truncates(&table, &changes, &[3])).unwrap();
    assert_eq!(notes(&folded.changelog.batch), [(1, Some("old".to_owned())), (1, None)]);
    assert_eq!(rows(&store), shown(&[(1, "NULL")]));
}

#[test]
fn groups_start_anew() {
    let options = TableOptions {
        group: Some(crate::model::GroupBound { column: 1, limit: 2, keep: 1 }),
        ..TableOptions::default()
    };
    let table = table("t", options);
    let mut store = TableStore::new(Arc::clone(&table)).unwrap();
    store.fold(changelog(&table, &[change(1, 1, "a").of(7), change(2, 2, "b").of(7)])).unwrap();
    let changes = [change(4, 3, "c").of(7), change(5, 4, "d").of(7)];
    let folded = store.fold(with_truncates(&table, &changes, &[3])).unwrap();
    assert_eq!((folded.truncated, folded.trimmed), (2, 0));
    assert_eq!(rows(&store), shown(&[(3, "c"), (4, "d")]));
}
