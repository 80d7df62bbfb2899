//! Truncates, and values that an event did not carry.

use super::bootstrap::newest;
use super::stage::{LANDING, QUEUE, Stage, epoch};
use crate::model::{Cell, Changelog};

pub(super) async fn a_truncate_deletes_what_is_older(stage: &mut dyn Stage) {
    let mut sink = stage.sink(QUEUE).await;
    let commits = [
        epoch(1).created(1, 1, "a").created(2, 2, "a").deleted(3, 2).created(4, 3, "a").build(),
        // Rows around it, in its own epoch; and a second one.
        epoch(2)
            .updated(5, 1, "b")
            .created(6, 4, "b")
            .truncated(7)
            .created(8, 3, "c")
            .truncated(9)
            .created(10, 5, "d")
            .build(),
        // An epoch with nothing else.
        epoch(3).truncated(11).build(),
        epoch(4).created(12, 5, "e").build(),
    ];
    for commit in &commits {
        for _ in 0..2 {
            sink.commit(commit).await.expect("the epoch is committed, once or again");
        }
    }
    let rows = newest(&mut *stage.sink(QUEUE).await, None).await;
    let rows: Vec<_> = rows.into_iter().map(|(key, _, letter, id)| (key, letter, id)).collect();
    assert_eq!(
        rows,
        [(1, "d", 7), (2, "d", 3), (3, "d", 9), (4, "d", 7), (5, "c", 12)],
        "what was deleted before stays as it was"
    );
    let history = stage.rows(LANDING, &["order_id"]).await;
    assert_eq!(history.len(), 9 + 3 + 1 + 1, "{history:?}");
}

pub(super) async fn what_an_event_did_not_carry_is_found_in_earlier_ones(stage: &mut dyn Stage) {
    let mut sink = stage.sink(QUEUE).await;
    let mut second = epoch(2).updated(4, 1, "kept").updated(5, 2, "new").build();
    second.landing[0] = without_status(second.landing[0].clone(), &[0]);
    let mut third = epoch(3).updated(6, 1, "kept").deleted(7, 3).updated(8, 3, "").build();
    third.landing[0] = without_status(third.landing[0].clone(), &[0]);
    let first = epoch(1).created(1, 1, "kept").created(2, 2, "old").created(3, 3, "gone").build();
    for commit in [&first, &second, &third] {
        sink.commit(commit).await.expect("the epoch is committed");
    }
    let rows = newest(&mut *stage.sink(QUEUE).await, None).await;
    let rows: Vec<_> = rows.into_iter().map(|(key, status, _, id)| (key, status, id)).collect();
    let expected = [(1, "kept", 6), (2, "new", 5), (3, "", 8)];
    assert_eq!(rows, expected.map(|(key, status, id)| (key, Some(status.to_owned()), id)));

    // What came before a delete is of another row.
    let mut fourth = epoch(4).deleted(9, 1).changed(10, 1, None).build();
    fourth.landing[0] = without_status(fourth.landing[0].clone(), &[1]);
    sink.commit(&fourth).await.expect("the epoch is committed");
    let rows = newest(&mut *stage.sink(QUEUE).await, None).await;
    assert_eq!(rows[0], (1, None, "u", 10));
    assert_eq!(stage.rows(LANDING, &["order_id"]).await.len(), 10);
}

/// The rows' events did not carry the status; the state store has filled it in.
pub(super) fn without_status(changelog: Changelog, rows: &[usize]) -> Changelog {
    let cells = rows.iter().map(|row| Cell { row: *row, column: 1 });
    Changelog { unchanged: cells.collect(), ..changelog }
}
