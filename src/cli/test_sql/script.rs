//! A `*.test.yaml` file, understood: its tests, their steps and what they expect.

use super::event::Events;
use super::yaml::{At, Key, Node, Problem, Value, parse, unknown};
use crate::pipeline::Sql;

/// One test of a file.
#[derive(Debug)]
pub(super) struct Test {
    pub(super) name: String,
    pub(super) at: At,
    pub(super) steps: Vec<Step>,
    /// After the last event.
    pub(super) expected: Vec<Expected>,
}

#[derive(Debug)]
pub(super) enum Step {
    /// A payload as the queue would deliver it.
    Event { at: At, payload: String },
    /// The processor starts anew.
    Restart,
    /// What the results show here.
    Expect(Vec<Expected>),
}

/// The rows that a result shows, all of them.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) at: At,
    pub(super) result: String,
    /// The columns that are compared; the same in each row.
    pub(super) columns: Vec<Key>,
    pub(super) rows: Vec<ExpectedRow>,
}

#[derive(Debug)]
pub(super) struct ExpectedRow {
    pub(super) at: At,
    /// As `columns`; `None` is NULL.
    pub(super) cells: Vec<Option<String>>,
}

/// # Errors
/// The first thing that is wrong in the file.
pub(super) fn read(text: &str, sql: &Sql) -> Result<Vec<Test>, Problem> {
    let root = parse(text)?;
    let [(key, tests)] = root.map("a test file")? else {
        return Err(root.problem("must hold `tests:` and nothing else"));
    };
    if key.name != "tests" {
        return Err(unknown(key, "tests"));
    }
    let tests = tests.list("tests")?;
    if tests.is_empty() {
        return Err(root.problem("has no test"));
    }
    tests.iter().map(|node| test(node, sql)).collect()
}

fn test(node: &Node, sql: &Sql) -> Result<Test, Problem> {
    let (mut name, mut steps, mut expected) = (None, None, None);
    for (key, value) in node.map("a test")? {
        match key.name.as_str() {
            "name" => name = Some(value.text("name")?.to_owned()),
            "events" => steps = Some(read_steps(value, sql)?),
            "expect" => expected = Some(expectations(value)?),
            _ => return Err(unknown(key, "name, events, expect")),
        }
    }
    let missing = |what: &str| node.problem(format!("this test has no `{what}:`"));
    Ok(Test {
        name: name.ok_or_else(|| missing("name"))?,
        at: node.at,
        steps: steps.ok_or_else(|| missing("events"))?,
        expected: expected.ok_or_else(|| missing("expect"))?,
    })
}

fn read_steps(node: &Node, sql: &Sql) -> Result<Vec<Step>, Problem> {
    let mut events = Events::new(&sql.tables);
    let steps = node.list("events")?.iter().map(|node| match &node.value {
        Value::Text(word) if word == "restart" => Ok(Step::Restart),
        Value::Map(pairs) => match pairs.as_slice() {
            [(key, value)] if key.name == "expect" => expectations(value).map(Step::Expect),
            _ => Ok(Step::Event { at: node.at, payload: events.payload(node, pairs)? }),
        },
        Value::Null | Value::Text(_) | Value::List(_) => Err(node
            .problem("is none of `restart`, `expect: ...` and an event such as `insert: TABLE`")),
    });
    let steps = steps.collect::<Result<Vec<_>, _>>()?;
    if !steps.iter().any(|step| matches!(step, Step::Event { .. })) {
        return Err(node.problem("there is no event in it"));
    }
    Ok(steps)
}

fn expectations(node: &Node) -> Result<Vec<Expected>, Problem> {
    let pairs = node.map("expect")?;
    if pairs.is_empty() {
        return Err(node.problem("expects nothing: name a result, and `[]` if it has no rows"));
    }
    pairs.iter().map(|(key, rows)| expectation(key, rows)).collect()
}

fn expectation(key: &Key, rows: &Node) -> Result<Expected, Problem> {
    let (result, at) = (key.name.clone(), key.at);
    let nodes = rows.list("the rows of a result (`[]` for none)")?;
    let mut columns: Option<Vec<Key>> = None;
    let mut read = Vec::new();
    for node in nodes {
        let pairs = node.map("a row")?;
        let columns = columns.get_or_insert_with(|| pairs.iter().map(|(k, _)| k.clone()).collect());
        read.push(expected_row(node, pairs, columns)?);
    }
    Ok(Expected { at, result, columns: columns.unwrap_or_default(), rows: read })
}

fn expected_row(
    node: &Node,
    pairs: &[(Key, Node)],
    columns: &[Key],
) -> Result<ExpectedRow, Problem> {
    if let Some((key, _)) = pairs.iter().find(|(k, _)| columns.iter().all(|c| c.name != k.name)) {
        let message = format!(
            "column {} is not in the first row: name the same columns in every row of a result",
            key.name
        );
        return Err(Problem { at: key.at, message });
    }
    let cells = columns.iter().map(|column| {
        let (_, value) = pairs.iter().find(|(key, _)| key.name == column.name).ok_or_else(|| {
            let message = format!(
                "this row has no column {}, which the first row has: leaving it out is not NULL, so \
                 write `{0}: null` if that is meant",
                column.name
            );
            node.problem(message)
        })?;
        match &value.value {
            Value::Null => Ok(None),
            Value::Text(text) => Ok(Some(text.clone())),
            Value::List(_) | Value::Map(_) => Err(value.problem("a column's value must be a text")),
        }
    });
    Ok(ExpectedRow { at: node.at, cells: cells.collect::<Result<_, _>>()? })
}
