//! `sql/tables`: what a `CREATE TABLE` declares, and what is refused.

use std::time::Duration;

use arrow::datatypes::{DataType, TimeUnit};

use super::{CUSTOMERS, file};
use crate::model::{GroupBound, Landing, Reference, SourceTable, Table};
use crate::transform::parse_tables;

/// Columns and options of a table `t` of the source `S.T`.
fn table(columns: &str, options: &str) -> Table {
    let text = format!("CREATE TABLE t ({columns}) WITH (source = 'S.T'{options})");
    match parse_tables(&[file("t", &text), file("customers", CUSTOMERS)]) {
        Ok(tables) => Table::clone(&tables[0]),
        Err(errors) => panic!("{errors:?}"),
    }
}

/// Everything that is said about one file `t.sql`.
fn problem(text: &str) -> String {
    match parse_tables(&[file("t", text), file("customers", CUSTOMERS)]) {
        Ok(tables) => panic!("not refused: {tables:?}"),
        Err(errors) => errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    }
}

fn with_option(option: &str) -> String {
    problem(&format!(
        "CREATE TABLE t (\n  id BIGINT PRIMARY KEY, at TIMESTAMP\n) WITH (source = 'S.T',\n  {option})"
    ))
}

fn with_columns(columns: &str) -> String {
    problem(&format!("CREATE TABLE t (\n  {columns}\n) WITH (source = 'S.T')"))
}

#[test]
fn each_sql_type_has_one_arrow_type() {
    let micros =
        |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    let types = [
        ("BIGINT", DataType::Int64),
        ("INTEGER", DataType::Int32),
        ("INT", DataType::Int32),
        ("SMALLINT", DataType::Int16),
        ("VARCHAR", DataType::Utf8),
        ("VARCHAR(20)", DataType::Utf8),
        ("TEXT", DataType::Utf8),
        ("BOOLEAN", DataType::Boolean),
        ("DOUBLE PRECISION", DataType::Float64),
        ("REAL", DataType::Float64),
        ("DECIMAL(38,10)", DataType::Decimal128(38, 10)),
        ("NUMERIC(9)", DataType::Decimal128(9, 0)),
        ("TIMESTAMP", micros(None)),
        ("TIMESTAMP(6)", micros(None)),
        ("TIMESTAMPTZ", micros(Some("UTC"))),
        ("TIMESTAMP WITH TIME ZONE", micros(Some("UTC"))),
        ("DATE", DataType::Date32),
        ("BYTEA", DataType::Binary),
    ];
    for (sql, expected) in types {
        let table = table(&format!("id BIGINT PRIMARY KEY, x {sql}"), "");
        assert_eq!(table.columns[1].data_type, expected, "{sql}");
    }
}

#[test]
fn a_type_that_loses_digits_or_is_unknown_is_refused_at_its_column() {
    let number = with_columns("id BIGINT PRIMARY KEY,\n  x NUMBER(10)");
    assert!(
        number.starts_with("t.sql:3:3: column x: type NUMBER(10) is Oracle's: declare DECIMAL(10)"),
        "{number}"
    );
    let bare = with_columns("id BIGINT PRIMARY KEY, x DECIMAL");
    assert!(bare.starts_with("t.sql:2:26: ") && bare.contains("DECIMAL(15,2)"), "{bare}");
    let wide = with_columns("id BIGINT PRIMARY KEY, x DECIMAL(39,2)");
    assert!(wide.contains("DECIMAL(39,2) is outside of 38 digits"), "{wide}");
    let twice = with_columns("id BIGINT PRIMARY KEY, Id INT");
    assert_eq!(twice, "t.sql:2:26: column id is declared twice");
}

#[test]
fn the_key_is_that_of_a_column_or_of_the_table_and_never_null() {
    let of_column = table("a INT NOT NULL, id BIGINT PRIMARY KEY, b INT", "");
    assert_eq!(of_column.key, [1]);
    let nullable: Vec<bool> = of_column.columns.iter().map(|column| column.nullable).collect();
    assert_eq!(nullable, [false, false, true]);
    let of_table = table("a INT, b INT, c INT, PRIMARY KEY (c, A)", "");
    assert_eq!(of_table.key, [2, 0]);
    let nullable: Vec<bool> = of_table.columns.iter().map(|column| column.nullable).collect();
    assert_eq!(nullable, [false, true, false]);
}

#[test]
fn quoted_names_keep_their_case_and_others_are_lower_case() {
    let table = table("\"Id\" INT, id INT, \"Order\" INT, PRIMARY KEY (\"Id\")", "");
    let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!((names.as_slice(), table.key), (["Id", "id", "Order"].as_slice(), vec![0]));
}

