//! JSON arrays of events: each is what it would be alone, and costs the others nothing.

use super::*;

fn array<P: AsRef<str>>(events: &[P]) -> String {
    let events: Vec<&str> = events.iter().map(AsRef::as_ref).collect();
    format!("[{}]", events.join(", "))
}

fn decode_with(setup: DecoderSetup, payloads: &[String]) -> Decoded {
    let (messages, mut spools) = (messages(payloads), Generations::default());
    messages.iter().for_each(|message| register(&mut spools, message));
    Decoder::new(setup).decode(&messages, &spools).expect("the spool is registered")
}

fn create(id: u32) -> String {
    event("c", "null", &format!(r#"{{"ORDER_ID":{id},"STATUS":"S{id}"}}"#))
}

#[test]
fn the_events_of_an_array_are_rows_with_places_and_ids_of_their_own() {
    let moved = event("u", r#"{"ORDER_ID":1}"#, r#"{"ORDER_ID":3}"#);
    let events = [create(1), create(2), moved, event("d", r#"{"ORDER_ID":2}"#, "null")];
    let payloads = [create(9), array(&events), create(9)];
    let decoded = decode_with(setup(orders()), &payloads);
    assert_eq!(decoded.dead_letters, vec![]);
    let changes = &decoded.changes[0];
    assert_eq!(ints(changes, 0), [9, 1, 2, 1, 3, 2, 9].map(Some));
    use Operation::{Create, Delete, Update};
    assert_eq!(changes.operations, [Create, Create, Create, Delete, Update, Delete, Create]);
    let id = changes.offsets[1].to_string();
    let ids = ["", "#event2", "#event3#before", "#event3", "#event4"].map(|of| format!("{id}{of}"));
    let shown = texts(changes, SystemColumn::EventId);
    assert_eq!(shown[1..6], ids.each_ref().map(|id| Some(id.as_str())));
    let mut positions = changes.positions.clone();
    assert!(positions.is_sorted());
    positions.dedup();
    assert_eq!(positions.len(), 6, "the rows of a changed key share theirs");
}

#[test]
fn events_that_say_nothing_of_rows_and_truncates_are_what_they_are_alone() {
    let mut table = orders();
    table.options.truncate = Truncate::Apply;
    let marker =
        r#"{"status":"BEGIN","id":"1","ts_ms":1,"event_count":null,"data_collections":null}"#;
    let events =
        [create(1), "null".to_owned(), marker.to_owned(), event("t", "null", "null"), create(2)];
    let decoded = decode_with(setup(table), &[array(&events)]);
    assert_eq!(decoded.dead_letters, vec![]);
    assert_eq!((decoded.passed.tombstones, decoded.passed.transaction_markers), (1, 1));
    let changes = &decoded.changes[0];
    let truncated = changes.truncations[0].position;
    assert!(changes.positions[0] < truncated && truncated < changes.positions[1]);
}

#[test]
fn a_bad_event_costs_itself_and_is_named() {
    let bad = event("c", "null", r#"{"ORDER_ID":"x"}"#);
    let payload = array(&[create(1), bad, create(2), "{}".to_owned()]);
    let mut decoded = decode_with(setup(orders()), std::slice::from_ref(&payload));
    assert_eq!(ints(&decoded.changes[0], 0), [Some(1), Some(2)]);
    let letter = decoded.dead_letters.remove(0);
    assert!(decoded.dead_letters.is_empty(), "one message is one letter");
    assert_eq!((letter.error_type, &*letter.payload), (ErrorType::InvalidKey, payload.as_bytes()));
    assert_eq!(
        (letter.table.as_deref(), letter.column.as_deref()),
        (Some("SALES.ORDERS"), Some("order_id"))
    );
    let told = &letter.message;
    assert!(told.starts_with("event 2 of 4 in its JSON array: table SALES.ORDERS"), "{told}");
    assert!(
        told.contains("; event 4 of 4 in its JSON array: the payload is no Debezium"),
        "{told}"
    );
}

#[test]
fn an_array_with_an_event_of_a_table_to_be_registered_comes_again_as_a_whole() {
    let config =
        DecodeConfig { unknown_tables: UnknownTables::Register, ..DecodeConfig::default() };
    let setup = DecoderSetup { config, ..setup(orders()) };
    let new = create(7).replace("ORDERS", "ITEMS");
    let payload = array(&[create(1), "{}".to_owned(), new]);
    let decoded = decode_with(setup, &[payload, create(2)]);
    assert_eq!(decoded.held, [Offset::new(7, 0)]);
    assert_eq!(decoded.dead_letters, vec![]);
    assert_eq!(ints(&decoded.changes[0], 0), [Some(2)]);
}

#[test]
fn arrays_without_places_are_dead_letters_that_say_why() {
    let many = vec!["{}"; 16_385];
    let decoded = decode_with(setup(orders()), &[array(&many)]);
    let told = &decoded.dead_letters[0].message;
    assert!(told.contains("16385 events, and a message may have 16384"), "{told}");
    // In the order of a queue that had none before.
    let (kind, told) = refused(&array(&[create(1), create(2)]));
    assert_eq!(kind, ErrorType::UnknownEnvelope);
    assert!(told.contains("no places of their own"), "{told}");
}

#[test]
fn what_is_announced_of_the_size_of_an_epoch_goes_by_events() {
    let mut messages = messages(&[array(&vec!["{}"; 16_000])]);
    messages[0].topic = "t".repeat(70_000);
    let mut spools = Generations::default();
    messages.iter().for_each(|message| register(&mut spools, message));
    let result = Decoder::new(setup(orders())).decode(&messages, &spools);
    assert!(matches!(result, Err(DecodeError::EpochTooLarge { .. })));
}
