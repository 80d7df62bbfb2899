//! Look-up tables: each row shows what was at its own last change, in broker order, whatever the batches.

use super::late_events::*;
use super::*;
use crate::model::{Changelog, Operation, Position, Truncation};
use crate::transform::SqlFile;

const TRANSFORMS: [(&str, &str); 4] = [
    (
        "seen",
        "-- key: order_id\n-- lookup: customers\nSELECT o.order_id, o.status, c.name, c.tier FROM orders o \
         LEFT JOIN customers c ON c.customer_id = o.customer_id",
    ),
    (
        "lines",
        "-- key: item_id\n-- lookup: customers, products\nSELECT i.item_id, o.order_id, c.name, p.category, \
         p.stock_qty FROM order_items i JOIN orders o ON o.order_id = i.order_id JOIN customers c ON \
         o.customer_id = c.customer_id LEFT JOIN products p ON p.product_id = i.product_id AND p.stock_qty > 20",
    ),
    (
        "by_tier",
        "-- key: tier\n-- lookup: customers\nSELECT c.tier, COUNT(*) AS orders, MAX(o.order_id) AS newest \
         FROM customers c JOIN orders o ON o.customer_id = c.customer_id GROUP BY c.tier",
    ),
    (
        "ranked",
        "-- key: order_id\n-- lookup: customers\nSELECT order_id, name, rank() OVER (ORDER BY order_id) AS \
         place FROM orders JOIN customers USING (customer_id)",
    ),
];

async fn sql_with(transforms: &[(&str, &str)]) -> Sql {
    let mut sql = sql().await;
    let file = |(name, text): &(&str, &str)| SqlFile {
        path: format!("{name}.sql").into(),
        name: (*name).to_owned(),
        text: format!("-- writes: postgres cdc_{name}\n{text}"),
    };
    sql.transforms = transforms.iter().map(file).collect();
    sql
}

/// One landed change: its row as text, by column.
struct Landed {
    key: String,
    position: Position,
    is_delete: bool,
    row: BTreeMap<String, String>,
}

/// Gives values that changes did not carry what the change before of the key had.
fn fill_unavailable(changelog: &Changelog, rows: &mut [Landed]) {
    let mut newest: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for row in rows {
        let at = changelog.positions.iter().position(|position| *position == row.position);
        let cells = changelog.unchanged.iter().filter(|cell| Some(cell.row) == at);
        for cell in cells {
            let name = &changelog.table.columns[cell.column].name;
            let old = newest.get(&row.key).and_then(|old| old.get(name)).cloned();
            row.row.insert(name.clone(), old.unwrap_or_default());
        }
        newest.insert(row.key.clone(), row.row.clone());
        if row.is_delete {
            newest.remove(&row.key);
        }
    }
}

/// All changes, by table, in broker order.
struct History(BTreeMap<String, Vec<Landed>>);

impl History {
    fn of(sql: &Sql, stream: &[Message]) -> Self {
        let mut spools = crate::model::Generations::default();
        spools.register(stream[0].offset);
        let decoded =
            Decoder::new(DecoderSetup { tables: sql.tables.clone(), ..DecoderSetup::default() })
                .decode(stream, &spools)
                .unwrap();
        let mut tables = BTreeMap::new();
        for changelog in &decoded.changes {
            let landed = |at: usize| {
                let text = |column: &str| {
                    let column = changelog.table.column_index(column).unwrap();
                    array_value_to_string(changelog.batch.column(column), at).unwrap()
                };
                let names = changelog.table.columns.iter().map(|column| column.name.clone());
                let row: BTreeMap<_, _> = names.map(|name| (name.clone(), text(&name))).collect();
                Landed {
                    key: text(&changelog.table.columns[changelog.table.key[0]].name),
                    position: changelog.positions[at],
                    is_delete: changelog.operations[at] == Operation::Delete,
                    row,
                }
            };
            let mut rows: Vec<Landed> = (0..changelog.len()).map(landed).collect();
            for Truncation { position, .. } in &changelog.truncations {
                let before = rows.iter().filter(|row| row.position < *position);
                let keys: BTreeSet<String> = before.map(|row| row.key.clone()).collect();
                rows.extend(keys.into_iter().map(|key| Landed {
                    key,
                    position: *position,
                    is_delete: true,
                    row: BTreeMap::new(),
                }));
            }
            rows.sort_by_key(|row| row.position);
            fill_unavailable(changelog, &mut rows);
            tables.insert(changelog.table.name.clone(), rows);
        }
        Self(tables)
    }

    fn changes(&self, table: &str) -> &[Landed] {
        self.0.get(table).map_or(&[], Vec::as_slice)
    }

