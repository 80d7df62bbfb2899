//! XML in a column, read by a query: here the tier of a customer.

use std::collections::BTreeMap;

use super::{customers, lines, plan, problem};
use crate::transform::Maintenance;

const HEADER: &str = "-- writes: postgres t\n-- key: customer_id, n\n";
const FIRST: &str = "<r><i p='10'>Pen</i><i p='11'>Cup</i></r>";

fn with_key(select: &str) -> String {
    format!("{HEADER}{select}")
}

/// Forms of one query.
fn forms() -> [String; 4] {
    let columns = "n FOR ORDINALITY, p BIGINT PATH '@p', name VARCHAR PATH '.'";
    [
        "SELECT customer_id, it['n'] AS n, it['p'] AS p, it['name'] AS name FROM (SELECT customer_id, \
         unnest(xml_rows(tier, './/i', 'n ORDINALITY', 'p BIGINT @p', 'name VARCHAR .')) AS it FROM customers) q"
            .to_owned(),
        format!("SELECT c.customer_id, x.n, x.p, x.name FROM customers c, \
                 XMLTABLE('.//i' PASSING c.tier COLUMNS {columns}) x"),
        format!("SELECT c.customer_id, x.n, p, name FROM customers c CROSS JOIN \
                 XMLTABLE('.//i' PASSING tier COLUMNS {columns}) AS x WHERE p > 0"),
        format!("WITH w AS (SELECT customer_id, x.n, x.p, x.name FROM customers LEFT JOIN \
                 XMLTABLE('.//i' PASSING customers.tier COLUMNS {columns}) x ON true) SELECT * FROM w WHERE n IS NOT NULL"),
    ]
}

#[tokio::test]
async fn rows_in_a_column_are_rows_of_a_query_and_follow_it() {
    for form in forms() {
        let mut transforms = plan(&[("x", &with_key(&form))]).await;
        let documents = [
            (1, Some(FIRST)),
            (2, None),
            (3, Some("<r><i p=")),
            (4, Some("")),
            (5, Some("<i p='x'/>")),
        ];
        let first = transforms.run(vec![customers(&documents)], &[], None).await.unwrap();
        let mut expected = vec!["x + 1, 1, 10, Pen", "x + 1, 2, 11, Cup", "x + 5, 1, NULL, "];
        if form.contains("p > 0") {
            expected.pop();
        }
        assert_eq!(lines(&first), expected, "{form}");
        let rows = customers(&[(1, Some("<r><i p='10'>Pen</i></r>")), (2, Some("<i p='7'/>"))]);
        let second = transforms.run(vec![rows], &[], None).await.unwrap();
        let mut expected = vec!["x + 2, 1, 7, ", "x - 1, 2"];
        if !form.contains("p > 0") {
            expected.push("x - 5, 1");
        }
        assert_eq!(lines(&second), expected, "{form}");
    }
}

#[tokio::test]
async fn such_a_query_is_computed_anew_and_check_says_so() {
    for form in forms() {
        let transforms = plan(&[("x", &with_key(&form))]).await;
        let (_, how) = transforms.transforms.explain().next().unwrap();
        assert!(matches!(how, Maintenance::Recompute { .. }), "{how}");
    }
}

#[tokio::test]
async fn a_left_join_keeps_rows_without_documents() {
    let text = "-- writes: postgres t\n-- key: customer_id\nSELECT c.customer_id, count(x.p) AS items FROM customers c \
        LEFT JOIN XMLTABLE('//i' PASSING c.tier COLUMNS p BIGINT PATH '@p') x ON true GROUP BY c.customer_id";
    let mut transforms = plan(&[("x", text)]).await;
    let rows = customers(&[(1, Some(FIRST)), (2, None)]);
    assert_eq!(
        lines(&transforms.run(vec![rows], &[], None).await.unwrap()),
        ["x + 1, 2", "x + 2, 0"]
    );
}