#[test]
fn a_wrong_key_is_refused() {
    let none = with_columns("id BIGINT");
    assert_eq!(none, "t.sql: has no PRIMARY KEY: without one there is no current row");
    let unknown = with_columns("id BIGINT,\n  PRIMARY KEY (ID, other)");
    assert_eq!(unknown, "t.sql:3:20: column other is not declared");
    let two = with_columns("id BIGINT PRIMARY KEY, x INT, PRIMARY KEY (x)");
    assert!(two.contains("has two PRIMARY KEYs"), "{two}");
    let twice = with_columns("id BIGINT, PRIMARY KEY (id, id)");
    assert!(twice.contains("column id is twice"), "{twice}");
}

#[test]
fn without_options_a_table_lands_its_history_and_rows_live_for_an_hour() {
    let table = table("id BIGINT PRIMARY KEY", "");
    assert_eq!(table.source, SourceTable { schema: "S".into(), table: "T".into() });
    assert_eq!(table.options.landing, Landing::History("cdc_t".into()));
    assert_eq!(table.options.ttl, None);
    assert_eq!((table.options.event_time, table.options.group), (None, None));
}

#[test]
fn every_option_is_read() {
    let columns =
        "id BIGINT PRIMARY KEY, parent BIGINT REFERENCES customers (customer_id), at TIMESTAMP";
    let options = ", event_time = 'at', ttl = '90m', landing_table = 'history_of_t', \
                   group_by = 'parent', group_limit = 10, group_keep = '4'";
    let read = table(columns, options).options;
    assert_eq!((read.event_time, read.ttl), (Some(2), Some(Duration::from_secs(5400))));
    assert_eq!(read.landing, Landing::History("history_of_t".into()));
    assert_eq!(read.group, Some(GroupBound { column: 1, limit: 10, keep: 4 }));
    assert_eq!(read.references, Some(Reference { column: 1, table: "customers".into() }));
    assert_eq!(table("id INT PRIMARY KEY", ", ttl = 'none'").options.ttl, None);
    assert_eq!(table("id INT PRIMARY KEY", ", landing = 'none'").options.landing, Landing::None);
    let group = table("id INT PRIMARY KEY", ", group_by = 'id', group_limit = 9").options.group;
    assert_eq!(group, Some(GroupBound { column: 0, limit: 9, keep: 5 }));
}

#[test]
fn an_unknown_option_or_a_wrong_value_is_refused_with_its_place() {
    let unknown = with_option("retention = '1h'");
    assert!(
        unknown.starts_with("t.sql:4:3: option retention: is not known; there are source,"),
        "{unknown}"
    );
    for (option, complaint) in [
        ("ttl = 'soon'", "t.sql:4:3: option ttl: "),
        ("landing = 'maybe'", "'maybe' is none of 'history', 'current' and 'none'"),
        ("event_time = 'id'", "column id is not a TIMESTAMP"),
        ("event_time = 'nowhere'", "there is no column nowhere"),
        ("group_by = 'nowhere'", "there is no column nowhere"),
        ("group_by = 'id', group_limit = 0", "'0' is not a count above 0"),
        ("group_by = 'id', group_limit = 5, group_keep = 6", "group_keep 6 is above group_limit 5"),
        ("group_limit = 5", "group_limit and group_keep need group_by"),
    ] {
        let said = with_option(option);
        assert!(said.contains(complaint), "{option}: {said}");
    }
    let none = problem("CREATE TABLE t (id INT PRIMARY KEY)");
    assert!(none.contains("needs WITH (source = 'SCHEMA.TABLE')"), "{none}");
    let no_schema = problem("CREATE TABLE t (id INT PRIMARY KEY) WITH (source = 'T')");
    assert!(
        no_schema.starts_with("t.sql:1:43: ") && no_schema.contains("SALES.ORDERS"),
        "{no_schema}"
    );
}

#[test]
fn a_reference_is_of_one_column_to_the_key_of_another_table() {
    let of_table = table(
        "id INT PRIMARY KEY, c BIGINT, FOREIGN KEY (c) REFERENCES customers (customer_id)",
        "",
    );
    assert_eq!(
        of_table.options.references,
        Some(Reference { column: 1, table: "customers".into() })
    );
    for (columns, complaint) in [
        (
            "c BIGINT REFERENCES nowhere",
            "column c REFERENCES nowhere, which is not another declared table",
        ),
        ("c BIGINT REFERENCES t", "which is not another declared table"),
        ("c VARCHAR REFERENCES customers", "which has a key of another type"),
        (
            "c BIGINT REFERENCES customers, d BIGINT REFERENCES customers",
            "d is a second REFERENCES",
        ),
        ("c INT, FOREIGN KEY (id, c) REFERENCES customers", "REFERENCES of several columns"),
    ] {
        let said = with_columns(&format!("id BIGINT PRIMARY KEY, {columns}"));
        assert!(said.starts_with("t.sql: ") && said.contains(complaint), "{columns}: {said}");
    }
}

