//! Rows out of XML columns: the scenarios X1 to X9, by files into PostgreSQL.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tidemark_dev::stack::Settings;

use crate::shop::Shop;

/// A scenario: events, and what PostgreSQL shows after them.
struct Case {
    name: &'static str,
    events: Vec<String>,
    shown: Vec<(String, String)>,
}

/// The columns of every landing table besides its own.
const LANDING: &str = "operation TEXT NOT NULL, source_ts TIMESTAMP, extra_fields JSONB, event_id TEXT NOT NULL UNIQUE, \
    change_seq BIGINT NOT NULL, unavailable_columns JSONB";
const ITEMS: &str = "product_id BIGINT, name TEXT, quantity INTEGER, price NUMERIC(10,2), \
    subtotal NUMERIC(15,2) GENERATED ALWAYS AS (quantity * price) STORED, currency TEXT, extracted_from TEXT";
const COLUMNS: &str = "columns = [{ name = 'product_id', path = '@product_id', type = 'BIGINT' }, { name = 'name', path = 'name' }, \
    { name = 'quantity', path = '@quantity', type = 'INTEGER', default = '1' }, \
    { name = 'price', path = '@price', type = 'DECIMAL(10,2)' }, { name = 'currency', path = '../@currency' }]";

/// Source tables that differ in their policies: name, `malformed_xml`, `missing_attributes`.
const TABLES: [(&str, &str, &str); 4] = [
    ("orders", "DLQ", "NULL"),
    ("skipped", "SKIP", "DEFAULT"),
    ("checked", "DLQ", "FAIL"),
    ("strict", "FAIL", "FAIL"),
];

fn declare(sql: &Path) {
    let write = |name: &str, text: &str| {
        let path = sql.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("written");
    };
    let mut ods = String::new();
    for (table, ..) in TABLES {
        let source = table.to_uppercase();
        let columns = "(id BIGINT PRIMARY KEY, status VARCHAR)";
        write(
            &format!("tables/{table}.sql"),
            &format!(
                "CREATE TABLE {table} {columns} WITH (source = 'SALES.{source}', ttl = 'none')"
            ),
        );
        ods += &format!("CREATE TABLE cdc_{table} (id BIGINT, status TEXT, {LANDING});\n");
        let own = format!("order_id BIGINT NOT NULL, row_no INTEGER NOT NULL, {ITEMS}, {LANDING}");
        ods += &format!("CREATE TABLE cdc_{table}_items ({own});\n");
    }
    let customers = "CREATE TABLE customers (region VARCHAR, no INTEGER, addresses BYTEA, PRIMARY KEY (region, no)) \
        WITH (source = 'SALES.CUSTOMERS', ttl = '1m')";
    write("tables/customers.sql", customers);
    ods += &format!(
        "CREATE TABLE cdc_customers (region TEXT, no INTEGER, addresses BYTEA, {LANDING});\n"
    );
    let address = "region TEXT, no INTEGER, row_no INTEGER, kind TEXT, street TEXT, city TEXT, phone2 TEXT, extracted_from TEXT";
    ods += &format!("CREATE TABLE cdc_customer_addresses_extracted ({address}, {LANDING});\n");
    // cdc_levels is created by the processor.
    write("ods/01_tables.sql", &ods);
    let totals = "-- writes: postgres order_totals\n-- key: order_id\nSELECT o.id AS order_id, o.status, count(i.row_no) AS items, \
        sum(i.quantity * i.price) AS total FROM orders o LEFT JOIN orders_items i ON i.order_id = o.id GROUP BY o.id, o.status";
    write("transforms/order_totals.sql", totals);
    let log = "-- writes: postgres item_log\nSELECT event_id, op, order_id, row_no, product_id FROM orders_items_changes";
    write("transforms/item_log.sql", log);
}

fn mappings() -> String {
    let mut text = String::new();
    for (table, malformed, missing) in TABLES {
        let source = table.to_uppercase();
        text += &format!(
            "[[xml]]\nsource_table = 'SALES.{source}'\nxml_column = 'DETAILS'\ntarget_table = '{table}_items'\nxpath = './/item'\n\
             parent_key = 'order_id'\nmalformed_xml = '{malformed}'\nmissing_attributes = '{missing}'\n{COLUMNS}\n\n"
        );
    }
    text + "[[xml]]\nsource_table = 'SALES.CUSTOMERS'\nxml_column = 'ADDRESSES'\ntarget_table = 'customer_addresses_extracted'\n\
        xpath = '/addresses/address'\ncolumns = [{ name = 'kind', path = '@kind' }, { name = 'street', path = 'street/text()' }, \
        { name = 'city', path = './/city' }, { name = 'phone2', path = 'phone[2]' }]\n\n\
        [[xml]]\nsource_table = 'SALES.ORDERS'\nxml_column = 'DETAILS'\ntarget_table = 'levels'\nxpath = '//part'\n\
        columns = [{ name = 'part', path = '@no', type = 'INTEGER' }, { name = 'above', path = '../@no', type = 'INTEGER' }, \
        { name = 'top', path = '../../@no', type = 'INTEGER' }]\n\n"
}

