//! The `WITH (...)` options of a table.

use std::time::Duration;

use datafusion::sql::sqlparser::ast::{CreateTable, CreateTableOptions, SqlOption};

use super::location::span_start;
use super::sql_file::{SqlError, SqlFile};
use crate::changelog::{Column, GroupBound, Landing, SourceTable, TableOptions};

const DEFAULT_TTL: Duration = Duration::from_secs(3600);
const DEFAULT_GROUP_LIMIT: usize = 100;

/// Reads the options of a table; unknown ones are refused.
pub(super) fn parse_options(
    file: &SqlFile,
    table: &str,
    create: &CreateTable,
    columns: &[Column],
) -> Result<(SourceTable, TableOptions), SqlError> {
    let mut source = None;
    let mut options = TableOptions {
        ttl: Some(DEFAULT_TTL),
        landing: Landing::History(format!("cdc_{table}")),
        ..TableOptions::default()
    };
    let (mut group_by, mut limit, mut keep) = (None, None, None);
    for (name, value, at) in pairs(file, create)? {
        let problem = |text: String| file.error(at, format!("option {name}: {text}"));
        let column = || {
            columns
                .iter()
                .position(|c| c.name == value)
                .ok_or_else(|| problem(format!("there is no column {value}")))
        };
        match name.as_str() {
            "source" => source = Some(source_table(&value).map_err(problem)?),
            "event_time" => {
                options.event_time = Some(timestamp(columns, column()?).map_err(problem)?)
            }
            "ttl" if value == "none" => options.ttl = None,
            "ttl" => {
                options.ttl =
                    Some(humantime::parse_duration(&value).map_err(|e| problem(e.to_string()))?)
            }
            "landing" => options.landing = landing(&value, options.landing).map_err(problem)?,
            "landing_table" => options.landing = Landing::History(value.clone()),
            "group_by" => group_by = Some(column()?),
            "group_limit" => limit = Some(count(&value).map_err(problem)?),
            "group_keep" => keep = Some(count(&value).map_err(problem)?),
            _ => {
                let known = "source, event_time, ttl, landing, landing_table, group_by, group_limit, group_keep";
                return Err(problem(format!("is not known; there are {known}")));
            }
        }
    }
    options.group = group_bound(group_by, limit, keep).map_err(|text| file.error(None, text))?;
    let source = source.ok_or_else(|| {
        file.error(None, "needs WITH (source = 'SCHEMA.TABLE'): where its events come from")
    })?;
    Ok((source, options))
}

type Pair = (String, String, Option<(u64, u64)>);

fn pairs(file: &SqlFile, create: &CreateTable) -> Result<Vec<Pair>, SqlError> {
    let given = match &create.table_options {
        CreateTableOptions::None => return Ok(Vec::new()),
        CreateTableOptions::With(given) => given,
        _ => return Err(file.error(None, "options are written WITH (name = 'value')")),
    };
    given
        .iter()
        .map(|option| match option {
            SqlOption::KeyValue { key, value } => {
                let text = value.to_string();
                Ok((
                    key.value.to_lowercase(),
                    text.trim_matches('\'').to_owned(),
                    span_start(key.span),
                ))
            }
            other => {
                Err(file.error(None, format!("option {other} is not of the form name = 'value'")))
            }
        })
        .collect()
}

fn source_table(value: &str) -> Result<SourceTable, String> {
    match value.split_once('.') {
        Some((schema, table)) if !schema.is_empty() && !table.is_empty() => {
            Ok(SourceTable { schema: schema.to_owned(), table: table.to_owned() })
        }
        _ => Err(format!("'{value}' is not SCHEMA.TABLE, as in SALES.ORDERS")),
    }
}

fn timestamp(columns: &[Column], at: usize) -> Result<usize, String> {
    let column = &columns[at];
    match column.data_type {
        arrow::datatypes::DataType::Timestamp(_, _) => Ok(at),
        _ => Err(format!("column {} is not a TIMESTAMP", column.name)),
    }
}

fn landing(value: &str, history: Landing) -> Result<Landing, String> {
    match value {
        "history" => Ok(history),
        "none" => Ok(Landing::None),
        _ => Err(format!("'{value}' is neither 'history' nor 'none'")),
    }
}

fn count(value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(0) | Err(_) => Err(format!("'{value}' is not a count above 0")),
        Ok(count) => Ok(count),
    }
}

fn group_bound(
    column: Option<usize>,
    limit: Option<usize>,
    keep: Option<usize>,
) -> Result<Option<GroupBound>, String> {
    let Some(column) = column else {
        return match limit.or(keep) {
            None => Ok(None),
            Some(_) => Err("group_limit and group_keep need group_by".into()),
        };
    };
    let limit = limit.unwrap_or(DEFAULT_GROUP_LIMIT);
    let keep = keep.unwrap_or(limit.div_ceil(2));
    if keep > limit {
        return Err(format!("group_keep {keep} is above group_limit {limit}"));
    }
    Ok(Some(GroupBound { column, limit, keep }))
}
