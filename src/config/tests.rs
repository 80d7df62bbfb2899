use std::time::Duration;

use bytesize::ByteSize;

use super::*;
use crate::decode::UnknownTables;

const MINIMAL: &str = "
pipeline = 'sales'
[source]
kind = 'solace'
username = 'u'
password = '${BROKER_PASSWORD}'
queue = 'cdc'
[sink.postgres]
host = 'db'
dbname = 'ods'
user = 'me'
";

fn parse_with(text: &str) -> Result<Config, String> {
    let variable = |name: &str| (name == "BROKER_PASSWORD").then(|| "hunter2".to_owned());
    parse("tidemark.toml", text, variable).map_err(|error| error.to_string())
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let config = parse_with(MINIMAL).unwrap();
    assert_eq!(config.batch.max_messages.get(), 5000);
    assert_eq!(config.batch.max_age, Duration::from_millis(20));
    assert_eq!(config.sql.watermark_delay, Duration::from_secs(10));
    assert_eq!(config.sql.idle_after, Duration::from_secs(30));
    assert_eq!(config.state.memory, crate::state::StateConfig::default().memory);
    let batch = |memory| batch::default_batch_bytes(memory).get();
    assert_eq!(batch(Some(ByteSize::mib(256))), 4 << 20);
    assert_eq!(batch(Some(ByteSize::gib(64))), 32 << 20);
    assert_eq!((batch(Some(ByteSize::mib(1))), batch(None)), (1 << 20, 32 << 20));
    assert_eq!(config.decode.unavailable_value, "__debezium_unavailable_value");
    assert_eq!(config.decode.unknown_tables, UnknownTables::Dlq);
    assert_eq!(config.limits.max_registered_tables.get(), 100);
    assert_eq!(config.checkpoint.interval, Duration::from_secs(10));
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8080");
}

#[test]
fn dialects_are_configured_and_checked() {
    let decode = "[decode]\nunavailable_value = 'keep'\ntopic = 'cdc/{schema}/{table}'\nunknown_tables = 'ignore'\n";
    let config = parse_with(&format!("{MINIMAL}{decode}")).unwrap().decode;
    assert_eq!(config.unavailable_value, "keep");
    assert_eq!(config.topic.as_deref(), Some("cdc/{schema}/{table}"));
    assert_eq!(config.unknown_tables, UnknownTables::Ignore);
    let wrong = "[decode]\nunavailable_value = ''\ntopic = 'cdc/>'\n";
    let error = parse_with(&format!("{MINIMAL}{wrong}")).unwrap_err();
    assert!(
        error.contains("decode.unavailable_value:") && error.contains("decode.topic:"),
        "{error}"
    );
}

#[test]
fn limits_are_those_of_the_documentation_unless_they_are_set() {
    let limits = parse_with(MINIMAL).unwrap().limits;
    let numbers = |limits: &crate::decode::Limits| {
        [
            limits.max_event_bytes,
            limits.max_undeclared_columns,
            limits.max_undeclared_bytes,
            limits.max_depth,
        ]
        .map(|limit| limit.get())
    };
    assert_eq!(numbers(&limits), [16 << 20, 1000, 1 << 20, 100]);
    assert_eq!(limits.xml(), crate::xml::XmlLimits::default());
    let set = "[limits]\nmax_event_bytes = 1\nmax_undeclared_columns = 2\nmax_undeclared_bytes = 3\nmax_depth = 4";
    let limits = parse_with(&format!("{MINIMAL}{set}")).unwrap().limits;
    assert_eq!(numbers(&limits), [1, 2, 3, 4]);
    assert!(parse_with(&format!("{MINIMAL}[limits]\nmax_depth = 0")).is_err());
    let set =
        "[limits]\nmax_xml_bytes = 1\nmax_xml_depth = 2\nmax_xml_rows = 3\nmax_xml_value_bytes = 4";
    let limits = parse_with(&format!("{MINIMAL}{set}")).unwrap().limits;
    let expected = crate::xml::XmlLimits { bytes: 1, depth: 2, rows: 3, value_bytes: 4 };
    assert_eq!(limits.xml(), expected);
}

