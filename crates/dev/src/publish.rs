//! `tidemark publish`: a file's messages to a broker.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use chrono::Utc;
use serde::Deserialize;
use serde_json::Value;
use tidemark_base::on_signal;
use tidemark_solace::{Outgoing, Publisher};
use tokio_util::sync::CancellationToken;

use crate::broker_arguments::BrokerArguments;

/// `tidemark publish`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Messages, one a line: {"topic": "...", "payload": "..." or {...}, "properties": {"name": "text"}}. With --topic each line
    /// is a payload as it is, and an empty one a tombstone.
    file: PathBuf,
    /// The topic of all lines.
    #[arg(long)]
    topic: Option<String>,
    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    topic: String,
    /// Text as it is, other JSON as compact text; none is a tombstone.
    #[serde(default)]
    payload: Value,
    #[serde(default)]
    properties: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Message {
    topic: String,
    payload: Vec<u8>,
    properties: Vec<(String, String)>,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let shutdown = on_signal()?;
    let Arguments { file, topic, broker } = arguments;
    let broker = broker.target(&shutdown).await?;
    let publisher = Publisher::connect(&broker).await?;
    let sending = tokio::task::spawn_blocking(move || {
        let sent = send_all(&publisher, &file, topic.as_deref(), &shutdown);
        (publisher, sent)
    });
    let (publisher, sent) = sending.await.context("the task that publishes has ended early")?;
    let sent = sent?;
    publisher.wait_until_settled(sent).await;
    let settled = publisher.settled();
    writeln!(std::io::stdout(), "acknowledged {} of {sent} messages", settled.acknowledged)?;
    match settled.rejections.first() {
        Some((number, reason)) => {
            bail!(
                "{} messages were rejected; the first is of line {}: {reason}",
                settled.rejected,
                number + 1
            )
        }
        None => Ok(()),
    }
}

/// Sends line by line, so that the file may be larger than memory; how many were sent.
fn send_all(
    publisher: &Publisher,
    path: &Path,
    topic: Option<&str>,
    shutdown: &CancellationToken,
) -> anyhow::Result<u64> {
    let place = |number: u64| format!("{}:{}", path.display(), number + 1);
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let mut number = 0;
    for line in BufReader::new(file).split(b'\n') {
        let line = line.with_context(|| place(number))?;
        let Message { topic, payload, properties } =
            message(line, topic).with_context(|| place(number))?;
        let sent_at = Utc::now();
        let outgoing = Outgoing {
            topic: &topic,
            payload: &payload,
            properties: &properties,
            id: &format!("publish-{}-{number}", sent_at.timestamp_micros()),
            sent_at_ms: sent_at.timestamp_millis(),
        };
        publisher.send(number, &outgoing).with_context(|| place(number))?;
        number += 1;
        if shutdown.is_cancelled() {
            break;
        }
    }
    Ok(number)
}

fn message(mut line: Vec<u8>, topic: Option<&str>) -> anyhow::Result<Message> {
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    if let Some(topic) = topic {
        return Ok(Message { topic: topic.to_owned(), payload: line, properties: Vec::new() });
    }
    let Line { topic, payload, properties } = serde_json::from_slice(&line)
        .context("the line is no message such as {\"topic\": \"cdc/a\", \"payload\": \"{}\"}; with --topic lines are payloads")?;
    let payload = match payload {
        Value::Null => Vec::new(),
        Value::String(text) => text.into_bytes(),
        json => serde_json::to_vec(&json)?,
    };
    Ok(Message { topic, payload, properties: properties.into_iter().collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str, topic: Option<&str>) -> anyhow::Result<Message> {
        message(line.as_bytes().to_vec(), topic)
    }

    #[test]
    fn a_line_is_a_message_with_its_topic() {
        let read = read(
            r#"{"topic": "cdc/a", "payload": "{\"x\": 1e999}", "properties": {"op": "c"}}"#,
            None,
        );
        let expected = Message {
            topic: "cdc/a".to_owned(),
            payload: br#"{"x": 1e999}"#.to_vec(),
            properties: vec![("op".to_owned(), "c".to_owned())],
        };
        assert_eq!(read.unwrap(), expected);
    }

    #[test]
    fn with_a_topic_a_line_is_a_payload_as_it_is() {
        assert_eq!(read("{ \"a\": 1 }\r", Some("t")).unwrap().payload, b"{ \"a\": 1 }");
        assert_eq!(read("", Some("t")).unwrap().payload, b"");
    }

    #[test]
    fn what_is_no_message_is_refused_with_an_example() {
        let error = format!("{:#}", read(r#"{"op": "c"}"#, None).unwrap_err());
        assert!(error.contains("cdc/a") && error.contains("--topic"), "{error}");
    }
}
