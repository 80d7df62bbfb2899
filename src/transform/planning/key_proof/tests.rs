//! Queries whose keys are proven, and such whose aren't.

use crate::model::{LeftOutReason, Table};
use crate::transform::{KeyDoubt, PlanRequest, SqlFile, Transforms, parse_tables};
use std::sync::Arc;

const PATIENTS: &str = "CREATE TABLE patients (patient_id BIGINT PRIMARY KEY, ward VARCHAR, code INTEGER NOT NULL, \
    born TIMESTAMP) WITH (source = 'S.P')";
const VISITS: &str = "CREATE TABLE visits (visit_id BIGINT PRIMARY KEY, patient_id BIGINT, at TIMESTAMP, room INTEGER) \
    WITH (source = 'S.V')";
const STAYS: &str = "CREATE TABLE stays (patient_id BIGINT, no INTEGER, room INTEGER, PRIMARY KEY (patient_id, no)) \
    WITH (source = 'S.S')";

fn file(name: &str, text: &str) -> SqlFile {
    SqlFile { path: format!("{name}.sql").into(), name: name.into(), text: text.into() }
}

fn tables() -> Vec<Arc<Table>> {
    let files = [("patients", PATIENTS), ("visits", VISITS), ("stays", STAYS)];
    parse_tables(&files.map(|(name, text)| file(name, text))).unwrap()
}

/// As in `NULL: ward` or `twice: id`.
async fn doubts(key: &str, select: &str) -> Vec<String> {
    let text = format!("-- writes: postgres t\n-- key: {key}\n{select}");
    let tables = tables();
    let planned = Transforms::plan(PlanRequest::new(&tables, &[file("r", &text)])).await;
    let planned = planned.unwrap_or_else(|errors| panic!("{select}: {errors:?}"));
    let doubt = |KeyDoubt { reason, columns, .. }: KeyDoubt<'_>| match reason {
        LeftOutReason::NullKey => format!("NULL: {}", columns.join(", ")),
        LeftOutReason::DuplicateKey => "twice".to_owned(),
    };
    if planned.key_doubts().next().is_some() {
        planned.views.iter().for_each(|view| println!("{}", view.plan().display_indent()));
    }
    planned.key_doubts().map(doubt).collect()
}

