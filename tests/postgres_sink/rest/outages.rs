//! An API that fails, is away or is hard to reach.

use super::*;

/// An API that fails over every row with this status; over all rows as long as `is_down`.
async fn failing_over(
    status: &'static str,
    is_down: Arc<std::sync::atomic::AtomicBool>,
) -> (String, Arc<std::sync::Mutex<Vec<String>>>) {
    let taken: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let (heard, down) = (Arc::clone(&taken), is_down);
    let post = axum::routing::post(move |body: String| {
        let (heard, down) = (Arc::clone(&heard), Arc::clone(&down));
        async move {
            if down.load(std::sync::atomic::Ordering::SeqCst) || body.contains(status) {
                return (axum::http::StatusCode::INTERNAL_SERVER_ERROR, format!("echo: {body}"));
            }
            heard.lock().unwrap().push(body);
            (axum::http::StatusCode::CREATED, String::new())
        }
    });
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback_service(post);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, taken)
}

#[tokio::test]
async fn a_row_that_the_api_fails_over_is_a_dead_letter_and_an_outage_makes_none() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut stage = RestStage::new(&server, "failing".to_owned()).await;
    let mut sink = stage.sink(QUEUE).await;
    let is_down = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (url, taken) = failing_over("poison", Arc::clone(&is_down)).await;
    let commit = epoch(1).upserted(1, "poison").upserted(2, "fine").upserted(3, "fine");
    sink.commit(&commit.build()).await.unwrap();
    let running = deliver(stage.config(), &url, "");
    // Every row fails, many times over: the API is to blame.
    while !running
        .health
        .readiness()
        .conditions
        .get(&Condition::Rest)
        .is_some_and(|r| r.contains("breaker open"))
    {
        tokio::task::yield_now().await;
    }
    assert_eq!(count(&stage.tables.client, "failing.cdc_dlq").await, 0);
    assert_eq!(stage.waiting().await, 3);
    let shown = running.health.readiness().conditions[&Condition::Rest].clone();
    assert!(shown.contains("500") && !shown.contains("poison"), "{shown}");

    is_down.store(false, std::sync::atomic::Ordering::SeqCst);
    // Others come while the bad row is tried.
    let mut number = 1;
    while count(&stage.tables.client, "failing.cdc_dlq").await == 0 {
        number += 1;
        sink.commit(&epoch(number).upserted(number as i64 + 100, "fine").build()).await.unwrap();
    }
    stage.until_delivered().await;
    running.end().await;
    let sql = "SELECT error_type, error_message, convert_from(original_payload, 'UTF8') FROM failing.cdc_dlq";
    let letters = stage.tables.client.query(sql, &[]).await.unwrap();
    assert_eq!(letters.len(), 1);
    let text = |at: usize| letters[0].get::<_, String>(at);
    assert_eq!(text(0), "REST_REFUSED");
    assert!(text(1).contains("500") && text(1).contains("echo: "), "{}", text(1));
    assert!(text(2).contains("poison"), "{}", text(2));
    assert_eq!(taken.lock().unwrap().len() as u64, 2 + number - 1);
}

#[tokio::test]
async fn faults_of_the_way_to_the_api_lose_nothing_and_keep_the_order_of_each_key() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut stage = RestStage::new(&server, "rest".to_owned()).await;
    let mut sink = stage.sink(QUEUE).await;
    let api_port = stage.api.url.rsplit(':').next().unwrap().parse().unwrap();
    let (to_api, to_postgres) =
        (FaultProxy::start(api_port).await, FaultProxy::start(server.port()).await);
    let time = std::time::Duration::from_millis(500);
    let config = PostgresConfig {
        url: Some(Secret::new(server.url_through(to_postgres.port))),
        statement_timeout: time,
        connect_timeout: time,
        ..stage.config()
    };
    let url = format!("http://127.0.0.1:{}", to_api.port);
    let running = deliver(config, &url, "timeout = '300ms'");
    let steps = [
        (&to_api, "a request", Step::Packet("POST /api/v1/events")),
        (&to_postgres, "reading the outbox", Step::Statement(&["ORDER BY id LIMIT"])),
        (&to_postgres, "settling rows", Step::Statement(&["WITH refused AS"])),
    ];
    let delay = Fault::Delay(std::time::Duration::from_millis(20));
    let faults = [Fault::Cut, Fault::CutAfter, Fault::Reset, Fault::BlackHole, delay];
    let mut number = 0;
    for (proxy, name, step) in steps {
        for fault in faults {
            number += 1;
            let fired = proxy.fired();
            proxy.arm(step.clone(), fault);
            let commit = (0..5).fold(epoch(number), |e, key| e.upserted(key, &number.to_string()));
            sink.commit(&commit.build()).await.unwrap();
            running.backlog.add(5);
            stage.until_delivered().await;
            // One that is cut after its answer may have been delivered before the proxy says so.
            let told = std::time::Instant::now();
            while proxy.fired() == fired {
                assert!(told.elapsed().as_secs() < 60, "{fault:?} at {name}: nothing like it came");
                tokio::task::yield_now().await;
            }
            assert_eq!(keyed(&stage.api).len() as u64, number * 5, "{fault:?} at {name}");
        }
    }
    running.end().await;
    let rows = keyed(&stage.api);
    for key in 0..5 {
        let of_key = rows.iter().filter(|row| row.0 == key).map(|row| row.1.clone());
        let expected: Vec<String> = (1..=number).map(|number| number.to_string()).collect();
        assert_eq!(of_key.collect::<Vec<_>>(), expected, "key {key}");
    }
    assert!(stage.api.store.stats().duplicates > 0, "answers were lost");
    assert_eq!(count(&stage.tables.client, "rest.cdc_dlq").await, 0);
}

#[tokio::test]
async fn an_api_that_is_down_opens_the_breaker_and_its_return_closes_it() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut stage = RestStage::new(&server, "rest".to_owned()).await;
    stage.api.store.set_faults(Faults { unavailable_percent: 100, ..Faults::default() });
    let mut sink = stage.sink(QUEUE).await;
    let running = deliver(stage.config(), &stage.api.url, "outbox_limit = 10");
    let mut commit = epoch(1);
    for key in 0..10 {
        commit = commit.upserted(key, "x");
    }
    sink.commit(&commit.build()).await.unwrap();
    running.backlog.add(10);
    let shown = || running.health.readiness().conditions.get(&Condition::Rest).cloned();
    while !shown().is_some_and(|reason| reason.contains("breaker open")) {
        tokio::task::yield_now().await;
    }
    assert!(shown().unwrap().contains("503"), "{:?}", shown());
    assert!(running.health.readiness().ready, "processing goes on");
    assert!(running.backlog.is_full());
    stage.api.store.set_faults(Faults::default());
    running.backlog.room().await;
    stage.until_delivered().await;
    while shown().is_some() {
        tokio::task::yield_now().await;
    }
    running.end().await;
    assert_eq!(keyed(&stage.api).len(), 10);
    assert_eq!(count(&stage.tables.client, "rest.cdc_dlq").await, 0, "no good row is diverted");
}
