//! Postgres over the same rows.

use std::fmt::Write;

use arrow::array::ArrayRef;
use arrow::util::display::array_value_to_string;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::corpus::Corpus;
use crate::postgres_server::{Durability, PostgresServer};
use crate::rows::Cell;
use crate::scratch::Rows;
use crate::stage::Stage;
use crate::stream::stream;

/// Plays a stream, and lets Postgres run the plain queries over the rows at its end.
pub(crate) async fn agrees(corpus: &Corpus, seed: u64) {
    let mut stage = Stage::new(&corpus.files).await.unwrap_or_else(|failure| panic!("{failure}"));
    for epoch in stream(seed) {
        stage.play(&epoch).await.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
    }
    let server = PostgresServer::start(Durability::Off).await;
    let client = server.client().await;
    fill(&client, &stage).await;
    for (name, select) in corpus.plain() {
        let messages = client.simple_query(&select).await;
        let messages = messages.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let mut expected: Vec<Vec<String>> = messages.iter().filter_map(row).collect();
        let mut shown = shown(&stage.target(name));
        expected.sort();
        shown.sort();
        assert_eq!(shown, expected, "seed {seed}, {name}");
    }
}

async fn fill(client: &Client, stage: &Stage<'_>) {
    let mut sql = watermark(stage.watermark);
    for (table, rows) in stage.model.batches() {
        let columns: Vec<String> = table
            .columns
            .iter()
            .map(|column| format!("{} {}", column.name, sql_type(&column.data_type.to_string())))
            .collect();
        writeln!(sql, "CREATE TABLE {} ({});", table.name, columns.join(", ")).unwrap();
        for at in 0..rows.num_rows() {
            let cells = rows.columns().iter().map(|column| literal(column, at));
            let cells = cells.collect::<Vec<_>>().join(", ");
            writeln!(sql, "INSERT INTO {} VALUES ({cells});", table.name).unwrap();
        }
    }
    client.batch_execute(&sql).await.unwrap();
}

/// A function that says where the watermark stands.
fn watermark(micros: Option<i64>) -> String {
    let value = micros.map_or("NULL".to_owned(), |micros| {
        format!("timestamp '1970-01-01' + {micros} * interval '1 microsecond'")
    });
    format!(
        "CREATE FUNCTION watermark() RETURNS timestamp IMMUTABLE LANGUAGE sql AS $$ SELECT {value} $$;\n"
    )
}

fn sql_type(arrow: &str) -> &'static str {
    match arrow {
        "Int64" => "bigint",
        "Int32" => "integer",
        "Float64" => "double precision",
        "Boolean" => "boolean",
        "Utf8" => "text",
        other if other.starts_with("Timestamp") => "timestamp",
        _ => "numeric(10,2)",
    }
}

fn literal(column: &ArrayRef, row: usize) -> String {
    match column.is_null(row) {
        true => "NULL".to_owned(),
        false => format!("'{}'", array_value_to_string(column, row).unwrap()),
    }
}

fn row(message: &SimpleQueryMessage) -> Option<Vec<String>> {
    let SimpleQueryMessage::Row(row) = message else { return None };
    Some((0..row.len()).map(|at| row.get(at).map_or("NULL".to_owned(), like)).collect())
}

fn shown(target: &Rows) -> Vec<Vec<String>> {
    let cell = |cell: &Cell| match cell {
        Cell::Null => "NULL".to_owned(),
        Cell::Text(text) => like(text),
        Cell::Float(number) => like(&number.to_string()),
    };
    target.values().map(|row| row.iter().map(cell).collect()).collect()
}

/// One spelling for both sides.
fn like(text: &str) -> String {
    match text {
        "t" => return "true".to_owned(),
        "f" => return "false".to_owned(),
        _ => {}
    }
    match text.parse::<f64>() {
        Ok(number) => format!("{number:.9}"),
        Err(_) => text.replace('T', " ").replace(".000000", ""),
    }
}
