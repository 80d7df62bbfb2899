//! Types, and the shapes of result tables.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array,
    Int16Array, Int32Array, Int64Array, RecordBatch, StringArray, StringViewArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use tidemark::model::{
    Changelog, Channel, Column, EpochCommit, Landing, Offset, Operation, Position, ResultChanges,
    ResultMode, ResultTable, SystemColumn, Table, TableOptions,
};
use tidemark::sink::Sink;
use tidemark::sink::conformance::{PIPELINE, QUEUE, SPOOL, START, epoch, orders};
use tidemark::sink::postgres::{PostgresConfig, PostgresSink};

use crate::postgres::{Durability, PostgresServer};

pub(crate) async fn sink_with(server: &PostgresServer, ddl: &str) -> PostgresSink {
    let config = PostgresConfig::from_url(server.url());
    let sink = PostgresSink::new(config, PIPELINE, QUEUE).unwrap();
    sink.schema_admin().apply_ods(&[("1.sql".to_owned(), ddl.to_owned())]).await.unwrap();
    sink
}

/// One column of each declarable type: its target's type, and three values, one of them NULL.
fn columns_of_all_types() -> Vec<(&'static str, ArrayRef)> {
    let micros = || TimestampMicrosecondArray::from(vec![Some(-1), None, Some(START + 1)]);
    let decimal = Decimal128Array::from(vec![Some(-12_345), None, Some(0)]);
    vec![
        ("bigint", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ("boolean", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("smallint", Arc::new(Int16Array::from(vec![Some(i16::MIN), None, Some(7)]))),
        ("integer", Arc::new(Int32Array::from(vec![Some(i32::MAX), None, Some(-7)]))),
        ("numeric(19)", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)]))),
        ("double precision", Arc::new(Float64Array::from(vec![Some(f64::MIN), None, Some(0.1)]))),
        ("numeric(9,3)", Arc::new(decimal.with_precision_and_scale(9, 3).unwrap())),
        (
            "varchar(20)",
            Arc::new(StringArray::from(vec![Some("a\"\\\n\u{1f30a}"), None, Some("")])),
        ),
        ("text", Arc::new(StringArray::from(vec![Some("{\"a\": 1}"), None, Some("[]")]))),
        ("bytea", Arc::new(BinaryArray::from(vec![Some(&[0u8, 255][..]), None, Some(b"")]))),
        ("date", Arc::new(Date32Array::from(vec![Some(-800_000), None, Some(2_932_896)]))),
        ("timestamp", Arc::new(micros())),
        ("timestamptz", Arc::new(micros().with_timezone("UTC"))),
    ]
}

fn landed(number: u64, changelog: &Changelog) -> EpochCommit {
    EpochCommit { landing: vec![changelog.clone()], ..epoch(number).build() }
}

#[tokio::test]
async fn every_declared_type_comes_back_from_its_landing_table() {
    let server = PostgresServer::start(Durability::Off).await;
    let columns = columns_of_all_types();
    let names: Vec<String> = (0..columns.len()).map(|index| format!("Column {index}")).collect();
    let ddl: Vec<String> =
        names.iter().zip(&columns).map(|(name, (sql, _))| format!("\"{name}\" {sql}")).collect();
    let ddl = format!(
        "CREATE TABLE landed ({}, operation text, source_ts timestamptz, extra_fields json,
         event_id text, change_seq bigint, id bigint GENERATED ALWAYS AS IDENTITY)",
        ddl.join(", ")
    );
    let mut sink = sink_with(&server, &ddl).await;
    let declared = names.iter().zip(&columns).map(|(name, (_, array))| Column {
        name: name.clone(),
        data_type: array.data_type().clone(),
        nullable: true,
    });
    let table = Arc::new(Table {
        name: "all_types".to_owned(),
        columns: declared.collect(),
        options: TableOptions {
            landing: Landing::History("landed".to_owned()),
            event_time: Some(11),
            ..TableOptions::default()
        },
        ..Arc::unwrap_or_clone(orders())
    });
    sink.check_targets(&[Arc::clone(&table)], &[]).await.unwrap();

    // Three rows go by statement, and 600 rows of new keys by COPY.
    let few = changelog(&table, columns.iter().map(|(_, array)| Arc::clone(array)).collect(), 1);
    sink.commit(&landed(1, &few)).await.unwrap();
    let rows = arrow::array::UInt64Array::from_iter_values((0..600).map(|row| row % 3));
    let mut many: Vec<ArrayRef> = columns
        .iter()
        .map(|(_, array)| arrow::compute::take(array, &rows, None).unwrap())
        .collect();
    many[0] = Arc::new(Int64Array::from_iter_values(4..604));
    let many = changelog(&table, many, 4);
    sink.commit(&landed(2, &many)).await.unwrap();

    let read = sink.bootstrap(&table, None).await.unwrap();
    assert_eq!(read.len(), 1);
    let (read, topic) = (&read[0], table.system_column(SystemColumn::Topic));
    let expected =
        arrow::compute::concat_batches(&few.batch.schema(), [&few.batch, &many.batch]).unwrap();
    for (index, field) in expected.schema().fields().iter().enumerate() {
        if index != topic {
            assert_eq!(read.batch.column(index), expected.column(index), "{}", field.name());
        }
    }
    assert_eq!(read.offsets, [few.offsets, many.offsets].concat());
    assert_eq!(read.positions, [few.positions, many.positions].concat());

    // Each type is found as part of a key; NULL is no key.
    let key = (0..columns.len()).collect();
    let keyed = Arc::new(Table { key, ..(*table).clone() });
    let keys = few.batch.project(&keyed.key).unwrap();
    let found = sink.history(&keyed, &keys).await.unwrap();
    let mut found: Vec<u64> = found.iter().flat_map(|c| &c.offsets).map(|o| o.id).collect();
    found.sort();
    assert_eq!(found, [1, 3]);
}

