use std::collections::BTreeMap;
use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::model::{SpaceId, VisitPair};

impl StateValue for u64 {
    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_be_bytes)
    }

    fn memory(&self) -> usize {
        100
    }
}

/// A disk that can fail.
#[derive(Debug, Default)]
struct Disk(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

#[derive(Default)]
struct Writes(Vec<(Vec<u8>, Option<Vec<u8>>)>);

impl StateWrites for Writes {
    fn put(&mut self, _: SpaceId, key: &[u8], value: &[u8]) {
        self.0.push((key.to_vec(), Some(value.to_vec())));
    }

    fn remove(&mut self, _: SpaceId, key: &[u8]) {
        self.0.push((key.to_vec(), None));
    }
}

impl Disk {
    fn write(&self, Writes(writes): Writes) {
        let mut pairs = self.0.lock().unwrap();
        for (key, value) in writes {
            match value {
                Some(value) => pairs.insert(key, value),
                None => pairs.remove(&key),
            };
        }
    }
}

impl StateSpace for Disk {
    fn id(&self) -> SpaceId {
        SpaceId(7)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ArrowError> {
        Ok(self.0.lock().unwrap().get(key).cloned())
    }

    fn each(&self, visit: VisitPair<'_>) -> Result<(), ArrowError> {
        let pairs = self.0.lock().unwrap().clone();
        pairs.iter().try_for_each(|(key, value)| visit(key, value))
    }

    fn spill(&self, write: &mut dyn FnMut(&mut dyn StateWrites)) -> Result<(), ArrowError> {
        let mut writes = Writes::default();
        write(&mut writes);
        self.write(writes);
        Ok(())
    }
}

#[derive(Debug, Clone)]
enum Step {
    Set(u8, u64),
    Remove(u8),
    LetGo(usize),
    /// Written, or not.
    Flush(bool),
    /// Changes come between the flush and its end.
    FlushBeside(Vec<(u8, Option<u64>)>, bool),
    /// From the last flush that was written.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (0..6u8, proptest::option::of(0..9u64));
    let step = prop_oneof![
        (0..6u8, 0..9u64).prop_map(|(key, value)| Step::Set(key, value)),
        (0..6u8).prop_map(Step::Remove),
        (0..2000usize).prop_map(Step::LetGo),
        any::<bool>().prop_map(Step::Flush),
        (proptest::collection::vec(change, 0..4), any::<bool>())
            .prop_map(|(changes, is_done)| Step::FlushBeside(changes, is_done)),
        Just(Step::Restart),
    ];
    proptest::collection::vec(step, 0..40)
}

type Model = BTreeMap<u8, u64>;

fn set(state: &mut KeyedState<u64>, model: &mut Model, key: u8, value: Option<u64>) {
    state.recall([&[key][..]]).unwrap();
    match value {
        Some(value) => {
            model.insert(key, value);
            if state.change(&[key], |held| *held = value).is_none() {
                state.insert(&[key], value);
            }
        }
        None => assert_eq!(state.remove(&[key]), model.remove(&key)),
    }
}

fn check(state: &KeyedState<u64>, model: &Model) {
    let mut all = Model::new();
    let scanned: Result<(), ArrowError> = state.scan(&mut |part| {
        for (key, value) in part {
            assert_eq!(all.insert(key[0], **value), None, "each key once");
        }
        Ok(())
    });
    scanned.unwrap();
    assert_eq!(all, *model);
    for key in 0..6u8 {
        let found = state.find(&[key]).unwrap().map(|value| *value);
        assert_eq!(found, model.get(&key).copied());
    }
    let held = state.entries.values().filter(|entry| entry.value.is_some()).count();
    assert_eq!(state.bytes, held * 100);
}

proptest! {
    #[test]
    fn values_are_what_they_were_set_to_wherever_they_are(steps in steps()) {
        let disk = Arc::new(Disk::default());
        let (mut state, mut model) = (KeyedState::<u64>::default(), Model::new());
        state.open(Arc::clone(&disk) as _, None);
        let (mut flushed, mut stored) = (Model::new(), 0);
        for step in steps {
            match step {
                Step::Set(key, value) => set(&mut state, &mut model, key, Some(value)),
                Step::Remove(key) => set(&mut state, &mut model, key, None),
                Step::LetGo(bytes) => drop(state.let_go(bytes)),
                Step::Flush(is_done) => {
                    let mut writes = Writes::default();
                    state.flush(&mut writes);
                    if is_done {
                        disk.write(writes);
                        (flushed, stored) = (model.clone(), state.stored());
                    }
                    state.note_flushed(is_done);
                }
                Step::FlushBeside(changes, is_done) => {
                    let mut writes = Writes::default();
                    state.flush(&mut writes);
                    let (at_flush, count) = (model.clone(), state.stored());
                    for (key, value) in changes {
                        set(&mut state, &mut model, key, value);
                    }
                    if is_done {
                        disk.write(writes);
                        (flushed, stored) = (at_flush, count);
                    }
                    state.note_flushed(is_done);
                }
                Step::Restart => {
                    state.open(Arc::clone(&disk) as _, Some(stored));
                    model = flushed.clone();
                }
            }
            check(&state, &model);
        }
        let mut writes = Writes::default();
        state.flush(&mut writes);
        disk.write(writes);
        state.note_flushed(true);
        prop_assert_eq!(state.stored(), model.len() as u64);
        state.let_go(usize::MAX);
        prop_assert_eq!(state.entries.len(), 0);
        check(&state, &model);
    }
}

#[test]
fn values_that_are_in_use_stay_longer() {
    let disk = Arc::new(Disk::default());
    let mut state = KeyedState::<u64>::default();
    state.open(Arc::clone(&disk) as _, None);
    (0..100u8).for_each(|key| state.insert(&[key], 1));
    let mut writes = Writes::default();
    state.flush(&mut writes);
    disk.write(writes);
    state.note_flushed(true);
    assert!(state.let_go(1) > 0);
    for key in 0..50u8 {
        state.recall([&[key][..]]).unwrap();
        assert_eq!(state.change(&[key], |value| *value += 1), Some(()));
    }
    let each = KeyedState::<u64>::entry_bytes(&KeyBytes::from(&[0][..])) + 100;
    state.let_go(20 * each);
    assert!((0..50u8).all(|key| state.get(&[key]).is_some()));
    assert!((79..=80).contains(&state.entries.len()));
}

#[test]
fn values_that_are_built_from_all_rows_go_to_the_disk_when_they_are_many() {
    let disk = Arc::new(Disk::default());
    let mut state = KeyedState::<u64>::default();
    state.open(Arc::clone(&disk) as _, None);
    let count = SPILLED_AT as u64 / 100;
    for key in 0..count {
        let key = key.to_be_bytes();
        state.recall([&key[..]]).unwrap();
        state.insert(&key, 5);
        state.spill().unwrap();
    }
    assert!(state.memory() < SPILLED_AT + (SPILLED_AT >> 2));
    let mut all = 0;
    let scanned: Result<(), ArrowError> = state.scan(&mut |part| {
        all += part.len() as u64;
        Ok(())
    });
    scanned.unwrap();
    assert_eq!(all, count);
}

#[test]
fn what_can_not_be_read_is_an_error() {
    let disk = Arc::new(Disk::default());
    let mut writes = Writes::default();
    writes.put(SpaceId(7), b"key", b"no number");
    disk.write(writes);
    let mut state = KeyedState::<u64>::default();
    state.open(disk, Some(1));
    let message = state.recall([&b"key"[..]]).unwrap_err().to_string();
    assert!(message.contains("[state] path"), "{message}");
}
