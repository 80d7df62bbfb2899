//! Tables that no file declares.

use super::*;
use crate::model::{CHANGE_ID, discovered_tables};

/// The schema section of rows with these fields, as in `{"type":"int64"}`.
fn section(fields: &[(&str, &str)]) -> String {
    let field = |(name, node): &(&str, &str)| {
        format!(r#"{{"field":"{name}","optional":true,{}"#, &node[1..])
    };
    let fields: Vec<String> = fields.iter().map(field).collect();
    format!(
        r#"{{"type":"struct","fields":[{{"type":"struct","field":"after","fields":[{}]}}]}}"#,
        fields.join(",")
    )
}

const INVOICE: [(&str, &str); 4] = [
    ("ID", r#"{"type":"int64"}"#),
    ("NOTE", r#"{"type":"string"}"#),
    (
        "AMOUNT",
        r#"{"type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"2"}}"#,
    ),
    ("RAW", r#"{"type":"bytes"}"#),
];

fn change(table: &str, op: &str, before: &str, after: &str) -> String {
    format!(
        r#"{{"before":{before},"after":{after},"source":{{"schema":"SALES","table":"{table}","ts_ms":1}},"op":"{op}"}}"#
    )
}

/// With its schema section.
fn invoice(op: &str, before: &str, after: &str) -> String {
    let payload = change("INVOICES", op, before, after);
    format!(r#"{{"schema":{},"payload":{payload}}}"#, section(&INVOICE))
}

fn policy(unknown_tables: UnknownTables) -> DecoderSetup {
    let config = DecodeConfig { unknown_tables, ..DecodeConfig::default() };
    DecoderSetup { config, ..setup(orders()) }
}

fn with_policy(unknown_tables: UnknownTables) -> Decoder {
    Decoder::new(policy(unknown_tables))
}

/// What is learned, as in `SALES.T added COLUMN integer`.
fn learned(decoded: &Decoded) -> Vec<String> {
    let text = |change: &SchemaChange| {
        let SchemaChange { source, column, kind, seen, .. } = change;
        format!("{source} {} {column} {seen}", kind.as_str())
    };
    decoded.schema_changes.iter().map(text).collect()
}

/// Decodes, and again with what was registered.
fn registered(messages: &[Message]) -> (Decoded, Decoded) {
    let first = with_policy(UnknownTables::Register).decode(messages, &spools()).unwrap();
    let mut tables = vec![Arc::new(orders())];
    tables.extend(discovered_tables(&first.schema_changes, &tables));
    let unknown_tables = UnknownTables::Register;
    let config = DecodeConfig { unknown_tables, ..DecodeConfig::default() };
    let mut decoder = Decoder::new(DecoderSetup { tables, config, ..DecoderSetup::default() });
    decoder.remember(&first.schema_changes);
    let held: Vec<Message> =
        messages.iter().filter(|m| first.held.contains(&m.offset)).cloned().collect();
    let second = decoder.decode(&held, &spools()).unwrap();
    (first, second)
}

#[test]
fn an_event_of_an_unknown_table_is_a_dead_letter_or_ignored_or_held() {
    let payloads = [
        event("c", "null", r#"{"ORDER_ID":1}"#),
        change("VISITS", "c", "null", r#"{"A":1}"#),
        change("VISITS", "c", "null", r#"{"A":2}"#),
    ];
    let decode = |policy| with_policy(policy).decode(&messages(&payloads), &spools()).unwrap();
    let (dlq, ignored) = (decode(UnknownTables::Dlq), decode(UnknownTables::Ignore));
    let held = decode(UnknownTables::Register);
    for decoded in [&dlq, &ignored, &held] {
        assert_eq!(decoded.changes.iter().map(Changelog::len).sum::<usize>(), 1);
    }
    let types: Vec<ErrorType> = dlq.dead_letters.iter().map(|letter| letter.error_type).collect();
    assert_eq!(types, [ErrorType::UnknownTable; 2]);
    assert_eq!((ignored.dead_letters.len(), ignored.passed.unknown_tables), (0, 2));
    assert_eq!(
        ignored.ignored.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["SALES.VISITS"]
    );
    assert_eq!((held.dead_letters.len(), held.passed.unknown_tables), (0, 0));
    assert_eq!(held.held, [Offset::new(7, 1), Offset::new(7, 2)]);
}

#[test]
fn a_table_is_registered_with_the_types_that_its_source_names_and_the_rest_is_kept() {
    let announced = r#"{"ddl":"CREATE TABLE","source":{"schema":"SALES"},"tableChanges":[{"type":"CREATE","id":"\"O\".\"SALES\".\"INVOICES\"","table":{"columns":[],"primaryKeyColumnNames":["ID"]}}]}"#;
    let messages = messages(&[
        announced.to_owned(),
        invoice("c", "null", r#"{"ID":1,"NOTE":"a","AMOUNT":"BOI=","RAW":"AA=="}"#),
        invoice("u", r#"{"ID":1,"NOTE":"a"}"#, r#"{"ID":1,"NOTE":"b","AMOUNT":"BOI=","RAW":null}"#),
    ]);
    let (first, second) = registered(&messages);
    assert_eq!(
        learned(&first),
        [
            r#"SALES.INVOICES key ["ID"] null"#,
            "SALES.INVOICES registered invoices null",
            "SALES.INVOICES typed ID int8",
            "SALES.INVOICES typed NOTE varchar",
            "SALES.INVOICES typed AMOUNT numeric(38,2)",
            "SALES.INVOICES added RAW text",
        ]
    );
    assert_eq!(first.passed.schema_changes, 1);
    assert_eq!(second.dead_letters, []);
    let [invoices] = second.changes.as_slice() else { panic!("{:?}", second.changes) };
    assert_eq!((invoices.table.name.as_str(), &invoices.table.key), ("invoices", &vec![0]));
    assert_eq!(invoices.batch.column(0).as_primitive::<Int64Type>().values(), &[1, 1]);
    assert_eq!(invoices.batch.column(2).as_primitive::<Decimal128Type>().value(0), 1250);
    let extra = invoices.table.system_column(SystemColumn::ExtraFields);
    let extra = invoices.batch.column(extra).as_string::<i32>();
    assert_eq!((extra.value(0), extra.value(1)), (r#"{"RAW":"AA=="}"#, r#"{"RAW":null}"#));
    assert_eq!(learned(&second), [""; 0]);
}

#[test]
fn a_key_comes_from_a_user_property_or_from_the_row_before_an_update() {
    let of = |payload: &str, properties: &[(&str, &str)]| {
        let mut messages = messages(&[payload]);
        let properties = properties.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        messages[0].properties = properties.collect();
        registered(&messages)
    };
    let named = [
        ("cdc_operation", "insert"),
        ("cdc_schema", "SALES"),
        ("cdc_table_name", "SHIPMENTS"),
        ("cdc_key", r#"{"schema":null,"payload":{"NO":"7","DEPOT":"x"}}"#),
    ];
    let (first, second) = of(r#"{"DEPOT":"x","NO":7,"WEIGHT":1.5}"#, &named);
    let expected = [
        r#"SALES.SHIPMENTS key ["NO","DEPOT"] null"#,
        "SALES.SHIPMENTS registered shipments null",
        "SALES.SHIPMENTS typed DEPOT varchar",
        "SALES.SHIPMENTS typed NO varchar",
        "SALES.SHIPMENTS added WEIGHT number",
    ];
    assert_eq!(learned(&first), expected);
    let row = &second.changes[0];
    assert_eq!(row.batch.column(1).as_string::<i32>().value(0), "7");
    assert_eq!(row.table.key, [0, 1]);

    for (before, after, key) in [
        (r#"{"NO":1}"#, r#"{"NO":1,"A":2}"#, r#"["NO"]"#),
        // Not of the key alone: it has changed, or is the whole row.
        (r#"{"NO":1,"A":1}"#, r#"{"NO":1,"A":2,"B":0}"#, ""),
        (r#"{"NO":1,"A":2}"#, r#"{"NO":1,"A":2}"#, ""),
        ("null", r#"{"NO":1,"A":2}"#, ""),
        ("{}", r#"{"NO":1,"A":2}"#, ""),
    ] {
        let (first, second) = of(&change("T", "u", before, after), &[]);
        let keys = first.schema_changes.iter().filter(|c| c.kind == SchemaChangeKind::Key);
        let keys: Vec<&str> = keys.map(|c| c.column.as_str()).collect();
        assert_eq!(keys.join(""), key, "{before} {after}");
        assert_eq!(second.dead_letters, [], "{before} {after}");
    }
}

#[test]
fn without_a_known_key_each_change_is_a_row_of_its_own() {
    let messages = messages(&[
        change("VISITS", "c", "null", r#"{"CHANGE_ID":"own","A":null}"#),
        change("VISITS", "c", "null", r#"{"CHANGE_ID":"own","A":null}"#),
        change("VISITS", "d", r#"{"CHANGE_ID":"own","A":null}"#, "null"),
    ]);
    let (first, second) = registered(&messages);
    let visits = &second.changes[0];
    assert_eq!(visits.table.columns[0].name, CHANGE_ID);
    let ids = visits.batch.column(0).as_string::<i32>();
    let ids: Vec<&str> = ids.iter().flatten().collect();
    assert_eq!(ids, messages.iter().map(|m| m.offset.to_string()).collect::<Vec<_>>());
    assert_eq!(visits.operations[2], Operation::Delete);
    let expected = ["registered visits null", "added CHANGE_ID text", "added A null"];
    assert_eq!(learned(&first), expected.map(|entry| format!("SALES.VISITS {entry}")));
    assert_eq!(learned(&second), [""; 0]);
}

#[test]
fn names_are_nobody_elses() {
    let payloads = ["ORDERS_CHANGES", "B c.d", "b C_D", "TOTALS"]
        .map(|table| change(table, "c", "null", r#"{"A":1}"#));
    let taken = ["orders", "cdc_orders", "cdc_totals"].map(str::to_owned);
    let registered =
        RegisteredTables { taken: taken.into_iter().collect(), ..RegisteredTables::default() };
    let mut decoder = Decoder::new(DecoderSetup { registered, ..policy(UnknownTables::Register) });
    let decoded = decoder.decode(&messages(&payloads), &spools()).unwrap();
    let names = decoded.schema_changes.iter().filter(|c| c.kind == SchemaChangeKind::Registered);
    let names: Vec<&str> = names.map(|change| change.column.as_str()).collect();
    assert_eq!(names, ["sales_orders_changes", "b_c_d", "sales_b_c_d", "sales_totals"]);
}

#[test]
fn beyond_the_limit_and_where_a_table_is_withdrawn_events_are_dead_letters_that_say_why() {
    let payloads = ["A", "B", "C", "A"].map(|table| change(table, "c", "null", r#"{"X":1}"#));
    let limits = Limits { max_registered_tables: 3.try_into().unwrap(), ..Limits::default() };
    let source = SourceTable { schema: "SALES".to_owned(), table: "B".to_owned() };
    let withdrawn = HashMap::from([(source, "its table is another".to_owned())]);
    let registered = RegisteredTables { count: 2, withdrawn, taken: HashSet::new() };
    let mut decoder =
        Decoder::new(DecoderSetup { limits, registered, ..policy(UnknownTables::Register) });
    let decoded = decoder.decode(&messages(&payloads), &spools()).unwrap();
    assert_eq!(decoded.held, [Offset::new(7, 0), Offset::new(7, 3)]);
    let letters: Vec<_> = decoded.dead_letters.iter().map(|l| (l.error_type, &l.message)).collect();
    let [(withdrawn, why), (beyond, limit)] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!((*withdrawn, *beyond), (ErrorType::UnknownTable, ErrorType::TooManyTables));
    assert!(why.contains("its table is another"), "{why}");
    assert!(
        limit.contains("3 tables") && limit.contains("limits.max_registered_tables"),
        "{limit}"
    );
}

#[test]
fn what_says_nothing_about_a_table_registers_none() {
    let decode = |payloads: &[String]| {
        with_policy(UnknownTables::Register).decode(&messages(payloads), &spools()).unwrap()
    };
    let truncate = change("T", "t", "null", "null");
    let created = change("T", "c", "null", r#"{"A":1}"#);
    let alone = decode(&[truncate.clone(), change("T", "c", "null", "[1]")]);
    assert_eq!((alone.dead_letters.len(), alone.held.len(), learned(&alone).len()), (2, 0, 0));
    // Behind what says something it waits for its turn.
    assert_eq!(decode(&[created, truncate]).held.len(), 2);
}

#[test]
fn names_of_postgres_itself_and_keys_that_no_index_holds_are_no_columns_and_no_keys() {
    let fields = |count: usize| -> Vec<String> { (0..count).map(|at| format!("K{at}")).collect() };
    let message = |key: &[String], table: &str| {
        let row: Vec<String> = key.iter().map(|field| format!(r#""{field}":1"#)).collect();
        let row = format!(r#"{{{},"XMIN":1,"ctid":"x","Xmax":2}}"#, row.join(","));
        let mut message = messages(&[change(table, "c", "null", &row)]).remove(0);
        message.properties = vec![("cdc_key".to_owned(), row_of(key))];
        message
    };
    for (key, expected) in [(fields(31), 31), (fields(32), 1), (vec!["XMIN".to_owned()], 1)] {
        let (first, second) = registered(&[message(&key, "WIDE")]);
        let tables = discovered_tables(&first.schema_changes, &[]);
        assert_eq!(tables[0].key.len(), expected);
        assert_eq!(tables[0].has_no_key(), expected == 1);
        let is_system = |name: &str| ["xmin", "ctid"].contains(&name);
        assert!(!tables[0].columns.iter().any(|column| is_system(&column.name)));
        assert_eq!((second.dead_letters.len(), second.changes[0].len()), (0, 1));
        let extra = texts(&second.changes[0], SystemColumn::ExtraFields);
        assert!(extra[0].is_some_and(|extra| extra.contains(r#""XMIN":1"#)), "{extra:?}");
    }
}

fn row_of(key: &[String]) -> String {
    let fields: Vec<String> = key.iter().map(|field| format!(r#""{field}":1"#)).collect();
    format!("{{{}}}", fields.join(","))
}
