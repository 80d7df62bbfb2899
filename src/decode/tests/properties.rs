use proptest::prelude::*;

use super::*;
use crate::decode::fuzzing::account;

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("\"__debezium_unavailable_value\"".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| serde_json::json!(number).to_string()),
        ".{0,12}".prop_map(|text| serde_json::json!(text).to_string()),
        "[0-9]{1,45}(\\.[0-9]{1,5})?([eE]-?[0-9]{1,3})?".prop_map(|text| format!("\"{text}\"")),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        let name = prop_oneof!["ORDER_ID|order_id|STATUS|TOTAL_AMOUNT|ORDER_DATE|X", ".{0,3}"];
        let member = (name, inner.clone())
            .prop_map(|(name, value)| format!("{}:{value}", serde_json::json!(name)));
        prop_oneof![
            prop::collection::vec(inner, 0..3).prop_map(|all| format!("[{}]", all.join(","))),
            prop::collection::vec(member, 0..5).prop_map(|all| format!("{{{}}}", all.join(","))),
        ]
    })
}

/// Mostly rows of `orders`, some of them with odd values.
fn row() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => (0..5, json()).prop_map(|(id, v)| format!(r#"{{"ORDER_ID":{id},"STATUS":{v}}}"#)),
        2 => (0..5, json()).prop_map(|(id, v)| format!(r#"{{"ORDER_ID":{id},"TOTAL_AMOUNT":{v}}}"#)),
        1 => (json(), json()).prop_map(|(id, v)| format!(r#"{{"ORDER_ID":{id},"ORDER_DATE":{v}}}"#)),
        1 => json(),
    ]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let change =
        ("[cudrtmx]", row(), row()).prop_map(|(op, before, after)| event(&op, &before, &after));
    let wrapped = (json(), row()).prop_map(|(section, row)| {
        format!(r#"{{"schema":{section},"payload":{}}}"#, event("c", "null", &row))
    });
    let flat = (row(), json(), "[cudrtm]").prop_map(|(row, deleted, op)| {
        let start = row.strip_suffix('}').unwrap_or("{\"ORDER_ID\":1");
        format!(r#"{start},"__op":"{op}","__deleted":{deleted},"__table":"ORDERS"}}"#)
    });
    let cloud = ("[cudrtmx]", row()).prop_map(|(op, row)| {
        format!(
            r#"{{"specversion":"1.0","iodebeziumop":"{op}","iodebeziumtable":"ORDERS","data":{{"before":{row},"after":{row}}}}}"#
        )
    });
    prop_oneof![
        6 => change.prop_map(String::into_bytes),
        2 => wrapped.prop_map(String::into_bytes),
        2 => flat.prop_map(String::into_bytes),
        2 => cloud.prop_map(String::into_bytes),
        1 => row().prop_map(String::into_bytes),
        1 => json().prop_map(String::into_bytes),
        1 => Just(Vec::new()),
        1 => Just(br#"{"ts_ms":1}"#.to_vec()),
        1 => Just(br#"{"status":"END","id":"1","event_count":1}"#.to_vec()),
        1 => Just(br#"{"ddl":"x"}"#.to_vec()),
    ]
}

/// Mostly none, or those of the header form.
fn properties() -> impl Strategy<Value = Vec<(String, String)>> {
    let header =
        ("[cudrtx]|insert|delete", row(), any::<bool>()).prop_map(|(op, row, is_named)| {
            let property = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            let mut all = vec![property("cdc_operation", &op), property("cdc_before", &row)];
            all.extend(is_named.then(|| property("cdc_table_name", "SALES.ORDERS")));
            all
        });
    prop_oneof![3 => Just(Vec::new()), 1 => header]
}

proptest! {
    #[test]
    fn every_message_is_accounted_for_exactly_once(
        sent in prop::collection::vec((payload(), properties()), 0..20)
    ) {
        let (payloads, properties): (Vec<_>, Vec<_>) = sent.into_iter().unzip();
        let mut messages = messages(&payloads);
        for (message, properties) in messages.iter_mut().zip(properties) {
            message.properties = properties;
        }
        let mut decoder = Decoder::new(setup(orders()));
        account(&messages, &decoder.decode(&messages, &spools()).expect("registered"));
    }

    #[test]
    fn batch_borders_make_no_difference(payloads in prop::collection::vec(payload(), 2..12), cut in 0usize..12) {
        let cut = cut.min(payloads.len());
        let all = messages(&payloads);
        let mut decoder = Decoder::new(setup(orders()));
        let mut ids = |messages: &[Message]| -> Vec<(u64, Option<Operation>)> {
            let decoded = decoder.decode(messages, &spools()).expect("registered");
            let rows = |c: &Changelog| -> Vec<_> {
                let rows = c.offsets.iter().map(|o| o.id).zip(c.operations.iter().copied().map(Some));
                rows.chain(c.truncations.iter().map(|t| (t.offset.id, None))).collect()
            };
            let mut ids: Vec<_> = decoded.changes.iter().flat_map(rows).collect();
            ids.sort_by_key(|(id, _)| *id);
            ids
        };
        let parts = [ids(&all[..cut]), ids(&all[cut..])].concat();
        prop_assert_eq!(parts, ids(&all));
    }

    #[test]
    fn garbage_is_one_dead_letter_each(garbage in prop::collection::vec(any::<u8>(), 1..200)) {
        prop_assume!(garbage.trim_ascii() != b"null");
        let decoded = decode(orders(), &[&garbage]);
        prop_assert_eq!(decoded.dead_letters.len(), 1);
        prop_assert_eq!(&decoded.dead_letters[0].payload[..], &garbage[..]);
    }

    #[test]
    fn a_damaged_event_is_decoded_or_refused(place in 0usize..400, byte: u8, length in 0usize..400) {
        let row = r#"{"ORDER_ID":1,"STATUS":"\u00e9","TOTAL_AMOUNT":"15.00","X":[1,"a"]}"#;
        let mut payload = event("u", row, row).into_bytes();
        if let Some(target) = payload.get_mut(place) {
            *target = byte;
        }
        payload.truncate(payload.len().min(length.max(1)));
        let decoded = decode(orders(), &[&payload]);
        let rows: usize = decoded.changes.iter().map(|c| usize::from(!c.is_empty())).sum();
        prop_assert_eq!(rows + decoded.dead_letters.len(), 1);
    }
}

#[test]
fn exponents_count_as_the_digits_that_postgres_writes_for_them() {
    let numbers = |count: usize| vec!["1e999"; count].join(",");
    let row =
        |count: usize| event("c", "null", &format!(r#"{{"ORDER_ID":1,"N":[{}]}}"#, numbers(count)));
    assert_eq!(decode(orders(), &[row(1000)]).dead_letters, []);
    let (kind, message) = refused(&row(1100));
    assert_eq!(kind, ErrorType::UndeclaredTooLarge, "{message}");
    let fields: Vec<String> = (0..1100).map(|at| format!(r#""N{at}":1e999"#)).collect();
    let limits = Limits { max_undeclared_columns: 2000.try_into().unwrap(), ..Limits::default() };
    let mut decoder = Decoder::new(DecoderSetup { limits, ..setup(orders()) });
    let many = event("c", "null", &format!(r#"{{"ORDER_ID":1,{}}}"#, fields.join(",")));
    let decoded = decoder.decode(&messages(&[many]), &spools()).unwrap();
    assert_eq!(decoded.dead_letters[0].error_type, ErrorType::UndeclaredTooLarge);
}
