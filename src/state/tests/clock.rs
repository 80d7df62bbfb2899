//! The source's clock and the watermark.

use super::*;
use crate::state::time::Ticks;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 24 * HOUR;

/// Tables `orders` and `log` with event times, `names` without; the delay is 10 s.
struct Stage {
    stores: StateStores,
    tables: Vec<Arc<Table>>,
    position: i64,
}

/// Table, change time and event time.
type Event = (&'static str, i64, i64);

impl Stage {
    fn new() -> Self {
        let timed = || TableOptions { event_time: Some(3), ..an_hour() };
        let tables =
            vec![table("orders", timed()), table("log", timed()), table("names", an_hour())];
        let mut stores = StateStores::new(&tables, Duration::from_secs(10)).unwrap();
        stores.set_idle_after(Duration::from_secs(60));
        Self { stores, tables, position: 0 }
    }

    /// One epoch of changes.
    fn see(&mut self, events: &[Event]) -> Advanced {
        let updates: Vec<_> = events.iter().map(|event| (Operation::Update, *event)).collect();
        self.see_all(&updates)
    }

    /// One epoch. The events of a table come as one changelog, whatever is between them.
    fn see_all(&mut self, events: &[(Operation, Event)]) -> Advanced {
        let mut changes = Vec::new();
        for table in &self.tables {
            let of_table = events.iter().enumerate().filter(|(_, event)| event.1.0 == table.name);
            let rows: Vec<(Change, i64)> = of_table
                .map(|(at, (operation, (_, source_ts, event_time)))| {
                    let position = self.position + 1 + at as i64;
                    let change = change(position, 1, "").at(*event_time);
                    (Change { operation: *operation, ..change }, *source_ts)
                })
                .collect();
            if !rows.is_empty() {
                changes.push(changed_at(table, &rows));
            }
        }
        self.position += events.len() as i64;
        self.stores.advance(&changes)
    }

    fn times(&self) -> (Option<i64>, Option<i64>) {
        let Clock { source, watermark } = self.stores.clock();
        (source, watermark)
    }
}

/// A changelog whose changes were made at other times than their event times.
fn changed_at(table: &Arc<Table>, rows: &[(Change, i64)]) -> Changelog {
    let changes: Vec<Change> = rows.iter().map(|(change, _)| change.clone()).collect();
    let mut changelog = changelog(table, &changes);
    let mut columns = changelog.batch.columns().to_vec();
    let times = rows.iter().map(|(_, source_ts)| *source_ts);
    columns[table.system_column(crate::model::SystemColumn::SourceTs)] =
        Arc::new(TimestampMicrosecondArray::from_iter_values(times));
    changelog.batch = RecordBatch::try_new(changelog.batch.schema(), columns).unwrap();
    changelog
}

#[test]
fn the_watermark_is_that_of_the_slowest_table() {
    let mut stage = Stage::new();
    stage.see(&[("names", 5 * SECOND, 5 * SECOND)]);
    assert_eq!(stage.times(), (Some(5 * SECOND), None), "only declared event times count");
    stage.see(&[("orders", 20 * SECOND, 20 * SECOND)]);
    assert_eq!(stage.times().1, Some(10 * SECOND));
    stage.see(&[("log", 21 * SECOND, 21 * SECOND), ("orders", 40 * SECOND, 40 * SECOND)]);
    assert_eq!(stage.times().1, Some(11 * SECOND));
    stage.see(&[("log", 41 * SECOND, 30 * SECOND)]);
    assert_eq!(stage.times().1, Some(20 * SECOND));
    // It never goes back.
    stage.see(&[("log", 42 * SECOND, 0), ("orders", 42 * SECOND, 0)]);
    assert_eq!(stage.times().1, Some(20 * SECOND));
}

#[test]
fn an_idle_table_does_not_hold_the_watermark_back() {
    let mut stage = Stage::new();
    stage.see(&[("orders", HOUR, HOUR), ("log", HOUR, HOUR)]);
    stage.see(&[("orders", HOUR + 60 * SECOND, HOUR + 60 * SECOND)]);
    assert_eq!(stage.times().1, Some(HOUR - 10 * SECOND), "it is not idle yet");
    stage.see(&[("orders", HOUR + 61 * SECOND, HOUR + 61 * SECOND)]);
    assert_eq!(stage.times().1, Some(HOUR + 51 * SECOND));
    let advanced = stage.see(&[("log", HOUR + 62 * SECOND, HOUR + SECOND)]);
    assert_eq!(stage.times().1, Some(HOUR + 51 * SECOND));
    let behind: Vec<i64> = advanced.behind.values().copied().collect();
    assert_eq!(behind, [HOUR + 51 * SECOND], "what comes after all is late");
}

#[test]
fn borders_of_epochs_make_no_difference() {
    let mut events = Vec::new();
    for step in 0..400_i64 {
        let (time, lag) = (HOUR + step * SECOND, step * step % 17 * SECOND);
        let table = if step % 3 == 0 && step % 200 < 30 { "log" } else { "orders" };
        events.push((table, time - lag % (3 * SECOND), time - lag));
    }
    let run = |size: usize| {
        let (mut stage, mut behind) = (Stage::new(), Vec::new());
        for epoch in events.chunks(size) {
            behind.extend(stage.see(epoch).behind);
        }
        behind.sort();
        (stage.times(), behind)
    };
    assert!(run(1).1.len() > 10);
    for size in [2, 7, 400] {
        assert_eq!(run(size), run(1), "{size} events an epoch");
    }
}

#[test]
fn an_event_time_far_in_the_future_closes_no_windows() {
    let mut stage = Stage::new();
    stage.see(&[("orders", HOUR, HOUR)]);
    let advanced = stage.see(&[
        ("orders", HOUR, HOUR + DAY),
        ("orders", HOUR, HOUR + DAY + 1),
        ("orders", HOUR, i64::MAX),
    ]);
    assert_eq!(stage.times(), (Some(HOUR), Some(HOUR + DAY - 10 * SECOND)));
    let [ahead] = advanced.ahead.as_slice() else { panic!("{advanced:?}") };
    let offset = Offset::new(7, 3);
    let (kind, time) = (TimeKind::EventTime, HOUR + DAY + 1);
    assert_eq!(*ahead, Ahead { table: "orders".to_owned(), kind, count: 2, offset, time });
}

#[test]
fn a_change_time_far_in_the_future_is_believed_when_time_goes_on_there() {
    let mut stage = Stage::new();
    let in_years = 70 * 365 * DAY;
    stage.see(&[("names", HOUR, HOUR), ("orders", in_years, in_years)]);
    for minute in 0..5 {
        let time = HOUR + minute * 60 * SECOND;
        stage.see(&[("names", in_years, in_years), ("orders", time, time)]);
        assert_eq!(stage.times(), (Some(time), Some(time - 10 * SECOND)));
    }
    // After a quiet weekend everything is far ahead, one of it too far.
    let monday = 3 * DAY;
    let advanced = stage.see(&[("names", in_years, 0), ("orders", monday, monday)]);
    assert_eq!(advanced.ahead.len(), 3, "{advanced:?}");
    stage.see(&[("orders", monday + SECOND, monday + SECOND)]);
    assert_eq!(stage.times().0, Some(HOUR + 4 * 60 * SECOND), "three, of one moment");
    let later = monday + 60 * SECOND;
    stage.see(&[("orders", later, later)]);
    assert_eq!(stage.times(), (Some(later), Some(later - 10 * SECOND)));
}

#[test]
fn one_transaction_with_a_wrong_time_does_not_move_the_clock_however_large_it_is() {
    let wrong = 130 * 365 * DAY;
    for size in [3, 1000] {
        let mut stage = Stage::new();
        stage.see(&[("orders", HOUR, HOUR)]);
        let transaction: Vec<Event> =
            (0..size).map(|at| ("orders", wrong + at % 3 * SECOND, wrong + at)).collect();
        let advanced = stage.see(&transaction);
        assert_eq!(
            advanced.ahead.iter().map(|ahead| ahead.count).sum::<usize>(),
            2 * size as usize
        );
        assert_eq!(stage.times(), (Some(HOUR), Some(HOUR - 10 * SECOND)));
        let next = HOUR + 60 * SECOND;
        let advanced = stage.see(&[("orders", next, next)]);
        assert_eq!((stage.times().1, advanced.behind.len()), (Some(next - 10 * SECOND), 0));
        // Others that are as wrong are not taken for its confirmation.
        stage.see(&[("orders", wrong + 90 * SECOND, wrong)]);
        assert_eq!(stage.times().0, Some(next));
    }
}

#[test]
fn a_time_that_has_not_come_yet_is_never_believed() {
    let mut stage = Stage::new();
    stage.stores.go_by(|| 5 * DAY);
    let wrong = 130 * 365 * DAY;
    // Not even among the first, nor as often as it comes.
    for minute in 0..100 {
        let time = wrong + minute * 60 * SECOND;
        stage.see(&[("orders", time, time)]);
    }
    assert_eq!(stage.times(), (None, None));
    stage.see(&[("orders", 5 * DAY, 5 * DAY)]);
    assert_eq!(stage.times(), (Some(5 * DAY), Some(5 * DAY - 10 * SECOND)));
}

#[test]
fn the_clock_can_be_set_back() {
    let mut stage = Stage::new();
    let wrong = 130 * 365 * DAY;
    let mut ticks = Ticks::default();
    let loaded = changed_at(&stage.tables[0], &[(change(1, 1, "").at(wrong), wrong)]);
    stage.stores.note_times(&mut ticks, &loaded);
    stage.stores.advance_to(ticks);
    stage.stores.resume_watermark(wrong);
    stage.stores.start_at(HOUR);
    stage.stores.set_start_time();
    assert_eq!(stage.times(), (Some(HOUR), Some(HOUR - 10 * SECOND)));
    stage.position = 1;
    let next = HOUR + 60 * SECOND;
    let advanced = stage.see(&[("orders", next, next)]);
    assert_eq!((stage.times().1, advanced.behind.len()), (Some(next - 10 * SECOND), 0));
}

#[test]
fn a_wrong_time_among_the_first_is_not_believed() {
    let mut stage = Stage::new();
    stage.see(&[("names", 70 * 365 * DAY, 0), ("names", HOUR, 0), ("names", HOUR + 1, 0)]);
    assert_eq!(stage.times().0, Some(HOUR + 1));
}

/// Changes of an hour, with a row of a snapshot after each second one.
fn between_changes(snapshot_ts: i64) -> Vec<(Operation, Event)> {
    let change = |minute: i64| HOUR + minute * 60 * SECOND;
    let changes =
        (0..60).map(|minute| ("orders", 1000 * DAY + change(minute), 1000 * DAY + change(minute)));
    let snapshot = (Operation::Read, ("orders", snapshot_ts, DAY));
    let mut events = vec![snapshot];
    for (at, event) in changes.enumerate() {
        events.push((Operation::Update, event));
        events.extend((at % 2 == 1).then_some(snapshot));
    }
    events
}

#[test]
fn rows_of_a_snapshot_between_changes_say_nothing_about_the_time() {
    let newest = 1000 * DAY + HOUR + 59 * 60 * SECOND;
    // No time, an old one, and one of a wrong clock.
    for snapshot_ts in [0, DAY, 1000 * DAY, 9000 * DAY] {
        let events = between_changes(snapshot_ts);
        for size in [1, 2, 3, events.len()] {
            let mut stage = Stage::new();
            for epoch in events.chunks(size) {
                stage.see_all(epoch);
            }
            let expected = (Some(newest), Some(newest - 10 * SECOND));
            assert_eq!(stage.times(), expected, "{snapshot_ts}, {size} events an epoch");
        }
    }
}

#[test]
fn a_change_without_a_time_says_nothing_about_it() {
    let mut stage = Stage::new();
    stage.see(&[("names", 0, 0), ("orders", 2000 * DAY, 2000 * DAY), ("names", 0, 0)]);
    assert_eq!(stage.times(), (Some(2000 * DAY), Some(2000 * DAY - 10 * SECOND)));
}

#[test]
fn a_snapshot_tells_the_time_until_the_first_change() {
    let mut stage = Stage::new();
    stage.see_all(&[(Operation::Read, ("orders", 0, 0))]);
    assert_eq!(stage.times().0, None);
    let rows = [DAY, DAY + HOUR, DAY + 2 * HOUR].map(|at| (Operation::Read, ("orders", at, at)));
    stage.see_all(&rows);
    assert_eq!(stage.times().0, Some(DAY + 2 * HOUR));
    stage.see(&[("orders", 70 * DAY, 70 * DAY)]);
    assert_eq!(stage.times().0, Some(70 * DAY));
}

#[test]
fn a_restart_goes_on_at_the_watermark_of_the_ledger() {
    let mut stage = Stage::new();
    let mut ticks = Ticks::default();
    let loaded = changed_at(&stage.tables[0], &[(change(1, 1, "").at(2 * HOUR), 2 * HOUR)]);
    stage.stores.note_times(&mut ticks, &loaded);
    stage.stores.advance_to(ticks);
    stage.stores.resume_watermark(HOUR);
    assert_eq!(stage.times(), (Some(2 * HOUR), Some(HOUR)));
    stage.position = 1;
    stage.see(&[("orders", 2 * HOUR, 0)]);
    assert_eq!(stage.times().1, Some(2 * HOUR - 10 * SECOND));
}
