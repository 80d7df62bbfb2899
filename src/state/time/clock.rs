//! The source's time, as its events tell it, and the watermark that follows from it.
//!
//! Everything goes by events in broker order, one by one, and by no border of an epoch, so that a replay comes to the same
//! times. The wall clock says one thing: a time that has not come yet is wrong.
//!
//! Rows of a snapshot tell the time only until the first change does: they come between changes, hours or
//! years after what they say. Connectors write a time of 0 where they know none, and so it is none.

use std::collections::{BTreeMap, VecDeque};

use arrow::array::{Array, TimestampMicrosecondArray};
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::model::{Changelog, Offset, Operation, Position, SystemColumn, Table};

/// How far one event may move the source's clock. What is farther ahead is believed only when time goes on there, as after
/// a quiet weekend: when [`CONFIRMATIONS`] events within a day of each other, with none of the old time between them, tell
/// of [`CONFIRMING_SPAN`]. One transaction, however large, has one time.
const FARTHEST_JUMP: i64 = 86_400_000_000;
const CONFIRMATIONS: usize = 3;
const CONFIRMING_SPAN: i64 = 60_000_000;
/// The most different times that are looked at to see whether one goes on.
const MOST_DOUBTED: usize = 8;
/// So many of the newest rows are enough to know the time after a restart.
const MOST_AT_RESTART: usize = 100_000;

/// The source's time, as far as the events have told it. Microseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clock {
    /// The newest change seen, unless it is too far ahead to be believed.
    pub source: Option<i64>,
    /// No event older than this is expected.
    pub watermark: Option<i64>,
}

/// What events say about time. Each is a row of a changelog.
#[derive(Debug, Default)]
pub(in crate::state) struct Ticks(Vec<Tick>);

#[derive(Debug)]
struct Tick {
    position: Position,
    offset: Offset,
    /// Which table, by its number in [`Clocks`].
    table: usize,
    is_snapshot: bool,
    /// Never 0.
    source_ts: Option<i64>,
    event_time: Option<i64>,
}

/// What moving the clock has shown.
#[derive(Debug, Default)]
pub struct Advanced {
    /// Events whose event time was below the watermark when they came, and that watermark.
    pub behind: HashMap<Position, i64>,
    /// Times that did not move the clock because they are too far ahead, by table and kind.
    pub ahead: Vec<Ahead>,
}

/// Times of one table and kind that are too far ahead to be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ahead {
    pub table: String,
    pub kind: TimeKind,
    pub count: usize,
    /// The first such event.
    pub offset: Offset,
    pub time: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeKind {
    /// When the source made the change.
    SourceTs,
    /// The table's declared event time.
    EventTime,
}

impl TimeKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SourceTs => "source_ts",
            Self::EventTime => "event_time",
        }
    }
}

/// The clock of the source and those of its tables.
#[derive(Debug, Clone)]
pub(in crate::state) struct Clocks {
    tables: Vec<TableClock>,
    source: SourceClock,
    watermark: Option<i64>,
    delay: i64,
    /// What the wall clock says, if it has a say.
    pub(in crate::state) wall: Option<fn() -> i64>,
    /// After this time without an event, by the source's clock, a table does not hold the watermark back.
    pub(in crate::state) idle_after: i64,
}

/// What is kept of the clocks with the state on disk. Microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::state) struct ClockMark {
    source: Option<i64>,
    has_changes: bool,
    watermark: Option<i64>,
    /// By table: the newest event time, and the source's clock at the last event.
    tables: BTreeMap<String, (Option<i64>, Option<i64>)>,
}

#[derive(Debug, Clone)]
struct TableClock {
    name: String,
    has_event_time: bool,
    /// How far its event times may be ahead of the source's clock.
    future: i64,
    newest: Option<i64>,
    /// The source's clock at its last event.
    last_event: Option<i64>,
}

#[derive(Debug, Clone, Default)]
struct SourceClock {
    now: Option<i64>,
    /// A change has told the time.
    has_changes: bool,
    /// Times too far ahead, since the last one that is not.
    doubted: VecDeque<DoubtedTimes>,
}

/// Times within a day of each other.
#[derive(Clone, Debug)]
struct DoubtedTimes {
    lowest: i64,
    highest: i64,
    count: usize,
}

