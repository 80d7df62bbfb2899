//! Asks the broker's management interface about a queue.
//!
//! Source: Solace SEMP v2 monitor API, `/msgVpns/{vpn}/queues/{queue}`; the number of messages is in
//! `collections.msgs.count`, and counts those that consumers hold.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde::Deserialize;
use url::Url;

use tidemark_base::http_client::beginning;

const TIMEOUT: Duration = Duration::from_secs(10);
/// An answer has about 3 KB.
const LONGEST_ANSWER: usize = 1 << 20;

/// Where to ask, and as whom.
#[derive(Debug, Clone, Copy)]
pub struct SempAccess<'a> {
    pub url: &'a Url,
    pub username: &'a str,
    pub password: &'a str,
}

/// Settings and state of a queue; a broker that leaves a field out does not know it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Queue {
    pub access_type: Option<String>,
    pub max_delivered_unacked_msgs_per_flow: Option<u64>,
    pub max_redelivery_count: Option<u64>,
    pub redelivery_enabled: Option<bool>,
    pub dead_msg_queue: Option<String>,
    pub egress_enabled: Option<bool>,
    pub ingress_enabled: Option<bool>,
    /// MB.
    pub max_msg_spool_usage: Option<u64>,
    /// Bytes.
    pub msg_spool_usage: Option<u64>,
    pub tx_unacked_msg_count: Option<u64>,
    pub reject_msg_to_sender_on_discard_behavior: Option<String>,
    pub respect_ttl_enabled: Option<bool>,
    /// Seconds.
    pub max_ttl: Option<u64>,
}

/// What the broker says.
#[derive(Debug)]
pub struct QueueReport {
    pub queue: Queue,
    /// In the queue, those that consumers hold among them.
    pub messages: Option<u64>,
}

#[derive(Deserialize)]
struct Answer {
    data: Queue,
    #[serde(default)]
    collections: Collections,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Collections {
    msgs: Count,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Count {
    count: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
pub enum SempError {
    #[error("{url} is no address of HTTP")]
    NoHttp { url: Url },
    #[error("{url} can't be read")]
    Unread {
        url: Url,
        #[source]
        source: reqwest::Error,
    },
    #[error("{url} answers {status}")]
    Refused { url: Url, status: StatusCode },
    #[error("{url} answers with something else than a queue")]
    NoQueue {
        url: Url,
        #[source]
        source: serde_json::Error,
    },
}

/// A client for [`ask`], with a time limit.
///
/// # Errors
/// If the system's certificates can't be read.
pub fn client() -> Result<Client, reqwest::Error> {
    Client::builder().timeout(TIMEOUT).build()
}

/// Asks about a queue; `None` if the broker has none of that name.
///
/// # Errors
/// If the broker can't be reached, or does not want to say.
pub async fn ask(
    client: &Client,
    access: SempAccess<'_>,
    vpn: &str,
    queue: &str,
) -> Result<Option<QueueReport>, SempError> {
    let mut url = access.url.clone();
    let path = ["SEMP", "v2", "monitor", "msgVpns", vpn, "queues", queue];
    let extended = url.path_segments_mut().map(|mut segments| {
        segments.pop_if_empty().extend(path);
    });
    if extended.is_err() {
        return Err(SempError::NoHttp { url });
    }
    let request = client.get(url.clone()).basic_auth(access.username, Some(access.password));
    let unread = |source| SempError::Unread { url: url.clone(), source };
    let mut response = request.send().await.map_err(unread)?;
    let status = response.status();
    let body = beginning(&mut response, LONGEST_ANSWER).await.map_err(unread)?;
    if status.is_success() {
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|source| SempError::NoQueue { url: url.clone(), source })?;
        return Ok(Some(QueueReport {
            queue: answer.data,
            messages: answer.collections.msgs.count,
        }));
    }
    // What is not there is an error 400 of SEMP, which names it.
    if body.windows(9).any(|bytes| bytes == b"NOT_FOUND") {
        Ok(None)
    } else {
        Err(SempError::Refused { url, status })
    }
}