/// The key and the query.
const CORRECT: &[(&str, &str)] = &[
    ("patient_id", "SELECT patient_id, ward FROM patients"),
    ("id", "SELECT patient_id AS id FROM patients WHERE ward = 'A'"),
    ("id", "SELECT CAST(patient_id AS VARCHAR) AS id, ward FROM patients"),
    ("patient_id, no", "SELECT * FROM stays"),
    ("patient_id, no, room", "SELECT patient_id, no, room FROM stays WHERE room IS NOT NULL"),
    ("no", "SELECT no, room FROM stays WHERE patient_id = 7"),
    ("ward", "SELECT ward, COUNT(*) AS n FROM patients WHERE ward IS NOT NULL GROUP BY ward"),
    ("ward", "SELECT ward, COUNT(*) AS n FROM patients WHERE ward > 'A' GROUP BY ward"),
    ("ward", "SELECT ward, COUNT(*) AS n FROM patients WHERE ward IN ('A', 'B') GROUP BY ward"),
    ("ward", "SELECT COALESCE(ward, '-') AS ward, COUNT(*) AS n FROM patients GROUP BY 1"),
    (
        "ward",
        "SELECT CASE WHEN ward IS NULL THEN '-' ELSE ward END AS ward, COUNT(*) FROM patients GROUP BY 1",
    ),
    ("code", "SELECT code, COUNT(*) AS n FROM patients GROUP BY code"),
    ("code", "SELECT DISTINCT code FROM patients"),
    ("code", "SELECT DISTINCT ON (code) code, ward FROM patients ORDER BY code, born DESC"),
    ("c", "SELECT DISTINCT ON (code) code AS c, ward FROM patients ORDER BY code, patient_id DESC"),
    (
        "patient_id",
        "SELECT DISTINCT ON (patient_id) patient_id, visit_id, at FROM visits \
            WHERE patient_id IS NOT NULL ORDER BY patient_id, at DESC, visit_id DESC",
    ),
    (
        "patient_id, ward",
        "SELECT p.patient_id, p.ward, COUNT(*) AS n FROM patients p JOIN visits v \
            ON v.patient_id = p.patient_id WHERE p.ward IS NOT NULL GROUP BY p.patient_id, p.ward",
    ),
    (
        "patient_id",
        "SELECT p.patient_id, p.ward, COUNT(*) AS n FROM patients p JOIN visits v \
            ON v.patient_id = p.patient_id GROUP BY p.patient_id, p.ward",
    ),
    (
        "visit_id",
        "SELECT v.visit_id, p.ward FROM visits v JOIN patients p ON p.patient_id = v.patient_id",
    ),
    (
        "visit_id",
        "SELECT v.visit_id, p.ward FROM visits v LEFT JOIN patients p ON p.patient_id = v.patient_id",
    ),
    (
        "visit_id",
        "SELECT v.visit_id, p.ward FROM patients p JOIN visits v ON p.patient_id = v.patient_id",
    ),
    (
        "visit_id",
        "SELECT v.visit_id FROM visits v WHERE EXISTS (SELECT 1 FROM stays s WHERE s.room = v.room)",
    ),
    (
        "visit_id",
        "SELECT visit_id FROM visits WHERE patient_id IN (SELECT patient_id FROM patients)",
    ),
    (
        "visit_id, no",
        "SELECT v.visit_id, s.no FROM visits v JOIN stays s ON s.patient_id = v.patient_id",
    ),
    (
        "patient_id",
        "SELECT p.patient_id, n.n FROM patients p LEFT JOIN (SELECT patient_id, COUNT(*) AS n \
            FROM visits GROUP BY patient_id) n ON n.patient_id = p.patient_id",
    ),
    (
        "patient_id",
        "SELECT v.patient_id, COUNT(*) AS n FROM visits v JOIN patients p \
            ON p.patient_id = v.patient_id GROUP BY v.patient_id",
    ),
    (
        "id",
        "SELECT COALESCE(p.patient_id, s.patient_id) AS id, p.ward, s.room FROM patients p \
            FULL JOIN (SELECT patient_id, MAX(room) AS room FROM stays GROUP BY patient_id) s \
            ON s.patient_id = p.patient_id",
    ),
    (
        "kind, id",
        "SELECT 'p' AS kind, patient_id AS id FROM patients UNION ALL \
            SELECT 'v' AS kind, visit_id AS id FROM visits",
    ),
    (
        "patient_id",
        "SELECT patient_id, visit_id FROM (SELECT patient_id, visit_id, ROW_NUMBER() OVER \
            (PARTITION BY patient_id ORDER BY at DESC, visit_id) AS n FROM visits) WHERE n = 1 AND patient_id IS NOT NULL",
    ),
    ("visit_id", "SELECT visit_id, RANK() OVER (ORDER BY at) AS place FROM visits"),
    (
        "hour, room",
        "SELECT date_bin(INTERVAL '1 hour', at, TIMESTAMP '1970-01-01') AS hour, room, COUNT(*) AS n \
            FROM visits WHERE at IS NOT NULL AND room IS NOT NULL GROUP BY 1, 2",
    ),
    ("one", "SELECT 1 AS one, COUNT(*) AS n FROM visits"),
    ("n", "SELECT COUNT(*) AS n FROM visits"),
    (
        "patient_id",
        "WITH n AS (SELECT patient_id, COUNT(*) AS n, SUM(room) AS rooms FROM visits GROUP BY patient_id) \
            SELECT p.patient_id, p.ward, s.room, COALESCE(n.n, 0) AS n, CAST(COALESCE(n.rooms, 0) AS DECIMAL(15,2)) AS rooms, \
            date_bin(INTERVAL '5 minutes', p.born, TIMESTAMP '1970-01-01') AS first, \
            date_bin(INTERVAL '5 minutes', p.born, TIMESTAMP '1970-01-01') + INTERVAL '5 minutes' AS last \
            FROM patients p LEFT JOIN visits s ON s.visit_id = p.code LEFT JOIN n ON n.patient_id = p.patient_id",
    ),
    (
        "size, start",
        "SELECT size, start, start + long AS stop, SUM(n) AS n FROM (SELECT s.size, CASE s.size WHEN 'hour' THEN b.start \
            ELSE date_bin(INTERVAL '1 day', b.start, TIMESTAMP '1970-01-01') END AS start, CASE s.size WHEN 'hour' \
            THEN INTERVAL '1 hour' ELSE INTERVAL '1 day' END AS long, b.n FROM (SELECT \
            date_bin(INTERVAL '1 hour', at, TIMESTAMP '1970-01-01') AS start, COUNT(*) AS n FROM visits \
            WHERE at >= TIMESTAMP '1970-01-01' GROUP BY 1) b CROSS JOIN (VALUES ('hour'), ('day')) AS s (size)) \
            GROUP BY size, start, long",
    ),
];

