//! What `tidemark check` prints and draws.

use std::fs;

use super::folder::Checked;
use super::*;

const ORDERS: &str =
    "CREATE TABLE orders (id BIGINT PRIMARY KEY, customer BIGINT, total DECIMAL(9,2))
WITH (source = 'S.ORDERS', landing = 'none')";
const CUSTOMERS: &str = "CREATE TABLE customers (id BIGINT PRIMARY KEY, name VARCHAR)
WITH (source = 'S.CUSTOMERS', ttl = 'none')";
const NAMED: &str = "-- writes: postgres named\n-- key: id
SELECT o.id, o.total, c.name FROM orders o LEFT JOIN customers c ON c.id = o.customer";
const SEEN: &str = "-- writes: postgres seen\nSELECT id, op FROM orders_changes";
const RANKED: &str = "-- writes: postgres ranked\n-- key: id
SELECT id, rank() OVER (ORDER BY total) AS place FROM named";

fn folder(transforms: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |part: &str, name: &str, text: &str| {
        fs::create_dir_all(folder.path().join(part)).unwrap();
        fs::write(folder.path().join(part).join(name), text).unwrap();
    };
    write("tables", "orders.sql", ORDERS);
    write("tables", "customers.sql", CUSTOMERS);
    for (name, text) in transforms {
        write("transforms", name, text);
    }
    // Not SQL, so none of the loader's business.
    write("transforms", "named.test.yaml", "tests: []");
    folder
}

fn all() -> tempfile::TempDir {
    folder(&[("named.sql", NAMED), ("seen.sql", SEEN), ("ranked.sql", RANKED)])
}

fn arguments(folder: &tempfile::TempDir) -> Arguments {
    Arguments { sql: folder.path().to_owned(), config: None, strict: false, dot: None, svg: None }
}

async fn drawn(folder: &tempfile::TempDir) -> (Checked, Graph) {
    let checked = load(folder.path(), None).await.unwrap();
    let graph = Graph::new(&checked.sql.tables, &checked.transforms);
    (checked, graph)
}

#[tokio::test]
async fn every_file_says_what_it_reads_and_writes_and_how_it_is_kept() {
    let folder = all();
    let (checked, graph) = drawn(&folder).await;
    let text = report::text(&checked, &graph, &report::warnings(&checked));
    let text = text.replace(&format!("{}/", folder.path().display()), "");
    for lines in [
        "tables/customers.sql\n  reads   events of S.CUSTOMERS\n  writes  postgres cdc_customers, every change\n  kept    for ever; read by named\n",
        "tables/orders.sql\n  reads   events of S.ORDERS\n  writes  nothing\n",
        "transforms/named.sql\n  reads   customers, orders\n  writes  postgres named, by id\n  kept    by key",
        "transforms/seen.sql\n  reads   orders_changes\n  writes  postgres seen, appended\n  kept    append: reads changes only\n",
        "transforms/ranked.sql\n  reads   named\n  writes  postgres ranked, by id\n  kept    recompute: ",
        "  customers (S.CUSTOMERS)\n     -> named [by key]\n",
        "        -> ranked [recompute]\n           -> ranked (postgres)\n",
        "  orders (S.ORDERS)\n     -> named [see above]\n     -> seen [append]\n",
        "transforms/ranked.sql: warning: recompute: ",
        "tables/orders.sql: warning: lands nowhere",
        "\n2 tables, 3 transforms: fine, with 2 warning(s)\n",
    ] {
        assert!(text.contains(lines), "{lines}\nis not in\n{text}");
    }
}

#[tokio::test]
async fn look_up_tables_are_shown_as_such() {
    let folder = folder(&[("named.sql", &format!("-- lookup: customers\n{NAMED}"))]);
    let (checked, graph) = drawn(&folder).await;
    let text = report::text(&checked, &graph, &report::warnings(&checked));
    let lines = "  reads   customers, orders\n  writes  postgres named, by id\n  lookup  customers as of each \
                 change of orders (customer), not re-opened by its own changes\n  kept    by key";
    assert!(text.contains(lines), "{lines}\nis not in\n{text}");
}

