//! Watches a pipeline from outside, as a reader of Postgres sees it.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use tokio_postgres::{Client, NoTls};

/// The landing tables, whose rows carry the time of the change.
const LANDING: [&str; 5] =
    ["cdc_orders", "cdc_order_items", "cdc_customers", "cdc_products", "cdc_audit_log"];

/// The epochs after `$2`, with their numbers of messages. The time is that of the epoch's rows.
const EPOCHS: &str = "SELECT epoch, closed_at, dead_letters, \
     (SELECT coalesce(sum(upper(ids) - lower(ids)), 0)::bigint \
      FROM unnest(offsets) AS spool(ranges), unnest(ranges) AS ids) \
     FROM tidemark_ledger WHERE pipeline = $1 AND epoch > $2 ORDER BY epoch";

/// An epoch, and when a query first saw it.
struct SeenEpoch {
    /// What its rows have in `processed_at`.
    closed_at: SystemTime,
    at: SystemTime,
}

/// Polls the ledger and remembers when each epoch became visible.
pub struct Observer {
    client: Client,
    pipeline: String,
    last: i64,
    seen: Vec<SeenEpoch>,
    newest_change: Option<SystemTime>,
    pub messages: u64,
    pub dead_letters: u64,
}

impl Observer {
    /// Connects as a client of its own.
    ///
    /// # Errors
    /// If the server can't be reached.
    pub async fn connect(url: &str, pipeline: &str) -> anyhow::Result<Self> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        Ok(Self {
            client,
            pipeline: pipeline.to_owned(),
            last: -1,
            seen: Vec::new(),
            newest_change: None,
            messages: 0,
            dead_letters: 0,
        })
    }

    /// Whether the processor has made its tables.
    pub async fn has_ledger(&self) -> anyhow::Result<bool> {
        let row =
            self.client.query_one("SELECT to_regclass('tidemark_ledger') IS NOT NULL", &[]).await?;
        Ok(row.get(0))
    }

    /// Looks once; how many new messages are visible.
    pub async fn poll(&mut self) -> anyhow::Result<u64> {
        let rows = self.client.query(EPOCHS, &[&self.pipeline, &self.last]).await?;
        let at = SystemTime::now();
        let mut new = 0;
        for row in rows {
            new += u64::try_from(row.try_get::<_, i64>(3)?)?;
            self.dead_letters += u64::try_from(row.try_get::<_, i64>(2)?)?;
            self.last = row.try_get(0)?;
            self.seen.push(SeenEpoch { closed_at: row.try_get(1)?, at });
        }
        self.messages += new;
        Ok(new)
    }

    /// From the change in the source (the generator's clock) to the row being visible here, for
    /// every landed row of the epochs seen so far; sorted.
    pub async fn latencies(&self) -> anyhow::Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        for table in LANDING {
            let sql = format!("SELECT processed_at, source_ts FROM {table}");
            let seen: Vec<&SeenEpoch> = self.seen.iter().collect();
            for row in self.client.query(&sql, &[]).await? {
                latencies.extend(latency(&seen, row.get(0), row.get(1)));
            }
        }
        latencies.sort_unstable();
        Ok(latencies)
    }

    /// The same for the epochs that became visible within the last `period`.
    pub async fn recent_latencies(&mut self, period: Duration) -> anyhow::Result<Vec<Duration>> {
        let since = SystemTime::now() - period;
        let recent: Vec<&SeenEpoch> =
            self.seen.iter().rev().take_while(|seen| seen.at > since).collect();
        let mut latencies = Vec::new();
        for table in LANDING {
            if recent.is_empty() {
                break;
            }
            let sql = format!(
                "SELECT processed_at, source_ts FROM {table} WHERE processed_at > now() - interval '10 seconds'"
            );
            for row in self.client.query(&sql, &[]).await? {
                latencies.extend(latency(&recent, row.get(0), row.get(1)));
                self.newest_change = self.newest_change.max(row.get(1));
            }
        }
        latencies.sort_unstable();
        Ok(latencies)
    }

    /// How old the newest change is that [`Self::recent_latencies`] has seen.
    pub fn lag(&self) -> Option<Duration> {
        SystemTime::now().duration_since(self.newest_change?).ok()
    }

    /// Forgets the epochs seen so far, for a measurement that starts now.
    pub fn start_over(&mut self) {
        self.seen.clear();
    }

    /// Rows of a query as text, for the summary.
    pub async fn text_rows(&self, sql: &str) -> anyhow::Result<Vec<Vec<String>>> {
        let mut rows = Vec::new();
        for message in self.client.simple_query(sql).await.with_context(|| sql.to_owned())? {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                rows.push((0..row.len()).map(|at| row.get(at).unwrap_or("").to_owned()).collect());
            }
        }
        Ok(rows)
    }
}

/// `None` for a row without a time, or of an epoch that is not among those.
fn latency(
    seen: &[&SeenEpoch],
    processed_at: SystemTime,
    changed: Option<SystemTime>,
) -> Option<Duration> {
    let seen = seen.iter().find(|seen| seen.closed_at == processed_at)?;
    Some(seen.at.duration_since(changed?).unwrap_or_default())
}

/// The value below which `share` of the sorted values are.
pub fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}
