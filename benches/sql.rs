//! What an epoch of SQL costs at different sizes of state: `cargo bench --bench sql`.
//!
//! Ten transforms: the three shipped ones and those of `benches/transforms`. An epoch is 100 events:
//! new orders with an item each, and updates of orders and items that are there.

use std::io::{Result as IoResult, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{
    ArrayRef, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::DataType;
use tidemark::model::{Changelog, Offset, Operation, Position, Table, TableDelta};
use tidemark::state::StateStores;
use tidemark::transform::{PlanRequest, SqlFile, Transforms, parse_tables, read_folder};

const SIZES: [usize; 3] = [10_000, 100_000, 1_000_000];
const EPOCHS: usize = 60;
/// Of each kind: new orders, their items, updated orders, updated items.
const EVENTS: usize = 25;
const FIRST_DATE: i64 = 1_767_225_600_000_000;

fn main() -> IoResult<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(run())
}

async fn run() -> IoResult<()> {
    let mut out = std::io::stdout();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |folder: &str| read_folder(&root.join(folder)).expect("a folder of SQL files");
    let tables = parse_tables(&read("sql/tables")).expect("the shipped tables");
    let mut files = read("sql/transforms");
    files.extend(read("benches/transforms"));
    let mut first = None;
    for orders in SIZES {
        let mut bench = Bench::load(&tables, &files, orders).await;
        let median = bench.epochs().await;
        let per_row = median.as_secs_f64() * 1e6 / (4 * EVENTS) as f64;
        let base = *first.get_or_insert(per_row);
        writeln!(
            out,
            "{orders:>9} orders, {:>9} rows in state: fold and {} transforms {:>6.2} ms an epoch of {} events, {per_row:>5.1} us a changed row ({:.2}x); load {:.1} s",
            bench.rows(),
            files.len(),
            median.as_secs_f64() * 1e3,
            4 * EVENTS,
            per_row / base,
            bench.loaded.as_secs_f64()
        )?;
        if orders == 1_000_000 {
            bench.report_memory(&mut out)?;
        }
    }
    writeln!(out, "each transform by itself, {} orders:", SIZES[2])?;
    for file in &files {
        let alone = with_what_it_reads(file, &files);
        let mut bench = Bench::load(&tables, &alone, SIZES[2]).await;
        let median = bench.epochs().await;
        writeln!(out, "  {:<24} {:>6.2} ms", file.name, median.as_secs_f64() * 1e3)?;
    }
    Ok(())
}

fn with_what_it_reads(file: &SqlFile, files: &[SqlFile]) -> Vec<SqlFile> {
    let is_read = |other: &&SqlFile| file.text.contains(&format!("FROM {} ", other.name));
    let mut alone: Vec<SqlFile> = files.iter().filter(is_read).cloned().collect();
    alone.push(file.clone());
    alone
}

struct Bench {
    tables: Vec<Arc<Table>>,
    stores: StateStores,
    transforms: Transforms,
    orders: usize,
    position: i64,
    loaded: Duration,
}

impl Bench {
    async fn load(tables: &[Arc<Table>], files: &[SqlFile], orders: usize) -> Self {
        let transforms =
            Transforms::plan(PlanRequest::new(tables, files)).await.expect("valid transforms");
        let mut stores = StateStores::new(tables, Duration::from_secs(10)).expect("stores");
        for (table, columns) in transforms.indexes() {
            stores.add_index(table, columns).expect("an index");
        }
        let loaded = Duration::ZERO;
        let tables = tables.to_vec();
        let mut bench = Self { tables, stores, transforms, orders, position: 0, loaded };
        for (table, count) in [
            ("customers", orders / 10),
            ("products", 1000),
            ("orders", orders),
            ("order_items", orders),
        ] {
            let ids: Vec<i64> = (0..count as i64).collect();
            for chunk in ids.chunks(10_000) {
                bench.fold(table, chunk, Operation::Create, 0);
            }
        }
        let started = Instant::now();
        let failed = bench.transforms.load(&bench.stores, Some(FIRST_DATE)).await;
        assert!(failed.is_empty(), "{failed:?}");
        bench.loaded = started.elapsed();
        bench
    }

    fn rows(&self) -> usize {
        self.stores.stores().map(|store| store.len()).sum()
    }

    fn fold(
        &mut self,
        table: &str,
        ids: &[i64],
        operation: Operation,
        salt: i64,
    ) -> (Changelog, TableDelta) {
        let table = self.tables.iter().find(|t| t.name == table).expect("a shipped table");
        let changelog = changelog(table, ids, (operation, salt), (self.position, self.orders));
        self.position += ids.len() as i64;
        let folded = self.stores.fold(changelog).expect("a fold");
        (folded.changelog, folded.delta)
    }

    /// The median time of fold and SQL.
    async fn epochs(&mut self) -> Duration {
        let mut times = Vec::new();
        for epoch in 0..EPOCHS {
            let new = (self.orders + epoch * EVENTS) as i64;
            let new: Vec<i64> = (new..new + EVENTS as i64).collect();
            let spread = (self.orders / EVENTS) as i64;
            let old: Vec<i64> = (0..EVENTS as i64).map(|at| at * spread + epoch as i64).collect();
            let started = Instant::now();
            let folded = [
                self.fold("orders", &new, Operation::Create, 0),
                self.fold("order_items", &new, Operation::Create, 0),
                self.fold("orders", &old, Operation::Update, epoch as i64 + 1),
                self.fold("order_items", &old, Operation::Update, epoch as i64 + 1),
            ];
            let (changes, deltas) = merged(folded);
            let watermark = Some(FIRST_DATE + epoch as i64 * 1_000_000);
            let run = self.transforms.run(&self.stores, deltas, &changes, watermark);
            run.await.expect("an epoch");
            times.push(started.elapsed());
        }
        times.sort_unstable();
        times[EPOCHS / 2]
    }

    fn report_memory(&self, out: &mut impl Write) -> IoResult<()> {
        for store in self.stores.stores().filter(|store| !store.is_empty()) {
            let each = store.memory() / store.len();
            writeln!(out, "  state of {:<12} {each:>5} bytes a row", store.table().name)?;
        }
        for (name, bytes) in self.transforms.memory() {
            writeln!(out, "  upkeep of {name:<24} {:>7.1} MiB", bytes as f64 / 1_048_576.0)?;
        }
        Ok(())
    }
}

/// One changelog and one delta a table, as an epoch has them.
fn merged(folded: [(Changelog, TableDelta); 4]) -> (Vec<Changelog>, Vec<TableDelta>) {
    let concat = |one: &RecordBatch, other: &RecordBatch| {
        arrow::compute::concat_batches(&one.schema(), [one, other]).expect("rows of one table")
    };
    let (mut changes, mut deltas): (Vec<Changelog>, Vec<TableDelta>) = (Vec::new(), Vec::new());
    for (changelog, delta) in folded {
        match deltas.iter_mut().find(|known| known.table == delta.table) {
            Some(known) => {
                known.before = concat(&known.before, &delta.before);
                known.after = concat(&known.after, &delta.after);
                known.inserted = concat(&known.inserted, &delta.inserted);
                known.deleted = concat(&known.deleted, &delta.deleted);
            }
            None => deltas.push(delta),
        }
        match changes.iter_mut().find(|known| known.table.name == changelog.table.name) {
            Some(known) => known.batch = concat(&known.batch, &changelog.batch),
            None => changes.push(changelog),
        }
    }
    (changes, deltas)
}

fn changelog(
    table: &Arc<Table>,
    ids: &[i64],
    (operation, salt): (Operation, i64),
    (position, orders): (i64, usize),
) -> Changelog {
    let schema = table.changelog_schema();
    let column = |field: &Arc<arrow::datatypes::Field>| column(field, ids, (salt, orders));
    let mut columns: Vec<ArrayRef> = schema.fields().iter().map(column).collect();
    let positions: Vec<i64> = (position..position + ids.len() as i64).collect();
    columns[table.columns.len()] = text(ids, |_| operation.letter().to_owned());
    columns[table.columns.len() + 3] = text(&positions, |position| position.to_string());
    columns[table.columns.len() + 4] = text(ids, |_| "t".to_owned());
    Changelog {
        table: Arc::clone(table),
        batch: RecordBatch::try_new(schema, columns).expect("rows of the table"),
        offsets: positions.iter().map(|position| Offset::new(1, *position as u64)).collect(),
        positions: positions.into_iter().map(Position).collect(),
        operations: vec![operation; ids.len()],
        scns: vec![None; ids.len()],
        unchanged: Vec::new(),
        truncations: Vec::new(),
    }
}

fn column(field: &arrow::datatypes::Field, ids: &[i64], (salt, orders): (i64, usize)) -> ArrayRef {
    let customers = (orders as i64 / 10).max(1);
    let number = |value: &dyn Fn(i64) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(ids.iter().map(|id| value(*id))))
    };
    match (field.name().as_str(), field.data_type()) {
        ("order_id" | "item_id", _) => number(&|id| id),
        ("customer_id", _) => number(&|id| id % customers),
        ("product_id", _) => number(&|id| (id * 7) % 1000),
        ("order_date", _) => Arc::new(TimestampMicrosecondArray::from_iter_values(
            ids.iter().map(|id| FIRST_DATE + (id % 1000) * 60_000_000),
        )),
        ("status", _) => {
            text(ids, |id| ["NEW", "PAID", "SHIPPED"][((id + salt) % 3) as usize].to_owned())
        }
        ("tier", _) => text(ids, |id| ["GOLD", "SILVER", "BRONZE"][(id % 3) as usize].to_owned()),
        ("category" | "region", _) => text(ids, |id| format!("c{}", id % 10)),
        ("name", _) => text(ids, |id| format!("name {id}")),
        ("quantity", _) => Arc::new(Int32Array::from_iter_values(
            ids.iter().map(|id| ((id + salt) % 9) as i32 + 1),
        )),
        (_, DataType::Decimal128(precision, scale)) => {
            let cents = ids.iter().map(|id| i128::from((id * 37 + salt * 11) % 100_000));
            let decimals = Decimal128Array::from_iter_values(cents);
            Arc::new(decimals.with_precision_and_scale(*precision, *scale).expect("a decimal"))
        }
        (_, data_type) => new_null_array(data_type, ids.len()),
    }
}

fn text(ids: &[i64], value: impl Fn(i64) -> String) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(ids.iter().map(|id| value(*id))))
}