/// Creates of rows with message ids from `first` on.
fn changelog(table: &Arc<Table>, mut columns: Vec<ArrayRef>, first: u64) -> Changelog {
    let count = columns[0].len();
    let ids = || first..first + count as u64;
    let offsets: Vec<Offset> = ids().map(|id| Offset::new(SPOOL, id)).collect();
    let event_time =
        arrow::compute::cast(&columns[11], &DataType::Timestamp(TimeUnit::Microsecond, None));
    let text = |value: &str| -> ArrayRef { Arc::new(StringArray::from(vec![value; count])) };
    let source_ts = TimestampMicrosecondArray::from_iter_values(ids().map(|id| START + id as i64));
    columns.extend([
        text("c"),
        Arc::new(source_ts),
        event_time.unwrap(),
        Arc::new(StringArray::from_iter_values(offsets.iter().map(Offset::to_string))),
        text("cdc/all"),
        text("{\"B\": 1,  \"A\": 1.50}"),
    ]);
    Changelog {
        table: Arc::clone(table),
        batch: RecordBatch::try_new(table.changelog_schema(), columns).unwrap(),
        offsets,
        positions: ids().map(|id| Position(id as i64)).collect(),
        operations: vec![Operation::Create; count],
        scns: vec![None; count],
        unchanged: Vec::new(),
        truncations: Vec::new(),
    }
}

/// A result keyed by its first columns.
pub(crate) fn keyed(target: &str, names: &[&str], key_columns: usize) -> Arc<ResultTable> {
    let field = |name: &&str| Field::new(*name, DataType::Utf8View, true);
    Arc::new(ResultTable {
        name: target.to_owned(),
        target: target.to_owned(),
        channel: Channel::Table,
        schema: Arc::new(Schema::new(names.iter().map(field).collect::<Vec<_>>())),
        mode: ResultMode::Keyed { key: (0..key_columns).collect() },
        definition: String::new(),
    })
}

pub(crate) type Text<'a> = Option<&'a str>;

