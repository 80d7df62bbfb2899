//! What the generated events promise.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::*;

fn config(events: u64) -> Config {
    Config {
        seed: 7,
        rate: Rate::Max,
        events: Some(events),
        start_time: Some("2026-01-01T00:00:00Z".parse().unwrap()),
        ..Config::default()
    }
}

fn events(config: &Config) -> Vec<Event> {
    Generator::new(config).collect()
}

fn json(event: &Event) -> Value {
    serde_json::from_slice(&event.payload).unwrap()
}

#[test]
fn a_seed_and_a_start_time_give_the_same_bytes() {
    let config = config(3_000);
    assert_eq!(events(&config), events(&config));
    assert_ne!(events(&config), events(&Config { seed: 8, ..config.clone() }));
}

#[test]
fn the_shop_opens_with_snapshot_rows_of_customers_and_products() {
    let events = events(&config(151));
    let reads = events.iter().filter(|event| event.operation == Operation::Read).count();
    assert_eq!(reads, 150);
    assert_eq!(events[0].topic, "cdc/oracle/SALES/CUSTOMERS/read");
    assert_eq!(json(&events[149])["source"]["snapshot"], "true");
    assert_eq!(json(&events[150])["source"]["snapshot"], "false");
}

#[test]
fn tables_and_operations_have_their_shares() {
    let changes: Vec<Event> = events(&config(100_000))
        .into_iter()
        .skip(150)
        .filter(|event| !event.payload.is_empty())
        .collect();
    let mut counts: HashMap<(SalesTable, &str), f64> = HashMap::new();
    for event in &changes {
        *counts.entry((event.table, event.operation.letter())).or_default() += 1.0;
    }
    let share = |table: SalesTable, letter: &str| {
        let all: f64 = ["c", "u", "d"].iter().filter_map(|l| counts.get(&(table, *l))).sum();
        100.0 * counts.get(&(table, letter)).copied().unwrap_or(0.0) / all
    };
    let mix = [
        (SalesTable::Orders, [70.0, 25.0, 5.0]),
        (SalesTable::OrderItems, [80.0, 15.0, 5.0]),
        (SalesTable::Customers, [20.0, 75.0, 5.0]),
        (SalesTable::Products, [10.0, 85.0, 5.0]),
        (SalesTable::AuditLog, [100.0, 0.0, 0.0]),
    ];
    for (table, expected) in mix {
        for (letter, expected) in ["c", "u", "d"].into_iter().zip(expected) {
            let found = share(table, letter);
            assert!((found - expected).abs() < 3.0, "{table:?} {letter}: {found} not {expected}");
        }
    }
    for (table, expected) in SalesTable::ALL.into_iter().zip([40.0, 40.0, 10.0, 8.0, 2.0]) {
        let of_table = changes.iter().filter(|event| event.table == table).count();
        let found = 100.0 * of_table as f64 / changes.len() as f64;
        assert!((found - expected).abs() < 2.0, "{table:?}: {found} not {expected}");
    }
}

#[test]
fn every_order_comes_with_an_item_and_a_few_orders_are_worth_an_alert() {
    let events = events(&config(20_000));
    let mut totals = Vec::new();
    for pair in events.windows(2) {
        if (pair[0].table, pair[0].operation) != (SalesTable::Orders, Operation::Create) {
            continue;
        }
        let order = &json(&pair[0])["after"];
        assert_eq!((pair[1].table, pair[1].operation), (SalesTable::OrderItems, Operation::Create));
        assert_eq!(json(&pair[1])["after"]["ORDER_ID"], order["ORDER_ID"]);
        totals.push(order["TOTAL_AMOUNT"].as_str().unwrap().parse::<f64>().unwrap());
    }
    let share = |limit: f64| {
        100.0 * totals.iter().filter(|total| **total > limit).count() as f64 / totals.len() as f64
    };
    assert!((1.0..3.0).contains(&share(10_000.0)), "{} % are above 10,000", share(10_000.0));
    assert_eq!(share(25_000.0), 0.0);
}

