//! One change in all dialects, and where its table's name comes from.

use super::*;

const ROW: &str = r#"{"ORDER_ID":7,"STATUS":"NEW","TOTAL_AMOUNT":"12.50","NOTE":"x"}"#;

type Properties<'a> = Vec<(&'a str, &'a str)>;

struct Sent<'a> {
    payload: &'a str,
    topic: &'a str,
    properties: &'a [(&'a str, &'a str)],
}

fn message(id: u64, sent: &Sent<'_>) -> Message {
    let mut message = messages(&[sent.payload]).remove(0);
    message.offset = Offset::new(7, id);
    message.topic = sent.topic.to_owned();
    let property = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    message.properties = sent.properties.iter().map(property).collect();
    message
}

fn decode_sent(sent: &Sent<'_>, topic: Option<&str>) -> Decoded {
    let config = DecodeConfig { topic: topic.map(str::to_owned), ..DecodeConfig::default() };
    assert_eq!(config.problems(), Vec::<String>::new());
    let mut decoder = Decoder::new(DecoderSetup { config, ..setup(orders()) });
    decoder.decode(&[message(0, sent)], &spools()).expect("the spool is registered")
}

/// The row with some more fields.
fn with(fields: &str) -> String {
    format!("{},{fields}}}", &ROW[..ROW.len() - 1])
}

fn cloud_event(op: &str, data: &str) -> String {
    format!(
        r#"{{"id":"name:s;txId:1","source":"/debezium/oracle/s","specversion":"1.0","type":"io.debezium.connector.oracle.DataChangeEvent","time":"2024-01-23T08:53:21.000Z","datacontenttype":"application/json","iodebeziumop":"{op}","iodebeziumschema":"SALES","iodebeziumtable":"ORDERS","iodebeziumtsms":"1706000000000","iodebeziumscn":"2774","data":{data}}}"#
    )
}

/// The user properties of the header form.
fn header<'a>(operation: &'a str, more: &[(&'a str, &'a str)]) -> Properties<'a> {
    [&[("cdc_operation", operation), NAMES[0], NAMES[1]], more].concat()
}

const NAMES: [(&str, &str); 2] = [("cdc_schema", "SALES"), ("cdc_table_name", "ORDERS")];

