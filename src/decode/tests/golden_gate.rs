//! Operations of Oracle GoldenGate, as its JSON formatter writes them.

use super::*;

const META: &str = r#""op_ts":"2024-01-23 08:53:20.000000","current_ts":"2024-01-23T08:53:21.123000","pos":"00000000000000001234""#;

/// An operation with its rows in `before` and `after`.
fn operation(op_type: &str, images: &str) -> String {
    format!(r#"{{"table":"SALES.ORDERS","op_type":"{op_type}",{META}{images}}}"#)
}

fn decoded(payloads: &[String]) -> Decoded {
    let decoded = decode(orders(), payloads);
    assert_eq!(decoded.dead_letters, []);
    decoded
}

#[test]
fn operations_are_changes_with_their_rows_and_times() {
    let decoded = decoded(&[
        operation("I", r#","after":{"ORDER_ID":1,"STATUS":"NEW"}"#),
        operation("U", r#","before":{},"after":{"ORDER_ID":1,"STATUS":"PAID"}"#),
        operation("D", r#","before":{"ORDER_ID":1,"STATUS":"PAID"},"after":null"#),
        operation("T", ""),
        operation(
            "I",
            r#","primary_keys":["ORDER_ID"],"tokens":{"L":"2774","R":"AAD"},"after":{"ORDER_ID":2}"#,
        ),
    ]);
    let changes = &decoded.changes[0];
    let expected = [Operation::Create, Operation::Update, Operation::Delete, Operation::Create];
    assert_eq!(changes.operations, expected);
    assert_eq!(ints(changes, 0), [Some(1), Some(1), Some(1), Some(2)]);
    assert_eq!(changes.truncations.len(), 1);
    let source_ts = changes.table.system_column(SystemColumn::SourceTs);
    assert_eq!(micros(changes, source_ts), [Some(1_706_000_000_000_000); 4]);
    assert_eq!(texts(changes, SystemColumn::ExtraFields), [None; 4]);
    let scns = [None, None, None, crate::model::Scn::from_digits("2774")];
    assert_eq!(changes.scns, scns);
}

#[test]
fn a_row_with_op_type_is_the_same_without_images() {
    let row = |op_type: &str, table: &str| {
        format!(
            r#"{{"table":"{table}","op_type":"{op_type}",{META},"tokens":{{}},"ORDER_ID":2,"STATUS":"FLAT","NOTE":"x"}}"#
        )
    };
    let decoded = decoded(&[
        row("I", "SALES.ORDERS"),
        row("U", "ORCL.SALES.ORDERS"),
        row("D", "SALES.ORDERS"),
        format!(r#"{{"table":"SALES.ORDERS","op_type":"T",{META}}}"#),
    ]);
    let changes = &decoded.changes[0];
    assert_eq!(changes.operations, [Operation::Create, Operation::Update, Operation::Delete]);
    assert_eq!(ints(changes, 0), [Some(2); 3]);
    assert_eq!(texts(changes, SystemColumn::ExtraFields), [Some(r#"{"NOTE":"x"}"#); 3]);
    assert_eq!(changes.truncations.len(), 1);
}

#[test]
fn a_column_that_an_update_does_not_have_is_unchanged_and_one_that_an_insert_lacks_is_null() {
    let decoded = decoded(&[
        operation(
            "I",
            r#","after":{"ORDER_ID":1,"ORDER_ID_isMissing":false,"STATUS":null,"STATUS_isMissing":true}"#,
        ),
        operation(
            "U",
            r#","after":{"ORDER_ID":1,"STATUS":null,"STATUS_isMissing":false,"CUSTOMER_ID":null,"CUSTOMER_ID_isMissing":true}"#,
        ),
    ]);
    let changes = &decoded.changes[0];
    // All but the key and the status of the second row.
    let unchanged: Vec<usize> = changes.unchanged.iter().map(|cell| cell.column).collect();
    assert_eq!(unchanged, [1, 2, 4, 5, 6, 7]);
    assert!(changes.unchanged.iter().all(|cell| cell.row == 1));
    assert!(changes.batch.column(3).is_null(0) && changes.batch.column(3).is_null(1));
    assert_eq!(texts(changes, SystemColumn::ExtraFields), [None; 2]);
}

#[test]
fn an_update_of_the_key_deletes_the_old_row() {
    let decoded = decoded(&[operation(
        "U",
        r#","before":{"ORDER_ID":1,"STATUS":"NEW"},"after":{"ORDER_ID":9,"STATUS":"NEW"}"#,
    )]);
    let changes = &decoded.changes[0];
    assert_eq!(changes.operations, [Operation::Delete, Operation::Update]);
    assert_eq!(ints(changes, 0), [Some(1), Some(9)]);
}

#[test]
fn what_is_no_operation_is_told() {
    let (kind, message) = refused(&operation("X", ""));
    assert_eq!(kind, ErrorType::UnknownEnvelope);
    assert!(message.contains("op_type is none of I, U, D and T"), "{message}");
    let (kind, message) = refused(&operation("U", r#","before":{"ORDER_ID":1},"after":null"#));
    assert_eq!((kind, message.contains("without after")), (ErrorType::UnknownEnvelope, true));
    let unknown = operation("I", r#","after":{"ID":1}"#).replace("ORDERS", "OTHERS");
    assert_eq!(refused(&unknown).0, ErrorType::UnknownTable);
    // A flattened row may have such columns.
    let row =
        r#"{"ORDER_ID":1,"op_type":"D","pos":1,"__op":"c","__schema":"SALES","__table":"ORDERS"}"#;
    assert_eq!(decoded(&[row.to_owned()]).changes[0].operations, [Operation::Create]);
}
