//! What was posted, by idempotency key.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::Value;

use super::faults::Faults;

/// What was posted, once per idempotency key. Clones share it.
#[derive(Debug, Clone)]
pub struct Store(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    limit: usize,
    received: VecDeque<Received>,
    /// Number by idempotency key; numbers rise by one, so that they are places as well.
    numbers: HashMap<String, u64>,
    last: u64,
    requests: BTreeMap<String, u64>,
    faults: Faults,
}

/// One row, however often it was delivered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Received {
    /// Rises with each new idempotency key.
    pub number: u64,
    pub path: String,
    pub idempotency_key: String,
    pub operation: String,
    pub deliveries: u64,
    pub body: Value,
}

/// How much was posted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Requests that were taken, by path.
    pub requests: BTreeMap<String, u64>,
    /// Idempotency keys that are remembered.
    pub rows: usize,
    /// Deliveries of these after the first.
    pub duplicates: u64,
}

impl Store {
    /// Remembers the newest `limit` rows.
    pub fn keeping(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Kept {
            limit: limit.max(1),
            received: VecDeque::new(),
            numbers: HashMap::new(),
            last: 0,
            requests: BTreeMap::new(),
            faults: Faults::default(),
        })))
    }

    /// How often this key has been delivered, with this time.
    pub(super) fn receive(&self, path: &str, key: String, operation: String, body: Value) -> u64 {
        let mut kept = self.kept();
        *kept.requests.entry(path.to_owned()).or_default() += 1;
        if let Some(number) = kept.numbers.get(&key).copied() {
            let place = kept.received.len() - 1 - (kept.last - number) as usize;
            kept.received[place].deliveries += 1;
            return kept.received[place].deliveries;
        }
        kept.last += 1;
        let number = kept.last;
        kept.numbers.insert(key.clone(), number);
        let (path, idempotency_key) = (path.to_owned(), key);
        let received = Received { number, path, idempotency_key, operation, deliveries: 1, body };
        kept.received.push_back(received);
        if kept.received.len() > kept.limit
            && let Some(oldest) = kept.received.pop_front()
        {
            kept.numbers.remove(&oldest.idempotency_key);
        }
        1
    }

    /// The first `limit` rows that fit, in the order in which they first came.
    pub fn list(&self, limit: usize, fits: impl Fn(&Received) -> bool) -> Vec<Received> {
        self.kept().received.iter().filter(|row| fits(row)).take(limit).cloned().collect()
    }

    pub fn stats(&self) -> Stats {
        let kept = self.kept();
        Stats {
            requests: kept.requests.clone(),
            rows: kept.received.len(),
            duplicates: kept.received.iter().map(|row| row.deliveries - 1).sum(),
        }
    }

    pub fn faults(&self) -> Faults {
        self.kept().faults.clone()
    }

    pub fn set_faults(&self, faults: Faults) {
        self.kept().faults = faults;
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
