use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// How often each message is in the result: rows count once per message.
fn accounted(decoded: &Decoded) -> HashMap<u64, usize> {
    let mut seen = HashMap::new();
    for changes in &decoded.changes {
        let mut ids: Vec<u64> = changes.offsets.iter().map(|offset| offset.id).collect();
        assert!(ids.is_sorted());
        ids.dedup();
        let truncates = changes.truncations.iter().map(|truncation| truncation.offset.id);
        ids.into_iter().chain(truncates).for_each(|id| *seen.entry(id).or_default() += 1);
    }
    decoded.dead_letters.iter().for_each(|d| *seen.entry(d.offset.id).or_default() += 1);
    seen
}

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
    prop_oneof![
        6 => change.prop_map(String::into_bytes),
        1 => json().prop_map(String::into_bytes),
        1 => Just(Vec::new()),
        1 => Just(br#"{"ts_ms":1}"#.to_vec()),
        1 => Just(br#"{"status":"END","id":"1"}"#.to_vec()),
        1 => Just(br#"{"ddl":"x"}"#.to_vec()),
    ]
}

proptest! {
    #[test]
    fn every_message_is_accounted_for_exactly_once(payloads in prop::collection::vec(payload(), 0..20)) {
        let decoded = decode(orders(), &payloads);
        let seen = accounted(&decoded);
        prop_assert!(seen.values().all(|count| *count == 1));
        let Passed { tombstones, heartbeats, transaction_markers, schema_changes } = decoded.passed;
        let passed = tombstones + heartbeats + transaction_markers + schema_changes;
        prop_assert_eq!(seen.len() + passed, payloads.len());
        for letter in &decoded.dead_letters {
            prop_assert_eq!(&letter.payload[..], &payloads[letter.offset.id as usize][..]);
            prop_assert!(letter.message.chars().count() <= 500);
        }
    }

    #[test]
    fn batch_borders_make_no_difference(payloads in prop::collection::vec(payload(), 2..12), cut in 0usize..12) {
        let cut = cut.min(payloads.len());
        let all = messages(&payloads);
        let mut decoder = Decoder::new(vec![Arc::new(orders())], &DecodeConfig::default());
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