    /// The current rows.
    fn rows(&self, table: &str) -> impl Iterator<Item = &Landed> {
        let mut newest = BTreeMap::new();
        for change in self.changes(table) {
            newest.insert(change.key.clone(), change);
        }
        newest.into_values().filter(|change| !change.is_delete)
    }

    /// As the documentation says it.
    fn seen(
        &self,
        table: &str,
        key: &str,
        position: Position,
    ) -> Option<&BTreeMap<String, String>> {
        let of_key = || self.changes(table).iter().filter(|change| change.key == key);
        let then = of_key().rfind(|change| change.position <= position);
        let then = then.filter(|change| !change.is_delete);
        let next = || of_key().find(|change| change.position > position && !change.is_delete);
        then.or_else(next).map(|change| &change.row)
    }

    fn expected(&self) -> BTreeMap<&'static str, Rows> {
        let (mut seen, mut lines) = (Rows::new(), Rows::new());
        let (mut tiers, mut ranked) = (BTreeMap::<String, Vec<i64>>::new(), Vec::new());
        let mut orders = BTreeMap::new();
        let shown = |row: Option<&BTreeMap<String, String>>, column: &str| {
            row.map(|row| row[column].clone()).unwrap_or_default()
        };
        for order in self.rows("orders") {
            let customer = self.seen("customers", &order.row["customer_id"], order.position);
            let (name, tier) = (shown(customer, "name"), shown(customer, "tier"));
            seen.insert(vec![
                order.key.clone(),
                order.row["status"].clone(),
                name.clone(),
                tier.clone(),
            ]);
            if customer.is_some() {
                tiers.entry(tier).or_default().push(order.key.parse().unwrap());
                ranked.push((order.key.clone(), name.clone()));
            }
            orders.insert(order.key.clone(), customer.map(|_| name));
        }
        for item in self.rows("order_items") {
            let order = &item.row["order_id"];
            let Some(Some(name)) = orders.get(order) else { continue };
            let product = self.seen("products", &item.row["product_id"], item.position);
            let product = product.filter(|row| row["stock_qty"].parse::<i64>().unwrap() > 20);
            let (category, stock) = (shown(product, "category"), shown(product, "stock_qty"));
            lines.insert(vec![item.key.clone(), order.clone(), name.clone(), category, stock]);
        }
        let by_tier = tiers.into_iter().map(|(tier, orders)| {
            vec![tier, orders.len().to_string(), orders.iter().max().unwrap().to_string()]
        });
        let ranked = ranked.into_iter().enumerate();
        let ranked = ranked.map(|(at, (key, name))| vec![key, name, (at + 1).to_string()]);
        BTreeMap::from([
            ("seen", seen),
            ("lines", lines),
            ("by_tier", by_tier.collect()),
            ("ranked", ranked.collect()),
        ])
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn each_row_shows_what_was_at_its_last_change(
        changes in prop::collection::vec(change(), 1..80),
        borders in prop::collection::vec(border(), 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let sql = sql_with(&TRANSFORMS).await;
            let stream = messages(&payloads(&changes));
            let target = run_in_batches(&sql, &stream, &borders).await;
            for (name, expected) in History::of(&sql, &stream).expected() {
                let shown = as_text(&target.result(&format!("cdc_{name}")));
                assert_eq!(shown, expected, "{name}");
            }
        });
    }
}

fn customer(name: &str, minute: i64) -> String {
    let row = format!(r#"{{"CUSTOMER_ID":5,"NAME":"{name}","TIER":"T"}}"#);
    source_event("CUSTOMERS", minute, "u", ("null", &row))
}

/// The customer's name per item.
fn names(stage: &Stage) -> Vec<(String, String)> {
    let lines = as_text(&stage.target.result("cdc_lines"));
    lines.into_iter().map(|row| (row[0].clone(), row[2].clone())).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(item, name)| ((*item).to_owned(), (*name).to_owned())).collect()
}

#[tokio::test]
async fn a_row_shows_what_it_showed_whatever_has_left_memory() {
    let mut stage = Stage::with(sql_with(&TRANSFORMS[..2]).await).await;
    let (ada, eve) = (customer("Ada", 0), customer("Eve", 1));
    stage.send(&[ada, order(1, 0, "new"), eve, item(10, 1, 0)]).await;
    assert_eq!(names(&stage), pairs(&[("10", "Ada")]));
    stage.let_time_pass().await;
    // The order still is of the time of Ada.
    stage.send(&[item(11, 1, LATER)]).await;
    assert_eq!(names(&stage), pairs(&[("10", "Ada"), ("11", "Ada")]));
    // A change looks again.
    stage.send(&[order(1, LATER, "paid")]).await;
    assert_eq!(names(&stage), pairs(&[("10", "Eve"), ("11", "Eve")]));
}