/// What the events leave behind, checked as they come.
#[derive(Default)]
struct Referee {
    rows: HashMap<SalesTable, HashMap<u64, Value>>,
}

impl Referee {
    fn apply(&mut self, event: &Event) {
        let envelope = json(event);
        let key = ["ORDER_ID", "ITEM_ID", "CUSTOMER_ID", "PRODUCT_ID", "LOG_ID"];
        let key = key[event.table as usize];
        let rows = self.rows.entry(event.table).or_default();
        let (before, after) = (&envelope["before"], &envelope["after"]);
        if let Some(id) = before[key].as_u64() {
            assert_eq!(rows.remove(&id).as_ref(), Some(before), "before is what was there");
        }
        if let Some(id) = after[key].as_u64() {
            let replaced = rows.insert(id, after.clone());
            assert_eq!(replaced, None, "a created row is new");
        }
        if event.operation == Operation::Create && event.table == SalesTable::OrderItems {
            self.assert_exists(SalesTable::Orders, &after["ORDER_ID"]);
            self.assert_exists(SalesTable::Products, &after["PRODUCT_ID"]);
        }
        if event.operation == Operation::Create && event.table == SalesTable::Orders {
            self.assert_exists(SalesTable::Customers, &after["CUSTOMER_ID"]);
        }
    }

    fn assert_exists(&self, table: SalesTable, id: &Value) {
        let id = id.as_u64().unwrap();
        assert!(self.rows[&table].contains_key(&id), "{table:?} {id} does not exist");
    }
}

#[test]
fn before_images_and_foreign_keys_are_right() {
    let old = Config { history: 200, old_rows: 0.5, documents: true, ..config(50_000) };
    for config in [config(50_000), old] {
        let mut referee = Referee::default();
        for event in events(&config).iter().filter(|event| !event.payload.is_empty()) {
            referee.apply(event);
        }
        let orders = &referee.rows[&SalesTable::Orders];
        for item in referee.rows[&SalesTable::OrderItems].values() {
            assert!(orders.contains_key(&item["ORDER_ID"].as_u64().unwrap()), "an orphan: {item}");
        }
    }
}

#[test]
fn changes_hit_rows_of_hours_days_and_weeks_ago_as_often_as_asked_for() {
    const HOUR_US: i64 = 3_600_000_000;
    let config = Config { history: 2_000, old_rows: 0.3, ..config(40_000) };
    let events = events(&config);
    let snapshot = events.iter().filter(|event| event.operation == Operation::Read).count();
    assert_eq!(snapshot, 150 + 2 * 2_000, "each order of the history has an item");
    let changed = events.iter().filter(|event| {
        event.table == SalesTable::Orders
            && matches!(event.operation, Operation::Update | Operation::Delete)
            && !event.payload.is_empty()
    });
    let ages: Vec<i64> = changed
        .map(|event| {
            let envelope = json(event);
            let made = envelope["before"]["CREATED_AT"].as_i64().unwrap();
            envelope["source"]["ts_us"].as_i64().unwrap() - made
        })
        .collect();
    let share = |from: i64, to: i64| {
        let within = ages.iter().filter(|age| (from * HOUR_US..to * HOUR_US).contains(*age));
        100.0 * within.count() as f64 / ages.len() as f64
    };
    let (recent, old) = (share(0, 1), share(1, 24 * 29));
    assert!((recent - 70.0).abs() < 4.0 && (old - 30.0).abs() < 4.0, "{recent} and {old} %");
    for (from, to) in [(1, 24), (24, 24 * 7), (24 * 7, 24 * 29)] {
        assert!(share(from, to) > 4.0, "{} % are {from} to {to} hours old", share(from, to));
    }
}