#[tokio::test]
async fn a_default_stands_for_what_is_missing() {
    let forms = [
        "SELECT c.customer_id, x.n, x.p, x.q, x.t FROM customers c, XMLTABLE('//i' PASSING c.tier COLUMNS \
         n FOR ORDINALITY, p BIGINT PATH '@p' DEFAULT -1, q DECIMAL(5,2) PATH '@q' DEFAULT 0.5, \
         t VARCHAR PATH 't' DEFAULT 'it''s new, really') x",
        "SELECT customer_id, it['n'] AS n, it['p'] AS p, it['q'] AS q, it['t'] AS t FROM (SELECT customer_id, \
         unnest(xml_rows(tier, '//i', 'n ORDINALITY', 'p BIGINT @p DEFAULT -1', 'q DECIMAL(5,2) @q DEFAULT 0.5', \
         't VARCHAR t DEFAULT it''s new, really')) AS it FROM customers) q",
    ];
    for form in forms {
        let mut transforms = plan(&[("x", &with_key(form))]).await;
        let rows = customers(&[(1, Some("<r><i p='7' q='1.25'><t>old</t></i><i p='x'/></r>"))]);
        let shown = transforms.run(vec![rows], &[], None).await.unwrap();
        let expected = ["x + 1, 1, 7, 1.25, old", "x + 1, 2, -1, 0.50, it's new, really"];
        assert_eq!(lines(&shown), expected, "{form}");
    }
}

#[tokio::test]
async fn a_constant_document_is_read_too() {
    let text = with_key(
        "SELECT 1 AS customer_id, it['n'] AS n FROM \
        (SELECT unnest(xml_rows('<r><i/><i/></r>', '//i', 'n ORDINALITY')) AS it) q",
    );
    let mut transforms = plan(&[("x", &text)]).await;
    let whole = transforms.redefined(&BTreeMap::new()).await.unwrap();
    assert_eq!(lines(&whole), ["x + 1, 1", "x + 1, 2"]);
}

#[tokio::test]
async fn what_can_not_be_read_so_is_refused_with_its_reason() {
    let xml_table =
        |rest: &str| format!("SELECT c.customer_id, x.n FROM customers c, XMLTABLE({rest}) x");
    let cases = [
        (xml_table("'//i' PASSING c.region COLUMNS n FOR ORDINALITY"), "region"),
        (xml_table("'//i' PASSING o.tier COLUMNS n FOR ORDINALITY"), "o.tier is not a column of one declared table"),
        (xml_table("'//i' PASSING upper(c.tier) COLUMNS n FOR ORDINALITY"), "takes a column as its document"),
        (xml_table("c.tier PASSING c.tier COLUMNS n FOR ORDINALITY"), "is not a path in quotes"),
        (xml_table("'i[last()]' PASSING c.tier COLUMNS n FOR ORDINALITY"), "has [last()]"),
        (xml_table("'//i' PASSING c.tier COLUMNS n INT PATH '@n' DEFAULT 1 + 1"), "write COALESCE"),
        (xml_table("'//i' PASSING c.tier COLUMNS n INT PATH '@n' DEFAULT 'x'"), "'x'"),
        (xml_table("'//i' PASSING c.tier COLUMNS n INT NOT NULL"), "a condition in the WHERE"),
        ("SELECT customer_id, xml_rows(tier, '//i') AS n FROM customers".to_owned(), "xml_rows is called as in"),
        ("SELECT customer_id, xml_rows(tier, '//i', 'n') AS n FROM customers".to_owned(), "'n' is not the name, type and path"),
        ("SELECT customer_id, xml_rows(tier, '//i', 'n MONEY @n') AS n FROM customers".to_owned(), "MONEY"),
        ("SELECT customer_id, xml_rows(tier, '//i', 'n INT a/..') AS n FROM customers".to_owned(), "goes up after"),
        ("SELECT c.customer_id, x.n FROM customers c JOIN XMLTABLE('//i' PASSING c.tier COLUMNS n FOR ORDINALITY) x \
          ON x.n = 1".to_owned(), "XMLTABLE is joined by a comma"),
    ];
    for (select, expected) in cases {
        let said = problem(&with_key(&select)).await;
        assert!(said.contains(expected), "{select}: {said}");
    }
}
