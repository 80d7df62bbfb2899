//! Tables that no file declares: whatever the batches, each of their events is in the target once.

use super::*;
use crate::decode::UnknownTables;
use crate::pipeline::DryRun;
use crate::transform::SqlFile;

const VISITS: &str = "-- writes: postgres visits_by_page\n-- key: page\n\
    SELECT page, COUNT(*) AS visits FROM visits GROUP BY page";

async fn open() -> Sql {
    let mut sql = Sql { unknown_tables: UnknownTables::Register, ..sql().await };
    let name = "visits_by_page".to_owned();
    sql.transforms = vec![SqlFile { path: "v.sql".into(), name, text: VISITS.to_owned() }];
    sql
}

fn visit(op: &str, id: u32, page: &str) -> String {
    let row = format!(r#"{{"ID":{id},"PAGE":"{page}"}}"#);
    let (before, after) = match op {
        "d" => (row, "null".to_owned()),
        "u" => (format!(r#"{{"ID":{id}}}"#), row),
        _ => ("null".to_owned(), row),
    };
    format!(
        r#"{{"before":{before},"after":{after},"source":{{"schema":"S","table":"VISITS","ts_ms":1700000000000}},"op":"{op}"}}"#
    )
}

#[tokio::test]
async fn a_transform_waits_for_a_table_and_then_counts_all_of_its_events() {
    let sql = open().await;
    let lines = [
        event(0, "c", "null", &row(0, 1, 1, 1)),
        visit("c", 1, "a"),
        visit("c", 2, "a"),
        visit("u", 1, "b"),
        event(0, "c", "null", &row(0, 2, 1, 1)),
        visit("d", 2, "a"),
        visit("c", 3, "b"),
    ];
    for size in [1, 2, 4, 7] {
        let mut rehearsal = DryRun::start(&sql).await.unwrap();
        assert_eq!(rehearsal.results().len(), 0);
        for part in lines.chunks(size) {
            rehearsal.feed(part).await.unwrap();
        }
        let results = rehearsal.results().to_vec();
        let rows = as_text(&rehearsal.rows(&results[0]));
        // The key is known only if the update is among the first events; else each change is a row.
        let keyed = [["b", "2"]];
        let history = [["a", "2"], ["b", "2"]];
        let expected: &[[&str; 2]] = if size >= 4 { &keyed } else { &history };
        let expected: Rows = expected.iter().map(|row| row.map(str::to_owned).to_vec()).collect();
        assert_eq!(rows, expected, "batches of {size}");
        assert_eq!(rehearsal.dead_letters(), vec![]);
        rehearsal.restart().await.unwrap();
        assert_eq!(as_text(&rehearsal.rows(&results[0])), expected, "batches of {size}");
    }
}
