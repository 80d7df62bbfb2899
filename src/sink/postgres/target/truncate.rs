//! Truncates of a source table: the landing table gets a delete of every row that was current.
//!
//! So the newest row of each key stays the whole truth, for restarts, for the `_current` views and for
//! queries over the history; and what was in the table before can still be read.

use std::time::SystemTime;

use super::rows::{BoundStatement, StatementParams};
use super::table::TargetTable;
use crate::model::{Changelog, EventId, Scn, Table};
use crate::sink::postgres::client::quote;
use crate::sink::postgres::schema::column_types::STAMP;
use crate::sink::postgres::schema::landing_columns::{
    CHANGE_SEQ, EVENT_ID, EXTRA_FIELDS, OPERATION, SOURCE_SCN, SOURCE_TS,
};

/// One statement per truncate, to be run after the changes of the epoch have landed.
pub(crate) fn statements(
    changelog: &Changelog,
    target: &TargetTable,
    processed_at: SystemTime,
) -> Vec<BoundStatement> {
    if changelog.truncations.is_empty() {
        return Vec::new();
    }
    let sql = delete_all(&changelog.table, target);
    let statement = |truncation: &crate::model::Truncation| {
        let event = EventId::new(truncation.offset, truncation.position).to_string();
        let mut params: StatementParams =
            vec![Box::new(truncation.position.0), Box::new(truncation.source_ts), Box::new(event)];
        if target.is_stamped {
            params.push(Box::new(processed_at));
        }
        if target.has_column(&changelog.table.free_name(SOURCE_SCN)) {
            params.push(Box::new(truncation.scn.map(Scn::number)));
        }
        BoundStatement { table: target.name.clone(), sql: sql.clone(), params }
    };
    changelog.truncations.iter().map(statement).collect()
}

/// `$1` is the position, `$2` the time in microseconds since 1970, `$3` the event's id. The event ids are
/// that with a number. The stamp and the SCN follow, if the table has their columns.
fn delete_all(table: &Table, target: &TargetTable) -> String {
    let own = |name: &str| table.free_name(name);
    let (stamp, scn) = ("$4::timestamptz", if target.is_stamped { "$5" } else { "$4" });
    let value = |name: &str| match name {
        _ if name == own(OPERATION) => "'d'".to_owned(),
        _ if name == own(SOURCE_TS) => {
            "timestamp '1970-01-01' + $2::bigint * interval '1 microsecond'".to_owned()
        }
        _ if name == own(EVENT_ID) => "$3::text || '#' || row_number() OVER ()".to_owned(),
        _ if name == own(CHANGE_SEQ) => "$1::bigint".to_owned(),
        _ if name == own(SOURCE_SCN) => format!("{scn}::bigint"),
        _ if name == own(EXTRA_FIELDS) => "NULL".to_owned(),
        STAMP if target.is_stamped => stamp.to_owned(),
        _ => format!("newest.{}", quote::ident(name)),
    };
    let key = quote::idents(table.key.iter().map(|at| table.columns[*at].name.as_str()));
    let names = target.columns.iter().map(|column| column.name.as_str());
    let values: Vec<String> = names.clone().map(value).collect();
    let (landing, seq) = (&target.sql_name, quote::ident(&own(CHANGE_SEQ)));
    format!(
        "INSERT INTO {landing} ({}) SELECT {} FROM (\
         SELECT DISTINCT ON ({key}) * FROM {landing} WHERE {seq} < $1::bigint \
         ORDER BY {key}, {seq} DESC) AS newest WHERE newest.{} <> 'd'",
        quote::idents(names),
        values.join(", "),
        quote::ident(&own(OPERATION)),
    )
}
