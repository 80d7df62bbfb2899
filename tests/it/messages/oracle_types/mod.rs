//! The types of Oracle in every mode of the connector, through the whole processor, to the last digit.

mod columns;
mod connector;
mod random;

use std::path::Path;

use columns::{Case, Column, columns, holds_extremes};
use connector::{BINARIES, DECIMALS, Field, INTERVALS, Modes, Oracle, TIMES, Times};

use crate::shop::{Shop, copied_sql};

/// A table here and in Postgres, with the columns `id` and those of `columns`.
struct Table {
    name: String,
    /// Of the option, or nothing.
    encodings: String,
}

/// The schema section of a field in an event, if it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SchemaSection {
    With,
    Without,
}

fn declare(sql: &Path, tables: &[Table], columns: &[(&str, &str)]) {
    let columns: Vec<String> = columns.iter().map(|(name, sql)| format!("{name} {sql}")).collect();
    let columns = columns.join(", ");
    for Table { name, encodings } in tables {
        let source = name.to_uppercase();
        let encodings = match encodings.as_str() {
            "" => String::new(),
            encodings => format!(", encodings = '{encodings}'"),
        };
        let declaration = format!(
            "CREATE TABLE {name} (id BIGINT PRIMARY KEY, {columns}) \
             WITH (source = 'S.{source}', ttl = 'none'{encodings});"
        );
        std::fs::write(sql.join(format!("tables/{name}.sql")), declaration).expect("written");
        let target = format!(
            "CREATE TABLE cdc_{name} (id BIGINT, {columns}, operation TEXT, source_ts TIMESTAMP, \
             extra_fields JSONB, event_id TEXT, change_seq BIGINT);"
        );
        std::fs::write(sql.join(format!("ods/90_{name}.sql")), target).expect("written");
    }
}

