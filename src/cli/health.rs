//! `tidemark health`: one question to the status page.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// `tidemark health`: 0 if `/ready` answers 200.
pub(super) async fn run(address: &str) -> anyhow::Result<()> {
    let answer = tokio::time::timeout(Duration::from_secs(5), ready(address));
    let answer = answer.await.with_context(|| format!("{address} does not answer"))??;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if !head.lines().next().is_some_and(|line| line.contains(" 200 ")) {
        bail!("not ready: {}", body.trim());
    }
    writeln!(std::io::stdout(), "{}", body.trim())?;
    Ok(())
}

async fn ready(address: &str) -> anyhow::Result<String> {
    let stream = TcpStream::connect(address).await;
    let mut stream = stream.with_context(|| format!("nothing listens on {address}"))?;
    let request = format!("GET /ready HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    // A status page is small; more than this is not ours.
    stream.take(64 * 1024).read_to_string(&mut answer).await?;
    Ok(answer)
}
