//! The ledger over a year: ids with gaps, databases that forget, tables of earlier releases.

use std::collections::BTreeMap;

use tidemark::model::{
    AcceptedLoss, Epoch, EpochCommit, EventId, Generation, Knowledge, KnownOffsets, LostEpochs,
    Offset, OffsetSet,
};
use tidemark::resilience::Recovery;
use tidemark::sink::conformance::{PIPELINE, SPOOL, epoch, orders};
use tidemark::sink::postgres::{LedgerLimit, PostgresSink};
use tidemark::sink::{AcceptedRange, LedgerHistory, Sink, SinkError};

use crate::Database;
use crate::postgres::Durability;

fn at(id: u64) -> Offset {
    Offset::new(SPOOL, id)
}

/// An epoch of messages whose ids have gaps: three of four are another queue's.
fn with_gaps(number: u64, count: u64) -> EpochCommit {
    let mut commit = epoch(number).build();
    commit.offsets = (0..count).map(|message| at(4 * (number * count + message))).collect();
    commit
}

#[tokio::test]
async fn ids_with_gaps_leave_no_more_ranges_than_can_come_again() {
    let database = Database::start(Durability::Off).await;
    let mut sink = database.sink().await;
    sink.commit(&epoch(1).created(1, 7, "x").dead(3).build()).await.unwrap();
    for number in 2..=31 {
        sink.commit(&with_gaps(number, 1_000)).await.unwrap();
        sink.ledger_reader().compact_ledger(Epoch(number)).await.unwrap();
    }
    let client = database.server.client().await;
    let ranges = "SELECT count(*) FROM tidemark_committed, unnest(offsets)";
    assert_eq!(client.query_one(ranges, &[]).await.unwrap().get::<_, i64>(0), 10_000);

    let position = sink.resume().await.unwrap();
    let newest: OffsetSet = (21..=31)
        .flat_map(|number| {
            with_gaps(number, 1_000).offsets.ranges().map(|(first, _)| first).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(position.offsets, newest);
    assert_eq!(position.forgotten_to, BTreeMap::from([(SPOOL, 4 * 20_999)]));
    let known = KnownOffsets::new(position.offsets, position.forgotten_to);
    assert_eq!(known.of(at(4 * 21_000)), Knowledge::Taken);
    assert_eq!(known.of(at(4 * 21_000 + 1)), Knowledge::New);
    // Landed, dead, of a gap.
    for id in [1, 3, 2] {
        assert_eq!(known.of(at(id)), Knowledge::Forgotten);
    }
    let events = [1, 2, 3].map(|id| EventId::all(at(id), 1)).into_iter().flatten();
    let committed = sink.committed(&events.collect::<Vec<_>>()).await.unwrap();
    assert_eq!(committed, [at(1), at(3)].into());
    // Of an array all that has landed is its third event.
    let landed = format!(
        "INSERT INTO orders_history (order_id, operation, event_id, change_seq) VALUES (9, 'c', '{}#event3', 9)",
        at(9)
    );
    client.batch_execute(&landed).await.unwrap();
    let of_array = async |sink: &mut PostgresSink, events| {
        sink.committed(&EventId::all(at(9), events).collect::<Vec<_>>()).await.unwrap()
    };
    assert_eq!(of_array(&mut sink, 2).await, [].into());
    assert_eq!(of_array(&mut sink, 3).await, [at(9)].into());
}

#[tokio::test]
async fn an_epoch_is_not_written_onto_a_database_that_has_lost_the_one_before() {
    let database = Database::start(Durability::Off).await;
    let mut sink = database.sink().await;
    sink.resume().await.unwrap();
    for number in 1..=3 {
        sink.commit(&epoch(number).created(number, 7, "x").build()).await.unwrap();
    }
    // An asynchronous failover: the standby has not seen epochs 2 and 3.
    let client = database.server.client().await;
    client.batch_execute("DELETE FROM tidemark_ledger WHERE epoch > 1").await.unwrap();
    let error = sink.commit(&epoch(4).created(4, 7, "x").build()).await.unwrap_err();
    let SinkError::Forgotten { newest, expected, .. } = &error else { panic!("{error:?}") };
    assert_eq!((*newest, *expected), (Some(Epoch(1)), Epoch(3)));
    assert_eq!(error.recovery(), Recovery::Stop);
    assert!(error.to_string().contains("lost committed epochs"), "{error}");
    assert_eq!(database.count("orders_history").await, 3, "nothing was written");
}

#[tokio::test]
async fn an_epoch_of_another_history_is_not_the_one_before() {
    let database = Database::start(Durability::Off).await;
    let mut sink = database.sink().await;
    sink.commit(&epoch(1).created(1, 7, "x").build()).await.unwrap();
    // A restored backup, and another processor that has gone on from it.
    let client = database.server.client().await;
    client.batch_execute("UPDATE tidemark_ledger SET run_id = 'another'").await.unwrap();
    let error = sink.commit(&epoch(2).created(2, 7, "x").build()).await.unwrap_err();
    assert!(matches!(error, SinkError::Forgotten { .. }), "{error:?}");
    client.batch_execute("DELETE FROM tidemark_ledger").await.unwrap();
    let error = sink.commit(&epoch(2).created(2, 7, "x").build()).await.unwrap_err();
    assert!(matches!(error, SinkError::Forgotten { newest: None, .. }), "{error:?}");
}

#[tokio::test]
async fn tables_of_an_earlier_release_get_the_columns_that_they_lack() {
    let database = Database::start(Durability::Off).await;
    let client = database.server.client().await;
    client
        .batch_execute(
            "DROP TABLE tidemark_spools, tidemark_committed;
             CREATE TABLE tidemark_spools (
               pipeline text NOT NULL, queue text NOT NULL, generation integer NOT NULL,
               spool text NOT NULL, PRIMARY KEY (pipeline, queue, generation),
               UNIQUE (pipeline, queue, spool));
             CREATE TABLE tidemark_committed (
               pipeline text NOT NULL, queue text NOT NULL, spool text NOT NULL,
               offsets int8multirange NOT NULL, PRIMARY KEY (pipeline, queue, spool));
             INSERT INTO tidemark_spools VALUES
               ('conformance', 'changes', 0, '0000000000000009'),
               ('another', 'queue', 4, '0000000000000003');",
        )
        .await
        .unwrap();
    let mut sink = database.sink().await;
    let mut generations = sink.resume().await.unwrap().generations;
    assert_eq!(generations.all(), [Generation { number: 0, spool: 9, first: 0 }]);
    // A failover and a failback.
    generations.register(Offset::new(8, 100));
    generations.register(Offset::new(9, 500));
    let mut commit = epoch(1).build();
    commit.generations = generations;
    sink.commit(&commit).await.unwrap();
    let again = database.sink().await.resume().await.unwrap().generations;
    let expected = [(0, 9, 0), (5, 8, 100), (6, 9, 500)];
    assert_eq!(
        again.all(),
        expected.map(|(number, spool, first)| Generation { number, spool, first })
    );
}

#[tokio::test]
async fn the_ledger_stays_small_while_nothing_copies_it() {
    let database = Database::start(Durability::Off).await;
    let mut sink = database.sink().await;
    for number in 1..=20 {
        sink.commit(&with_gaps(number, 100)).await.unwrap();
    }
    let before = sink.resume().await.unwrap();
    let mut ledger = sink.ledger_reader();
    let rows = async || database.count("tidemark_ledger").await;
    let of_epochs = |epochs| LedgerLimit { epochs, bytes: u64::MAX };
    assert_eq!(ledger.bound(of_epochs(20)).await.unwrap(), 0);
    assert_eq!(ledger.bound(of_epochs(15)).await.unwrap(), 5);
    assert_eq!(rows().await, 15);
    let bytes = "SELECT max(pg_column_size(offsets)) FROM tidemark_ledger";
    let bytes = database.server.client().await.query_one(bytes, &[]).await.unwrap();
    let bytes = u64::from(bytes.get::<_, i32>(0).unsigned_abs());
    // One more than fits: rows differ by a few bytes.
    let bound = LedgerLimit { epochs: 1_000, bytes: 10 * bytes };
    assert!((4..=6).contains(&ledger.bound(bound).await.unwrap()));
    assert!((9..=11).contains(&rows().await));
    // The newest one says where to go on.
    ledger.bound(LedgerLimit { epochs: 0, bytes: 0 }).await.unwrap();
    assert_eq!(rows().await, 1);
    let after = sink.resume().await.unwrap();
    assert_eq!((before.epoch, before.offsets), (after.epoch, after.offsets));
}

#[tokio::test]
async fn the_ledger_tells_its_history_and_what_is_left_of_it_when_it_is_gone() {
    let database = Database::start(Durability::Off).await;
    let mut sink = database.sink().await;
    let mut ledger = sink.ledger_reader();
    let landing = [orders()];
    assert_eq!(ledger.history().await.unwrap(), LedgerHistory::default());
    assert_eq!(ledger.traces(&landing).await.unwrap(), None);
    for number in 1..=3 {
        sink.commit(&epoch(number).created(number, 7, "x").build()).await.unwrap();
    }
    let run = sink.run_id().to_owned();
    let history = ledger.history().await.unwrap();
    assert_eq!(history.newest, Some(Epoch(3)));
    assert_eq!(history.runs, (1..=3).map(|number| (Epoch(number), run.clone())).collect());

    let client = database.server.client().await;
    client.batch_execute("TRUNCATE tidemark_ledger").await.unwrap();
    let traces = ledger.traces(&landing).await.unwrap().unwrap();
    assert!(traces.found.contains("tidemark_spools"), "{traces:?}");
    client.batch_execute("TRUNCATE tidemark_spools").await.unwrap();
    let traces = ledger.traces(&landing).await.unwrap().unwrap();
    assert!(traces.found.starts_with("orders_history holds rows"), "{traces:?}");
    assert_eq!(traces.generation, Some(0));
    // A pipeline that was renamed, or another one, has begun before.
    client
        .batch_execute("INSERT INTO tidemark_spools VALUES ('other', 'q', 0, '0000000000000001')")
        .await
        .unwrap();
    assert_eq!(ledger.traces(&landing).await.unwrap(), None);
}

#[tokio::test]
async fn an_accepted_loss_is_noted_and_new_generations_begin_above_it() {
    let database = Database::start(Durability::Off).await;
    let mut sink = database.sink().await;
    let mut lost = LostEpochs::default();
    for number in 4..=6 {
        let commit = epoch(number).created(number, 7, "x").build();
        lost.add(&commit.entry(PIPELINE, "another run").recorded());
    }
    let mut commit = EpochCommit::empty(Epoch(7), "changes");
    commit.accepted_loss = Some(AcceptedLoss { lost, generation: Some(3) });
    sink.commit(&commit).await.unwrap();
    let history = sink.ledger_reader().history().await.unwrap();
    let range = AcceptedRange { first: Epoch(4), last: Epoch(6), epochs: 3 };
    assert_eq!((history.newest, history.accepted), (Some(Epoch(7)), vec![range]));
    let mut generations = sink.resume().await.unwrap().generations;
    generations.register(at(100));
    assert_eq!(generations.all()[0].number, 4);
    let sql = "SELECT messages, landed ->> 'orders', offsets -> 'changes' -> 0 ->> 0, opened_at = '2024-01-01Z' \
               FROM tidemark_lost_epochs";
    let row = database.server.client().await.query_one(sql, &[]).await.unwrap();
    let (messages, landed, first) =
        (row.get::<_, i64>(0), row.get::<_, &str>(1), row.get::<_, &str>(2));
    assert_eq!((messages, landed, first), (3, "3", at(4).to_string().as_str()));
    assert!(row.get::<_, bool>(3));
}