#[test]
fn one_insert_is_the_same_row_in_every_dialect() {
    let timed = |operation| header(operation, &[("cdc_timestamp", "1706000000000")]);
    let wrapped = |payload: &str| {
        format!(r#"{{"schema":{{"type":"struct","fields":[]}},"payload":{payload}}}"#)
    };
    let envelope = event("c", "null", ROW);
    let flat = with(
        r#""__op":"c","__deleted":"false","__schema":"SALES","__table":"ORDERS","__source_ts_ms":1706000000000,"__scn":"17""#,
    );
    let flat_by_source = with(
        r#""__op":"c","__source_schema":"SALES","__source_table":"ORDERS","__source_ts_ms":1706000000000"#,
    );
    let data = format!(r#"{{"before":null,"after":{ROW}}}"#);
    let cases: Vec<(&str, String, Properties<'_>)> = vec![
        ("envelope", envelope.clone(), vec![]),
        ("with schema section", wrapped(&envelope), vec![]),
        ("flattened", flat.clone(), vec![]),
        ("flattened, with schema section", wrapped(&flat), vec![]),
        ("flattened, names of the source block", flat_by_source, vec![]),
        (
            "flattened, fields as headers",
            ROW.to_owned(),
            vec![
                ("__op", "c"),
                ("__schema", "SALES"),
                ("__table", "ORDERS"),
                ("__source_ts_ms", "1706000000000"),
            ],
        ),
        ("CloudEvent", cloud_event("c", &data), vec![]),
        ("CloudEvent with schema section", cloud_event("c", &wrapped(&data)), vec![]),
        ("CloudEvent around an envelope", cloud_event("c", &envelope), vec![]),
        ("header form", ROW.to_owned(), timed("c")),
        ("header form, in words", ROW.to_owned(), timed("INSERT")),
        ("header form, with schema section", wrapped(ROW), timed("insert")),
    ];
    for (dialect, payload, properties) in cases {
        let sent = Sent { payload: &payload, topic: "t", properties: &properties };
        let decoded = decode_sent(&sent, None);
        assert_eq!(decoded.dead_letters, [], "{dialect}");
        let changes = &decoded.changes[0];
        assert_eq!(changes.operations, [Operation::Create], "{dialect}");
        assert_eq!(ints(changes, 0), [Some(7)], "{dialect}");
        assert_eq!(changes.batch.column(4).as_primitive::<Decimal128Type>().value(0), 1250);
        let extra = texts(changes, SystemColumn::ExtraFields);
        assert_eq!(extra, [Some(r#"{"NOTE":"x"}"#)], "{dialect}");
        let source_ts = changes.table.system_column(SystemColumn::SourceTs);
        assert_eq!(micros(changes, source_ts), [Some(1_706_000_000_000_000)], "{dialect}");
    }
}

#[test]
fn updates_deletes_and_truncates_are_understood_in_every_dialect() {
    let deleted = with(r#""__deleted":"true","__schema":"SALES","__table":"ORDERS""#);
    let deleted_op = with(r#""__op":"d","__deleted":true,"__schema":"SALES","__table":"ORDERS""#);
    let plain = with(r#""__deleted":"false","__schema":"SALES","__table":"ORDERS""#);
    let key = r#"{"ORDER_ID":7}"#;
    let wrapped_key = format!(r#"{{"schema":{{"type":"struct"}},"payload":{key}}}"#);
    let old = format!(r#"{{"before":{key},"after":null}}"#);
    type Case<'a> = (&'a str, String, Properties<'a>, &'a str);
    let cases: Vec<Case<'_>> = vec![
        ("rewritten delete", deleted, vec![], "d"),
        ("rewritten delete with op", deleted_op, vec![], "d"),
        ("flattened without op", plain, vec![], "u"),
        ("CloudEvent", cloud_event("d", &old), vec![], "d"),
        ("row before in a property", String::new(), header("d", &[("cdc_before", ROW)]), "d"),
        ("key in a property", String::new(), header("DELETE", &[("cdc_key", key)]), "d"),
        (
            "key with schema section",
            "null".to_owned(),
            header("delete", &[("cdc_key", &wrapped_key)]),
            "d",
        ),
        ("row of a delete in the body", ROW.to_owned(), header("d", &[]), "d"),
        ("update", ROW.to_owned(), header("u", &[("cdc_before", "null")]), "u"),
        ("snapshot", ROW.to_owned(), header("r", &[]), "r"),
    ];
    for (dialect, payload, properties, letter) in cases {
        let sent = Sent { payload: &payload, topic: "t", properties: &properties };
        let decoded = decode_sent(&sent, None);
        assert_eq!(decoded.dead_letters, [], "{dialect}");
        let changes = &decoded.changes[0];
        assert_eq!(texts(changes, SystemColumn::Op), [Some(letter)], "{dialect}");
        assert_eq!(ints(changes, 0), [Some(7)], "{dialect}");
    }
    for payload in ["", "null", r#"{"x":1}"#] {
        let properties = header("t", &[]);
        let decoded = decode_sent(&Sent { payload, topic: "t", properties: &properties }, None);
        assert_eq!(decoded.changes[0].truncations.len(), 1, "{payload}");
    }
}

#[test]
fn a_header_form_update_that_changes_the_key_deletes_the_old_row() {
    let properties =
        [("cdc_operation", "u"), NAMES[0], NAMES[1], ("cdc_before", r#"{"ORDER_ID":6}"#)];
    let decoded = decode_sent(&Sent { payload: ROW, topic: "t", properties: &properties }, None);
    assert_eq!(decoded.changes[0].operations, [Operation::Delete, Operation::Update]);
    assert_eq!(ints(&decoded.changes[0], 0), [Some(6), Some(7)]);
}

#[test]
fn the_table_is_the_one_of_the_envelope_then_of_the_headers_then_of_the_topic() {
    let named = event("c", "null", ROW);
    let nameless = named.replace(r#","schema":"SALES","table":"ORDERS""#, "");
    assert_ne!(named, nameless);
    let other = [("cdc_schema", "SALES"), ("cdc_table_name", "OTHER")];
    let dotted = [("cdc_table_name", "SALES.ORDERS")];
    let pattern = Some("cdc/{schema}/{table}");
    let (here, there) = ("cdc/SALES/ORDERS", "cdc/SALES/OTHER");
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, Option<&'a str>, Option<&'a str>);
    // Payload, properties, topic, pattern; the table that it is not, or None if it is ORDERS.
    let cases: [Case<'_>; 12] = [
        (&named, &other, there, pattern, None),
        (&nameless, &NAMES, there, pattern, None),
        (&nameless, &other, here, pattern, Some("SALES.OTHER")),
        (&nameless, &dotted, there, pattern, None),
        (&nameless, &[], here, pattern, None),
        (&nameless, &[], there, pattern, Some("SALES.OTHER")),
        (&nameless, &[], "cdc/ORDERS", Some("cdc/{table}"), None),
        (&nameless, &[], here, None, Some("name its table")),
        (&nameless, &[], "elsewhere", pattern, Some("name its table")),
        (ROW, &[], here, pattern, None),
        (ROW, &NAMES, there, pattern, None),
        (ROW, &[], "elsewhere", pattern, Some("no field op")),
    ];
    for (at, (payload, properties, topic, pattern, problem)) in cases.into_iter().enumerate() {
        let decoded = decode_sent(&Sent { payload, topic, properties }, pattern);
        match problem {
            None => assert_eq!((decoded.dead_letters.len(), decoded.changes.len()), (0, 1), "{at}"),
            Some(problem) => {
                let message = &decoded.dead_letters[0].message;
                assert!(message.contains(problem), "{at}: {message}");
            }
        }
    }
}

#[test]
fn what_a_dialect_does_not_say_is_a_dead_letter_that_says_so() {
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
    let cases: [Case<'_>; 6] = [
        (ROW, &[("cdc_operation", "merge")], "cdc_operation is 'merge'"),
        ("", &[("cdc_operation", "u")], "has no body"),
        (ROW, &[("cdc_operation", "u"), ("cdc_before", "{")], "cdc_before is no row"),
        (r#"{"specversion":"1.0","data":{"x":1}}"#, &[], "iodebeziumop"),
        (r#"{"A":1,"__deleted":"perhaps"}"#, &[], "__deleted is neither"),
        (r#"{"A":1,"__op":"x"}"#, &[], "__op is none"),
    ];
    for (payload, properties, problem) in cases {
        let decoded = decode_sent(&Sent { payload, topic: "t", properties }, None);
        let letter = &decoded.dead_letters[0];
        assert_eq!(letter.error_type, ErrorType::UnknownEnvelope);
        assert!(letter.message.contains(problem), "{payload}: {}", letter.message);
        assert_eq!(letter.properties.len(), properties.len(), "a dead letter keeps them");
    }
}

#[test]
fn a_schema_section_of_a_flattened_row_tells_the_units() {
    let field = |name: &str, semantic: &str| {
        format!(r#"{{"field":"{name}","type":"int64","name":"{semantic}"}}"#)
    };
    let section = format!(
        r#"{{"type":"struct","fields":[{},{{"field":"ORDER_ID","type":"int64"}}]}}"#,
        field("ORDER_DATE", "io.debezium.time.MicroTimestamp")
    );
    let row = r#"{"ORDER_ID":1,"ORDER_DATE":5,"__op":"u","__schema":"SALES","__table":"ORDERS"}"#;
    let payload = format!(r#"{{"schema":{section},"payload":{row}}}"#);
    let decoded = decode(orders(), &[payload]);
    assert_eq!(decoded.dead_letters, []);
    assert_eq!(micros(&decoded.changes[0], 2), [Some(5)]);
}
