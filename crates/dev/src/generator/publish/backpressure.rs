//! Back-pressure of the processor: the generator pauses while the processor cannot follow.

use std::time::Duration;

use reqwest::Client;
use tidemark_base::chain;
use tidemark_base::http_client::beginning;
use tidemark_solace::names;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use url::Url;

/// How often to look, and how long a look may take.
const PACE: Duration = Duration::from_secs(1);
/// The page of metrics has some 50 KB.
const LONGEST_PAGE: usize = 4 << 20;
/// From this back-pressure on nothing is published: see `source::Pressure`.
const PAUSES_FROM: f64 = 2.0;

/// Looks at a processor's metrics, and pauses while it can't follow.
#[derive(Debug)]
pub(super) struct Backpressure {
    metrics: Url,
    client: Client,
    looked_at: Option<Instant>,
    /// All pauses so far.
    pub(super) paused: Duration,
    can_look: bool,
}

impl Backpressure {
    pub(super) fn new(metrics: Url) -> Self {
        let client = Client::builder().timeout(PACE).no_proxy().build().unwrap_or_default();
        Self { metrics, client, looked_at: None, paused: Duration::ZERO, can_look: true }
    }

    /// Returns when the processor follows, or can't be asked: then it takes nothing either way, and the queue
    /// is for that.
    pub(super) async fn pause(&mut self, cancel: &CancellationToken) {
        if self.looked_at.is_some_and(|looked| looked.elapsed() < PACE) {
            return;
        }
        let began = Instant::now();
        let mut has_paused = false;
        while self.is_pressed().await && !cancel.is_cancelled() {
            if !has_paused {
                info!("the processor does not follow: nothing is published until it does");
            }
            has_paused = true;
            tokio::select! {
                () = cancel.cancelled() => {}
                () = sleep(PACE) => {}
            }
        }
        self.looked_at = Some(Instant::now());
        if has_paused {
            self.paused += began.elapsed();
            info!(seconds = began.elapsed().as_secs_f64(), "publishing goes on");
        }
    }

    async fn is_pressed(&mut self) -> bool {
        let could_look = self.can_look;
        let page = self.page().await;
        self.can_look = page.is_ok();
        match page {
            Ok(page) => pressure(&page).is_some_and(|pressure| pressure >= PAUSES_FROM),
            Err(error) => {
                if could_look {
                    warn!(error = chain(&error), "the processor's metrics can't be read");
                }
                false
            }
        }
    }

    async fn page(&self) -> Result<String, reqwest::Error> {
        let response = self.client.get(self.metrics.clone()).send().await?;
        let mut response = response.error_for_status()?;
        let page = beginning(&mut response, LONGEST_PAGE).await?;
        Ok(String::from_utf8_lossy(&page).into_owned())
    }
}

fn pressure(page: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(names::PRESSURE))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A page of metrics that shows `pressure`, and how often it was read.
    async fn processor(pressures: &'static [u32]) -> (Url, Arc<AtomicU32>) {
        let reads = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&reads);
        let page = move || {
            let read = counted.fetch_add(1, Ordering::Relaxed) as usize;
            let pressure = pressures[read.min(pressures.len() - 1)];
            async move { format!("# HELP {0} fill\n{0} {pressure}\n", names::PRESSURE) }
        };
        let router = axum::Router::new().route("/metrics", axum::routing::get(page));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/metrics", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (url.parse().unwrap(), reads)
    }

    #[tokio::test]
    async fn it_waits_until_the_processor_follows() {
        let (url, reads) = processor(&[3, 2, 1]).await;
        let mut backpressure = Backpressure::new(url);
        backpressure.pause(&CancellationToken::new()).await;
        assert_eq!(reads.load(Ordering::Relaxed), 3);
        assert!(backpressure.paused >= 2 * PACE);
        // The next look is for later.
        backpressure.pause(&CancellationToken::new()).await;
        assert_eq!(reads.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn cancelled_or_without_a_processor_it_does_not_wait() {
        let (url, _) = processor(&[3]).await;
        let cancelled = CancellationToken::new();
        cancelled.cancel();
        Backpressure::new(url).pause(&cancelled).await;
        let mut alone = Backpressure::new("http://127.0.0.1:1/metrics".parse().unwrap());
        alone.pause(&CancellationToken::new()).await;
        assert_eq!(alone.paused, Duration::ZERO);
    }
}
