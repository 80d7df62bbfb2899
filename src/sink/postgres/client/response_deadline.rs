//! How long the server may say nothing.
//!
//! TCP notices a peer that is gone, and the server gives up statements that take too long. Neither helps
//! against a server that is frozen, or a proxy in between that takes bytes and forwards none. A read of a large
//! table may take the server longer than any silence is allowed to last: then another connection asks what its
//! process is doing.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::sink::SinkError;
use crate::sink::postgres::config::PostgresConfig;

/// Shared by a sink and its connections, which tell of the answers that come.
#[derive(Debug, Clone)]
pub(crate) struct ResponseDeadline(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// For one answer; `None` waits for ever.
    limit: Option<Duration>,
    /// `None`: the answer may take as long as it takes.
    since: Mutex<Option<Instant>>,
    /// The server process of work that may take long.
    process: Mutex<Option<i32>>,
}

impl ResponseDeadline {
    /// A statement may take `statement_timeout`, and its answer as long as a connection.
    pub(crate) fn new(config: &PostgresConfig) -> Self {
        let is_limited = !config.statement_timeout.is_zero();
        let limit = is_limited.then(|| config.statement_timeout + config.connect_timeout);
        Self(Arc::new(Shared { limit, since: Mutex::new(None), process: Mutex::new(None) }))
    }

    /// An answer has come.
    pub(crate) fn record_activity(&self) {
        self.set(Some(Instant::now()));
    }

    /// The same when `answer` is there.
    pub(crate) async fn record_after<T>(&self, answer: impl Future<Output = T>) -> T {
        let answer = answer.await;
        self.record_activity();
        answer
    }

    /// The next answer may take as long as it takes.
    pub(crate) fn suspend(&self) {
        self.set(None);
    }

    /// This server process may work for long before it answers.
    pub(crate) fn watch_backend(&self, process: i32) {
        *self.0.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
        self.record_activity();
    }

    /// The process of [`Self::watch_backend`].
    pub(crate) fn process(&self) -> Option<i32> {
        *self.0.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, since: Option<Instant>) {
        *self.0.since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn since(&self) -> Option<Instant> {
        *self.0.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives `work` up when no answer comes for too long. What it had sent is then in doubt.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`].
    pub(crate) async fn enforce<T>(
        &self,
        doing: &str,
        work: impl Future<Output = Result<T, SinkError>>,
    ) -> Result<T, SinkError> {
        // Boxed: each layer of futures would hold it once more.
        self.enforce_unless(|| std::future::ready(false), doing, Box::pin(work)).await
    }

    /// The same, but as long as `is_working`, which is asked after each silence, `work` goes on.
    pub(crate) async fn enforce_unless<T, W: Future<Output = bool>>(
        &self,
        is_working: impl Fn() -> W,
        doing: &str,
        work: impl Future<Output = Result<T, SinkError>>,
    ) -> Result<T, SinkError> {
        let Some(limit) = self.0.limit else { return work.await };
        *self.0.process.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.record_activity();
        let mut work = pin!(work);
        loop {
            let ends = self.since().unwrap_or_else(Instant::now) + limit;
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = sleep_until(ends) => {}
            }
            if self.since().is_none_or(|since| since.elapsed() < limit) {
                continue;
            }
            let is_working = tokio::select! {
                biased;
                done = &mut work => return done,
                is_working = is_working() => is_working,
            };
            if is_working {
                self.record_activity();
            }
            // An answer may have come meanwhile.
            if self.since().is_some_and(|since| since.elapsed() >= limit) {
                return Err(SinkError::Unavailable {
                    doing: doing.to_owned(),
                    source: format!("no answer for {}", humantime::format_duration(limit)).into(),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_millis(200);

    fn deadline(statement_timeout: Duration) -> ResponseDeadline {
        let config = PostgresConfig::from_url("postgres://me@db/ods");
        ResponseDeadline::new(&PostgresConfig {
            statement_timeout,
            connect_timeout: TIME,
            ..config
        })
    }

    #[tokio::test]
    async fn only_a_silence_is_limited_and_not_the_work() {
        let deadline = deadline(4 * TIME);
        let talkative = deadline.enforce("x", async {
            for _ in 0..7 {
                // sleep: an answer that takes this long
                deadline.record_after(tokio::time::sleep(TIME)).await;
            }
            deadline.suspend();
            // sleep: longer than the limit of a silence
            tokio::time::sleep(6 * TIME).await;
            Ok(())
        });
        talkative.await.unwrap();
        let started = Instant::now();
        let silent = deadline.enforce("writing", std::future::pending::<Result<(), SinkError>>());
        let error = silent.await.unwrap_err();
        assert!(started.elapsed() >= 5 * TIME);
        assert!(crate::resilience::chain(&error).contains("no answer for 1s"), "{error:?}");
    }

    #[tokio::test]
    async fn a_server_that_works_may_be_silent_until_it_does_not() {
        let deadline = deadline(TIME);
        let asked = std::cell::Cell::new(0);
        let is_working = || {
            asked.set(asked.get() + 1);
            std::future::ready(asked.get() < 3)
        };
        let silent = std::future::pending::<Result<(), SinkError>>();
        let error = deadline.enforce_unless(is_working, "reading", silent).await.unwrap_err();
        assert_eq!(asked.get(), 3);
        assert!(crate::resilience::chain(&error).contains("no answer for 400ms"), "{error:?}");
    }

    #[tokio::test]
    async fn without_a_time_limit_of_statements_there_is_none() {
        let work = async {
            // sleep: longer than a connection may take
            tokio::time::sleep(2 * TIME).await;
            Ok(())
        };
        deadline(Duration::ZERO).enforce("x", work).await.unwrap();
    }
}
