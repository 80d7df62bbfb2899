//! What the broker's management interface tells of the queue (SEMP v2, monitoring).
//!
//! Source: Solace SEMP v2 monitor API, `/msgVpns/{vpn}/queues/{queue}`.

use reqwest::Client;

use crate::diagnosis::Finding;
use crate::resilience::chain;
use crate::source::solace::semp::{self, Queue, QueueReport, SempAccess};
use crate::source::solace::{Access, SolaceConfig};

/// Of the quota; above it, it is about used up.
const FULL_PERCENT: u64 = 80;

pub(super) async fn examine(
    access: Option<SempAccess<'_>>,
    source: &SolaceConfig,
    batch: usize,
) -> Vec<Finding> {
    let Some(access) = access else {
        return vec![Finding::unknown(
            "access type, limit of unacknowledged messages, redelivery, dead message queue and quota: give --semp, or \
             [source.semp] in the configuration, with the broker's management address",
        )];
    };
    let client = match semp::client() {
        Ok(client) => client,
        Err(error) => return vec![Finding::unknown(format!("the queue: {}", chain(&error)))],
    };
    let told = match ask(&client, access, &source.vpn, &source.queue).await {
        Ok(Some(told)) => told,
        Ok(None) => return vec![Finding::unknown("limits of the queue: it is not there yet")],
        Err(finding) => return vec![finding],
    };
    let queue = told.queue;
    let has_dead_queue = match &queue.dead_msg_queue {
        Some(name) => {
            ask(&client, access, &source.vpn, name).await.is_ok_and(|dead| dead.is_some())
        }
        None => false,
    };
    let mut findings = vec![depth(told.messages)];
    findings.extend(judge(&queue, has_dead_queue, source, batch));
    findings
}

fn depth(messages: Option<u64>) -> Finding {
    match messages {
        Some(count) => Finding::ok(format!("{count} message(s) are in the queue")),
        None => Finding::unknown("number of messages in the queue"),
    }
}

async fn ask(
    client: &Client,
    access: SempAccess<'_>,
    vpn: &str,
    queue: &str,
) -> Result<Option<QueueReport>, Finding> {
    let fix = "let --semp, or url in [source.semp], be the broker's management address, as in http://broker:8080, \
               with the name and password of a user who may read";
    let told = semp::ask(client, access, vpn, queue).await;
    told.map_err(|error| Finding::problem(chain(&error), fix))
}

fn judge(queue: &Queue, has_dead_queue: bool, source: &SolaceConfig, batch: usize) -> Vec<Finding> {
    let spool = format!(
        "on the broker: message-spool message-vpn \"{}\"; queue \"{}\"",
        source.vpn, source.queue
    );
    let mut findings =
        vec![access_type(queue, source, &spool), unacked(queue, source, batch, &spool)];
    findings.push(redelivery(queue, has_dead_queue, &spool));
    findings.push(quota(queue, &spool));
    findings.extend(doors(queue, &spool));
    findings
}

fn access_type(queue: &Queue, source: &SolaceConfig, spool: &str) -> Finding {
    let wanted = match source.access {
        Access::Exclusive => "exclusive",
        Access::NonExclusive => "non-exclusive",
    };
    match queue.access_type.as_deref() {
        None => Finding::unknown("access type of the queue"),
        Some(is) if is == wanted => Finding::ok(format!("the queue is {is}")),
        Some(is) => Finding::problem(
            format!("the queue is {is}, and source.access is '{wanted}'"),
            format!(
                "{spool}; shutdown; access-type {wanted}; no shutdown. Or set access = '{is}' in [source]"
            ),
        ),
    }
}

fn unacked(queue: &Queue, source: &SolaceConfig, batch: usize, spool: &str) -> Finding {
    let Some(limit) = queue.max_delivered_unacked_msgs_per_flow else {
        return Finding::unknown("limit of unacknowledged messages per flow");
    };
    let wanted = u64::from(source.max_unacked);
    if limit >= wanted {
        return Finding::ok(format!("{limit} messages may be unacknowledged per flow"));
    }
    Finding::problem(
        format!(
            "the queue lets {limit} messages be unacknowledged per flow, and source.max_unacked is {wanted}: two batches \
             of {batch} would never fill"
        ),
        format!(
            "{spool}; max-delivered-unacked-msgs-per-flow {wanted}. Or set source.max_unacked = {limit} and \
             batch.max_messages = {}",
            (limit / 2).max(1)
        ),
    )
}