#[test]
fn unchanged_lobs_of_old_rows_are_written_as_debezium_does() {
    let lobs = Config { history: 100, old_rows: 1.0, unchanged_lobs: true, ..config(10_000) };
    let events = events(&lobs);
    let updates = events
        .iter()
        .filter(|event| (event.table, event.operation) == (SalesTable::Orders, Operation::Update));
    let after: Vec<String> =
        updates.map(|event| json(event)["after"]["SHIPPING_INFO"].to_string()).collect();
    let unchanged = after.iter().filter(|text| text.contains("__debezium_unavailable_value"));
    let unchanged = unchanged.count();
    assert!(unchanged > 3 * (after.len() - unchanged) && unchanged < after.len(), "{unchanged}");
}

#[test]
fn a_delete_is_followed_by_its_tombstone() {
    let events = events(&config(20_000));
    let mut deletes = 0;
    for pair in events.windows(2) {
        if pair[0].operation == Operation::Delete && !pair[0].payload.is_empty() {
            deletes += 1;
            assert!(pair[1].payload.is_empty());
            assert_eq!((&pair[0].key, &pair[0].topic), (&pair[1].key, &pair[1].topic));
        }
    }
    assert!(deletes > 500, "{deletes} deletes");
}

#[test]
fn items_share_the_partition_key_of_their_order() {
    let item = events(&config(5_000))
        .into_iter()
        .find(|event| event.table == SalesTable::OrderItems && !event.payload.is_empty())
        .unwrap();
    assert_eq!(item.key, format!("order-{}", json(&item)["after"]["ORDER_ID"]));
}

#[test]
fn late_orders_are_ten_seconds_to_four_minutes_late() {
    let created: Vec<i64> = events(&config(50_000))
        .iter()
        .filter(|event| event.table == SalesTable::Orders)
        .filter(|event| event.operation == Operation::Create)
        .map(|event| {
            let after = &json(event)["after"];
            after["CREATED_AT"].as_i64().unwrap() - after["ORDER_DATE"].as_i64().unwrap()
        })
        .collect();
    let late: Vec<&i64> = created.iter().filter(|lateness| **lateness >= 9_000_000).collect();
    let share = 100.0 * late.len() as f64 / created.len() as f64;
    assert!((1.0..3.0).contains(&share), "{share} % are late");
    assert!(late.iter().all(|lateness| (10_000_000..240_000_000).contains(*lateness)));
}

#[test]
fn the_clock_may_run_faster_than_the_events_are_sent() {
    let clock_rate = Some("60/min".parse().unwrap());
    let events = events(&Config { clock_rate, ..config(11) });
    let at = |event: &Event| json(event)["source"]["ts_us"].as_i64().unwrap();
    assert_eq!(at(&events[10]) - at(&events[0]), 10_000_000);
}

#[test]
fn misdated_orders_are_of_2099_and_leave_the_others_as_they_are() {
    let dates = |misdated| -> Vec<i64> {
        let orders = events(&Config { misdated, ..config(20_000) }).into_iter();
        let created = orders.filter(|event| {
            event.table == SalesTable::Orders && event.operation == Operation::Create
        });
        created.map(|event| json(&event)["after"]["ORDER_DATE"].as_i64().unwrap()).collect()
    };
    let (right, wrong) = (dates(0.0), dates(0.02));
    let changed: Vec<i64> =
        right.iter().zip(&wrong).filter(|(a, b)| a != b).map(|(_, wrong)| *wrong).collect();
    let share = 100.0 * changed.len() as f64 / right.len() as f64;
    assert!((1.0..3.0).contains(&share), "{share} % are misdated");
    assert!(changed.iter().all(|date| *date == 4_070_908_800_000_000));
}

#[test]
fn documents_are_as_large_as_asked_for() {
    let items = |xml_items| {
        let orders = events(&Config { xml_items, ..config(5_000) }).into_iter();
        let orders = orders.filter(|event| event.table == SalesTable::Orders);
        let orders = orders.filter(|event| !event.payload.is_empty());
        let text = |event: Event| json(&event).to_string();
        orders.map(|event| text(event).matches("<item ").count()).max().unwrap()
    };
    assert!(items(3) <= 6 && items(500) > 300, "before and after are in one event");
}

