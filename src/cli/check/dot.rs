//! The graph in the language of Graphviz.

use std::fmt::Write;

use super::graph::{Graph, NodeKind};

pub(super) fn draw(graph: &Graph) -> String {
    let mut text =
        String::from("digraph tidemark {\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n");
    for (at, node) in graph.nodes.iter().enumerate() {
        let style = match node.kind {
            NodeKind::Table => "shape=box",
            NodeKind::Transform { is_costly: false } => "shape=box, style=rounded",
            NodeKind::Transform { is_costly: true } => "shape=box, style=rounded, color=red",
            NodeKind::Target => "shape=cylinder",
        };
        let label = format!("{}\\n{}", escaped(&node.name), escaped(&node.note));
        // Writing to a String does not fail.
        let _ = writeln!(text, "  n{at} [label=\"{label}\", {style}];");
    }
    for edge in &graph.edges {
        let style = if edge.is_changes { " [style=dashed, label=\"changes\"]" } else { "" };
        let _ = writeln!(text, "  n{} -> n{}{style};", edge.from, edge.to);
    }
    text.push_str("}\n");
    text
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
