//! What `tidemark check` prints.

use std::collections::HashSet;
use std::fmt::Write;

use super::excerpt;
use super::folder::Checked;
use super::graph::{Graph, NodeKind};
use crate::model::{Channel, Landing, LeftOutReason, ResultMode, ResultTable, Sends, Table};
use crate::transform::{KeyDoubt, PendingTransform, SqlError};

/// What works, but should be known.
pub(super) fn warnings(checked: &Checked) -> Vec<String> {
    let waits = |waiting: &PendingTransform| {
        let message = format!("warning: {}", waiting.reason.message);
        excerpt::shown(&SqlError { message, ..waiting.reason.clone() })
    };
    let mut warnings: Vec<String> = checked.transforms.pending().iter().map(waits).collect();
    for (result, maintenance) in checked.transforms.explain() {
        if maintenance.is_costly() {
            let path = file_of(checked, &result.name);
            warnings.push(format!("{path}: warning: {maintenance}"));
        }
    }
    for doubt in checked.transforms.key_doubts() {
        let path = file_of(checked, &doubt.result.name);
        warnings.push(format!("{path}: warning: {}", key_doubt(&doubt)));
    }
    for (table, path) in checked.sql.tables.iter().zip(&checked.table_files) {
        if table.options.landing == Landing::None {
            warnings.push(format!(
                "{}: warning: lands nowhere, so {} is empty after a restart and results over it lose rows: \
                 leave out landing = 'none' unless nothing but its changes is read",
                path.display(),
                table.name
            ));
        }
    }
    warnings
}

/// Why rows of a result may have to be left out, and what to write instead.
fn key_doubt(KeyDoubt { reason, columns, .. }: &KeyDoubt<'_>) -> String {
    let names = columns.join(", ");
    match reason {
        LeftOutReason::NullKey => format!(
            "{names} of the key can be NULL, and a row without a whole key is left out, with a dead letter: add \
             WHERE {} IS NOT NULL, or give it a value with COALESCE, or declare the column NOT NULL if it is so in \
             the source",
            columns.first().unwrap_or(&"")
        ),
        LeftOutReason::DuplicateKey => format!(
            "nothing in the query makes sure that no two rows have the same key ({names}); of several the smallest \
             is shown, and the others are left out, with a dead letter: add columns to the -- key: line, or GROUP \
             BY {names}, or take one row of each with SELECT DISTINCT ON ({names}) ... ORDER BY {names}, ..."
        ),
    }
}

pub(super) fn text(checked: &Checked, graph: &Graph, warnings: &[String]) -> String {
    let mut text = String::new();
    for (table, path) in checked.sql.tables.iter().zip(&checked.table_files) {
        let _ = writeln!(text, "{}", path.display());
        describe_table(&mut text, checked, table, graph);
    }
    for (result, maintenance) in checked.transforms.explain() {
        let _ = writeln!(text, "{}", file_of(checked, &result.name));
        describe_result(&mut text, result, graph);
        for enrichment in checked.transforms.looked_up(&result.name) {
            let _ = writeln!(text, "  lookup  {enrichment}, not re-opened by its own changes");
        }
        let _ = writeln!(text, "  kept    {maintenance}");
    }
    text.push_str("\nwho reads whom\n");
    let mut shown = HashSet::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        if node.kind == NodeKind::Table {
            tree(&mut text, graph, Branch { at, depth: 1 }, &mut shown);
        }
    }
    text.push('\n');
    for warning in warnings {
        let _ = writeln!(text, "{warning}");
    }
    let (tables, transforms) = (checked.sql.tables.len(), checked.sql.transforms.len());
    let end = match (checked.transforms.pending().len(), warnings.len()) {
        (0, 0) => "fine".to_owned(),
        (0, count) => format!("fine, with {count} warning(s)"),
        (pending, count) => format!("{pending} can't run yet, with {count} warning(s)"),
    };
    let _ = writeln!(text, "{tables} tables, {transforms} transforms: {end}");
    text
}

fn describe_table(text: &mut String, checked: &Checked, table: &Table, graph: &Graph) {
    // Writing to a String does not fail, here and below.
    let _ = writeln!(text, "  reads   events of {}", table.source);
    let stays = table.options.history.map_or_else(String::new, |history| {
        format!(" of the last {}, and the newest of each key", humantime::format_duration(history))
    });
    let _ = match &table.options.landing {
        Landing::History(landing) => {
            writeln!(text, "  writes  postgres {landing}, every change{stays}")
        }
        Landing::Current(landing) => {
            writeln!(text, "  writes  postgres {landing}, its current rows")
        }
        Landing::None => writeln!(text, "  writes  nothing"),
    };
    let ttl = match table.options.ttl {
        Some(ttl) => format!("until unchanged for {}", humantime::format_duration(ttl)),
        None if !checked.transforms.needs_rows_of(&table.name) => "for an hour".to_owned(),
        None => "for ever".to_owned(),
    };
    let readers = graph.readers(&table.name);
    let read = if readers.is_empty() {
        "no transform reads it".to_owned()
    } else {
        format!("read by {}", readers.join(", "))
    };
    let _ = writeln!(text, "  kept    {ttl}; {read}");
}

fn describe_result(text: &mut String, result: &ResultTable, graph: &Graph) {
    let reads = graph.reads(&result.name);
    let reads = if reads.is_empty() { "nothing".to_owned() } else { reads.join(", ") };
    let _ = writeln!(text, "  reads   {reads}");
    let by = match &result.mode {
        ResultMode::Append => "appended".to_owned(),
        ResultMode::Keyed { key } => {
            let names: Vec<&str> =
                key.iter().map(|at| result.schema.field(*at).name().as_str()).collect();
            format!("by {}", names.join(", "))
        }
    };
    let _ = match &result.channel {
        Channel::Table => writeln!(text, "  writes  postgres {}, {by}", result.target),
        Channel::Rest(rest) => {
            let sent = match rest.sends {
                Sends::Changes => "every change",
                Sends::New => "keys that appear",
                Sends::Once => "keys that appear, each once",
            };
            writeln!(text, "  writes  rest {}, {by}: {sent}", result.target)
        }
    };
}

/// A node, and how far below the root it is shown.
#[derive(Clone, Copy)]
struct Branch {
    at: usize,
    depth: usize,
}

/// The graph below a node, each step further in. What is below a transform is told once: there may be
/// many ways to it.
fn tree(text: &mut String, graph: &Graph, branch: Branch, shown: &mut HashSet<usize>) {
    let Branch { at, depth } = branch;
    let node = &graph.nodes[at];
    let indent = "   ".repeat(depth - 1);
    let arrow = if depth == 1 { "" } else { "-> " };
    let is_new = shown.insert(at);
    let kind = match node.kind {
        NodeKind::Table => format!(" ({})", node.note),
        NodeKind::Transform { .. } if is_new => format!(" [{}]", node.note),
        NodeKind::Transform { .. } => " [see above]".to_owned(),
        NodeKind::Target => format!(" ({})", node.note),
    };
    let _ = writeln!(text, "  {indent}{arrow}{}{kind}", node.name);
    if is_new {
        for edge in graph.edges.iter().filter(|edge| edge.from == at) {
            tree(text, graph, Branch { at: edge.to, depth: depth + 1 }, shown);
        }
    }
}

fn file_of(checked: &Checked, name: &str) -> String {
    let file = checked.sql.transforms.iter().find(|file| file.name == name);
    file.map(|file| file.path.display().to_string()).unwrap_or_default()
}