#[test]
fn secrets_are_filled_in_and_never_shown() {
    let config = parse_with(MINIMAL).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    let error = parse("t.toml", MINIMAL, |_| None).unwrap_err().to_string();
    assert!(
        error.contains("source.password: the environment has no variable BROKER_PASSWORD"),
        "{error}"
    );
}

#[test]
fn a_secret_can_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, "from-file\n").unwrap();
    let text = format!("{MINIMAL}password_file = '{}'", path.display());
    let config = parse_with(&text).unwrap();
    assert_eq!(
        config.sink.postgres.password.map(|p| p.expose().to_owned()),
        Some("from-file".into())
    );
}

#[test]
fn all_problems_come_at_once_with_their_keys() {
    let text = MINIMAL.replace("'sales'", "'a b'") + "[batch]\nmax_messages = 9000";
    let error = parse_with(&text).unwrap_err();
    assert!(error.contains("pipeline:") && error.contains("batch.max_messages:"), "{error}");
}

#[test]
fn an_unknown_key_is_refused_with_its_name() {
    let error = parse_with(&format!("{MINIMAL}[batch]\nmax_mesages = 1")).unwrap_err();
    assert!(error.contains("max_mesages"), "{error}");
}

#[test]
fn no_error_repeats_a_value_that_may_be_a_password() {
    let cases = [
        (
            "password = '${BROKER_PASSWORD}'",
            "password = 12345",
            "source.password: write it as a text",
        ),
        ("password = '${BROKER_PASSWORD}'", "password = 1e45", "source.password"),
        ("password = '${BROKER_PASSWORD}'", "password = [12345]", "source.password"),
        ("pipeline = 'sales'", "pipeline = 12345", "invalid type: integer, expected a string"),
        (
            "pipeline = 'sales'",
            "pipeline = 'sales'\nbatch = '12345'",
            "invalid type: string, expected",
        ),
        (
            "pipeline = 'sales'",
            "pipeline = 'sales'\nbatch = { max_age = '12345 parrots' }",
            "batch",
        ),
    ];
    for (from, to, says) in cases {
        assert!(MINIMAL.contains(from), "{from}");
        let error = parse_with(&MINIMAL.replace(from, to)).unwrap_err();
        assert!(!error.contains("12345") && !error.contains("1e45"), "{to}: {error}");
        let is_said = error.contains(says) || says == "batch";
        assert!(is_said, "{to}: {error}");
    }
}

#[test]
fn a_syntax_error_names_its_line_and_not_its_text() {
    let error = parse_with("pipeline = 'x'\npassword = hunter2").unwrap_err();
    assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
}

#[test]
fn mappings_of_xml_are_checked_with_their_keys() {
    let mapping = |columns: &str, more: &str| {
        let section = format!(
            "[[xml]]\nsource_table = 'S.T'\nxml_column = 'DOC'\ntarget_table = 'rows'\nxpath = './/item'\n\
             columns = [{columns}]\n{more}"
        );
        parse_with(&format!("{MINIMAL}{section}")).map(|config| config.xml)
    };
    let good =
        "{ name = 'id', path = '@id', type = 'BIGINT', default = '7' }, { name = 'n', path = 'n' }";
    let xml = mapping(
        good,
        "parent_key = ['a', 'b']\nmalformed_xml = 'SKIP'\nmissing_attributes = 'DEFAULT'",
    );
    let xml = xml.unwrap();
    assert_eq!((xml[0].malformed_xml, xml[0].columns.len()), (crate::xml::Malformed::Skip, 2));
    assert_eq!(xml[0].columns[1].sql_type, "VARCHAR");
    let wrong = "{ name = 'a', path = 'x/..' }, { name = 'b', path = 'b', type = 'MONEY' }, \
                 { name = 'c', path = 'c', type = 'INT', default = 'x' }, { name = '', path = 'd' }";
    let error = mapping(wrong, "").unwrap_err();
    for key in [
        "xml[0].columns[0].path:",
        "xml[0].columns[1].type:",
        "xml[0].columns[2].default:",
        "xml[0].columns[3].name:",
    ] {
        assert!(error.contains(key), "{key}: {error}");
    }
    assert!(mapping("", "").unwrap_err().contains("xml[0].columns: there is none"));
    assert!(mapping(good, "malformed_xml = 'PANIC'").is_err());
    assert!(mapping(good, "no_such_key = 1").unwrap_err().contains("no_such_key"));
}
