//! The graph as a picture: one column per layer, edges from left to right.

use std::fmt::Write;

use quick_xml::escape::escape;

use super::graph::{Graph, NodeKind};

const HEIGHT: usize = 44;
const ROW: usize = 64;
const GAP: usize = 90;
const MARGIN: usize = 20;
/// Of one letter, at the font size below.
const LETTER: usize = 8;

/// Where a node's box is.
#[derive(Debug, Clone, Copy, Default)]
struct NodeBox {
    x: usize,
    y: usize,
    width: usize,
}

pub(super) fn draw(graph: &Graph) -> String {
    let places = layout(graph);
    let width = places.iter().map(|p| p.x + p.width).max().unwrap_or(0) + MARGIN;
    let height = places.iter().map(|p| p.y + HEIGHT).max().unwrap_or(0) + MARGIN;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for edge in &graph.edges {
        let (from, to) = (places[edge.from], places[edge.to]);
        let (x1, y1, x2, y2) = (from.x + from.width, from.y + HEIGHT / 2, to.x, to.y + HEIGHT / 2);
        let bend = (x1 + x2) / 2;
        let dash = if edge.is_changes { " stroke-dasharray=\"5 4\"" } else { "" };
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "<path d=\"M{x1} {y1} C{bend} {y1} {bend} {y2} {x2} {y2}\" fill=\"none\" stroke=\"#888\"{dash}/>"
        );
    }
    for (node, place) in graph.nodes.iter().zip(&places) {
        let (fill, stroke, radius) = match node.kind {
            NodeKind::Table => ("#eef4ff", "#4a6fa5", 0),
            NodeKind::Transform { is_costly: false } => ("#f3f9ee", "#5a8f3c", 10),
            NodeKind::Transform { is_costly: true } => ("#fff0ee", "#c0392b", 10),
            NodeKind::Target => ("#fff8e6", "#a67c00", 0),
        };
        let NodeBox { x, y, width } = place;
        let _ = writeln!(
            text,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{HEIGHT}\" rx=\"{radius}\" fill=\"{fill}\" stroke=\"{stroke}\"/>"
        );
        let middle = x + width / 2;
        let lines = [(&node.name, y + 18, "#000"), (&node.note, y + 35, "#666")];
        for (line, y, color) in lines {
            let line = escape(line.as_str());
            let _ = writeln!(
                text,
                "<text x=\"{middle}\" y=\"{y}\" text-anchor=\"middle\" fill=\"{color}\">{line}</text>"
            );
        }
    }
    text.push_str("</svg>\n");
    text
}

/// Within a layer, nodes stand in the order of the middle of what they read: few edges cross.
fn layout(graph: &Graph) -> Vec<NodeBox> {
    let mut places = vec![NodeBox::default(); graph.nodes.len()];
    let layers = graph.nodes.iter().map(|node| node.layer + 1).max().unwrap_or(0);
    let mut x = MARGIN;
    for layer in 0..layers {
        let mut members: Vec<usize> =
            (0..graph.nodes.len()).filter(|at| graph.nodes[*at].layer == layer).collect();
        members.sort_by_key(|node| middle(graph, &places, *node));
        let letters = |node: &usize| {
            let node = &graph.nodes[*node];
            node.name.chars().count().max(node.note.chars().count())
        };
        let width = members.iter().map(letters).max().unwrap_or(0) * LETTER + 2 * LETTER;
        for (row, node) in members.into_iter().enumerate() {
            places[node] = NodeBox { x, y: MARGIN + row * ROW, width };
        }
        x += width + GAP;
    }
    places
}

fn middle(graph: &Graph, places: &[NodeBox], node: usize) -> usize {
    let from: Vec<usize> =
        graph.edges.iter().filter(|edge| edge.to == node).map(|edge| places[edge.from].y).collect();
    from.iter().sum::<usize>() / from.len().max(1)
}
