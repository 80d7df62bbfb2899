//! Which rows may be posted now: one per lane, and none of a path whose breaker is open. And which are given up: those
//! that the API fails over while it takes others.

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

/// Why a row was not taken.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// For logs and pages.
    pub(super) reason: String,
    pub(super) blame: Blame,
    /// As the API asks for it.
    pub(super) retry_after: Option<Duration>,
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
    /// How much the path had answered when the first row failed last.
    answered_before: Option<u64>,
}

/// What becomes of a row that was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailedRow {
    /// It is posted again, later.
    ComesAgain,
    /// It has had its attempts, and the API took other rows between the last two of them: it is not the API that fails.
    GivenUp,
}

/// Who may be to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// The API or the way to it, never the row.
    Api,
    /// The API has answered about this row, so that it may be the row.
    ApiOrRow,
}

#[derive(Debug)]
struct PathState {
    breaker: CircuitBreaker,
    is_probing: bool,
    /// Of the last failure, until the path works again.
    reason: Option<String>,
    /// Rows that the API has taken or refused.
    answered: u64,
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
            let (rows, answered_before) = (VecDeque::from([row]), None);
            self.lanes.insert(name.clone(), DeliveryLane { rows, backoff, answered_before });
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
        path.answered += 1;
        (path.is_probing, path.reason) = (false, None);
        self.take_out(row);
    }

    /// The lane of the row goes on with the next one.
    fn take_out(&mut self, row: &OutboxRow) {
        let Some(lane) = self.lanes.get_mut(&row.lane) else { return };
        lane.rows.pop_front();
        self.rows -= 1;
        if lane.rows.is_empty() {
            self.lanes.remove(&row.lane);
            return;
        }
        lane.backoff = Backoff::new(self.rules.first_wait, self.rules.longest_wait);
        lane.answered_before = None;
        self.ready.push_back(row.lane.clone());
    }

    /// The row that was taken was not: it has to be posted again, later, unless it is the row that is at fault.
    pub(super) fn failed(&mut self, row: &OutboxRow, failure: Failure, now: Instant) -> FailedRow {
        let Failure { reason, blame, retry_after } = failure;
        let (limit, attempts) = (self.rules.breaker_failures, self.rules.attempts);
        let answered = self.path(&row.path).answered;
        let Some(lane) = self.lanes.get_mut(&row.lane) else { return FailedRow::ComesAgain };
        let wait = lane.backoff.next_wait();
        let is_failing = lane.backoff.attempts() >= attempts;
        let before = lane.answered_before.replace(answered);
        let others_were_taken = before.is_some_and(|before| answered > before);
        if is_failing && others_were_taken && blame == Blame::ApiOrRow {
            self.path(&row.path).is_probing = false;
            self.take_out(row);
            return FailedRow::GivenUp;
        }
        let path = self.path(&row.path);
        // A failed probe opens the breaker again, whatever attempt of its row it was.
        if is_failing || path.is_probing {
            path.breaker.failed(limit, now);
            path.reason = Some(reason);
        }
        path.is_probing = false;
        self.asleep.push(Reverse((now + retry_after.unwrap_or(wait), row.lane.clone())));
        FailedRow::ComesAgain
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
            let state = PathState { breaker, is_probing: false, reason: None, answered: 0 };
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

    fn failure(blame: Blame, after: Option<u64>) -> Failure {
        Failure { reason: "503".into(), blame, retry_after: after.map(Duration::from_secs) }
    }

    fn fail(lanes: &mut Lanes, row: &OutboxRow, after: Option<u64>, now: Instant) {
        assert_eq!(lanes.failed(row, failure(Blame::Api, after), now), FailedRow::ComesAgain);
    }

    #[test]
    fn a_row_is_given_up_only_while_the_api_takes_others() {
        let (mut lanes, now) = (lanes(5), Instant::now());
        let error = |lanes: &mut Lanes, after| {
            lanes.failed(&row(1, "a"), failure(Blame::ApiOrRow, Some(0)), now + after)
        };
        let later = Duration::from_secs(1);
        lanes.add(vec![row(1, "a"), row(2, "a"), row(3, "b"), row(4, "c"), row(5, "d")]);
        assert_eq!(ids(&mut lanes, now), [1, 3, 4, 5]);
        // Two attempts, and nothing else was taken in between: it may be the API.
        for _ in 0..4 {
            assert_eq!(error(&mut lanes, Duration::ZERO), FailedRow::ComesAgain);
            assert_eq!(ids(&mut lanes, now + later), [1]);
        }
        lanes.settled(&row(3, "b"));
        // That the way to it fails is no fault of the row.
        fail(&mut lanes, &row(1, "a"), Some(0), now);
        assert_eq!(ids(&mut lanes, now + later), [1]);
        lanes.settled(&row(4, "c"));
        let before = lanes.len();
        assert_eq!(error(&mut lanes, later), FailedRow::GivenUp);
        assert_eq!(lanes.len(), before - 1);
        assert_eq!(ids(&mut lanes, now + later), [2], "its lane goes on");
        // The next one of the lane has all attempts again.
        lanes.settled(&row(5, "d"));
        let next = lanes.failed(&row(2, "a"), failure(Blame::ApiOrRow, Some(0)), now);
        assert_eq!(next, FailedRow::ComesAgain);
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