#[tokio::test]
async fn look_ups_that_have_no_row_to_go_by_are_refused_with_their_line() {
    let head = "-- writes: postgres named\n-- key: id\n-- lookup:";
    for (lookup, select, says) in [
        ("shops", "SELECT id FROM orders", "looks up shops, which is no table of sql/tables"),
        ("orders", "SELECT id FROM orders", "looks up orders, which lands nowhere"),
        ("customers", "SELECT id FROM orders", "looks up customers, which it does not read"),
        ("customers", "SELECT id FROM customers", "in a way that has no row to go by"),
        (
            "customers",
            "SELECT o.id FROM orders o RIGHT JOIN customers c ON c.id = o.customer",
            "join it as `JOIN customers ON` or `LEFT JOIN customers ON`",
        ),
        (
            "customers",
            "SELECT o.id FROM orders o, customers c WHERE c.id = o.customer",
            "in a way that has no row to go by",
        ),
        (
            "customers",
            "SELECT o.id FROM orders o JOIN customers c ON c.name = o.customer::VARCHAR",
            "by its whole key",
        ),
        (
            "customers",
            "SELECT o.id FROM orders o JOIN customers c ON c.id = o.customer + 1",
            "to columns of one table",
        ),
        (
            "customers",
            "WITH o AS (SELECT * FROM orders) SELECT o.id FROM o JOIN customers c ON c.id = o.customer",
            "to columns of one table",
        ),
        (
            "customers",
            "SELECT o.id FROM orders o JOIN customers c ON c.id = o.customer WHERE EXISTS (SELECT 1 FROM \
             customers x WHERE x.name = c.name)",
            "in a way that has no row to go by",
        ),
        (
            "customers",
            "SELECT o.id FROM orders o JOIN customers c ON c.id = o.customer JOIN customers d ON d.id = c.id",
            "is no look-up table itself",
        ),
    ] {
        let folder = folder(&[("named.sql", &format!("{head} {lookup}\n{select}"))]);
        let error = load(folder.path(), None).await.err().map(|error| error.to_string());
        let error = error.unwrap_or_default();
        assert!(error.contains("named.sql:3:") && error.contains(says), "{select}: {error}");
    }
}

