//! Who decides what is right: plain DataFusion, which knows nothing of changes.
//!
//! Each judgement has a session of its own, with the tables as they are in it, and plans every text again.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::catalog::MemTable;
use datafusion::common::config::Dialect;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::scalar::ScalarValue;
use tidemark::transform::SqlFile;

use crate::corpus::{key_columns, reads, select};
use crate::model::Model;
use crate::rows::{Cell, cells};

/// The rows of a result by key.
pub(crate) type Rows = BTreeMap<String, Vec<Cell>>;

/// The name of a query, and what is wrong with it.
pub(crate) type Wrong = (String, String);

struct Query {
    name: String,
    select: String,
    key: Vec<String>,
}

pub(crate) struct Scratch {
    /// Each after those that it reads.
    queries: Vec<Query>,
}

impl Scratch {
    pub(crate) fn new(files: &[SqlFile]) -> Self {
        let mut waiting: Vec<&SqlFile> = files.iter().collect();
        let mut queries = Vec::new();
        while !waiting.is_empty() {
            let names: HashSet<&str> = waiting.iter().map(|file| file.name.as_str()).collect();
            let is_ready = |file: &&SqlFile| reads(&file.text).all(|name| !names.contains(name));
            let (ready, later): (Vec<&SqlFile>, _) =
                waiting.iter().partition(|file| is_ready(file));
            assert!(!ready.is_empty(), "{names:?} read each other");
            queries.extend(ready.into_iter().map(|file| Query {
                name: file.name.clone(),
                select: select(&file.text),
                key: key_columns(&file.text),
            }));
            waiting = later;
        }
        Self { queries }
    }

    /// What every query gives over these rows.
    pub(crate) async fn run(
        &self,
        model: &Model,
        watermark: Option<i64>,
    ) -> Result<Vec<(&str, Rows)>, Wrong> {
        let session = session(model, watermark).unwrap();
        let mut results = Vec::new();
        for query in &self.queries {
            let wrong = |what: String| (query.name.clone(), what);
            let rows = query.run(&session).await.map_err(|error| wrong(error.to_string()))?;
            results.push((query.name.as_str(), query.by_key(&rows).map_err(wrong)?));
        }
        Ok(results)
    }
}

impl Query {
    /// Runs it, and shows its rows to those that read it.
    async fn run(&self, session: &SessionContext) -> Result<RecordBatch> {
        let frame = session.sql(&self.select).await?;
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let batches = frame.collect().await?;
        let schema = batches.first().map_or(schema, RecordBatch::schema);
        let rows = concat_batches(&schema, &batches)?;
        let table = MemTable::try_new(schema, vec![vec![rows.clone()]])?;
        session.register_table(self.name.as_str(), Arc::new(table))?;
        Ok(rows)
    }

    fn by_key(&self, rows: &RecordBatch) -> Result<Rows, String> {
        let schema = rows.schema();
        let key: Vec<usize> = self.key.iter().map(|name| schema.index_of(name).unwrap()).collect();
        let keys = rows.project(&key).unwrap();
        let mut by_key = Rows::new();
        for row in 0..rows.num_rows() {
            let key = format!("{:?}", cells(&keys, row));
            if by_key.insert(key.clone(), cells(rows, row)).is_some() {
                return Err(format!("its key is not unique, so that nobody can judge it: {key}"));
            }
        }
        Ok(by_key)
    }
}

fn session(model: &Model, watermark: Option<i64>) -> Result<SessionContext> {
    let mut config = SessionConfig::new().with_target_partitions(1);
    config.options_mut().sql_parser.dialect = Dialect::PostgreSQL;
    let session = SessionContext::new_with_config(config);
    let now = ScalarValue::TimestampMicrosecond(watermark, None);
    session.register_udf(create_udf(
        "watermark",
        Vec::new(),
        DataType::Timestamp(TimeUnit::Microsecond, None),
        Volatility::Immutable,
        Arc::new(move |_| Ok(ColumnarValue::Scalar(now.clone()))),
    ));
    for (table, rows) in model.batches() {
        let rows = MemTable::try_new(rows.schema(), vec![vec![rows]])?;
        session.register_table(table.name.as_str(), Arc::new(rows))?;
    }
    Ok(session)
}
