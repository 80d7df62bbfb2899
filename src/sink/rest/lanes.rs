//! Which rows may be posted now: one per lane, and none of a path whose breaker is open.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::resilience::{Backoff, BreakerState, CircuitBreaker};
use crate::sink::outbox::OutboxRow;

/// How often a lane looks whether another one's probe has closed the breaker.
const PROBE_LOOK: Duration = Duration::from_millis(50);

/// The rules of [`Lanes`].
#[derive(Debug, Clone)]
pub(super) struct LaneRules {
    pub(super) attempts: u32,
    pub(super) first_wait: Duration,
    pub(super) longest_wait: Duration,
    pub(super) breaker_failures: u32,
    pub(super) breaker_pause: Duration,
}

/// The loaded rows of the outbox, by lane and in order.
#[derive(Debug)]
pub(super) struct Lanes {
    rules: LaneRules,
    lanes: HashMap<String, DeliveryLane>,
    /// Lanes whose first row may be posted.
    ready: VecDeque<String>,
    /// Lanes that wait, by the end of their wait.
    asleep: BinaryHeap<Reverse<(Instant, String)>>,
    paths: HashMap<String, PathState>,
    rows: usize,
}

#[derive(Debug)]
struct DeliveryLane {
    rows: VecDeque<OutboxRow>,
    backoff: Backoff,
}

#[derive(Debug)]
struct PathState {
    breaker: CircuitBreaker,
    is_probing: bool,
    /// Of the last failure, until the path works again.
    reason: Option<String>,
}

impl Lanes {
    pub(super) fn new(rules: LaneRules) -> Self {
        let (lanes, paths) = (HashMap::new(), HashMap::new());
        let (ready, asleep) = (VecDeque::new(), BinaryHeap::new());
        Self { rules, lanes, ready, asleep, paths, rows: 0 }
    }

    /// Rows that are not settled, those that are being posted included.
    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// Adds rows with ids above all that were added before.
    pub(super) fn add(&mut self, rows: Vec<OutboxRow>) {
        self.rows += rows.len();
        for row in rows {
            if let Some(lane) = self.lanes.get_mut(&row.lane) {
                lane.rows.push_back(row);
                continue;
            }
            let name = row.lane.clone();
            let backoff = Backoff::new(self.rules.first_wait, self.rules.longest_wait);
            self.lanes.insert(name.clone(), DeliveryLane { rows: VecDeque::from([row]), backoff });
            self.ready.push_back(name);
        }
    }

    /// A row to post now. Its lane is left alone until the row's outcome is told.
    pub(super) fn take(&mut self, now: Instant) -> Option<OutboxRow> {
        while self.asleep.peek().is_some_and(|Reverse((until, _))| *until <= now) {
            self.ready.extend(self.asleep.pop().map(|Reverse((_, name))| name));
        }
        while let Some(name) = self.ready.pop_front() {
            let row = self.lanes.get(&name).and_then(|lane| lane.rows.front()).cloned();
            let Some(row) = row else { continue };
            match self.wait_for_path(&row.path, now) {
                Duration::ZERO => return Some(row),
                wait => self.asleep.push(Reverse((now + wait, name))),
            }
        }
        None
    }