/// An insert of a row whose fields are `id` and these.
fn event(table: &str, id: i64, fields: &[(&str, Field)], section: SchemaSection) -> String {
    let id = ("id", (id.to_string(), r#""type":"int64""#.to_owned()));
    let all = || std::iter::once(&id).chain(fields);
    let join = |parts: Vec<String>| parts.join(",");
    let upper = |name: &str| name.to_uppercase();
    let row =
        join(all().map(|(name, (value, _))| format!(r#""{}":{value}"#, upper(name))).collect());
    let source = format!(r#"{{"schema":"S","table":"{}","ts_ms":1706000000000}}"#, upper(table));
    let payload = format!(r#"{{"before":null,"after":{{{row}}},"source":{source},"op":"c"}}"#);
    if section == SchemaSection::Without {
        return payload;
    }
    let field =
        |(name, (_, schema)): &(&str, Field)| format!(r#"{{"field":"{}",{schema}}}"#, upper(name));
    let fields = join(all().map(field).collect());
    let image = |name| format!(r#"{{"field":"{name}","type":"struct","fields":[{fields}]}}"#);
    let (before, after) = (image("before"), image("after"));
    format!(r#"{{"schema":{{"type":"struct","fields":[{before},{after}]}},"payload":{payload}}}"#)
}

/// Runs a processor over the events until they are committed.
async fn land(tables: &[Table], columns: &[(&str, &str)], events: &[String]) -> Shop {
    let folder = tempfile::tempdir().expect("a folder");
    let sql = copied_sql(folder.path());
    declare(&sql, tables, columns);
    let path = folder.path().join("events.ndjson");
    std::fs::write(&path, events.join("\n") + "\n").expect("written");
    let shop = Shop::open_with(|settings| tidemark_dev::stack::Settings { sql, ..settings }).await;
    shop.read_file(&path, "");
    let mut processor = shop.stack.processor(None).expect("a processor");
    assert!(shop.wait_for_end(&mut processor).await, "{}", shop.log_tail("run"));
    shop
}

/// Rows with `|` between the values.
async fn shown(shop: &Shop, query: &str) -> Vec<String> {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".to_owned());
    let rows = shop.query(query).await;
    rows.iter().map(|row| row.iter().map(value).collect::<Vec<_>>().join("|")).collect()
}

/// All columns as Postgres shows them, instants in UTC and bytes in hexadecimal digits.
fn select(table: &str, columns: &[(&str, &str)]) -> String {
    let text = |(name, sql): &(&str, &str)| match *sql {
        "TIMESTAMPTZ" => format!("{name} AT TIME ZONE 'UTC'"),
        "BYTEA" => format!("encode({name}, 'hex')"),
        _ => (*name).to_owned(),
    };
    let columns: Vec<String> = columns.iter().map(text).collect();
    format!("SELECT id, {} FROM cdc_{table} ORDER BY id", columns.join(", "))
}

fn all_modes() -> Vec<Modes> {
    let mut all = Vec::new();
    for decimals in DECIMALS {
        for times in TIMES {
            for intervals in INTERVALS {
                let modes = |binaries| Modes { decimals, times, intervals, binaries };
                all.extend(BINARIES.map(modes));
            }
        }
    }
    all
}

/// Events and the rows that Postgres must show of them.
#[derive(Default)]
struct Script {
    events: Vec<String>,
    rows: Vec<String>,
}

impl Script {
    fn add(
        &mut self,
        table: &str,
        cases: &[(&'static str, Case)],
        modes: Modes,
        section: SchemaSection,
    ) {
        let id = self.events.len() as i64;
        let fields: Vec<(&str, Field)> =
            cases.iter().map(|(name, case)| (*name, case.value.field(modes))).collect();
        self.events.push(event(table, id, &fields, section));
        let values = cases.iter().map(|(_, case)| case.shown.text(modes).to_owned());
        self.rows.push(std::iter::once(id.to_string()).chain(values).collect::<Vec<_>>().join("|"));
    }
}

fn cases(columns: &[Column], case: fn(&Column) -> &Case) -> Vec<(&'static str, Case)> {
    columns.iter().map(|column| (column.name, case(column).clone())).collect()
}

fn null() -> Case {
    Case { value: Oracle::Null, shown: columns::Shown::Always("NULL") }
}

/// With NULL where a value alone does not tell what it is.
fn cases_but(
    columns: &[Column],
    case: fn(&Column) -> &Case,
    is_left_out: impl Fn(&Column) -> bool,
) -> Vec<(&'static str, Case)> {
    let case = |column: &Column| if is_left_out(column) { null() } else { case(column).clone() };
    columns.iter().map(|column| (column.name, case(column))).collect()
}

fn types(columns: &[Column]) -> Vec<(&'static str, &'static str)> {
    columns.iter().map(|column| (column.name, column.sql)).collect()
}

#[tokio::test]
async fn every_type_in_every_mode_arrives_to_the_last_digit() {
    let columns = columns();
    let (mut with, mut without) = (Script::default(), Script::default());
    for modes in all_modes() {
        with.add("types", &cases(&columns, |column| &column.ordinary), modes, SchemaSection::With);
        if holds_extremes(modes) {
            with.add(
                "types",
                &cases(&columns, |column| &column.extreme),
                modes,
                SchemaSection::With,
            );
        }
        // Days look like seconds: see the test of what is refused.
        if modes.times != Times::Connect {
            let is_open =
                |column: &Column| column.needs_schema_section(modes) || column.needs_telling(modes);
            let cases = cases_but(&columns, |column| &column.ordinary, is_open);
            without.add("bare", &cases, modes, SchemaSection::Without);
        }
    }
    let nothing: Vec<_> = columns.iter().map(|column| (column.name, null())).collect();
    with.add("types", &nothing, all_modes()[0], SchemaSection::With);
    assert_eq!((with.events.len(), without.events.len()), (224 + 144 + 1, 192));

    let table = |name: &str| Table { name: name.to_owned(), encodings: String::new() };
    let events = [with.events, without.events].concat();
    let shop = land(&[table("types"), table("bare")], &types(&columns), &events).await;
    assert_eq!(shown(&shop, "SELECT error_message FROM cdc_dlq LIMIT 3").await, [""; 0]);
    for (table, expected) in [("types", with.rows), ("bare", without.rows)] {
        let rows = shown(&shop, &select(table, &types(&columns))).await;
        assert_eq!(rows.len(), expected.len(), "{table}");
        for (row, expected) in rows.iter().zip(&expected) {
            assert_eq!(row, expected, "{table}");
        }
    }
    shop.stack.stop().await.expect("the servers end");
}

/// One table per `time.precision.mode`, with the other modes beside it in turn.
#[tokio::test]
async fn what_no_schema_section_tells_the_option_encodings_does() {
    let columns = columns();
    let (mut tables, mut events, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for (at, times) in TIMES.into_iter().enumerate() {
        let (decimals, binaries) = (DECIMALS[at % 4], BINARIES[(at + at / 4) % 4]);
        let modes = Modes { decimals, times, intervals: INTERVALS[at % 2], binaries };
        let told = columns.iter().filter_map(|column| {
            column.encoding(modes).map(|encoding| format!("{} {encoding}", column.name))
        });
        let name = format!("told_{at}");
        let encodings = told.collect::<Vec<_>>().join(", ");
        let mut script = Script::default();
        let both: [fn(&Column) -> &Case; 2] = [|column| &column.ordinary, |column| &column.extreme];
        for case in both {
            let cases = cases_but(&columns, case, |column| column.needs_schema_section(modes));
            script.add(&name, &cases, modes, SchemaSection::Without);
            if !holds_extremes(modes) {
                break;
            }
        }
        tables.push(Table { name, encodings });
        events.extend(script.events);
        rows.push(script.rows);
    }
    let shop = land(&tables, &types(&columns), &events).await;
    assert_eq!(shown(&shop, "SELECT error_message FROM cdc_dlq LIMIT 3").await, [""; 0]);
    for (table, expected) in tables.iter().zip(rows) {
        assert_eq!(shown(&shop, &select(&table.name, &types(&columns))).await, expected);
    }
    shop.stack.stop().await.expect("the servers end");
}

const UNTOLD_COLUMNS: [(&str, &str); 6] = [
    ("amount", "DECIMAL(15,2)"),
    ("whole", "DECIMAL(38,0)"),
    ("count", "BIGINT"),
    ("at", "TIMESTAMP"),
    ("day", "DATE"),
    ("photo", "BYTEA"),
];

/// Each value has two readings, and nobody says which; what its dead letter says.
const REFUSED: [(&str, &str, &str); 10] = [
    ("amount", "\"1234\"", "may be decimal text or base64"),
    ("amount", "\"12345678\"", "may be decimal text or base64"),
    ("amount", "\"1E+3\"", "may be decimal text or base64"),
    ("whole", "\"4444\"", "may be decimal text or base64"),
    ("count", "\"AfQ=\"", "may be one in base64"),
    ("at", "17617", "may be days, seconds, ms"),
    ("at", "253402214400000", "may be days, seconds, ms"),
    ("day", "3000000", "may be days, seconds, ms"),
    ("photo", "\"abcd\"", "may be base64 or hexadecimal"),
    ("photo", "\"deadbeef\"", "may be base64 or hexadecimal"),
];
const ONE_READING: [&str; 6] =
    ["\"1234.00\"", "4444", "\"4444\"", "1522108800000", "17617", "\"3q2+7w==\""];
const TOLD: [&str; 6] = ["\"1234\"", "\"4444\"", "\"AfQ=\"", "17617", "3000000", "\"deadbeef\""];

fn untold_events() -> Vec<String> {
    let untyped = |value: &str| (value.to_owned(), String::new());
    let whole_row = |table: &str, id: i64, values: [&str; 6]| {
        let names = UNTOLD_COLUMNS.iter().map(|column| column.0);
        let fields: Vec<_> = names.zip(values.map(untyped)).collect();
        event(table, id, &fields, SchemaSection::Without)
    };
    let refused = REFUSED.iter().enumerate().map(|(at, (name, value, _))| {
        event("untold", at as i64, &[(*name, untyped(value))], SchemaSection::Without)
    });
    refused.chain([whole_row("untold", 100, ONE_READING), whole_row("told", 101, TOLD)]).collect()
}

#[tokio::test]
async fn what_nobody_tells_is_a_dead_letter_that_says_what_to_do() {
    let encodings =
        "amount text, whole base64, count base64, at days, day days, photo hex".to_owned();
    let tables = [
        Table { name: "untold".to_owned(), encodings: String::new() },
        Table { name: "told".to_owned(), encodings },
    ];
    let shop = land(&tables, &UNTOLD_COLUMNS, &untold_events()).await;
    let letters = shown(
        &shop,
        "SELECT error_type, error_message FROM cdc_dlq ORDER BY (payload->'after'->>'ID')::int",
    );
    let letters = letters.await;
    assert_eq!(letters.len(), REFUSED.len(), "{letters:?}");
    for (letter, (name, _, reason)) in letters.iter().zip(REFUSED) {
        let says_all = letter.starts_with("SCHEMA_MISMATCH")
            && letter.contains(&format!("column {name} "))
            && letter.contains(reason)
            && letter.contains("schema section")
            && letter.contains("option encodings");
        assert!(says_all, "{name}: {letter}");
    }
    assert_eq!(
        shown(&shop, &select("untold", &UNTOLD_COLUMNS)).await,
        ["100|1234.00|4444|4444|2018-03-27 00:00:00|2018-03-27|deadbeef"]
    );
    // 4444 in base64 are these three bytes.
    let whole = 0xe3_8e38 - (1 << 24);
    assert_eq!(
        shown(&shop, &select("told", &UNTOLD_COLUMNS)).await,
        [format!("101|1234.00|{whole}|500|2018-03-27 00:00:00|10183-09-21|deadbeef")]
    );
    shop.stack.stop().await.expect("the servers end");
}
