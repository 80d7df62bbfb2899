//! Files in, plans and changes out; the tables of the examples are `ORDERS` and `CUSTOMERS`.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::util::display::array_value_to_string;

use super::*;
use crate::model::{Changelog, Offset, Operation, Position, ResultChanges, Table};

mod changes;
mod declarations;
mod held;
mod plans;
mod undeclared;
mod xml;

use held::{Rehearsal, TableRows};

const ORDERS: &str = "CREATE TABLE orders (
  order_id BIGINT PRIMARY KEY,
  customer_id BIGINT,
  order_date TIMESTAMP,
  amount DECIMAL(15,2)
) WITH (source = 'SALES.ORDERS', event_time = 'order_date')";

const CUSTOMERS: &str = "CREATE TABLE customers (customer_id BIGINT PRIMARY KEY, tier VARCHAR)
WITH (source = 'SALES.CUSTOMERS', ttl = 'none')";

fn file(name: &str, text: &str) -> SqlFile {
    SqlFile { path: format!("{name}.sql").into(), name: name.into(), text: text.into() }
}

fn tables() -> Vec<Arc<Table>> {
    parse_tables(&[file("orders", ORDERS), file("customers", CUSTOMERS)]).unwrap()
}

fn files(texts: &[(&str, &str)]) -> Vec<SqlFile> {
    texts.iter().map(|(name, text)| file(name, text)).collect()
}

async fn planned(texts: &[(&str, &str)]) -> Transforms {
    Transforms::plan(PlanRequest::new(&tables(), &files(texts)))
        .await
        .unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// The same, over tables that are empty.
async fn plan(texts: &[(&str, &str)]) -> Rehearsal {
    Rehearsal::new(planned(texts).await, &tables()).await
}

/// What is said about files that can't be planned.
async fn problems(texts: &[(&str, &str)]) -> Vec<String> {
    match Transforms::plan(PlanRequest::new(&tables(), &files(texts))).await {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(SqlError::to_string).collect(),
    }
}

/// The one thing that is said about a file called `x.sql`.
async fn problem(text: &str) -> String {
    let mut problems = problems(&[("x", text)]).await;
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.remove(0)
}

/// Rows of `orders`: id, customer, date in microseconds, amount in cents.
type Order = (i64, Option<i64>, Option<i64>, Option<i128>);

fn order_columns(rows: &[Order]) -> Vec<ArrayRef> {
    let amounts: Decimal128Array = rows.iter().map(|row| row.3).collect();
    vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.2).collect::<TimestampMicrosecondArray>()),
        Arc::new(amounts.with_precision_and_scale(15, 2).unwrap()),
    ]
}

fn orders(rows: &[Order]) -> TableRows {
    let batch = RecordBatch::try_new(tables()[0].schema(), order_columns(rows)).unwrap();
    TableRows { name: "orders".into(), rows: batch }
}

fn customers(rows: &[(i64, Option<&str>)]) -> TableRows {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(rows.iter().map(|row| row.1).collect::<StringArray>()),
    ];
    let batch = RecordBatch::try_new(tables()[1].schema(), columns).unwrap();
    TableRows { name: "customers".into(), rows: batch }
}

/// Created orders, with the fields that the table does not declare.
fn order_changes(rows: &[(i64, Option<&str>)]) -> Changelog {
    let table = Arc::clone(&tables()[0]);
    let ids: Vec<i64> = rows.iter().map(|row| row.0).collect();
    let orders: Vec<Order> = ids.iter().map(|id| (*id, None, None, Some(100))).collect();
    let mut columns = order_columns(&orders);
    let same = |text: &str| Arc::new(StringArray::from(vec![text; rows.len()])) as ArrayRef;
    let no_time: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![None; rows.len()]));
    let event_ids = StringArray::from_iter_values(ids.iter().map(i64::to_string));
    columns.extend([same("c"), Arc::clone(&no_time), no_time, Arc::new(event_ids), same("t")]);
    columns.push(Arc::new(rows.iter().map(|row| row.1).collect::<StringArray>()));
    Changelog {
        batch: RecordBatch::try_new(table.changelog_schema(), columns).unwrap(),
        table,
        offsets: ids.iter().map(|id| Offset::new(7, *id as u64)).collect(),
        positions: ids.iter().map(|id| Position(*id)).collect(),
        operations: vec![Operation::Create; rows.len()],
        scns: vec![None; rows.len()],
        unchanged: Vec::new(),
        truncations: Vec::new(),
    }
}

/// A line per row: the result, `+` or `-`, and the values or the key; sorted.
fn lines(changes: &[ResultChanges]) -> Vec<String> {
    let mut lines = Vec::new();
    for change in changes {
        for (sign, batch) in [('+', &change.upserts), ('-', &change.deletes)] {
            let rows = (0..batch.num_rows()).map(|row| values(batch, row));
            lines.extend(rows.map(|values| format!("{} {sign} {values}", change.table.name)));
        }
    }
    lines.sort();
    lines
}

fn values(batch: &RecordBatch, row: usize) -> String {
    let text = |column: &ArrayRef| {
        if column.is_null(row) {
            "NULL".to_owned()
        } else {
            array_value_to_string(column, row).unwrap()
        }
    };
    batch.columns().iter().map(text).collect::<Vec<_>>().join(", ")
}