#[tokio::test]
async fn ttl_of_the_looked_up_table_takes_nothing_away() {
    let mut sql = sql_with(&TRANSFORMS[..2]).await;
    for table in &mut sql.tables {
        if table.name == "customers" {
            Arc::make_mut(table).options.ttl = Some(Duration::from_secs(3600));
        }
    }
    let mut stage = Stage::with(sql).await;
    stage.send(&[customer("Ada", 0), order(1, LATER, "new")]).await;
    for _ in 0..3 {
        // The last one a minute later: time goes on there.
        let at = |id: i64| LATER + i64::from(id == 2499);
        let others: Vec<String> = (2000..2500).map(|id| item(id, 1, at(id))).collect();
        stage.flush();
        stage.send(&others).await;
    }
    assert_eq!(stage.len("customers"), 0);
    stage.send(&[item(10, 1, LATER)]).await;
    assert!(names(&stage).contains(&("10".to_owned(), "Ada".to_owned())));
    // Who asks for the row finds it on disk.
    stage.send(&[order(2, LATER, "new"), item(11, 2, LATER)]).await;
    assert!(names(&stage).contains(&("11".to_owned(), "Ada".to_owned())));
}

#[tokio::test]
async fn versions_that_no_row_shows_are_not_kept() {
    let mut stage = Stage::with(sql_with(&TRANSFORMS[..1]).await).await;
    stage.send(&[customer("first", 0), order(1, 0, "new"), order(2, 0, "new")]).await;
    for version in 0..50 {
        stage.send(&[customer(&format!("v{version}"), 0), order(3, 0, "new")]).await;
    }
    // Three orders, of two times.
    assert_eq!(stage.views(), [(3, 2)]);
    stage.restart().await;
    assert_eq!(stage.views(), [(3, 2)]);
    let delete = |id| source_event("ORDERS", 0, "d", (&order_row(id, 0, "new"), "null"));
    stage.send(&[delete(1), delete(3)]).await;
    assert_eq!(stage.views(), [(1, 1)]);
}

#[tokio::test]
async fn a_key_of_two_columns_in_any_order_finds_its_version() {
    let by_tier = "-- key: order_id\n-- lookup: customers\nSELECT o.order_id, o.status, c.name FROM orders o LEFT \
                   JOIN customers c ON o.status = c.tier AND c.customer_id = o.customer_id";
    let mut sql = sql_with(&[("lines", by_tier)]).await;
    for table in &mut sql.tables {
        if table.name == "customers" {
            let key = ["tier", "customer_id"].map(|name| table.column_index(name).unwrap());
            Arc::make_mut(table).key = key.to_vec();
        }
    }
    let of_tier = |tier: &str, name: &str| {
        let row = format!(r#"{{"CUSTOMER_ID":5,"NAME":"{name}","TIER":"{tier}"}}"#);
        source_event("CUSTOMERS", 0, "u", ("null", &row))
    };
    let mut stage = Stage::with(sql).await;
    stage.send(&[of_tier("new", "Ada"), of_tier("paid", "Eve"), order(1, 0, "new")]).await;
    stage
        .send(&[
            of_tier("new", "Bob"),
            order(2, 0, "new"),
            order(3, 0, "paid"),
            order(4, 0, "lost"),
        ])
        .await;
    let expected = pairs(&[("1", "Ada"), ("2", "Bob"), ("3", "Eve"), ("4", "")]);
    assert_eq!(names(&stage), expected);
    stage.restart().await;
    stage.send(&[of_tier("lost", "Kim"), of_tier("paid", "Zoe")]).await;
    let filled = pairs(&[("1", "Ada"), ("2", "Bob"), ("3", "Eve"), ("4", "Kim")]);
    assert_eq!(names(&stage), filled);
}

#[tokio::test]
async fn an_edit_of_the_look_up_line_writes_the_target_anew() {
    let text = TRANSFORMS[0].1.replace("o.status, c.name", "c.name");
    let current = text.replace("-- lookup: customers\n", "");
    let names = |stage: &Stage| {
        let shown = as_text(&stage.target.result("cdc_seen"));
        shown.into_iter().map(|row| row[1].clone()).collect::<Vec<_>>()
    };
    let mut stage = Stage::with(sql_with(&[("seen", &text)]).await).await;
    stage.send(&[customer("Ada", 0), order(1, 0, "new"), customer("Eve", 1)]).await;
    assert_eq!(names(&stage), ["Ada"]);
    stage.edit(sql_with(&[("seen", &current)]).await).await;
    stage.send(&[order(2, 0, "new")]).await;
    assert_eq!(names(&stage), ["Eve", "Eve"]);
    stage.edit(sql_with(&[("seen", &text)]).await).await;
    stage.send(&[customer("Kim", 2), order(2, 0, "paid")]).await;
    assert_eq!(names(&stage), ["Ada", "Kim"]);
}