#[test]
fn faults_are_marked_and_faulty() {
    let events = events(&Config { faults: 0.05, ..config(20_000) });
    let of = |fault| events.iter().filter(move |event| event.fault == Some(fault));
    assert!(of(Fault::MalformedJson).count() > 200);
    assert!(of(Fault::MalformedJson).all(|e| serde_json::from_slice::<Value>(&e.payload).is_err()));
    for event in of(Fault::BrokenXml) {
        let envelope = json(event);
        assert!(!envelope["after"]["SHIPPING_INFO"].as_str().unwrap().contains("</shipping>"));
    }
    assert!(of(Fault::ExtraColumn).all(|e| json(e)["after"]["LOYALTY_POINTS"].is_u64()));
    let mut clean = events.iter().filter(|event| event.fault != Some(Fault::MalformedJson));
    assert!(
        clean.all(|e| e.payload.is_empty() || serde_json::from_slice::<Value>(&e.payload).is_ok())
    );
}

#[test]
fn unchanged_lobs_are_written_as_debezium_does() {
    let events = events(&Config { unchanged_lobs: true, ..config(20_000) });
    let updates = events
        .iter()
        .filter(|event| event.table == SalesTable::Orders && event.operation == Operation::Update);
    let (mut unchanged, mut changed) = (0, 0);
    for event in updates {
        let envelope = json(event);
        assert_eq!(envelope["before"]["SHIPPING_INFO"], "__debezium_unavailable_value");
        match envelope["after"]["SHIPPING_INFO"].as_str().unwrap() {
            "__debezium_unavailable_value" => unchanged += 1,
            text if text.ends_with("</shipping>") => changed += 1,
            text => unreachable!("{text}"),
        }
    }
    assert!(unchanged > 3 * changed && changed > 0, "{unchanged} unchanged, {changed} changed");
}

#[test]
fn more_documents_are_there_if_they_are_asked_for() {
    let asked = config(20_000);
    let of = |events: &[Event], table, name: &str| -> Vec<String> {
        let of_table = events.iter().filter(|e| e.table == table && !e.payload.is_empty());
        let document = |event: &Event| json(event)["after"][name].as_str().map(str::to_owned);
        of_table.filter_map(document).collect()
    };
    let columns = [
        (SalesTable::Orders, "ORDER_DETAILS", "</order>"),
        (SalesTable::Customers, "ADDRESSES", "</addresses>"),
    ];
    let plain = events(&asked);
    let more = events(&Config { documents: true, with_schema: false, ..asked.clone() });
    let lobs = Config { documents: true, unchanged_lobs: true, ..asked };
    let lobs = events(&lobs);
    for (table, name, end) in columns {
        assert_eq!(of(&plain, table, name), [""; 0]);
        let documents = of(&more, table, name);
        assert!(documents.len() > 1000, "{} {name}", documents.len());
        assert!(documents.iter().all(|text| text.ends_with(end)), "{name}");
        let unchanged = |text: &&String| text.contains("__debezium_unavailable_value");
        let documents = of(&lobs, table, name);
        let unchanged = documents.iter().filter(unchanged).count();
        assert!(unchanged > 500 && unchanged < documents.len() * 9 / 10, "{unchanged} {name}");
    }
}

#[test]
fn the_schema_section_names_the_columns_of_its_table() {
    for documents in [false, true] {
        let events = events(&Config { with_schema: true, documents, ..config(1) });
        let envelope = json(&events[0]);
        let fields = envelope["schema"]["fields"][1]["fields"].as_array().unwrap();
        let names: HashSet<&str> = fields.iter().map(|f| f["field"].as_str().unwrap()).collect();
        let after = envelope["payload"]["after"].as_object().unwrap();
        assert_eq!(names, after.keys().map(String::as_str).collect());
    }
}

#[test]
fn a_file_has_one_event_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.ndjson");
    assert_eq!(write_ndjson(&config(500), &path).unwrap(), 500);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 500);
    assert_eq!(lines[0].as_bytes(), events(&config(1))[0].payload.as_ref());
}
