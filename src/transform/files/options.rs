//! The `WITH (...)` options of a table.

use std::time::Duration;

use arrow::datatypes::DataType;
use bytesize::ByteSize;
use datafusion::sql::sqlparser::ast::{CreateTable, CreateTableOptions, SqlOption};

use super::location::span_start;
use super::sql_file::{SqlError, SqlFile};
use crate::model::{
    Column, GroupBound, Landing, Late, NewColumns, SourceTable, TableOptions, Truncate, WrittenAs,
};

/// A row that ttl drops must be landed, and stay long enough for events that come somewhat late: a
/// commit takes seconds, and a source that has a hiccup a little longer.
const SHORTEST_TTL: Duration = Duration::from_secs(60);
/// A change that leaves must be of no use to snapshots, letters that come back and messages that the broker brings again.
const SHORTEST_HISTORY: Duration = Duration::from_secs(3600);
const DEFAULT_GROUP_LIMIT: usize = 100;

/// Reads the options of a table; unknown ones are refused.
pub(crate) fn parse_options(
    file: &SqlFile,
    table: &str,
    create: &CreateTable,
    columns: &[Column],
) -> Result<(SourceTable, TableOptions), SqlError> {
    let mut source = None;
    let mut options = TableOptions::default();
    let (mut landing_table, mut lands) = (None, LANDINGS[0].1);
    let (mut group_by, mut limit, mut keep) = (None, None, None);
    let (mut of_event_time, mut of_history) = (None, None);
    for (name, value, at) in pairs(file, create)? {
        let problem = |text: String| file.error(at, format!("option {name}: {text}"));
        let column = || {
            columns
                .iter()
                .position(|c| c.name == value)
                .ok_or_else(|| problem(format!("there is no column {value}")))
        };
        if matches!(name.as_str(), "future" | "late") {
            of_event_time = Some((name.clone(), at));
        }
        if name == "history" {
            of_history = Some(at);
        }
        match name.as_str() {
            "source" => source = Some(source_table(&value).map_err(problem)?),
            "event_time" => {
                options.event_time = Some(timestamp(columns, column()?).map_err(problem)?)
            }
            "future" => options.future = duration(&value).map_err(problem)?,
            "late" => options.late = late(&value).map_err(problem)?,
            "ttl" if value == "none" => options.ttl = None,
            "ttl" => options.ttl = Some(ttl(&value).map_err(problem)?),
            "landing" => lands = landing(&value).map_err(problem)?,
            "landing_table" => landing_table = Some((value.clone(), at)),
            "history" => options.history = Some(history(&value).map_err(problem)?),
            "encodings" => options.encodings = encodings(columns, &value).map_err(problem)?,
            "truncate" => options.truncate = truncate(&value).map_err(problem)?,
            "new_columns" => options.new_columns = new_columns(&value).map_err(problem)?,
            "group_by" => group_by = Some(column()?),
            "group_limit" => limit = Some(count(&value).map_err(problem)?),
            "memory_limit" => options.memory_limit = Some(bytes(&value).map_err(problem)?),
            "group_keep" => keep = Some(count(&value).map_err(problem)?),
            _ => {
                let known = "source, event_time, future, late, ttl, landing, landing_table, history, truncate, encodings, new_columns, \
                             group_by, group_limit, group_keep, memory_limit";
                return Err(problem(format!("is not known; there are {known}")));
            }
        }
    }
    if let Some((name, at)) = of_event_time.filter(|_| options.event_time.is_none()) {
        return Err(file.error(at, format!("option {name} needs option event_time")));
    }
    let (name, of_name) = landing_table.unzip();
    options.landing = lands(name.unwrap_or_else(|| format!("cdc_{table}")));
    check_landing(&options.landing, of_name, of_history)
        .map_err(|(at, problem)| file.error(at, problem))?;
    options.group = group_bound(group_by, limit, keep).map_err(|text| file.error(None, text))?;
    let source = source.ok_or_else(|| {
        file.error(None, "needs WITH (source = 'SCHEMA.TABLE'): where its events come from")
    })?;
    Ok((source, options))
}

/// Line and column.
type Place = Option<(u64, u64)>;
type Pair = (String, String, Place);

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

fn duration(value: &str) -> Result<Duration, String> {
    humantime::parse_duration(value).map_err(|error| error.to_string())
}

fn bytes(value: &str) -> Result<ByteSize, String> {
    let example = |_| format!("'{value}' is not a size, as in '512MiB'");
    value.parse().map_err(example)
}

fn late(value: &str) -> Result<Late, String> {
    match value {
        "update" => Ok(Late::Update),
        "dlq" => Ok(Late::Dlq),
        "drop" => Ok(Late::Drop),
        _ => Err(format!("'{value}' is none of 'update', 'dlq' and 'drop'")),
    }
}

/// As in `amount base64, created_at ms`.
fn encodings(columns: &[Column], value: &str) -> Result<Vec<(usize, WrittenAs)>, String> {
    value.split(',').map(|one| encoding(columns, one.trim())).collect()
}

