//! Dead letters as text or as JSON lines.

use std::io::Write;
use std::time::SystemTime;

use crate::sink::postgres::{LetterCount, StoredLetter};

/// Characters of a message in a list.
const MESSAGE: usize = 100;

pub(super) fn print(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

pub(super) fn list(letters: &[StoredLetter], json: bool) -> String {
    if json {
        return letters.iter().map(|letter| format!("{}\n", letter.metadata())).collect();
    }
    if letters.is_empty() {
        return "no dead letters\n".to_owned();
    }
    let mut rows = vec![
        ["id", "last failure", "status", "type", "phase", "table", "message"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(letters.iter().map(|letter| {
        vec![
            letter.id.to_string(),
            time(letter.last_failure),
            letter.status.to_string(),
            letter.error_type.clone(),
            letter.phase.clone(),
            letter.table.clone().unwrap_or_else(|| letter.topic.clone()),
            clip(&letter.message),
        ]
    }));
    aligned(&rows)
}

pub(super) fn counts(counts: &[LetterCount], json: bool) -> anyhow::Result<String> {
    if json {
        let lines = counts.iter().map(|count| Ok(serde_json::to_string(count)? + "\n"));
        return lines.collect();
    }
    let mut rows = vec![
        ["count", "status", "type", "phase", "table", "oldest", "newest"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(counts.iter().map(|count| {
        vec![
            count.count.to_string(),
            count.status.to_string(),
            count.error_type.clone(),
            count.phase.clone(),
            count.table.clone().unwrap_or_default(),
            time(count.first_failure),
            time(count.last_failure),
        ]
    }));
    let total: i64 = counts.iter().map(|count| count.count).sum();
    Ok(format!("{}{total} in all\n", aligned(&rows)))
}

/// All of one letter.
pub(super) fn letter(letter: &StoredLetter, json: bool) -> String {
    if json {
        return format!("{}\n", letter.envelope());
    }
    let none = || "-".to_owned();
    let rows: Vec<Vec<String>> = [
        ("id", letter.id.to_string()),
        ("event", letter.event_id.clone().unwrap_or_else(none)),
        ("topic", letter.topic.clone()),
        ("status", letter.status.to_string()),
        ("type", letter.error_type.clone()),
        ("phase", letter.phase.clone()),
        ("table", letter.table.clone().unwrap_or_else(none)),
        ("column", letter.column.clone().unwrap_or_else(none)),
        ("first failure", time(letter.first_failure)),
        ("last failure", time(letter.last_failure)),
        ("replays", letter.retry_count.to_string()),
        ("settled", letter.settled_at.map_or_else(none, time)),
        ("published", letter.published_at.map_or_else(none, time)),
        ("consumer", letter.consumer_id.clone().unwrap_or_else(none)),
        ("properties", letter.properties.to_string()),
        ("message", letter.message.clone()),
    ]
    .map(|(name, value)| vec![name.to_owned(), value])
    .to_vec();
    let payload = match std::str::from_utf8(&letter.payload) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("no text; --json has it in base64: {}", letter.payload.escape_ascii()),
    };
    format!("{}\n{payload}\n", aligned(&rows))
}

fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

fn clip(text: &str) -> String {
    match text.chars().nth(MESSAGE) {
        None => text.to_owned(),
        Some(_) => text.chars().take(MESSAGE - 1).chain(['…']).collect(),
    }
}

/// Columns as wide as their widest cell, but the last one.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_long_messages_cut() {
        let rows = [vec!["id", "type"], vec!["1234", "X"]];
        let rows = rows.map(|row| row.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(aligned(&rows), "id    type\n1234  X\n");
        assert_eq!(clip(&"ä".repeat(101)).chars().count(), 100);
        assert_eq!(clip("short"), "short");
    }
}