    /// When the next lane wakes up.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        self.asleep.peek().map(|Reverse((until, _))| *until)
    }

    /// The API has answered about the row that was taken: its lane goes on with the next one.
    pub(super) fn settled(&mut self, row: &OutboxRow) {
        let path = self.path(&row.path);
        path.breaker.succeeded();
        (path.is_probing, path.reason) = (false, None);
        let Some(lane) = self.lanes.get_mut(&row.lane) else { return };
        lane.rows.pop_front();
        self.rows -= 1;
        if lane.rows.is_empty() {
            self.lanes.remove(&row.lane);
            return;
        }
        lane.backoff = Backoff::new(self.rules.first_wait, self.rules.longest_wait);
        self.ready.push_back(row.lane.clone());
    }

    /// The row that was taken has to be posted again, later.
    pub(super) fn failed(
        &mut self,
        row: &OutboxRow,
        reason: String,
        retry_after: Option<Duration>,
        now: Instant,
    ) {
        let (limit, attempts) = (self.rules.breaker_failures, self.rules.attempts);
        let Some(lane) = self.lanes.get_mut(&row.lane) else { return };
        let wait = lane.backoff.next_wait();
        let is_failing = lane.backoff.attempts() >= attempts;
        let path = self.path(&row.path);
        // A failed probe opens the breaker again, whatever attempt of its row it was.
        if is_failing || path.is_probing {
            path.breaker.failed(limit, now);
            path.reason = Some(reason);
        }
        path.is_probing = false;
        self.asleep.push(Reverse((now + retry_after.unwrap_or(wait), row.lane.clone())));
    }

    /// The paths that fail, why, and the state of their breakers.
    pub(super) fn failing(&self) -> impl Iterator<Item = (&str, &str, BreakerState)> {
        self.paths.iter().filter_map(|(path, state)| {
            Some((path.as_str(), state.reason.as_deref()?, state.breaker.state()))
        })
    }

    /// Every path and the state of its breaker.
    pub(super) fn breakers(&self) -> impl Iterator<Item = (&str, BreakerState)> {
        self.paths.iter().map(|(path, state)| (path.as_str(), state.breaker.state()))
    }

    fn wait_for_path(&mut self, path: &str, now: Instant) -> Duration {
        let path = self.path(path);
        let wait = path.breaker.wait(now);
        if !wait.is_zero() || path.breaker.state() != BreakerState::HalfOpen {
            return wait;
        }
        if std::mem::replace(&mut path.is_probing, true) { PROBE_LOOK } else { Duration::ZERO }
    }

    fn path(&mut self, path: &str) -> &mut PathState {
        if !self.paths.contains_key(path) {
            let (failures, pause) = (self.rules.breaker_failures, self.rules.breaker_pause);
            let breaker = CircuitBreaker::new(failures, pause);
            let state = PathState { breaker, is_probing: false, reason: None };
            self.paths.insert(path.to_owned(), state);
        }
        self.paths.get_mut(path).expect("it was inserted if it was missing")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(30);

    fn lanes(breaker_failures: u32) -> Lanes {
        Lanes::new(LaneRules {
            attempts: 2,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(4),
            breaker_failures,
            breaker_pause: PAUSE,
        })
    }

    fn row(id: i64, lane: &str) -> OutboxRow {
        OutboxRow {
            id,
            path: "/p".into(),
            lane: lane.into(),
            operation: "created".into(),
            idempotency_key: id.to_string(),
            body: "{}".into(),
        }
    }

    fn ids(lanes: &mut Lanes, now: Instant) -> Vec<i64> {
        std::iter::from_fn(|| lanes.take(now)).map(|row| row.id).collect()
    }

    fn fail(lanes: &mut Lanes, row: &OutboxRow, after: Option<u64>, now: Instant) {
        lanes.failed(row, "503".into(), after.map(Duration::from_secs), now);
    }

    #[test]
    fn a_lane_has_one_row_under_way_and_keeps_its_order() {
        let (mut lanes, now) = (lanes(5), Instant::now());
        lanes.add(vec![row(1, "a"), row(2, "b"), row(3, "a")]);
        assert_eq!(ids(&mut lanes, now), [1, 2]);
        lanes.settled(&row(1, "a"));
        lanes.add(vec![row(4, "a")]);
        assert_eq!(ids(&mut lanes, now), [3]);
        lanes.settled(&row(3, "a"));
        lanes.settled(&row(2, "b"));
        assert_eq!(ids(&mut lanes, now), [4]);
        lanes.settled(&row(4, "a"));
        assert_eq!((lanes.len(), lanes.lanes.len()), (0, 0));
    }

    #[test]
    fn a_failed_row_comes_again_before_the_next_of_its_lane() {
        let (mut lanes, now) = (lanes(5), Instant::now());
        lanes.add(vec![row(1, "a"), row(2, "a"), row(3, "b")]);
        assert_eq!(ids(&mut lanes, now), [1, 3]);
        fail(&mut lanes, &row(1, "a"), None, now);
        assert_eq!(ids(&mut lanes, now + Duration::from_millis(400)), [0; 0]);
        assert_eq!(ids(&mut lanes, now + Duration::from_secs(1)), [1]);
        fail(&mut lanes, &row(1, "a"), Some(20), now);
        assert_eq!(lanes.failing().next(), Some(("/p", "503", BreakerState::Closed)));
        assert_eq!(ids(&mut lanes, now + Duration::from_secs(19)), [0; 0]);
        assert_eq!(lanes.wakes_at(), Some(now + Duration::from_secs(20)));
        assert_eq!(ids(&mut lanes, now + Duration::from_secs(20)), [1]);
        lanes.settled(&row(1, "a"));
        assert_eq!(lanes.failing().count(), 0);
        assert_eq!(ids(&mut lanes, now), [2]);
    }

    #[test]
    fn an_open_breaker_holds_all_lanes_of_its_path_and_one_probe_decides() {
        let (mut lanes, now) = (lanes(1), Instant::now());
        lanes.add(vec![row(1, "a"), row(2, "b")]);
        lanes.add(vec![OutboxRow { path: "/other".into(), ..row(3, "c") }]);
        assert_eq!(ids(&mut lanes, now), [1, 2, 3]);
        let soon = now + Duration::from_secs(1);
        fail(&mut lanes, &row(1, "a"), None, now);
        assert_eq!(ids(&mut lanes, soon), [1]);
        fail(&mut lanes, &row(1, "a"), None, soon);
        fail(&mut lanes, &row(2, "b"), None, soon);
        assert_eq!(ids(&mut lanes, soon + PAUSE / 2), [0; 0], "it is open");
        let later = soon + PAUSE;
        let probe = ids(&mut lanes, later);
        assert_eq!(probe.len(), 1, "one probe");
        let probe = row(probe[0], if probe[0] == 1 { "a" } else { "b" });
        fail(&mut lanes, &probe, None, later);
        assert_eq!(ids(&mut lanes, later + PAUSE / 2), [0; 0], "it is open again");
        let last = later + PAUSE + PAUSE;
        assert_eq!(ids(&mut lanes, last).len(), 1);
        lanes.settled(&probe);
        let rest = ids(&mut lanes, last + PAUSE);
        assert!(lanes.failing().count() == 0 && rest.len() <= 1, "{rest:?}");
    }
}