#[tokio::test]
async fn dot_names_all_nodes_and_edges() {
    let (_, graph) = drawn(&all()).await;
    let text = dot::draw(&graph);
    for line in [
        "  n0 [label=\"customers\\nS.CUSTOMERS\", shape=box];",
        "[label=\"ranked\\nrecompute\", shape=box, style=rounded, color=red];",
        "[label=\"ranked\\npostgres\", shape=cylinder];",
        " [style=dashed, label=\"changes\"];",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert_eq!(text.matches(" -> ").count(), 7);
}

#[tokio::test]
async fn the_picture_is_well_formed_and_its_boxes_do_not_overlap() {
    let (_, graph) = drawn(&all()).await;
    let text = svg::draw(&graph);
    let mut reader = quick_xml::Reader::from_str(&text);
    let mut boxes = Vec::new();
    loop {
        match reader.read_event().unwrap() {
            quick_xml::events::Event::Eof => break,
            quick_xml::events::Event::Empty(tag) if tag.name().as_ref() == b"rect" => {
                let number = |name: &str| -> Option<usize> {
                    let value = tag.try_get_attribute(name).unwrap()?.value.into_owned();
                    String::from_utf8(value).unwrap().parse().ok()
                };
                boxes.extend(
                    number("x").zip(number("y")).zip(number("width").zip(number("height"))),
                );
            }
            _ => {}
        }
    }
    assert_eq!(boxes.len(), graph.nodes.len());
    for (at, ((x, y), (w, h))) in boxes.iter().enumerate() {
        for ((x2, y2), (w2, h2)) in &boxes[..at] {
            let apart = x + w <= *x2 || x2 + w2 <= *x || y + h <= *y2 || y2 + h2 <= *y;
            assert!(apart, "{text}");
        }
    }
}

#[tokio::test]
async fn warnings_are_errors_only_when_strict() {
    let folder = all();
    run(&arguments(&folder)).await.unwrap();
    let error = run(&Arguments { strict: true, ..arguments(&folder) }).await.unwrap_err();
    assert!(error.to_string().starts_with("2 warning(s), which --strict takes for errors:\n"));
}

#[tokio::test]
async fn drawings_are_written_where_asked() {
    let folder = all();
    let (dot, svg) = (folder.path().join("a.dot"), folder.path().join("a.svg"));
    let arguments =
        Arguments { dot: Some(dot.clone()), svg: Some(svg.clone()), ..arguments(&folder) };
    run(&arguments).await.unwrap();
    assert!(fs::read_to_string(dot).unwrap().starts_with("digraph tidemark {"));
    assert!(fs::read_to_string(svg).unwrap().starts_with("<svg "));
}

#[tokio::test]
async fn an_error_shows_its_line_and_column() {
    let folder = folder(&[(
        "wrong.sql",
        "-- writes: postgres a\n-- key: id\nSELECT id,\n\tnope FROM (SELECT id FROM orders) o",
    )]);
    let error = run(&arguments(&folder)).await.unwrap_err().to_string();
    assert!(error.starts_with("1 problem(s):\n"), "{error}");
    assert!(error.contains("/transforms/wrong.sql:4:2: "), "{error}");
    assert!(error.ends_with("\n  4 | \tnope FROM (SELECT id FROM orders) o\n    | \t^"), "{error}");
}

#[tokio::test]
async fn tables_that_are_extracted_from_xml_are_declared_by_a_configuration() {
    let text =
        "-- writes: postgres lines\n-- key: id, row_no\nSELECT id, row_no, sku FROM order_lines";
    let folder = folder(&[("lines.sql", text)]);
    let error = run(&arguments(&folder)).await.unwrap_err().to_string();
    assert!(error.contains("order_lines"), "{error}");
    let config = folder.path().join("tidemark.toml");
    let mapping = "password = '${NOT_SET}'\n[[xml]]\nsource_table = 'S.ORDERS'\nxml_column = 'DETAILS'\n\
        target_table = 'order_lines'\nxpath = '//line'\ncolumns = [{ name = 'sku', path = '@sku' }]\n";
    fs::write(&config, mapping).unwrap();
    let checked = load(folder.path(), Some(&config)).await.unwrap();
    let graph = Graph::new(&checked.sql.tables, &checked.transforms);
    let said = report::text(&checked, &graph, &[]);
    assert!(said.contains("order_lines") && said.contains("tidemark.toml"), "{said}");
    fs::write(&config, mapping.replace("S.ORDERS", "S.OTHER")).unwrap();
    let error = load(folder.path(), Some(&config)).await.err().unwrap().to_string();
    assert!(
        error.contains("xml[0].source_table: no file under sql/tables declares S.OTHER"),
        "{error}"
    );
}

#[tokio::test]
async fn a_file_that_waits_for_a_column_is_a_warning_with_its_line() {
    let text = NAMED.replace("o.total", "o.channel");
    let folder = folder(&[("named.sql", &text), ("seen.sql", SEEN)]);
    let (checked, graph) = drawn(&folder).await;
    let text = report::text(&checked, &graph, &report::warnings(&checked));
    let text = text.replace(&format!("{}/", folder.path().display()), "");
    for lines in [
        "transforms/named.sql:3:14: warning: unknown column channel in orders. If events will add it",
        "\n  3 | SELECT o.id, o.channel, c.name",
        "\n2 tables, 2 transforms: 1 can't run yet, with 2 warning(s)\n",
    ] {
        assert!(text.contains(lines), "{lines}\nis not in\n{text}");
    }
    let strict = Arguments { strict: true, ..arguments(&folder) };
    let error = run(&strict).await.unwrap_err().to_string();
    assert!(error.contains("unknown column channel"), "{error}");
}

const VISITS: &str =
    "-- writes: postgres visits\n-- key: customer\nSELECT customer, id FROM orders";

#[tokio::test]
async fn a_key_that_rows_may_lack_or_share_is_a_warning_that_says_what_to_write() {
    let folder = folder(&[("visits.sql", VISITS)]);
    let (checked, graph) = drawn(&folder).await;
    let text = report::text(&checked, &graph, &report::warnings(&checked));
    for line in [
        "transforms/visits.sql: warning: customer of the key can be NULL",
        "WHERE customer IS NOT NULL",
        "transforms/visits.sql: warning: nothing in the query makes sure that no two rows have the same key (customer)",
        "SELECT DISTINCT ON (customer)",
    ] {
        assert!(text.contains(line), "{line}\nis not in\n{text}");
    }
    let strict = Arguments { strict: true, ..arguments(&folder) };
    assert!(run(&strict).await.unwrap_err().to_string().starts_with("3 warning(s)"));
}

#[tokio::test]
async fn a_slip_of_the_hand_is_an_error_and_a_learned_column_none() {
    let slip = folder(&[("named.sql", &NAMED.replace("o.total", "o.totl"))]);
    let error = run(&arguments(&slip)).await.unwrap_err().to_string();
    assert!(
        error.contains("named.sql:3:14: unknown column totl")
            && error.contains("did you mean total?"),
        "{error}"
    );
    let learned = format!(
        "-- learned: orders.totl number, orders.channel text\n{}",
        NAMED.replace("o.total", "o.totl, o.channel")
    );
    let (checked, _) = drawn(&folder(&[("named.sql", &learned)])).await;
    assert!(checked.transforms.pending().is_empty());
    for (line, says) in [
        ("orders.channel words", "types are boolean, integer, number, text, json"),
        ("channel text", "'channel text' is no learned column"),
        ("shops.channel text", "there is no table shops"),
        ("orders.total text", "column total is declared in orders"),
    ] {
        let wrong = folder(&[("named.sql", &format!("-- learned: {line}\n{NAMED}"))]);
        let error = load(wrong.path(), None).await.err().unwrap().to_string();
        assert!(error.contains("named.sql:1:1: ") && error.contains(says), "{error}");
    }
}
