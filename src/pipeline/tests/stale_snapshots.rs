//! Snapshot rows in between: whatever comes before or behind the changes that it has missed, results are those
//! of the changes alone.

use super::arrays::packed;
use super::*;
use crate::model::Operation;
use crate::sink::conformance::START;

/// What the source does, one commit after the other.
#[derive(Debug, Clone)]
enum Act {
    Put {
        table: usize,
        id: u8,
        parent: u8,
        value: u8,
    },
    Delete {
        table: usize,
        id: u8,
    },
    Truncate {
        table: usize,
    },
    /// Somebody reads a row as it was so many commits ago, or as it will be if the connector is ahead.
    Read {
        table: usize,
        id: u8,
        age: i8,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let (table, id) = (0usize..4, 0u8..4);
    prop_oneof![
        5 => (table.clone(), id.clone(), 0u8..4, any::<u8>())
            .prop_map(|(table, id, parent, value)| Act::Put { table, id, parent, value }),
        2 => (table.clone(), id.clone()).prop_map(|(table, id)| Act::Delete { table, id }),
        1 => table.clone().prop_map(|table| Act::Truncate { table }),
        6 => (table, id, -3i8..20).prop_map(|(table, id, age)| Act::Read { table, id, age }),
    ]
}

fn source_event((table, op): (usize, &str), scn: usize, (before, after): (&str, &str)) -> String {
    let (name, scn) = (NAMES[table], 100 + 10 * scn);
    // A change has its own SCN and that of its commit; a snapshot row may have one of them alone.
    let scns = match op {
        "r" => format!(r#""scn":"{}","commit_scn":null"#, scn),
        _ => format!(r#""scn":"{}","commit_scn":"{scn}""#, scn - 3),
    };
    format!(
        r#"{{"before":{before},"after":{after},"source":{{"schema":"SALES","table":"{name}","ts_ms":1700000000000,{scns}}},"op":"{op}"}}"#
    )
}

/// The row that a table had after so many commits.
fn as_of(changes: &[&Act], commits: usize, (table, id): (usize, u8)) -> Option<String> {
    let mut row = None;
    for change in &changes[..commits] {
        match change {
            Act::Put { table: t, id: i, parent, value } if (*t, *i) == (table, id) => {
                row = Some(super::row(table, id, *parent, *value));
            }
            Act::Delete { table: t, id: i } if (*t, *i) == (table, id) => row = None,
            Act::Truncate { table: t } if *t == table => row = None,
            Act::Put { .. } | Act::Delete { .. } | Act::Truncate { .. } | Act::Read { .. } => {}
        }
    }
    row
}

/// The changes alone, and the same with what was read in between.
fn streams(acts: &[Act]) -> (Vec<String>, Vec<String>) {
    let is_change = |act: &&Act| !matches!(act, Act::Read { .. });
    let changes: Vec<&Act> = acts.iter().filter(is_change).collect();
    let (mut streamed, mut all, mut commits) = (Vec::new(), Vec::new(), 0usize);
    for act in acts {
        let scn = commits + 1;
        let payload = match act {
            Act::Put { table, id, parent, value } => {
                let row = super::row(*table, *id, *parent, *value);
                source_event((*table, "u"), scn, ("null", &row))
            }
            Act::Delete { table, id } => {
                source_event((*table, "d"), scn, (&super::row(*table, *id, 0, 0), "null"))
            }
            Act::Truncate { table } => source_event((*table, "t"), scn, ("null", "null")),
            Act::Read { table, id, age } => {
                let at = commits.saturating_add_signed(-isize::from(*age)).min(changes.len());
                if let Some(row) = as_of(&changes, at, (*table, *id)) {
                    all.push(source_event((*table, "r"), at, ("null", &row)));
                }
                continue;
            }
        };
        commits += 1;
        streamed.push(payload.clone());
        all.push(payload);
    }
    (streamed, all)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn snapshot_rows_in_between_make_no_difference(
        acts in prop::collection::vec(act(), 1..60),
        borders in prop::collection::vec(border(), 1..12),
        sizes in prop::collection::vec(1usize..4, 1..4),
    ) {
        let (streamed, all) = streams(&acts);
        prop_assume!(!streamed.is_empty());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let sql = sql().await;
            let expected = from_scratch(&sql, &messages(&streamed)).await;
            let target = run_in_batches(&sql, &packed(&all, &sizes), &borders).await;
            assert_eq!(target.dead_letters(), vec![]);
            for file in &sql.transforms {
                let shown = as_text(&target.result(&format!("cdc_{}", file.name)));
                let scratch = expected.get(&file.name).cloned().unwrap_or_default();
                assert_eq!(shown, scratch, "{}", file.name);
            }
        });
    }
}

/// An event of customer 1; `minutes` by the source's clock.
fn customer(op: &str, (id, name): (i64, &str), (scn, minutes): (i64, i64)) -> String {
    let row = format!(r#"{{"CUSTOMER_ID":{id},"NAME":"{name}","TIER":"GOLD"}}"#);
    let (before, after) = if op == "d" { (&*row, "null") } else { ("null", &*row) };
    format!(
        r#"{{"before":{before},"after":{after},"source":{{"schema":"SALES","table":"CUSTOMERS","ts_us":{},"scn":"{scn}"}},"op":"{op}"}}"#,
        START + minutes * 60_000_000
    )
}

fn landed(target: &MemoryTarget) -> Vec<(Operation, String)> {
    let rows = |changelog: crate::model::Changelog| {
        let (name, rows) = (Arc::clone(changelog.batch.column(1)), changelog.len());
        let row =
            move |at: usize| (changelog.operations[at], array_value_to_string(&name, at).unwrap());
        (0..rows).map(row).collect::<Vec<_>>()
    };
    let all = target.landed("cdc_customers").into_iter().flat_map(rows);
    all.filter(|(_, name)| !name.starts_with("filler")).collect()
}

/// Each payload in an epoch of its own, and after a restart of the processor where it says so.
async fn run(payloads: &[String], restarts: bool) -> MemoryTarget {
    let (sql, target) = (sql().await, MemoryTarget::default());
    let (mut processor, mut sink) = processor(&sql, &target).await;
    for message in messages(payloads) {
        if restarts {
            (processor, sink) = super::processor(&sql, &target).await;
        }
        let job = processor.process(vec![message].into(), &HashMap::new()).await.unwrap();
        commit(&mut sink, job).await;
    }
    target
}

#[tokio::test]
async fn an_older_snapshot_row_changes_nothing_and_is_not_landed() {
    use Operation::{Create, Delete, Read, Update};
    let name = |name: &str| name.to_owned();
    let cases = [
        ("older than a change", vec![("c", 100, "a"), ("r", 99, "old")], vec![(Create, "a")]),
        (
            "read at the change or after it",
            vec![("c", 100, "a"), ("r", 100, "a"), ("u", 105, "b"), ("r", 110, "c")],
            vec![(Create, "a"), (Read, "a"), (Update, "b"), (Read, "c")],
        ),
        ("older than a delete", vec![("d", 100, "a"), ("r", 50, "old")], vec![(Delete, "a")]),
        ("older than another one", vec![("r", 100, "a"), ("r", 50, "old")], vec![(Read, "a")]),
        (
            "nobody knows when",
            vec![("c", 100, "a"), ("r", 0, "b"), ("r", 50, "c")],
            vec![(Create, "a"), (Read, "b"), (Read, "c")],
        ),
    ];
    for (what, events, expected) in cases {
        let event = |(op, scn, name): &(&str, i64, &str)| customer(op, (1, name), (*scn, 0));
        let payloads: Vec<String> = events.iter().map(event).collect();
        let expected: Vec<_> = expected.into_iter().map(|(op, text)| (op, name(text))).collect();
        for restarts in [false, true] {
            assert_eq!(landed(&run(&payloads, restarts).await), expected, "{what}, {restarts}");
        }
    }
}

#[tokio::test]
async fn what_memory_has_forgotten_is_asked_of_the_landing_table() {
    for (op, expected) in [("d", Operation::Delete), ("u", Operation::Update)] {
        let mut payloads = vec![customer(op, (1, "a"), (1000, 0))];
        // Memory forgets deletes after an hour by the source's clock.
        let fillers =
            (0..600).map(|at| customer("u", (2, &format!("filler{at}")), (2000 + at, 300)));
        payloads.extend(fillers);
        payloads.push(customer("r", (1, "old"), (900, 301)));
        payloads.push(customer("r", (3, "new"), (900, 301)));
        let stream = messages(&payloads);
        let (sql, target) = (sql().await, MemoryTarget::default());
        let (mut processor, mut sink) = processor(&sql, &target).await;
        for batch in [&stream[..1], &stream[1..2], &stream[2..601], &stream[601..]] {
            let job = processor.process(batch.to_vec().into(), &HashMap::new()).await.unwrap();
            commit(&mut sink, job).await;
        }
        let kept = [(expected, "a".to_owned()), (Operation::Read, "new".to_owned())];
        assert_eq!(landed(&target), kept, "{op}");
    }
}