pub(crate) fn changes(
    table: &Arc<ResultTable>,
    upserts: &[&[Text<'_>]],
    deletes: &[&[Text<'_>]],
) -> ResultChanges {
    let batch = |columns: usize, rows: &[&[Text<'_>]]| {
        let schema = table.schema.project(&(0..columns).collect::<Vec<_>>()).unwrap();
        let column = |at: usize| -> ArrayRef {
            Arc::new(rows.iter().map(|row| row[at]).collect::<StringViewArray>())
        };
        RecordBatch::try_new(Arc::new(schema), (0..columns).map(column).collect()).unwrap()
    };
    let key_columns = match &table.mode {
        ResultMode::Keyed { key } => key.len(),
        ResultMode::Append => 0,
    };
    ResultChanges {
        upserts: batch(table.schema.fields().len(), upserts),
        held: Vec::new(),
        deletes: batch(key_columns, deletes),
        table: Arc::clone(table),
        is_new_definition: false,
    }
}

#[tokio::test]
async fn results_may_have_any_shape_of_key() {
    let server = PostgresServer::start(Durability::Off).await;
    let ddl = r#"
        CREATE TABLE "Key Only" ("Left" text, "ri""ght" varchar(9), PRIMARY KEY ("ri""ght", "Left"));
        CREATE TABLE groups (category text, name text, UNIQUE NULLS NOT DISTINCT (category));
        CREATE SEQUENCE attempts;
        CREATE TABLE two_unique (id text PRIMARY KEY, email text UNIQUE, attempt bigint DEFAULT nextval('attempts'));"#;
    let mut sink = sink_with(&server, ddl).await;
    let key_only = keyed("Key Only", &["Left", "ri\"ght"], 2);
    let groups = keyed("groups", &["category", "name"], 1);
    let two_unique = keyed("two_unique", &["id", "email"], 1);
    let results = [Arc::clone(&key_only), Arc::clone(&groups), Arc::clone(&two_unique)];
    sink.check_targets(&[], &results).await.unwrap();
    let epochs = [
        vec![
            changes(&key_only, &[&[Some("a"), Some("b")], &[Some("b"), Some("a")]], &[]),
            changes(&groups, &[&[None, Some("none")], &[Some("x"), Some("old")]], &[]),
            changes(&two_unique, &[&[Some("1"), Some("me@")]], &[]),
        ],
        vec![
            changes(&key_only, &[&[Some("a"), Some("b")]], &[&[Some("b"), Some("a")]]),
            changes(&groups, &[&[None, Some("still none")]], &[&[Some("x")]]),
            // The address moves to another row: the delete has to go first, or the epoch is written twice.
            changes(&two_unique, &[&[Some("2"), Some("me@")]], &[&[Some("1")]]),
        ],
        vec![changes(&groups, &[&[Some("y"), None]], &[&[None]])],
    ];
    let client = server.client().await;
    let text = async |table: &str| -> String {
        let sql = format!("SELECT string_agg(t::text, ' ' ORDER BY t::text) FROM {table} AS t");
        client.query_one(&sql, &[]).await.unwrap().get(0)
    };
    let mut groups_over_time = Vec::new();
    for (number, results) in (1..).zip(epochs) {
        let mut commit = epoch(number).build();
        commit.results = results;
        sink.commit(&commit).await.unwrap();
        groups_over_time.push(text("groups").await);
    }
    assert_eq!(text("\"Key Only\"").await, "(a,b)");
    assert_eq!(text("two_unique").await, "(2,me@,2)", "each row was sent once");
    assert_eq!(groups_over_time, ["(,none) (x,old)", "(,\"still none\")", "(y,)"]);
}

#[tokio::test]
async fn numbers_arrive_digit_by_digit() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut sink =
        sink_with(&server, "CREATE TABLE n (id bigint, scale bigint, value numeric)").await;
    let largest = 10i128.pow(38) - 1;
    let mut values = vec![0, 1, -1, 9, 10, 9999, 10_000, -10_001, 99_990_000, largest, -largest];
    values.extend((0..38).flat_map(|power| [10i128.pow(power), -7 * 10i128.pow(power)]));
    values.extend(
        (1..=38u32)
            .map(|digits| 12345678901234567890123456789012345678i128 / 10i128.pow(38 - digits)),
    );
    let client = server.client().await;
    for scale in 0..=38i8 {
        let field = |name: &str, data_type| Field::new(name, data_type, false);
        let schema = Arc::new(Schema::new(vec![
            field("id", DataType::Int64),
            field("scale", DataType::Int64),
            field("value", DataType::Decimal128(38, scale)),
        ]));
        let table = Arc::new(ResultTable {
            name: "n".to_owned(),
            target: "n".to_owned(),
            channel: Channel::Table,
            schema: Arc::clone(&schema),
            mode: ResultMode::Append,
            definition: String::new(),
        });
        sink.check_targets(&[], &[Arc::clone(&table)]).await.unwrap();
        let numbers =
            Decimal128Array::from(values.clone()).with_precision_and_scale(38, scale).unwrap();
        let count = values.len() as i64;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(0..count)),
            Arc::new(Int64Array::from_value(scale.into(), values.len())),
            Arc::new(numbers),
        ];
        let upserts = RecordBatch::try_new(schema, columns).unwrap();
        let mut commit = epoch(scale as u64 + 1).build();
        let deletes = RecordBatch::new_empty(Arc::new(Schema::empty()));
        let (held, is_new_definition) = (Vec::new(), false);
        commit.results = vec![ResultChanges { table, upserts, held, deletes, is_new_definition }];
        commit.landing.clear();
        sink.commit(&commit).await.unwrap();
        let sql = "SELECT value::text FROM n WHERE scale = $1 ORDER BY id";
        let read = client.query(sql, &[&i64::from(scale)]).await.unwrap();
        let read: Vec<String> = read.iter().map(|row| row.get(0)).collect();
        let written: Vec<String> = values.iter().map(|value| decimal_text(*value, scale)).collect();
        assert_eq!(read, written, "scale {scale}");
        // Equal bits, not only equal text: Postgres's own form of the same number.
        let sql = "SELECT count(*) FROM n WHERE scale = $1 \
                   AND numeric_send(value) <> numeric_send(value::text::numeric)";
        let odd: i64 = client.query_one(sql, &[&i64::from(scale)]).await.unwrap().get(0);
        assert_eq!(odd, 0, "scale {scale}");
    }
}

fn decimal_text(value: i128, scale: i8) -> String {
    let scale = scale as usize;
    let digits = format!("{:0width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if value < 0 { "-" } else { "" };
    let point = if scale == 0 { "" } else { "." };
    format!("{sign}{whole}{point}{fraction}")
}