impl DoubtedTimes {
    fn is_near(&self, time: i64) -> bool {
        time >= self.highest.saturating_sub(FARTHEST_JUMP)
            && time <= self.lowest.saturating_add(FARTHEST_JUMP)
    }

    fn add(&mut self, time: i64) {
        (self.lowest, self.highest) = (self.lowest.min(time), self.highest.max(time));
        self.count += 1;
    }

    fn goes_on(&self) -> bool {
        self.count >= CONFIRMATIONS && self.highest.saturating_sub(self.lowest) >= CONFIRMING_SPAN
    }
}

impl SourceClock {
    /// The clock starts at the oldest of the first times, because one wrong time among them would be believed
    /// for ever. The first changes start it again, whatever a snapshot has said.
    fn start(&mut self, ticks: &[Tick], latest: Option<i64>) {
        let has_come = |time: &i64| latest.is_none_or(|latest| *time <= latest);
        let oldest = |is_snapshot: bool| {
            let of_kind = ticks.iter().filter(|tick| tick.is_snapshot == is_snapshot);
            of_kind.filter_map(|tick| tick.source_ts).filter(has_come).min()
        };
        if self.has_changes {
            return;
        }
        let first_change = oldest(false);
        self.has_changes = first_change.is_some();
        self.now = first_change.or(self.now).or_else(|| oldest(true));
        if self.has_changes {
            self.doubted.clear();
        }
    }

    fn listens_to(&self, tick: &Tick) -> bool {
        !(tick.is_snapshot && self.has_changes)
    }

    /// `false`: it is too far ahead to be believed yet.
    fn see(&mut self, time: i64, latest: Option<i64>) -> bool {
        if latest.is_some_and(|latest| time > latest) {
            return false;
        }
        let now = *self.now.get_or_insert(time);
        if time.saturating_sub(now) <= FARTHEST_JUMP {
            self.now = Some(now.max(time));
            self.doubted.clear();
            return true;
        }
        match self.doubted.iter_mut().find(|doubted| doubted.is_near(time)) {
            Some(doubted) => doubted.add(time),
            None => {
                let new = DoubtedTimes { lowest: time, highest: time, count: 1 };
                self.doubted.truncate(MOST_DOUBTED - 1);
                self.doubted.push_front(new);
            }
        }
        let confirmed = self.doubted.iter().find(|doubted| doubted.goes_on());
        let Some(DoubtedTimes { highest, .. }) = confirmed else { return false };
        self.now = Some(*highest);
        self.doubted.clear();
        true
    }
}

