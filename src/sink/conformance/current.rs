//! Tables of current rows: one of each key, and for a start all that a table of all changes would say of the newest ones.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::bootstrap::newest_of;
use super::history::order_ids;
use super::stage::{EpochBuilder, KEPT, QUEUE, Stage, epoch, kept_orders, orders, texts};
use super::truncate::without_status;
use crate::model::{Changelog, CommittedEpoch, Epoch, EpochCommit, EventId, Operation};
use crate::sink::TakeRows;

/// Operation, position and status of the newest change of each key.
type Newest = BTreeMap<i64, (Operation, i64, Option<String>)>;

pub(super) async fn one_row_of_each_key_is_kept(stage: &mut dyn Stage) {
    let mut sink = stage.sink(QUEUE).await;
    let commits = [
        epoch(1).created(1, 1, "a").created(2, 2, "a").created(3, 3, "a").updated(4, 1, "b"),
        // Keys come back, and go again, within an epoch.
        epoch(2)
            .deleted(15, 2)
            .deleted(16, 3)
            .created(17, 3, "back")
            .created(18, 4, "a")
            .deleted(19, 4),
        // Older messages come in a later epoch: before a delete, before an update, and after what is there.
        epoch(3)
            .updated(14, 2, "older")
            .deleted(12, 1)
            .created(11, 3, "older")
            .updated(20, 5, "new"),
        epoch(4).deleted(13, 5).created(30, 2, "again").deleted(31, 1),
    ];
    for commit in &commits {
        for _ in 0..2 {
            sink.commit(&commit.build_kept()).await.expect("the epoch is committed");
        }
    }
    let rows = stage.rows(KEPT, &["order_id", "status"]).await;
    assert_eq!(rows, texts(&[&["2", "again"], &["3", "back"], &["5", "new"]]));
    let mut other = stage.sink(QUEUE).await;
    let all = newest_of(&mut *other, &kept_orders(), None).await;
    let ids: Vec<_> = all.iter().map(|(key, _, letter, id)| (*key, *letter, *id)).collect();
    assert_eq!(ids, [(1, "d", 31), (2, "c", 30), (3, "c", 17), (4, "d", 19), (5, "u", 20)]);

    let history = other.history(&kept_orders(), &order_ids(&[1, 3, 99])).await;
    let history = history.expect("the table can be read");
    let mut found: Vec<u64> =
        history.iter().flat_map(|part| part.offsets.iter().map(|offset| offset.id)).collect();
    // Of a key that came back the delete may be told as well.
    found.retain(|id| *id != 16);
    assert_eq!(found, [31, 17]);
    let events = [31, 17, 4].map(|id| EventId::all(super::offset(id), 1));
    let events: Vec<EventId> = events.into_iter().flatten().collect();
    let known = other.committed(&events).await.expect("the tables can be read");
    assert_eq!(known, [31, 17].map(super::offset).into(), "what was superseded is not known");
}

pub(super) async fn a_truncate_takes_all_older_rows(stage: &mut dyn Stage) {
    let mut sink = stage.sink(QUEUE).await;
    let first = epoch(1).created(1, 1, "a").created(2, 2, "a").deleted(3, 2).created(8, 3, "newer");
    let second = epoch(2).created(4, 4, "a").truncated(6).created(7, 1, "after");
    for commit in [first, second] {
        sink.commit(&commit.build_kept()).await.expect("the epoch is committed");
    }
    let rows = stage.rows(KEPT, &["order_id", "status"]).await;
    assert_eq!(rows, texts(&[&["1", "after"], &["3", "newer"]]));
    let all = newest_of(&mut *stage.sink(QUEUE).await, &kept_orders(), None).await;
    let ids: Vec<_> = all.iter().map(|(key, _, letter, id)| (*key, *letter, *id)).collect();
    assert_eq!(ids, [(1, "c", 7), (2, "d", 3), (3, "c", 8), (4, "d", 6)]);
    sink.commit(&epoch(3).created(5, 4, "late").build_kept())
        .await
        .expect("the epoch is committed");
    assert_eq!(stage.rows(KEPT, &["order_id"]).await, texts(&[&["1"], &["3"]]), "it is gone");
}