#[test]
fn what_would_be_ignored_is_refused() {
    for columns in ["x INT DEFAULT 1", "x INT UNIQUE", "x INT CHECK (x > 0)", "x INT, UNIQUE (x)"] {
        let said = with_columns(&format!("id BIGINT PRIMARY KEY, {columns}"));
        assert!(said.contains("has no effect on a stream of changes"), "{columns}: {said}");
    }
}

#[test]
fn two_files_never_share_a_name_a_source_or_a_landing_table() {
    let one = "CREATE TABLE a (id INT PRIMARY KEY) WITH (source = 'S.A')";
    for (other, complaint) in [
        (
            "CREATE TABLE a (id INT PRIMARY KEY) WITH (source = 'S.B')",
            "table a (S.A) is declared twice",
        ),
        (
            "CREATE TABLE b (id INT PRIMARY KEY) WITH (source = 'S.A')",
            "table a (S.A) is declared twice",
        ),
        (
            "CREATE TABLE a_changes (id INT PRIMARY KEY) WITH (source = 'S.B')",
            "a and a_changes clash",
        ),
        (
            "CREATE TABLE b (id INT PRIMARY KEY) WITH (source = 'S.B', landing_table = 'cdc_a')",
            "lands in cdc_a, where the changes of a land",
        ),
    ] {
        let errors = parse_tables(&[file("one", one), file("other", other)]).unwrap_err();
        assert_eq!(errors.len(), 1);
        let said = errors[0].to_string();
        assert!(said.starts_with("other.sql: ") && said.contains(complaint), "{said}");
    }
}

#[test]
fn a_file_holds_one_create_table_and_all_wrong_files_are_told() {
    let two = "CREATE TABLE a (id INT PRIMARY KEY); CREATE TABLE b (id INT PRIMARY KEY)";
    assert_eq!(problem(two), "t.sql: must hold exactly one CREATE TABLE statement");
    assert_eq!(problem("SELECT 1"), "t.sql: must hold exactly one CREATE TABLE statement");
    assert_eq!(problem(""), "t.sql: must hold exactly one CREATE TABLE statement");
    assert!(problem("CREATE TABLE s.t (id INT PRIMARY KEY)").contains("one identifier"));
    let errors = parse_tables(&[file("a", "SELECT 1"), file("b", "SELECT 2")]).unwrap_err();
    assert_eq!(errors.len(), 2);
}

#[test]
fn a_syntax_error_has_its_line_and_column() {
    let said = problem("CREATE TABLE t (\n  id BIGINT PRIMARY KEY\n  x INT\n)");
    assert!(said.starts_with("t.sql:3:3: ") && said.contains("found: x"), "{said}");
}

#[test]
fn a_file_from_windows_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let text = "\u{feff}-- a comment\r\nCREATE TABLE a (\r\n  id BIGINT PRIMARY KEY\r\n) WITH (source = 'S.A');\r\n";
    std::fs::write(folder.path().join("a.sql"), text).unwrap();
    let files = crate::transform::read_folder(folder.path()).unwrap();
    assert_eq!(parse_tables(&files).unwrap()[0].name, "a");
    std::fs::write(folder.path().join("a.sql"), text.replace("BIGINT", "WRONG")).unwrap();
    let files = crate::transform::read_folder(folder.path()).unwrap();
    assert_eq!(parse_tables(&files).unwrap_err()[0].at, Some((3, 3)));
}

#[test]
fn a_name_that_postgres_would_cut_off_is_refused_where_it_stands() {
    let (longest, long) = ("c".repeat(63), "c".repeat(64));
    let parsed = |column: &str, options: &str| {
        let text = format!(
            "CREATE TABLE a (id BIGINT PRIMARY KEY,\n {column} VARCHAR)\nWITH (source = 'S.A'{options})"
        );
        parse_tables(&[file("a", &text)]).map_err(|errors| errors[0].to_string())
    };
    assert!(parsed(&longest, "").is_ok());
    let error = parsed(&long, "").unwrap_err();
    assert!(error.starts_with(&format!("a.sql:2:2: column {long} has 64 bytes")), "{error}");
    // What lands nowhere may be called what the source calls it.
    assert!(parsed(&long, ", landing = 'none'").is_ok());
    let error = parsed("c", &format!(", landing_table = '{long}'")).unwrap_err();
    assert!(error.contains(&format!("3:40: the landing table {long} has 64 bytes")), "{error}");
}
