//! Queries that read columns which no table declares.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;

use super::*;
use crate::model::{SchemaChange, SchemaChangeKind, SeenType, SourceTable, SureType, TableOrigin};

const CHANNELS: &str = "-- writes: postgres channels\n-- key: order_id\n\
    SELECT o.order_id, o.channel, c.tier FROM orders o JOIN customers c USING (customer_id)";
const ALL: &str = "-- writes: postgres everything\n-- key: order_id\nSELECT * FROM orders";

fn seen(table: &str, column: &str) -> SchemaChange {
    SchemaChange {
        source: SourceTable { schema: "SALES".into(), table: table.into() },
        column: column.into(),
        kind: SchemaChangeKind::Added,
        seen: SeenType::Text,
        offset: Offset::new(1, 1),
    }
}

/// Plans the files over these tables, with the columns that events have shown.
async fn with_registry(
    tables: &[Arc<Table>],
    registry: &[SchemaChange],
    files: &[SqlFile],
) -> Result<Transforms, Vec<SqlError>> {
    let undeclared = UndeclaredNames::ColumnsWait;
    Transforms::plan(PlanRequest { registry, undeclared, ..PlanRequest::new(tables, files) }).await
}

async fn known(registry: &[SchemaChange], texts: &[(&str, &str)]) -> Transforms {
    let planned = with_registry(&tables(), registry, &files(texts)).await;
    planned.unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn names<'a>(transforms: &'a Transforms, result: &str) -> Vec<&'a str> {
    let result = transforms.results().find(|known| known.name == result).expect("a result");
    result.schema.fields().iter().map(|field| field.name().as_str()).collect()
}

fn reasons(transforms: &Transforms) -> Vec<String> {
    transforms.pending().iter().map(|waiting| waiting.reason.to_string()).collect()
}

#[tokio::test]
async fn a_file_waits_for_its_column_and_its_readers_wait_for_it() {
    let reader = "-- writes: postgres t3\n-- key: order_id\nSELECT order_id FROM channels";
    let texts = [("all", ALL), ("channels", CHANNELS), ("reader", reader)];
    let transforms = known(&[seen("CUSTOMERS", "CHANNEL"), seen("ORDERS", "OTHER")], &texts).await;
    assert_eq!(transforms.results().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["all"]);
    let said = reasons(&transforms);
    let expected = "channels.sql:3:20: unknown column channel in orders. If events will add it, the transform waits";
    assert!(said[0].starts_with(expected), "{said:?}");
    assert_eq!(said[1..], ["reader.sql: needs the result channels, which waits"]);
    assert!(transforms.awaits(&seen("ORDERS", "CHANNEL")));
    assert!(transforms.awaits(&seen("ORDERS", "channel")));
    assert!(!transforms.awaits(&seen("CUSTOMERS", "CHANNEL")));
    assert!(!transforms.awaits(&seen("ORDERS", "OTHER")));
}

#[tokio::test]
async fn a_slip_of_the_hand_is_told_before_all_else() {
    for (written, meant) in
        [("amuont", Some("amount")), ("custmer_id", Some("customer_id")), ("channel", None)]
    {
        let text = format!(
            "-- writes: postgres t\n-- key: order_id\nSELECT order_id, {written} FROM orders"
        );
        let said = reasons(&known(&[], &[("x", &text)]).await).remove(0);
        let guess = meant.map_or(".".to_owned(), |meant| format!("; did you mean {meant}?"));
        let expected = format!("x.sql:3:18: unknown column {written} in orders{guess} If events");
        assert!(said.starts_with(&expected), "{said}");
    }
}

#[tokio::test]
async fn a_column_that_events_have_shown_is_there_for_who_reads_it_and_for_nobody_else() {
    let changes = "-- writes: postgres log\nSELECT event_id, channel FROM orders_changes";
    let texts = [("all", ALL), ("channels", CHANNELS), ("log", changes)];
    let transforms = known(&[seen("ORDERS", "CHANNEL"), seen("ORDERS", "OTHER")], &texts).await;
    assert_eq!(reasons(&transforms), Vec::<String>::new());
    assert_eq!(names(&transforms, "channels"), ["order_id", "channel", "tier"]);
    assert_eq!(names(&transforms, "log"), ["event_id", "channel"]);
    assert_eq!(names(&transforms, "all"), ["order_id", "customer_id", "order_date", "amount"]);
    let orders = transforms.tables().iter().find(|table| table.name == "orders").expect("orders");
    assert_eq!((orders.columns.len(), orders.declared().len()), (5, 4));
    assert_eq!(orders.learned.fields, ["CHANNEL"]);
    // Whoever does not read it keeps its definition, and so its rows.
    let before = known(&[], &[("all", ALL)]).await;
    let definition = |transforms: &Transforms| {
        transforms.results().find(|r| r.name == "all").map(|r| r.definition.clone())
    };
    assert_eq!(definition(&before), definition(&transforms));
}

#[tokio::test]
async fn a_column_of_one_of_several_tables_is_found_if_only_one_has_it() {
    let text = CHANNELS.replace("o.channel", "channel");
    let texts = [("channels", text.as_str())];
    let of_one = known(&[seen("ORDERS", "CHANNEL")], &texts).await;
    assert_eq!(reasons(&of_one), Vec::<String>::new());
    let of_none = reasons(&known(&[], &texts).await);
    assert!(of_none[0].contains("unknown column channel in orders or customers"), "{of_none:?}");
    let of_both = known(&[seen("ORDERS", "CHANNEL"), seen("CUSTOMERS", "CHANNEL")], &texts).await;
    let of_both = reasons(&of_both);
    assert!(of_both[0].contains("which may be of orders or customers: write whose"), "{of_both:?}");
}

