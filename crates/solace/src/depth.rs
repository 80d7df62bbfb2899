//! How many messages wait in the queue: lag as a number.

use metrics::gauge;
use tidemark_base::chain;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::config::SolaceConfig;
use super::semp::{self, QueueReport, SempError};
use crate::names;

/// Keeps the metrics of the queue up to date until `shutdown`, if the configuration says where to ask. What it
/// can't ask is a warning, once: the messages come all the same.
pub async fn watch_depth(config: &SolaceConfig, shutdown: &CancellationToken) {
    let Some(semp) = &config.semp else { return };
    let client = match semp::client() {
        Ok(client) => client,
        Err(error) => {
            warn!(
                error = chain(&error),
                "there is no client for the management interface, so the number of waiting messages is not known"
            );
            return;
        }
    };
    let mut ticks = interval(semp.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_told = true;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let asked = semp::ask(&client, semp.access(), &config.vpn, &config.queue);
        let told = tokio::select! {
            () = shutdown.cancelled() => return,
            told = asked => told,
        };
        report(&config.queue, told, &mut is_told);
    }
}

/// What is not known is not shown: a number of an hour ago would look like one of now.
fn report(queue: &str, told: Result<Option<QueueReport>, SempError>, is_told: &mut bool) {
    let was_told = std::mem::replace(is_told, matches!(told, Ok(Some(_))));
    gauge!(names::QUEUE_TOLD).set(if *is_told { 1.0 } else { 0.0 });
    let set = |name: &'static str, value: Option<u64>| {
        gauge!(name).set(value.map_or(f64::NAN, |value| value as f64));
    };
    let told = match told {
        Ok(Some(told)) => {
            if !was_told {
                info!(queue, "the broker reports the number of waiting messages again");
            }
            Some(told)
        }
        Ok(None) if was_told => {
            warn!(queue, "the broker's management interface has no such queue in this VPN");
            None
        }
        Err(error) if was_told => {
            warn!(
                queue,
                error = chain(&error),
                "the broker does not report the number of waiting messages"
            );
            None
        }
        Ok(None) | Err(_) => None,
    };
    let of = |field: fn(&QueueReport) -> Option<u64>| told.as_ref().and_then(field);
    set(names::QUEUE_MESSAGES, of(|told| told.messages));
    set(names::QUEUE_UNACKED, of(|told| told.queue.tx_unacked_msg_count));
    set(names::QUEUE_BYTES, of(|told| told.queue.msg_spool_usage));
}