/// An event whose document is this JSON value; none without one.
fn event(table: &str, op: &str, id: u32, document: Option<&str>) -> String {
    let details = document.map(|json| format!(r#","DETAILS":{json}"#)).unwrap_or_default();
    let row = format!(r#"{{"ID":{id},"STATUS":"S{id}"{details}}}"#);
    let (before, after) = match op {
        "d" => (row.as_str(), "null"),
        _ => ("null", row.as_str()),
    };
    format!(
        r#"{{"before":{before},"after":{after},"source":{{"ts_ms":1706000000000,"schema":"SALES","table":"{}"}},"op":"{op}"}}"#,
        table.to_uppercase()
    )
}

fn with_xml(table: &str, id: u32, xml: &str) -> String {
    event(table, "c", id, Some(&serde_json::Value::from(xml).to_string()))
}

fn customer(no: u32, document: &[u8]) -> String {
    let document = STANDARD.encode(document);
    let row = format!(r#"{{"REGION":"EU","NO":{no},"ADDRESSES":"{document}"}}"#);
    let schema = r#"{"type":"struct","fields":[{"field":"after","type":"struct","fields":[{"field":"ADDRESSES","type":"bytes"}]}]}"#;
    format!(
        r#"{{"schema":{schema},"payload":{{"before":null,"after":{row},"source":{{"ts_ms":1706000000000,"schema":"SALES","table":"CUSTOMERS"}},"op":"c"}}}}"#
    )
}

fn order(items: &str) -> String {
    format!("<order><items currency='EUR'>{items}</items></order>")
}

/// The current rows of an order, or of orders.
fn items(table: &str, columns: &str, ids: &str) -> String {
    format!(
        "SELECT {columns} FROM (SELECT DISTINCT ON (order_id, row_no) * FROM cdc_{table}_items \
         ORDER BY order_id, row_no, change_seq DESC) newest WHERE operation <> 'd' AND order_id IN ({ids}) ORDER BY order_id, row_no"
    )
}

fn letters(condition: &str) -> String {
    format!("SELECT count(*) FROM cdc_dlq WHERE {condition}")
}

fn landed(table: &str, ids: &str) -> String {
    format!("SELECT string_agg(id::text, ',' ORDER BY id) FROM cdc_{table} WHERE id IN ({ids})")
}

fn cases() -> Vec<Case> {
    vec![x1(), x2_and_x7(), x3(), x4(), x5(), x6(), x8(), x8_bytes(), x9(), replaced()]
}

fn case(name: &'static str, events: Vec<String>, shown: &[(String, &str)]) -> Case {
    let shown = shown.iter().map(|(sql, expected)| (sql.clone(), (*expected).to_owned()));
    Case { name, events, shown: shown.collect() }
}

fn x1() -> Case {
    let three = "<item product_id='10' quantity='2' price='19.99'><name>Pen</name></item>\
        <item product_id='11' quantity='1' price='0.50'/><item product_id='12' quantity='3' price='1.00'/>";
    case(
        "X1: one order, three items",
        vec![with_xml("orders", 101, &order(three))],
        &[
            (
                items("orders", "row_no, product_id, name, subtotal, currency, extracted_from", "101"),
                "1|10|Pen|39.98|EUR|SALES.ORDERS.DETAILS\n2|11|NULL|0.50|EUR|SALES.ORDERS.DETAILS\n3|12|NULL|3.00|EUR|SALES.ORDERS.DETAILS",
            ),
            ("SELECT status, items, total FROM order_totals WHERE order_id = 101".into(), "S101|3|43.48"),
            ("SELECT string_agg(op || product_id, ',' ORDER BY event_id) FROM item_log WHERE order_id = 101".into(), "c10,c11,c12"),
            // The order lands without the document, because its table does not declare the column.
            ("SELECT status, extra_fields FROM cdc_orders WHERE id = 101".into(), "S101|NULL"),
            ("SELECT count(*) FROM tidemark_schema_changes WHERE column_name = 'DETAILS'".into(), "0"),
        ],
    )
}

fn x2_and_x7() -> Case {
    let none = [
        event("orders", "c", 703, Some("null")),
        event("orders", "c", 704, Some("\"\"")),
        event("orders", "c", 705, None),
    ];
    let empty = [with_xml("orders", 201, "<items></items>"), with_xml("orders", 202, " \n")];
    case(
        "X2, X7: no items, no document",
        empty.into_iter().chain(none).collect(),
        &[
            (items("orders", "order_id", "201, 202, 703, 704, 705"), ""),
            (landed("orders", "201, 202, 703, 704, 705"), "201,202,703,704,705"),
            ("SELECT items, total FROM order_totals WHERE order_id = 201".into(), "0|NULL"),
        ],
    )
}

fn x3() -> Case {
    let malformed = "<order><items><item product_id='1'></items></order>";
    let tables = ["orders", "skipped", "strict"];
    case(
        "X3: malformed",
        tables.iter().zip(301..).map(|(table, id)| with_xml(table, id, malformed)).collect(),
        &[
            (landed("orders", "301"), "301"),
            (landed("skipped", "302"), "302"),
            (landed("strict", "303"), "NULL"),
            (
                letters(
                    "error_type = 'MALFORMED_XML' AND phase = 'xml' AND error_message LIKE \
                    'table SALES.ORDERS: the XML in column DETAILS can''t be read: at byte 35: %' \
                    AND payload->'after'->>'ID' = '301'",
                ),
                "1",
            ),
            (letters("payload->'after'->>'ID' = '302'"), "0"),
            (letters("error_type = 'MALFORMED_XML' AND payload->'after'->>'ID' = '303'"), "1"),
        ],
    )
}

fn x4() -> Case {
    let lacking = order(
        "<item product_id='1' price='2.00'/><item product_id='2' quantity='two' price='1.234'/>",
    );
    let tables = ["orders", "skipped", "checked", "strict"];
    case(
        "X4: values that are missing or no numbers",
        tables.iter().zip(401..).map(|(table, id)| with_xml(table, id, &lacking)).collect(),
        &[
            (items("orders", "product_id, quantity, price", "401"), "1|NULL|2.00\n2|NULL|NULL"),
            (items("skipped", "product_id, quantity, price", "402"), "1|1|2.00\n2|1|NULL"),
            (items("checked", "product_id", "403"), ""),
            (landed("checked", "403"), "403"),
            (
                letters(
                    "error_type = 'SCHEMA_MISMATCH' AND payload->'after'->>'ID' = '403' AND error_message LIKE \
                    '%checked_items: row 1, column name VARCHAR: the value is missing'",
                ),
                "1",
            ),
            (landed("strict", "404"), "NULL"),
            (letters("error_type = 'SCHEMA_MISMATCH' AND payload->'after'->>'ID' = '404'"), "1"),
        ],
    )
}

fn x5() -> Case {
    let parts = "<part no='1'><part no='2'><part no='3'/></part><part no='4'/></part>";
    case(
        "X5: nested levels",
        vec![with_xml("orders", 501, parts)],
        &[(
            "SELECT id, row_no, part, above, top FROM cdc_levels WHERE id = 501 ORDER BY row_no"
                .into(),
            "501|1|1|NULL|NULL\n501|2|2|1|NULL\n501|3|3|2|1\n501|4|4|1|NULL",
        ),
            ("SELECT count(*) FROM pg_indexes WHERE tablename = 'cdc_levels'".into(), "3")],
    )
}

fn x6() -> Case {
    let many = |count: usize, name: &str| {
        let item = |at| {
            format!("<item product_id='{at}' quantity='1' price='0.01'><name>{name}</name></item>")
        };
        order(&(1..=count).map(item).collect::<String>())
    };
    let large = many(36_000, &"n".repeat(70));
    assert!(large.len() > 5_000_000, "{}", large.len());
    let events = vec![
        with_xml("orders", 601, &many(100, "n")),
        with_xml("orders", 602, &many(10_000, "n")),
        with_xml("orders", 603, &large),
    ];
    let of = |id: u32| format!("SELECT items, total FROM order_totals WHERE order_id = {id}");
    case(
        "X6: many items, and five megabytes",
        events,
        &[(of(601), "100|1.00"), (of(602), "10000|100.00"), (of(603), "36000|360.00")],
    )
}

fn x8() -> Case {
    let named = |id, xml: &str| with_xml("orders", id, xml);
    case(
        "X8: characters",
        vec![
            named(801, "<r><item><name>Grüße 😀 &lt;&#x41;&gt;</name></item></r>"),
            named(802, "<r><item><name><![CDATA[<b> & ]]><!-- no -->c</name></item></r>"),
            named(
                803,
                "<x:r xmlns:x='urn:x'><x:item x:product_id='8'><x:name>n</x:name></x:item></x:r>",
            ),
            named(
                804,
                "\u{feff}<?xml version='1.0' encoding='UTF-16'?><r><item><name>é</name></item></r>",
            ),
            named(
                805,
                "<?xml version='1.0' encoding='ISO-8859-1'?><r><item><name>é</name></item></r>",
            ),
        ],
        &[(
            items("orders", "order_id, product_id, name", "801, 802, 803, 804, 805"),
            "801|NULL|Grüße 😀 <A>\n802|NULL|<b> & c\n803|8|n\n804|NULL|é\n805|NULL|é",
        )],
    )
}

fn x8_bytes() -> Case {
    let document = |encoding: &str| {
        format!(
            "<?xml version='1.0' encoding='{encoding}'?><addresses><address kind='home'><street>Königstraße <b>1</b></street>\
             <place><city>Köln</city></place><phone>1</phone><phone>2</phone></address><address/></addresses>"
        )
    };
    let latin: Vec<u8> = document("ISO-8859-1").chars().map(|c| c as u8).collect();
    let utf16: Vec<u8> = format!("\u{feff}{}", document("UTF-16"))
        .encode_utf16()
        .flat_map(u16::to_be_bytes)
        .collect();
    let rows =
        |no: u32| format!("EU|{no}|1|home|Königstraße |Köln|2\nEU|{no}|2|NULL|NULL|NULL|NULL");
    let shown = "SELECT region, no, row_no, kind, street, city, phone2 FROM cdc_customer_addresses_extracted ORDER BY no, row_no";
    let expected = [1, 2, 3].map(rows).join("\n");
    Case {
        name: "X8: bytes, of a table with a key of two columns",
        events: vec![
            customer(1, document("UTF-8").as_bytes()),
            customer(2, &latin),
            customer(3, &utf16),
            customer(4, b"<a>\xff</a>"),
        ],
        shown: vec![
            (shown.to_owned(), expected),
            (
                letters(
                    "error_message LIKE '%ADDRESSES can''t be read: at byte 3: the bytes are no text in UTF-8'",
                ),
                "1".to_owned(),
            ),
            ("SELECT length(addresses) FROM cdc_customers WHERE no = 4".to_owned(), "8".to_owned()),
        ],
    }
}

fn x9() -> Case {
    let laughs = "<!DOCTYPE r [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;'>]><r><item>&b;</item></r>";
    let external = "<!DOCTYPE r [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><r><item><name>&x;</name></item></r>";
    let deep = format!("{}{}", "<a>".repeat(10_000), "</a>".repeat(10_000));
    let claims = "<r size='1073741824' length='99999999999999999999'><item product_id='1'/></r>";
    let value = format!("<r><item><name>{}</name></item></r>", "x".repeat(1001));
    let long = format!("<r>{}</r>", " ".repeat(6_000_000));
    let rows = order(&"<item/>".repeat(50_001));
    let told = |id: u32, what: &str| {
        letters(&format!(
            "error_type = 'MALFORMED_XML' AND convert_from(original_payload, 'UTF8')::jsonb->'after'->>'ID' = '{id}' \
             AND error_message LIKE '%{what}%'"
        ))
    };
    case(
        "X9: beyond the limits",
        vec![
            with_xml("orders", 901, laughs),
            with_xml("orders", 902, external),
            with_xml("orders", 903, &deep),
            with_xml("orders", 904, claims),
            with_xml("orders", 905, &value),
            with_xml("orders", 906, &long),
            with_xml("orders", 907, &rows),
        ],
        &[
            (told(901, "at byte 0: a DTD is not allowed"), "1"),
            (told(902, "at byte 0: a DTD is not allowed"), "1"),
            (told(903, "limits.max_xml_depth (90)"), "1"),
            (items("orders", "product_id", "904"), "1"),
            (told(905, "limits.max_xml_value_bytes (1000)"), "1"),
            (told(906, "limits.max_xml_bytes (5500000)"), "1"),
            (told(907, "limits.max_xml_rows (50000)"), "1"),
            (landed("orders", "901, 902, 903, 905, 906, 907"), "901,902,903,905,906,907"),
        ],
    )
}

/// What later events of an order do to its rows.
fn replaced() -> Case {
    let item = |id: u32| format!("<item product_id='{id}'/>");
    let xml = |id, items: &str| with_xml("orders", id, &order(items));
    let unavailable = |id| event("orders", "u", id, Some("\"__debezium_unavailable_value\""));
    case(
        "children are replaced, kept and deleted",
        vec![
            xml(1001, &(item(1) + &item(2) + &item(3))),
            xml(1001, &(item(1) + &item(9))),
            xml(1002, &item(1)),
            unavailable(1002),
            event("orders", "u", 1002, None),
            with_xml("orders", 1002, "<order><item></order>"),
            xml(1003, &item(1)),
            event("orders", "d", 1003, Some("null")),
            xml(1004, &item(1)),
            event("orders", "u", 1004, Some("null")),
        ],
        &[
            (items("orders", "order_id, row_no, product_id", "1001, 1002, 1003, 1004"), "1001|1|1\n1001|2|9\n1002|1|1"),
            (
                "SELECT string_agg(operation || product_id, ',' ORDER BY change_seq, row_no) FROM cdc_orders_items \
                 WHERE order_id = 1001".into(),
                "c1,c2,c3,u9,d3",
            ),
            ("SELECT string_agg(order_id || ':' || items, ',' ORDER BY order_id) FROM order_totals WHERE order_id > 1000".into(), "1001:2,1002:1,1004:0"),
            (letters("convert_from(original_payload, 'UTF8') LIKE '%__debezium_unavailable_value%'"), "0"),
        ],
    )
}

/// Rows with `|` between the values, and lines between the rows.
async fn shown(shop: &Shop, sql: &str) -> String {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".to_owned());
    let line = |row: &Vec<Option<String>>| row.iter().map(value).collect::<Vec<_>>().join("|");
    shop.query(sql).await.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The processor reads the file to its end.
async fn run(shop: &Shop, events: &Path, lines: &[String]) {
    std::fs::write(events, lines.join("\n")).expect("events");
    let mut processor = shop.stack.processor(None).expect("a processor");
    assert!(shop.wait_for_end(&mut processor).await, "{}", shop.log_tail("run"));
}

async fn check(shop: &Shop, cases: &[Case]) {
    for case in cases {
        for (sql, expected) in &case.shown {
            assert_eq!(shown(shop, sql).await, *expected, "{}: {sql}", case.name);
        }
    }
}

#[tokio::test]
async fn documents_in_columns_become_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let sql = folder.path().join("sql");
    declare(&sql);
    let shop = Shop::open_with(|settings| Settings { sql, ..settings }).await;
    let events = folder.path().join("events.ndjson");
    let limits = "[limits]\nmax_xml_bytes = 5500000\nmax_xml_depth = 90\nmax_xml_rows = 50000\nmax_xml_value_bytes = 1000\n\n";
    shop.read_file(&events, &format!("{limits}{}", mappings()));

    let cases = cases();
    let mut lines: Vec<String> =
        cases.iter().flat_map(|case| case.events.iter().cloned()).collect();
    run(&shop, &events, &lines).await;
    check(&shop, &cases).await;

    // A restart knows the rows, and goes on from them.
    let again = order(
        "<item product_id='10' quantity='2' price='19.99'><name>Pen</name></item><item product_id='77'/>",
    );
    lines.push(with_xml("orders", 101, &again));
    lines.push(event("orders", "d", 602, None));
    run(&shop, &events, &lines).await;
    check(&shop, &cases[1..5]).await;
    assert_eq!(shown(&shop, &items("orders", "row_no, product_id", "101")).await, "1|10\n2|77");
    let written = "SELECT string_agg(operation || row_no, ',' ORDER BY change_seq, row_no) FROM cdc_orders_items WHERE order_id = 101";
    assert_eq!(
        shown(&shop, written).await,
        "c1,c2,c3,u2,d3",
        "what is the same is not written again"
    );
    assert_eq!(shown(&shop, &items("orders", "row_no", "602")).await, "");
    let totals = "SELECT order_id, items FROM order_totals WHERE order_id IN (101, 602)";
    assert_eq!(shown(&shop, totals).await, "101|2");
    shop.stack.stop().await.expect("the servers end");
}