fn encoding(columns: &[Column], one: &str) -> Result<(usize, WrittenAs), String> {
    let (name, form) = one.split_once(' ').ok_or_else(|| {
        format!("'{one}' is not a column and its form, as in 'amount base64, created_at ms'")
    })?;
    let at = columns
        .iter()
        .position(|column| column.name == name)
        .ok_or_else(|| format!("there is no column {name}"))?;
    let forms: &[(&str, WrittenAs)] = match columns[at].data_type {
        DataType::Decimal128(_, _) | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            &[("text", WrittenAs::Text), ("base64", WrittenAs::Base64)]
        }
        DataType::Timestamp(_, _) | DataType::Date32 => &[
            ("days", WrittenAs::Days),
            ("ms", WrittenAs::Millis),
            ("us", WrittenAs::Micros),
            ("ns", WrittenAs::Nanos),
        ],
        DataType::Binary => &[
            ("base64", WrittenAs::Base64),
            ("base64url", WrittenAs::Base64Url),
            ("hex", WrittenAs::Hex),
        ],
        _ => &[],
    };
    let found = forms.iter().find(|(known, _)| *known == form.trim());
    found.map(|(_, written)| (at, *written)).ok_or_else(|| {
        let known: Vec<&str> = forms.iter().map(|(known, _)| *known).collect();
        format!(
            "column {name} is not written as '{}'; its type may be: {}",
            form.trim(),
            known.join(", ")
        )
    })
}

fn truncate(value: &str) -> Result<Truncate, String> {
    match value {
        "apply" => Ok(Truncate::Apply),
        "dlq" => Ok(Truncate::Dlq),
        _ => Err(format!("'{value}' is neither 'apply' nor 'dlq'")),
    }
}

fn new_columns(value: &str) -> Result<NewColumns, String> {
    match value {
        "jsonb" => Ok(NewColumns::Jsonb),
        "alter" => Ok(NewColumns::Alter),
        "strict" => Ok(NewColumns::Strict),
        _ => Err(format!("'{value}' is none of 'jsonb', 'alter' and 'strict'")),
    }
}

fn ttl(value: &str) -> Result<Duration, String> {
    let ttl = duration(value)?;
    if ttl < SHORTEST_TTL {
        return Err(format!(
            "'{value}' is below 1m: rows would be dropped that ordinary changes still need"
        ));
    }
    Ok(ttl)
}