#[tokio::test]
async fn common_correct_queries_are_not_doubted() {
    let mut doubted = Vec::new();
    for (key, select) in CORRECT {
        let doubts = doubts(key, select).await;
        doubted.extend((!doubts.is_empty()).then(|| format!("{doubts:?} of {key}: {select}")));
    }
    assert_eq!(doubted, Vec::<String>::new());
}

/// The key, the query, and what is said of it.
const DOUBTFUL: &[(&str, &str, &[&str])] = &[
    ("patient_id", "SELECT patient_id, at FROM visits", &["NULL: patient_id", "twice"]),
    (
        "patient_id",
        "SELECT p.patient_id, v.at FROM patients p JOIN visits v ON v.patient_id = p.patient_id",
        &["twice"],
    ),
    (
        "patient_id, visit_id",
        "SELECT p.patient_id, v.visit_id FROM patients p LEFT JOIN visits v \
            ON v.patient_id = p.patient_id",
        &["NULL: visit_id"],
    ),
    (
        "visit_id",
        "SELECT v.visit_id, p.patient_id FROM patients p LEFT JOIN visits v \
            ON v.patient_id = p.patient_id",
        &["NULL: visit_id", "twice"],
    ),
    ("ward", "SELECT ward, COUNT(*) AS n FROM patients GROUP BY ward", &["NULL: ward"]),
    (
        "ward",
        "SELECT ward, COUNT(*) AS n FROM patients WHERE ward IS NULL OR ward > 'A' GROUP BY ward",
        &["NULL: ward"],
    ),
    (
        "ward",
        "SELECT ward, code, COUNT(*) AS n FROM patients WHERE ward > '' GROUP BY ward, code",
        &["twice"],
    ),
    ("code", "SELECT code FROM patients", &["twice"]),
    ("id", "SELECT patient_id % 10 AS id FROM patients", &["twice"]),
    ("id", "SELECT CAST(patient_id AS SMALLINT) AS id FROM patients", &["twice"]),
    ("no", "SELECT no, room FROM stays", &["twice"]),
    ("no", "SELECT no, room FROM stays WHERE patient_id > 7", &["twice"]),
    ("room", "SELECT DISTINCT room, no FROM stays WHERE room > 0", &["twice"]),
    (
        "patient_id",
        "SELECT DISTINCT ON (patient_id, room) patient_id, room FROM visits WHERE patient_id > 0 \
            ORDER BY patient_id, room",
        &["twice"],
    ),
    (
        "patient_id",
        "SELECT patient_id FROM patients UNION ALL SELECT visit_id FROM visits",
        &["twice"],
    ),
    (
        "kind, id",
        "SELECT 'p' AS kind, patient_id AS id FROM patients UNION ALL \
            SELECT 'p' AS kind, visit_id AS id FROM visits",
        &["twice"],
    ),
    (
        "id",
        "SELECT COALESCE(p.patient_id, v.patient_id) AS id FROM patients p FULL JOIN visits v \
            ON v.patient_id = p.patient_id",
        &["NULL: id", "twice"],
    ),
    (
        "patient_id",
        "SELECT patient_id FROM (SELECT patient_id, RANK() OVER \
            (PARTITION BY patient_id ORDER BY at DESC) AS n FROM visits) WHERE n = 1 AND patient_id > 0",
        &["twice"],
    ),
    ("born", "SELECT MAX(born) AS born FROM patients", &["NULL: born"]),
    (
        "visit_id",
        "SELECT v.visit_id, s.no FROM visits v JOIN stays s ON s.patient_id = v.patient_id",
        &["twice"],
    ),
    (
        "visit_id",
        "SELECT v.visit_id, s.no FROM visits v JOIN stays s \
            ON s.patient_id = v.patient_id AND s.no > 1",
        &["twice"],
    ),
];

#[tokio::test]
async fn keys_that_may_fail_are_doubted() {
    for (key, select, doubt) in DOUBTFUL {
        assert_eq!(doubts(key, select).await, *doubt, "{key}: {select}");
    }
}