impl Clocks {
    pub(in crate::state) fn new<'a>(
        tables: impl Iterator<Item = &'a Table>,
        delay: i64,
        idle_after: i64,
    ) -> Self {
        let clock = |table: &Table| TableClock {
            name: table.name.clone(),
            has_event_time: table.options.event_time.is_some(),
            future: i64::try_from(table.options.future.as_micros()).unwrap_or(i64::MAX),
            newest: None,
            last_event: None,
        };
        let (source, watermark) = (SourceClock::default(), None);
        let tables = tables.map(clock).collect();
        Self { tables, source, watermark, delay, wall: None, idle_after }
    }

    /// What is kept of it with the state on disk.
    pub(in crate::state) fn mark(&self) -> ClockMark {
        let of_table = |table: &TableClock| (table.name.clone(), (table.newest, table.last_event));
        ClockMark {
            source: self.source.now,
            has_changes: self.source.has_changes,
            watermark: self.watermark,
            tables: self.tables.iter().map(of_table).collect(),
        }
    }

    /// Goes on from there.
    pub(in crate::state) fn go_on_from(&mut self, mark: &ClockMark) {
        (self.source.now, self.source.has_changes) = (mark.source, mark.has_changes);
        self.watermark = mark.watermark;
        for table in &mut self.tables {
            let kept = mark.tables.get(&table.name).copied();
            (table.newest, table.last_event) = kept.unwrap_or_default();
        }
    }

    pub(in crate::state) fn now(&self) -> Clock {
        Clock { source: self.source.now, watermark: self.watermark }
    }

    pub(in crate::state) fn resume(&mut self, watermark: i64) {
        self.watermark = Some(watermark);
    }

    /// Goes on from this time of the source, whatever events have said.
    pub(in crate::state) fn set(&mut self, time: i64) {
        self.source.now = Some(time);
        self.source.doubted.clear();
        self.watermark = Some(time.saturating_sub(self.delay));
        for table in &mut self.tables {
            table.newest = table.newest.map(|newest| newest.min(time));
            table.last_event = table.last_event.map(|last| last.min(time));
        }
    }

    /// The latest time that can be right.
    fn latest(&self) -> Option<i64> {
        self.wall.map(|wall| wall().saturating_add(FARTHEST_JUMP))
    }

    /// Notes what the rows of a changelog of table number `table` say.
    pub(in crate::state) fn note(ticks: &mut Ticks, table: usize, changelog: &Changelog) {
        let times = |column| {
            let times = changelog.batch.column(changelog.table.system_column(column));
            let times = times.as_any().downcast_ref::<TimestampMicrosecondArray>();
            times.expect("the changelog schema declares it as timestamp")
        };
        let (source_ts, event_time) =
            (times(SystemColumn::SourceTs), times(SystemColumn::EventTime));
        let at =
            |times: &TimestampMicrosecondArray, row| times.is_valid(row).then(|| times.value(row));
        ticks.0.extend((0..changelog.len()).map(|row| Tick {
            position: changelog.positions[row],
            offset: changelog.offsets[row],
            table,
            is_snapshot: changelog.operations[row] == Operation::Read,
            source_ts: at(source_ts, row).filter(|time| *time != 0),
            event_time: at(event_time, row),
        }));
    }

    pub(in crate::state) fn advance(&mut self, Ticks(mut ticks): Ticks) -> Advanced {
        ticks.sort_by_key(|tick| tick.position);
        let latest = self.latest();
        self.source.start(&ticks, latest);
        let mut advanced = Advanced::default();
        for tick in &ticks {
            self.tick(tick, latest, &mut advanced);
        }
        advanced
    }

    fn tick(&mut self, tick: &Tick, latest: Option<i64>, advanced: &mut Advanced) {
        if let Some(time) = tick.source_ts.filter(|_| self.source.listens_to(tick))
            && !self.source.see(time, latest)
        {
            let table = &self.tables[tick.table].name;
            advanced.add_ahead(table, TimeKind::SourceTs, tick.offset, time);
        }
        let (now, table) = (self.source.now, &mut self.tables[tick.table]);
        table.last_event = now;
        // Only a declared event time moves the watermark: it is the time that windows go by.
        let Some(time) = tick.event_time.filter(|_| table.has_event_time) else { return };
        if let Some(watermark) = self.watermark.filter(|watermark| time < *watermark) {
            advanced.behind.insert(tick.position, watermark);
        }
        let is_ahead = match (now, latest) {
            (Some(now), _) => time.saturating_sub(now) > table.future,
            (None, Some(latest)) => time > latest,
            (None, None) => false,
        };
        if is_ahead {
            advanced.add_ahead(&table.name, TimeKind::EventTime, tick.offset, time);
            return;
        }
        table.newest = table.newest.max(Some(time));
        self.watermark = self.watermark.max(self.slowest());
    }

    /// The watermark of the table that is farthest behind, of those that are not idle.
    fn slowest(&self) -> Option<i64> {
        let is_active = |table: &&TableClock| match (self.source.now, table.last_event) {
            (Some(now), Some(last)) => now.saturating_sub(last) <= self.idle_after,
            _ => true,
        };
        let newest = self.tables.iter().filter(is_active).filter_map(|table| table.newest);
        newest.min().map(|newest| newest.saturating_sub(self.delay))
    }
}

impl Ticks {
    /// Forgets all but the newest, as many as are enough to know the time.
    pub(in crate::state) fn keep_newest(&mut self) {
        if self.0.len() > 2 * MOST_AT_RESTART {
            let by_age = |tick: &Tick| std::cmp::Reverse(tick.position);
            self.0.select_nth_unstable_by_key(MOST_AT_RESTART, by_age);
            self.0.truncate(MOST_AT_RESTART);
        }
    }
}

impl Advanced {
    fn add_ahead(&mut self, table: &str, kind: TimeKind, offset: Offset, time: i64) {
        let known = self.ahead.iter_mut().find(|a| a.table == table && a.kind == kind);
        match known {
            Some(ahead) => ahead.count += 1,
            None => {
                let table = table.to_owned();
                self.ahead.push(Ahead { table, kind, count: 1, offset, time });
            }
        }
    }
}