fn history(value: &str) -> Result<Duration, String> {
    let history = duration(value)?;
    if history < SHORTEST_HISTORY {
        return Err(format!(
            "'{value}' is below 1h: changes would leave that late snapshots and letters still need"
        ));
    }
    Ok(history)
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

/// Where changes go, by the target table's name.
type Lands = fn(String) -> Landing;

/// The same by what it is called; the first is the default.
const LANDINGS: [(&str, Lands); 3] =
    [("history", Landing::History), ("current", Landing::Current), ("none", |_| Landing::None)];

fn landing(value: &str) -> Result<Lands, String> {
    let known = LANDINGS.iter().find(|(name, _)| *name == value);
    known
        .map(|(_, landing)| *landing)
        .ok_or_else(|| format!("'{value}' is none of 'history', 'current' and 'none'"))
}

/// The places of the options `landing_table` and `history`, which not every landing may have.
fn check_landing(
    landing: &Landing,
    of_table: Option<Place>,
    of_history: Option<Place>,
) -> Result<(), (Place, &'static str)> {
    match (landing, of_table, of_history) {
        (Landing::None, Some(at), _) => {
            Err((at, "option landing_table makes no sense with landing = 'none'"))
        }
        (Landing::None | Landing::Current(_), _, Some(at)) => {
            Err((at, "option history needs landing = 'history': nothing else keeps changes"))
        }
        _ => Ok(()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::parse_tables;

    fn parsed(options: &str) -> Result<TableOptions, String> {
        let text = format!("CREATE TABLE t (id BIGINT PRIMARY KEY) WITH (source = 'S.T'{options})");
        let file = SqlFile { path: "t.sql".into(), name: "t".into(), text };
        match parse_tables(&[file]) {
            Ok(tables) => Ok(tables[0].options.clone()),
            Err(errors) => Err(errors[0].message.clone()),
        }
    }

    #[test]
    fn rows_stay_unless_ttl_says_otherwise() {
        let ttl = |options| parsed(options).map(|options| options.ttl);
        assert_eq!(ttl(""), Ok(None));
        assert_eq!(ttl(", ttl = '2 days'"), Ok(Some(Duration::from_secs(172_800))));
        assert_eq!(ttl(", ttl = 'none'"), Ok(None));
        assert_eq!(ttl(", ttl = '1m'"), Ok(Some(Duration::from_secs(60))));
    }

    #[test]
    fn the_options_of_the_event_time_need_one() {
        let text = "CREATE TABLE t (id BIGINT PRIMARY KEY, at TIMESTAMP) \
                    WITH (source = 'S.T', event_time = 'at', future = '2h', late = 'drop')";
        let file = SqlFile { path: "t.sql".into(), name: "t".into(), text: text.to_owned() };
        let options = parse_tables(&[file]).unwrap()[0].options.clone();
        assert_eq!((options.future, options.late), (Duration::from_secs(7200), Late::Drop));
        let defaults = parsed("").unwrap();
        assert_eq!((defaults.future, defaults.late), (Duration::from_secs(86_400), Late::Update));
        let error = parsed(", late = 'dlq'").unwrap_err();
        assert!(error.contains("option late needs option event_time"), "{error}");
        let error = parsed(", late = 'maybe'").unwrap_err();
        assert!(error.contains("'maybe' is none of"), "{error}");
    }

    #[test]
    fn memory_is_limited_by_a_size_with_its_unit() {
        let limit = |options| parsed(options).map(|options| options.memory_limit);
        assert_eq!(limit(""), Ok(None));
        assert_eq!(limit(", memory_limit = '512MiB'"), Ok(Some(ByteSize::mib(512))));
        let error = limit(", memory_limit = 'much'").unwrap_err();
        assert!(error.contains("option memory_limit: 'much' is not a size"), "{error}");
    }

    #[test]
    fn a_truncate_is_applied_unless_it_says_otherwise() {
        let truncate = |options| parsed(options).map(|options| options.truncate);
        assert_eq!(truncate(""), Ok(Truncate::Apply));
        assert_eq!(truncate(", truncate = 'apply'"), Ok(Truncate::Apply));
        assert_eq!(truncate(", truncate = 'dlq'"), Ok(Truncate::Dlq));
        let error = truncate(", truncate = 'maybe'").unwrap_err();
        assert!(error.contains("'maybe' is neither"), "{error}");
    }

    #[test]
    fn rows_land_as_one_of_three() {
        let landing = |options| parsed(options).map(|options| options.landing);
        assert_eq!(landing(""), Ok(Landing::History("cdc_t".to_owned())));
        let expected = Ok(Landing::Current("x".to_owned()));
        assert_eq!(landing(", landing_table = 'x', landing = 'current'"), expected);
        assert_eq!(landing(", landing = 'current', landing_table = 'x'"), expected);
        assert_eq!(landing(", landing = 'none'"), Ok(Landing::None));
        let error = parsed(", landing = 'all'").unwrap_err();
        assert!(error.contains("option landing: 'all' is none of"), "{error}");
        let error = parsed(", landing_table = 'x', landing = 'none'").unwrap_err();
        assert!(error.contains("option landing_table makes no sense"), "{error}");
    }

    #[test]
    fn a_history_is_bounded_if_there_is_one() {
        let history = |options| parsed(options).map(|options| options.history);
        assert_eq!(history(""), Ok(None));
        assert_eq!(history(", history = '30 days'"), Ok(Some(Duration::from_secs(2_592_000))));
        for (options, told) in [
            (", history = '59m'", "option history: '59m' is below 1h"),
            (", history = 'much'", "option history: expected number at 0"),
            (", history = '2h', landing = 'none'", "option history needs landing = 'history'"),
            (", landing = 'current', history = '2h'", "option history needs landing = 'history'"),
        ] {
            let error = parsed(options).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn new_columns_are_kept_unless_they_are_refused() {
        let new_columns = |options| parsed(options).map(|options| options.new_columns);
        assert_eq!(new_columns(""), Ok(NewColumns::Jsonb));
        assert_eq!(new_columns(", new_columns = 'strict'"), Ok(NewColumns::Strict));
        assert_eq!(new_columns(", new_columns = 'alter'"), Ok(NewColumns::Alter));
        let error = new_columns(", new_columns = 'drop'").unwrap_err();
        assert!(error.contains("'drop' is none of"), "{error}");
    }

    #[test]
    fn encodings_are_those_that_the_columns_types_may_have() {
        let text = "CREATE TABLE t (id BIGINT PRIMARY KEY, at TIMESTAMP, amount DECIMAL(9,2), photo BYTEA, \
                    note TEXT) WITH (source = 'S.T', encodings = 'ENCODINGS')";
        let parsed = |encodings: &str| {
            let text = text.replace("ENCODINGS", encodings);
            let file = SqlFile { path: "t.sql".into(), name: "t".into(), text };
            let tables = parse_tables(&[file]).map_err(|errors| errors[0].message.clone());
            tables.map(|tables| tables[0].options.encodings.clone())
        };
        let expected = [
            (1, WrittenAs::Millis),
            (2, WrittenAs::Base64),
            (3, WrittenAs::Hex),
            (0, WrittenAs::Text),
        ];
        assert_eq!(parsed("at ms, amount base64, photo hex, id text"), Ok(expected.to_vec()));
        for wrong in ["note hex", "at base64", "amount", "other ms", "photo days", ""] {
            assert!(parsed(wrong).unwrap_err().contains("option encodings"), "{wrong}");
        }
    }

    #[test]
    fn a_ttl_below_a_minute_is_refused() {
        let error = parsed(", ttl = '59s'").unwrap_err();
        assert!(error.contains("option ttl: '59s' is below 1m"), "{error}");
    }
}