/// A processor that is started again many times has its messages redelivered each time.
fn redelivery(queue: &Queue, has_dead_queue: bool, spool: &str) -> Finding {
    let count = match (queue.redelivery_enabled, queue.max_redelivery_count) {
        (Some(false), _) => Some(0),
        (_, count) => count.filter(|count| *count > 0),
    };
    if queue.redelivery_enabled.is_none() && queue.max_redelivery_count.is_none() {
        return Finding::unknown("redelivery settings of the queue");
    }
    let Some(count) = count else {
        return Finding::ok("messages are redelivered until they are acknowledged");
    };
    let name = queue.dead_msg_queue.as_deref().unwrap_or_default();
    let becomes = if has_dead_queue {
        format!("goes to {name}")
    } else {
        "is thrown away, because there is no dead message queue".to_owned()
    };
    Finding::problem(
        format!(
            "a message that was redelivered {count} times {becomes}, also if nobody has looked at it"
        ),
        format!("{spool}; redelivery; max-redelivery 0 (for ever)"),
    )
}

fn quota(queue: &Queue, spool: &str) -> Finding {
    let (Some(quota), Some(used)) = (queue.max_msg_spool_usage, queue.msg_spool_usage) else {
        return Finding::unknown("quota of the queue");
    };
    // 0 is a queue that only lets direct messages through.
    let percent = (used / 10_000).checked_div(quota).unwrap_or(100);
    if percent < FULL_PERCENT {
        return Finding::ok(format!("{percent} % of the queue's quota of {quota} MB are used"));
    }
    Finding::problem(
        format!("{percent} % of the queue's quota of {quota} MB are used"),
        format!(
            "{spool}; max-spool-usage {}; and see why the processor is behind",
            (quota * 2).max(5000)
        ),
    )
}