#[tokio::test]
async fn what_is_no_column_of_a_table_is_an_error_at_once() {
    let text = "-- writes: postgres t\n-- key: a\nSELECT s.a, s.b FROM (SELECT order_id AS a FROM orders) s";
    let planned = with_registry(&tables(), &[], &files(&[("x", text)])).await;
    let errors = planned.err().expect("an error");
    assert!(errors[0].to_string().starts_with("x.sql:3:"), "{errors:?}");
}

#[tokio::test]
async fn a_file_that_misuses_an_undeclared_column_waits_and_says_why() {
    let text = "-- writes: postgres t\n-- key: order_id\n\
        SELECT order_id FROM orders WHERE array_length(channel) > 1";
    let transforms = known(&[seen("ORDERS", "CHANNEL")], &[("all", ALL), ("x", text)]).await;
    let said = reasons(&transforms);
    assert!(said.len() == 1 && said[0].contains("array_length"), "{said:?}");
    assert_eq!(transforms.results().count(), 1);
}

#[tokio::test]
async fn a_file_waits_for_a_table_where_tables_may_come() {
    let visits = "-- writes: postgres v\n-- key: id\nSELECT id FROM visits";
    let log = "-- writes: postgres l\nSELECT event_id FROM visits_changes";
    let texts = [("all", ALL), ("v", visits), ("log", log)];
    let plan = |undeclared| {
        let files = files(&texts);
        async move {
            let tables = tables();
            let request = PlanRequest { undeclared, ..PlanRequest::new(&tables, &files) };
            Transforms::plan(request).await
        }
    };
    let transforms = plan(UndeclaredNames::ColumnsAndTablesWait).await.expect("a plan");
    assert_eq!(transforms.results().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["all"]);
    let said = reasons(&transforms);
    assert_eq!(said.len(), 2, "{said:?}");
    for reason in &said {
        assert!(reason.contains("needs table visits, which no event has shown"), "{said:?}");
    }
    let errors = plan(UndeclaredNames::ColumnsWait).await.err().expect("errors");
    assert_eq!(errors.len(), 2, "{errors:?}");
}

/// Points, whose type the source has named.
fn points(seen: SeenType) -> SchemaChange {
    SchemaChange { seen, ..self::seen("ORDERS", "POINTS") }
}

const WHOLE: SeenType = SeenType::Sure(SureType::Bigint);
const PLAIN: &str =
    "-- writes: postgres plain\n-- key: order_id\nSELECT order_id, points FROM orders";
const READER: &str = "-- writes: postgres reader\n-- key: order_id\nSELECT order_id FROM plain";

#[tokio::test]
async fn a_result_whose_target_does_not_fit_waits_and_its_column_is_watched() {
    let texts = [("all", ALL), ("plain", PLAIN), ("reader", READER)];
    let registry = [points(WHOLE)];
    let mut transforms = known(&registry, &texts).await;
    let may_wait = ["all", "plain", "reader"].map(|result| transforms.may_wait(result));
    assert_eq!(may_wait, [false, true, true]);

    let unfit = BTreeMap::from([("plain".to_owned(), "its target is narrow".to_owned())]);
    transforms.set_aside(&unfit);
    assert_eq!(transforms.results().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["all"]);
    let expected =
        ["plain.sql: its target is narrow", "reader.sql: needs the result plain, which waits"];
    assert_eq!(reasons(&transforms), expected);
    assert!(transforms.awaits(&points(SeenType::Json)));
    assert!(!transforms.awaits(&points(WHOLE)));
}

#[tokio::test]
async fn who_reads_a_result_that_has_got_another_type_waits_if_it_makes_no_sense_any_more() {
    let summed = "-- writes: postgres summed\n-- key: order_id\n\
        SELECT order_id, SUM(points) AS points FROM plain GROUP BY order_id";
    let texts = [("all", ALL), ("plain", PLAIN), ("summed", summed)];
    let names = |transforms: &Transforms| {
        transforms.results().map(|result| result.name.clone()).collect::<Vec<_>>()
    };
    let before = known(&[points(WHOLE)], &texts).await;
    assert_eq!(names(&before), ["all", "plain", "summed"]);
    let after = known(&[points(SeenType::Json)], &texts).await;
    assert_eq!(names(&after), ["all", "plain"]);
    assert!(reasons(&after)[0].starts_with("summed.sql"), "{:?}", reasons(&after));
}

#[tokio::test]
async fn what_is_wrong_with_a_table_that_no_file_declares_is_the_affair_of_who_reads_it() {
    let wrong = "-- writes: postgres x\n-- key: order_id\nSELECT order_id, SUM(note) AS n FROM extra GROUP BY 1";
    let mut table = tables().remove(0).as_ref().clone();
    table.name = "extra".to_owned();
    table.source.table = "EXTRA".to_owned();
    table.columns[1].name = "note".to_owned();
    table.columns[1].data_type = DataType::Utf8;
    for origin in [TableOrigin::Declared, TableOrigin::Discovered { has_key: true }] {
        table.origin = origin;
        let all: Vec<_> = tables().into_iter().chain([Arc::new(table.clone())]).collect();
        let files = files(&[("all", ALL), ("x", wrong)]);
        let planned = with_registry(&all, &[], &files).await;
        assert_eq!(planned.is_ok(), table.is_discovered());
        if let Ok(transforms) = planned {
            assert_eq!(transforms.results().count(), 1);
            assert!(reasons(&transforms)[0].starts_with("x.sql"), "{:?}", reasons(&transforms));
        }
    }
}