/// Changes of any kind, in the order of their messages or not, and values that were not sent: the newest of them are told as by
/// a table of all changes, as a whole and after a state that was kept.
pub(super) async fn current_rows_are_the_newest_changes(stage: &mut dyn Stage, seed: u64) {
    let mut sink = stage.sink(QUEUE).await;
    let run = sink.run_id().to_owned();
    let mut states = Vec::new();
    let mut changes = Changes {
        random: StdRng::seed_from_u64(seed),
        current: Newest::new(),
        seen: BTreeSet::new(),
        id: 0,
        // The value of an older change that a newer one did not carry is lost.
        has_late: seed.is_multiple_of(2),
    };
    for number in 1..=25 {
        sink.commit(&changes.epoch(number)).await.expect("the epoch is committed");
        states.push(changes.current.clone());
        let rows = stage.rows(KEPT, &["order_id", "status"]).await;
        let mut expected: Vec<Vec<Option<String>>> = changes
            .current
            .iter()
            .filter(|(_, newest)| newest.0 != Operation::Delete)
            .map(|(key, newest)| vec![Some(key.to_string()), newest.2.clone()])
            .collect();
        expected.sort();
        assert_eq!(rows, expected, "seed {seed}, epoch {number}");
    }
    let mut other = stage.sink(QUEUE).await;
    for table in [orders(), kept_orders()] {
        let mut told = Newest::new();
        for part in other.bootstrap(&table, None).await.expect("the table can be read") {
            assert_eq!(take_newer(&mut told, &part), part.len(), "each key once");
        }
        assert_eq!(told, changes.current, "{}, seed {seed}", table.name);
    }
    other.resume().await.expect("the ledger can be read");
    for (at, mut state) in states.into_iter().enumerate() {
        let kept = CommittedEpoch { epoch: Epoch(at as u64 + 1), run_id: run.clone() };
        let since = other.committed_since(&kept).await.expect("the ledger can be read");
        let take: TakeRows<'_> = &mut |part| {
            take_newer(&mut state, &part);
            ControlFlow::Continue(())
        };
        let since = since.expect("all epochs are there");
        other.each_change(&kept_orders(), &since, take).await.expect("the table can be read");
        assert_eq!(state, changes.current, "after epoch {}, seed {seed}", at + 1);
    }
}

/// Random changes, and what they make of the rows.
struct Changes {
    random: StdRng,
    current: Newest,
    /// The ids of messages that there were.
    seen: BTreeSet<u64>,
    id: u64,
    has_late: bool,
}

impl Changes {
    /// The same changes of both tables.
    fn epoch(&mut self, number: u64) -> EpochCommit {
        let (mut builder, mut blank) = (epoch(number), Vec::new());
        for row in 0..self.random.random_range(0..12) {
            self.id += self.random.random_range(1..4_u64);
            builder = if self.has_late && self.random.random_range(0..3) == 0 && self.id > 40 {
                self.late_change(builder)
            } else {
                let (builder, is_blank) = self.change(builder);
                blank.extend(is_blank.then_some(row));
                builder
            };
        }
        if self.random.random_range(0..8) == 0 {
            self.id += 1;
            self.seen.insert(self.id);
            builder = builder.truncated(self.id);
            let rows = self.current.values_mut();
            for newest in rows.filter(|newest| newest.0 != Operation::Delete) {
                *newest = (Operation::Delete, self.id as i64, None);
            }
        }
        let landing = [builder.build(), builder.build_kept()].map(|commit| commit.landing);
        let landing = landing.into_iter().flatten();
        let landing = landing.map(|changelog| without_status(changelog, &blank)).collect();
        EpochCommit { landing, ..builder.build() }
    }

    /// The newest one; whether its event does not carry the status.
    fn change(&mut self, builder: EpochBuilder) -> (EpochBuilder, bool) {
        let (id, key) = (self.id, self.random.random_range(0..12));
        self.seen.insert(id);
        let known = self.current.get(&key).filter(|newest| newest.0 != Operation::Delete);
        let known = known.and_then(|(_, _, status)| status.clone());
        let (operation, status) = match (self.random.random_range(0..4), known) {
            (0, _) => (Operation::Delete, None),
            (1, Some(known)) if !self.has_late => (Operation::Update, Some(known)),
            _ => (Operation::Create, Some(id.to_string())),
        };
        let is_blank = operation == Operation::Update;
        let builder = match (operation, &status) {
            (Operation::Update, status) => builder.changed(id, key, status.as_deref()),
            (_, Some(status)) => builder.created(id, key, status),
            (_, None) => builder.deleted(id, key),
        };
        self.current.insert(key, (operation, id as i64, status));
        (builder, is_blank)
    }

    /// One that is older than others that there were, if there is a message left for it.
    fn late_change(&mut self, builder: EpochBuilder) -> EpochBuilder {
        let id = self.id - self.random.random_range(1..40);
        if !self.seen.insert(id) {
            return builder;
        }
        let key = self.random.random_range(0..12);
        let is_delete = self.random.random_range(0..3) == 0;
        let (operation, status) = match is_delete {
            true => (Operation::Delete, None),
            false => (Operation::Create, Some(id.to_string())),
        };
        if self.current.get(&key).is_none_or(|newest| newest.1 < id as i64) {
            self.current.insert(key, (operation, id as i64, status));
        }
        if is_delete { builder.deleted(id, key) } else { builder.created(id, key, &id.to_string()) }
    }
}

/// Takes what is newer than what is known; how many changes were.
fn take_newer(known: &mut Newest, part: &Changelog) -> usize {
    let keys = part.batch.column(0).as_primitive::<Int64Type>();
    let status = part.batch.column(1).as_string::<i32>();
    let mut taken = 0;
    for (row, status) in status.iter().enumerate() {
        let (operation, position) = (part.operations[row], part.positions[row].0);
        let status = status.filter(|_| operation != Operation::Delete).map(str::to_owned);
        let is_newer = |newest: &(Operation, i64, Option<String>)| newest.1 >= position;
        if !known.get(&keys.value(row)).is_some_and(is_newer) {
            known.insert(keys.value(row), (operation, position, status));
            taken += 1;
        }
    }
    taken
}
