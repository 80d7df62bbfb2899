//! What becomes of each row: delivered in the order of its key, refused, or sent once.

use super::*;

#[tokio::test]
async fn faults_and_kills_lose_nothing_and_keep_the_order_of_each_key() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut stage = RestStage::new(&server, "rest".to_owned()).await;
    let faults = Faults {
        unavailable_percent: 20,
        too_many_percent: 5,
        drop_percent: 5,
        ..Faults::default()
    };
    stage.api.store.set_faults(Faults { retry_after: "0".to_owned(), ..faults });
    let mut sink = stage.sink(QUEUE).await;
    let mut running = deliver(stage.config(), &stage.api.url, "");
    for number in 1..=60 {
        let mut commit = epoch(number);
        for key in 0..20 {
            commit = commit.upserted(key, &number.to_string());
        }
        sink.commit(&commit.build()).await.unwrap();
        running.backlog.add(20);
        if number % 20 == 0 {
            running.kill().await;
            running = deliver(stage.config(), &stage.api.url, "");
        }
    }
    stage.until_delivered().await;
    running.end().await;
    let rows = keyed(&stage.api);
    assert_eq!(rows.len(), 1200, "each idempotency key once");
    for key in 0..20 {
        let of_key = rows.iter().filter(|row| row.0 == key).map(|row| row.1.clone());
        let expected: Vec<String> = (1..=60).map(|number| number.to_string()).collect();
        assert_eq!(of_key.collect::<Vec<_>>(), expected, "key {key}");
    }
    assert!(stage.api.store.stats().duplicates > 0, "answers were lost");
}

#[tokio::test]
async fn a_refused_row_is_a_dead_letter_with_the_answer_and_its_neighbours_go_on() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut stage = RestStage::new(&server, "rest".to_owned()).await;
    stage.api.store.set_faults(Faults { refuse_percent: 100, ..Faults::default() });
    let mut sink = stage.sink(QUEUE).await;
    let running = deliver(stage.config(), &stage.api.url, "");
    sink.commit(&epoch(1).upserted(1, "bad").build()).await.unwrap();
    stage.until_delivered().await;
    stage.api.store.set_faults(Faults::default());
    sink.commit(&epoch(2).upserted(1, "good").build()).await.unwrap();
    stage.until_delivered().await;
    running.end().await;
    assert_eq!(keyed(&stage.api), [(1, "good".to_owned())]);
    let sql = "SELECT original_topic, error_type, phase, error_message, convert_from(original_payload, 'UTF8'), \
        properties ->> 'operation' FROM rest.cdc_dlq";
    let rows = stage.tables.client.query(sql, &[]).await.unwrap();
    let shown: Vec<Vec<String>> =
        rows.iter().map(|row| (0..6).map(|at| row.get(at)).collect()).collect();
    let reason =
        "the API answers 400 Bad Request: {\"error\":\"the fault mode refuses this request\"}";
    let body = r#"{"order_id":1,"status":"bad"}"#;
    assert_eq!(shown, [[KEYED_PATH, "REST_REFUSED", "rest", reason, body, "created"]]);
}

#[tokio::test]
async fn what_is_sent_once_stays_sent() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut stage = RestStage::new(&server, "rest".to_owned()).await;
    let mut sink = Posting { inner: stage.tables.sink(QUEUE).await, sends: Sends::Once };
    let running = deliver(stage.config(), &stage.api.url, "");
    let commits = [
        epoch(1).upserted(1, "first"),
        epoch(2).removed(1),
        epoch(3).upserted(1, "again").upserted(2, "other"),
    ];
    for commit in commits {
        sink.commit(&commit.build()).await.unwrap();
        stage.until_delivered().await;
    }
    running.end().await;
    assert_eq!(keyed(&stage.api), [(1, "first".to_owned()), (2, "other".to_owned())]);
}

#[tokio::test]
async fn what_is_sent_once_is_forgotten_after_its_retention() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut stage = RestStage::new(&server, "rest".to_owned()).await;
    let mut sink = Posting { inner: stage.tables.sink(QUEUE).await, sends: Sends::Once };
    let running = deliver(stage.config(), &stage.api.url, "once_retention = '1ms'");
    sink.commit(&epoch(1).upserted(1, "first").build()).await.unwrap();
    while count(&stage.tables.client, "rest.tidemark_outbox").await > 0 {}
    assert_eq!(keyed(&stage.api), [(1, "first".to_owned())]);
    running.end().await;
    let running = deliver(stage.config(), &stage.api.url, "once_retention = '1h'");
    sink.commit(&epoch(2).upserted(2, "second").build()).await.unwrap();
    stage.until_delivered().await;
    running.end().await;
    assert_eq!(count(&stage.tables.client, "rest.tidemark_outbox").await, 1);
}

#[tokio::test]
async fn what_waits_is_found_by_an_index_of_its_own() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut stage = RestStage::new(&server, "rest".to_owned()).await;
    drop(stage.sink(QUEUE).await);
    let client = &stage.tables.client;
    let fill = "INSERT INTO rest.tidemark_outbox (pipeline, epoch, result, path, lane, operation, idempotency_key, body, \
        is_once, delivered_at) SELECT 'conformance', 1, '', '', '', '', i::text, '', true, now() FROM generate_series(1, 20000) i; \
        ANALYZE rest.tidemark_outbox";
    client.batch_execute(fill).await.unwrap();
    let sql = "EXPLAIN SELECT id FROM rest.tidemark_outbox \
        WHERE pipeline = 'conformance' AND id > 0 AND delivered_at IS NULL ORDER BY id LIMIT 1000";
    let plan = client.query(sql, &[]).await.unwrap();
    let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    let plan = plan.join("\n");
    assert!(plan.contains("tidemark_outbox_waiting"), "{plan}");
    // An installation of before gets it too, unless the role may not.
    client.batch_execute("DROP INDEX rest.tidemark_outbox_waiting").await.unwrap();
    drop(stage.sink(QUEUE).await);
    let has_index = "SELECT to_regclass('rest.tidemark_outbox_waiting') IS NOT NULL";
    assert!(stage.tables.client.query_one(has_index, &[]).await.unwrap().get::<_, bool>(0));
    let clerk = "CREATE ROLE clerk LOGIN; GRANT USAGE ON SCHEMA rest TO clerk; \
        GRANT ALL ON ALL TABLES IN SCHEMA rest TO clerk; DROP INDEX rest.tidemark_outbox_waiting";
    stage.tables.client.batch_execute(clerk).await.unwrap();
    stage.tables.config = PostgresConfig::from_url(server.url().replace("postgres@", "clerk@"));
    drop(stage.sink(QUEUE).await);
    assert!(!stage.tables.client.query_one(has_index, &[]).await.unwrap().get::<_, bool>(0));
}

#[tokio::test]
async fn only_one_process_delivers_at_a_time() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut stage = RestStage::new(&server, "rest".to_owned()).await;
    let _sink = stage.sink(QUEUE).await;
    let first = Outbox::new(stage.config(), PIPELINE);
    let turn = first.turn().await.unwrap();
    assert!(turn.is_some());
    let second = Outbox::new(stage.config(), PIPELINE);
    assert!(second.turn().await.unwrap().is_none());
    assert!(Outbox::new(stage.config(), "another").turn().await.unwrap().is_some());
    drop(turn);
    while second.turn().await.unwrap().is_none() {}
}
