//! What tells about the connector, and rows that look like it.

use super::*;

#[test]
fn notifications_and_signals_are_passed_and_counted() {
    let notification = |kind: &str, more: &str| {
        format!(
            r#"{{"id":"7f","aggregate_type":"Initial Snapshot","type":"{kind}","additional_data":{{"connector_name":"src"{more}}},"timestamp":1706000000123}}"#
        )
    };
    let signal = |op: &str, before: &str, after: &str| {
        event(op, before, after).replace("SALES", "DBZ").replace("ORDERS", "SIGNALS")
    };
    let row = |kind: &str| format!(r#"{{"ID":"a-open","TYPE":"{kind}","DATA":null}}"#);
    let payloads = [
        notification("STARTED", ""),
        notification("TABLE_SCAN_COMPLETED", r#","status":"SUCCEEDED""#),
        format!(r#"{{"schema":{{"type":"struct"}},"payload":{}}}"#, notification("COMPLETED", "")),
        signal("c", "null", &row("snapshot-window-open")),
        signal("d", &row("snapshot-window-open"), "null"),
        // Of the same table, and no more than its key.
        signal("d", r#"{"ID":"a-open"}"#, "null"),
        r#"{"id":"1","type":"execute-snapshot","data":{"data-collections":["SALES.ORDERS"]}}"#.to_owned(),
        r#"{"status":"BEGIN","id":"0a.1.2","ts_ms":1706000000000,"event_count":null,"data_collections":null}"#.to_owned(),
        r#"{"ts_ms":1706000000000}"#.to_owned(),
    ];
    let decoded = decode(orders(), &payloads);
    assert_eq!(decoded.dead_letters, []);
    let passed = Passed {
        notifications: 3,
        signals: 4,
        transaction_markers: 1,
        heartbeats: 1,
        ..Passed::default()
    };
    assert_eq!((decoded.passed, decoded.changes.len()), (passed, 0));
    // Another row of that form is none.
    let (kind, _) = refused(&signal("c", "null", &row("invoice")));
    assert_eq!(kind, ErrorType::UnknownTable);
}

#[test]
fn a_row_is_a_row_whatever_its_columns_are_called() {
    let rows = [
        r#""status":"RUN""#,
        r#""status":"END""#,
        r#""status":"BEGIN","event_count":1,"ts_ms":2"#,
        r#""ddl":"create table x (y int)""#,
        r#""op":"weld""#,
        r#""op":"c","source":"web""#,
        r#""op":"c","source":{"schema":"A","table":"B"},"after":{}"#,
        r#""tableChanges":"none""#,
        r#""ts_ms":5"#,
        r#""payload":"x""#,
        r#""payload":{"a":1},"schema":{}"#,
        r#""status":"DONE","ddl":null"#,
        r#""type":"log","data":"x""#,
        r#""aggregate_type":"a","type":"b""#,
        r#""op_type":"D","op_ts":"2024-01-01","pos":"1","before":{}"#,
        r#""specversion":"1.0","data":{}"#,
    ];
    for row in rows {
        let marked =
            format!(r#"{{"ORDER_ID":1,{row},"__op":"c","__schema":"SALES","__table":"ORDERS"}}"#);
        let alone =
            format!(r#"{{{row},"__op":"c","__schema":"SALES","__table":"ORDERS","ORDER_ID":1}}"#);
        for payload in [marked, alone] {
            let decoded = decode(orders(), &[&payload]);
            assert_eq!(
                (decoded.dead_letters.as_slice(), decoded.passed),
                (&[][..], Passed::default()),
                "{payload}"
            );
            assert_eq!(ints(&decoded.changes[0], 0), [Some(1)], "{payload}");
        }
        // Marked by a user property.
        let mut sent = messages(&[format!(r#"{{"ORDER_ID":1,{row}}}"#)]);
        for marks in [
            [("cdc_operation", "c"), ("cdc_schema", "SALES"), ("cdc_table_name", "ORDERS")],
            [("__op", "c"), ("__schema", "SALES"), ("__table", "ORDERS")],
        ] {
            if marks[0].0 == "cdc_operation" && row.contains("after") {
                // That is an envelope.
                continue;
            }
            let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
            sent[0].properties = marks.map(owned).into();
            let decoded = Decoder::new(setup(orders())).decode(&sent, &spools()).unwrap();
            assert_eq!(
                (decoded.dead_letters.len(), decoded.passed),
                (0, Passed::default()),
                "{row}"
            );
            assert_eq!(ints(&decoded.changes[0], 0), [Some(1)], "{row}");
        }
    }
}

#[test]
fn an_array_of_one_event_and_a_byte_order_mark_are_read() {
    let one = event("c", "null", r#"{"ORDER_ID":1}"#);
    let payloads = [format!("[{one}]"), format!(" [ {one} ] "), format!("\u{feff}{one}")];
    let decoded = decode(orders(), &payloads);
    assert_eq!((decoded.dead_letters.len(), decoded.changes[0].len()), (0, 3));
    assert!(refused("[]").1.contains("a JSON array without events"));
    assert_eq!(refused("[{").0, ErrorType::MalformedJson);
}