/// What keeps messages out, or loses them on the way.
fn doors(queue: &Queue, spool: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (is_open, door) in [(queue.egress_enabled, "egress"), (queue.ingress_enabled, "ingress")] {
        if is_open == Some(false) {
            findings.push(Finding::problem(
                format!("{door} of the queue is shut down"),
                format!("{spool}; no shutdown {door}"),
            ));
        }
    }
    if queue.reject_msg_to_sender_on_discard_behavior.as_deref() == Some("never") {
        findings.push(Finding::problem(
            "a message that the queue can't take is thrown away, and its publisher hears that all is well",
            format!("{spool}; reject-msg-to-sender-on-discard including-when-shutdown"),
        ));
    }
    if queue.respect_ttl_enabled == Some(true) && queue.max_ttl.unwrap_or(0) > 0 {
        let seconds = queue.max_ttl.unwrap_or(0);
        findings.push(Finding::problem(
            format!("messages that wait longer than {seconds} s are thrown away"),
            format!("{spool}; no respect-ttl"),
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::get;
    use serde_json::{Value, json};

    use url::Url;

    use super::*;
    use crate::diagnosis::Verdict;

    fn source() -> SolaceConfig {
        let text = "username = 'u'\npassword = 'p'\nqueue = 'cdc'\nmax_unacked = 10000";
        toml::from_str(text).unwrap()
    }

    fn good() -> Value {
        json!({
            "accessType": "exclusive", "maxDeliveredUnackedMsgsPerFlow": 10_000,
            "maxRedeliveryCount": 0, "redeliveryEnabled": true, "deadMsgQueue": "#DEAD_MSG_QUEUE",
            "egressEnabled": true, "ingressEnabled": true, "maxMsgSpoolUsage": 5000,
            "msgSpoolUsage": 1_000_000, "rejectMsgToSenderOnDiscardBehavior": "when-queue-enabled",
            "respectTtlEnabled": false, "maxTtl": 0, "something": "else",
        })
    }

    /// The problems of a queue that differs from a good one, each with its fix.
    fn problems(changed: Value) -> Vec<(String, String)> {
        let mut queue = good();
        for (name, value) in changed.as_object().unwrap() {
            queue[name] = value.clone();
        }
        let queue: Queue = serde_json::from_value(queue).unwrap();
        let findings = judge(&queue, false, &source(), 5000);
        let problems = findings.into_iter().filter(|f| f.verdict == Verdict::Problem);
        problems.map(|f| (f.what, f.fix.unwrap())).collect()
    }

    #[test]
    fn each_bad_setting_is_one_problem_with_its_command() {
        assert_eq!(problems(json!({})), []);
        let cases = [
            (json!({"accessType": "non-exclusive"}), "access-type exclusive"),
            (
                json!({"maxDeliveredUnackedMsgsPerFlow": 100}),
                "max-delivered-unacked-msgs-per-flow 10000",
            ),
            (json!({"maxRedeliveryCount": 3}), "max-redelivery 0"),
            (json!({"redeliveryEnabled": false}), "max-redelivery 0"),
            (json!({"msgSpoolUsage": 4_500_000_000_u64}), "max-spool-usage 10000"),
            (json!({"egressEnabled": false}), "no shutdown egress"),
            (json!({"ingressEnabled": false}), "no shutdown ingress"),
            (
                json!({"rejectMsgToSenderOnDiscardBehavior": "never"}),
                "reject-msg-to-sender-on-discard",
            ),
            (json!({"respectTtlEnabled": true, "maxTtl": 60}), "no respect-ttl"),
        ];
        for (changed, command) in cases {
            let found = problems(changed.clone());
            assert_eq!(found.len(), 1, "{changed}: {found:?}");
            assert!(found[0].1.contains(command), "{changed}: {found:?}");
            assert!(found[0].1.contains("queue \"cdc\""), "{found:?}");
        }
        let lost = &problems(json!({"maxRedeliveryCount": 3}))[0].0;
        assert!(lost.contains("thrown away"), "{lost}");
    }

    #[test]
    fn what_a_broker_leaves_out_is_unknown() {
        let findings = judge(&Queue::default(), false, &source(), 5000);
        assert!(findings.iter().all(|f| f.verdict == Verdict::Unknown), "{findings:?}");
    }

    /// A broker's management interface with one queue.
    async fn served() -> Url {
        let queue = get(|headers: HeaderMap| async move {
            match headers.contains_key("authorization") {
                true => (
                    StatusCode::OK,
                    json!({"data": good(), "collections": {"msgs": {"count": 7}}}).to_string(),
                ),
                false => (StatusCode::UNAUTHORIZED, String::new()),
            }
        });
        let missing = (
            StatusCode::BAD_REQUEST,
            json!({"meta": {"error": {"status": "NOT_FOUND"}}}).to_string(),
        );
        let router = Router::new()
            .route("/SEMP/v2/monitor/msgVpns/default/queues/cdc", queue)
            .fallback(move || async move { missing });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url.parse().unwrap()
    }

    #[tokio::test]
    async fn the_queue_is_read_over_http() {
        let url = served().await;
        let access = || SempAccess { url: &url, username: "admin", password: "x" };
        let findings = examine(Some(access()), &source(), 5000).await;
        assert!(findings.iter().all(|f| f.verdict == Verdict::Ok), "{findings:?}");
        assert_eq!(findings[0].what, "7 message(s) are in the queue");
        let other = SolaceConfig { queue: "other".to_owned(), ..source() };
        let findings = examine(Some(access()), &other, 5000).await;
        assert!(findings[0].what.contains("not there yet"), "{findings:?}");
        let closed: Url = "http://127.0.0.1:1".parse().unwrap();
        let access = SempAccess { url: &closed, ..access() };
        let findings = examine(Some(access), &source(), 5000).await;
        assert!(findings[0].fix.as_ref().unwrap().contains("management address"), "{findings:?}");
        let findings = examine(None, &source(), 5000).await;
        assert_eq!(findings[0].verdict, Verdict::Unknown);
    }
}
