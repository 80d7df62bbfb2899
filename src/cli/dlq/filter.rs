//! Which dead letters a command is about.

use std::time::SystemTime;

use anyhow::Context;
use clap::Args;

use crate::model::LetterStatus;
use crate::sink::postgres::LetterFilter;

/// Which dead letters. Several values of one option: any of them; several options: all of them.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Filter {
    /// Numbers of letters.
    #[arg(long = "id", value_delimiter = ',')]
    ids: Vec<i64>,
    /// Error types, such as SCHEMA_MISMATCH.
    #[arg(long = "type", value_delimiter = ',', value_name = "TYPE")]
    error_types: Vec<String>,
    /// decode, schema, xml, late, sql, sink or rest.
    #[arg(long = "phase", value_delimiter = ',', value_name = "PHASE")]
    phases: Vec<String>,
    /// dead, requested, queued, replayed, superseded, or all. Default: the first three.
    #[arg(long = "status", value_delimiter = ',', value_name = "STATUS")]
    statuses: Vec<String>,
    /// The source table, as SALES.ORDERS or orders.
    #[arg(long)]
    table: Option<String>,
    /// The original topic; * stands for anything.
    #[arg(long)]
    topic: Option<String>,
    /// Last failed at or after this: a time, or how long ago, as in 2h.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Last failed before this.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Filter {
    pub(super) fn of_id(id: i64) -> Self {
        Self { ids: vec![id], ..Self::default() }
    }

    /// Whether it says nothing.
    pub(super) fn is_empty(&self) -> bool {
        let lists = [&self.error_types, &self.phases, &self.statuses];
        let options = [&self.table, &self.topic, &self.since, &self.until];
        self.ids.is_empty()
            && lists.iter().all(|list| list.is_empty())
            && options.iter().all(|option| option.is_none())
    }

    /// Letters that nothing has become of, unless the status is given.
    pub(super) fn open_ones(&self) -> anyhow::Result<LetterFilter> {
        let mut filter = self.any_status()?;
        if self.statuses.is_empty() {
            filter.statuses = LetterStatus::OPEN.to_vec();
        }
        Ok(filter)
    }

    /// Whatever became of the letters, unless the status is given.
    pub(super) fn any_status(&self) -> anyhow::Result<LetterFilter> {
        let is_all = self.statuses.iter().any(|status| status == "all");
        let known = |status: &&String| *status != "all";
        let statuses = self.statuses.iter().filter(known).map(|text| {
            LetterStatus::parse(text).with_context(|| {
                let known = LetterStatus::ALL.map(LetterStatus::as_str).join(", ");
                format!("there is no status {text}: it is one of {known}, or all")
            })
        });
        let statuses: Vec<LetterStatus> = statuses.collect::<anyhow::Result<_>>()?;
        let now = SystemTime::now();
        let time = |text: &Option<String>| text.as_deref().map(|text| time(text, now)).transpose();
        Ok(LetterFilter {
            ids: self.ids.clone(),
            error_types: self.error_types.iter().map(|kind| kind.to_uppercase()).collect(),
            phases: self.phases.iter().map(|phase| phase.to_lowercase()).collect(),
            statuses: if is_all { Vec::new() } else { statuses },
            table: self.table.clone(),
            topic: self.topic.clone(),
            since: time(&self.since)?,
            until: time(&self.until)?,
        })
    }
}

/// `2h` ago, `2026-01-31`, `2026-01-31 10:00:00` or `2026-01-31T10:00:00Z`; UTC.
fn time(text: &str, now: SystemTime) -> anyhow::Result<SystemTime> {
    let wrong = || {
        format!("{text} is no time: write 2026-01-31T10:00:00Z, 2026-01-31, or 2h for 2 hours ago")
    };
    if let Ok(ago) = humantime::parse_duration(text) {
        return now.checked_sub(ago).with_context(wrong);
    }
    let is_date = text.len() == "2026-01-31".len();
    let full = if is_date { format!("{text} 00:00:00") } else { text.to_owned() };
    humantime::parse_rfc3339_weak(&full).with_context(wrong)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_points_or_ages() {
        let now = humantime::parse_rfc3339("2026-01-31T12:00:00Z").unwrap();
        let noon = now - Duration::from_secs(2 * 3600);
        for text in ["2h", "2026-01-31 10:00:00", "2026-01-31T10:00:00Z"] {
            assert_eq!(time(text, now).unwrap(), noon, "{text}");
        }
        assert_eq!(time("2026-01-31", now).unwrap(), now - Duration::from_secs(12 * 3600));
        assert!(time("yesterday", now).unwrap_err().to_string().contains("yesterday is no time"));
    }

    #[test]
    fn without_a_status_letters_that_are_settled_are_left_out() {
        let filter = Filter { error_types: vec!["late_event".to_owned()], ..Filter::default() };
        assert_eq!(filter.open_ones().unwrap().statuses, LetterStatus::OPEN);
        assert!(filter.any_status().unwrap().statuses.is_empty());
        assert_eq!(filter.any_status().unwrap().error_types, ["LATE_EVENT"]);
        let all = Filter { statuses: vec!["all".to_owned()], ..Filter::default() };
        assert!(all.open_ones().unwrap().statuses.is_empty());
        let wrong = Filter { statuses: vec!["gone".to_owned()], ..Filter::default() };
        assert!(wrong.open_ones().unwrap_err().to_string().contains("no status gone"));
        assert!(Filter::default().is_empty() && !wrong.is_empty());
    }
}
