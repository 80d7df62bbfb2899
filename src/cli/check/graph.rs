//! Who reads whom: source tables, transforms, and the tables that these write.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{Channel, Table};
use crate::transform::Transforms;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeKind {
    Table,
    Transform { is_costly: bool },
    Target,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    /// One more line: where a table comes from, how a result is kept.
    pub(super) note: String,
    pub(super) kind: NodeKind,
    /// 0 for tables; above all that it reads.
    pub(super) layer: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) from: usize,
    pub(super) to: usize,
    /// It reads what changes, not the current rows.
    pub(super) is_changes: bool,
}

/// Edges go from a lower layer to a higher one.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<Edge>,
}

impl Graph {
    pub(super) fn new(tables: &[Arc<Table>], transforms: &Transforms) -> Self {
        let mut graph = Self::default();
        let mut known: HashMap<String, (usize, bool)> = HashMap::new();
        for table in tables {
            let note = table.source.to_string();
            let node =
                graph.add(Node { name: table.name.clone(), note, kind: NodeKind::Table, layer: 0 });
            known.insert(table.name.clone(), (node, false));
            known.insert(format!("{}_changes", table.name), (node, true));
        }
        let reads: HashMap<&str, Vec<&str>> = transforms.reads().collect();
        for (result, maintenance) in transforms.explain() {
            let read: Vec<(usize, bool)> = reads
                .get(result.name.as_str())
                .into_iter()
                .flatten()
                .filter_map(|name| known.get(*name).copied())
                .collect();
            let layer =
                read.iter().map(|(from, _)| graph.nodes[*from].layer + 1).max().unwrap_or(1);
            let how = maintenance.to_string();
            let note = how.split(':').next().unwrap_or(&how).to_owned();
            let kind = NodeKind::Transform { is_costly: maintenance.is_costly() };
            let node = graph.add(Node { name: result.name.clone(), note, kind, layer });
            let edge = |(from, is_changes)| Edge { from, to: node, is_changes };
            graph.edges.extend(read.into_iter().map(edge));
            known.insert(result.name.clone(), (node, false));
        }
        graph.add_targets(transforms, &known);
        graph
    }

    /// All in the last layer, so that they stand below each other.
    fn add_targets(&mut self, transforms: &Transforms, known: &HashMap<String, (usize, bool)>) {
        let layer = self.nodes.iter().map(|node| node.layer + 1).max().unwrap_or(1);
        for result in transforms.results() {
            let note = match result.channel {
                Channel::Table => "postgres",
                Channel::Rest(_) => "rest",
            };
            let (name, note) = (result.target.clone(), note.to_owned());
            let to = self.add(Node { name, note, kind: NodeKind::Target, layer });
            if let Some((from, _)) = known.get(&result.name) {
                self.edges.push(Edge { from: *from, to, is_changes: false });
            }
        }
    }

    fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// The names of the nodes that a node's edges come from, with what is read of them.
    pub(super) fn reads(&self, name: &str) -> Vec<String> {
        let is_it = |edge: &&Edge| {
            let node = &self.nodes[edge.to];
            node.name == name && matches!(node.kind, NodeKind::Transform { .. })
        };
        let label = |edge: &Edge| {
            let suffix = if edge.is_changes { "_changes" } else { "" };
            format!("{}{suffix}", self.nodes[edge.from].name)
        };
        self.edges.iter().filter(is_it).map(label).collect()
    }

    /// The transforms that read a table or another transform.
    pub(super) fn readers(&self, name: &str) -> Vec<&str> {
        let is_source = |edge: &&Edge| {
            let (from, to) = (&self.nodes[edge.from], &self.nodes[edge.to]);
            from.name == name && from.kind != NodeKind::Target && to.kind != NodeKind::Target
        };
        let mut names: Vec<&str> = self
            .edges
            .iter()
            .filter(is_source)
            .map(|edge| self.nodes[edge.to].name.as_str())
            .collect();
        names.dedup();
        names
    }
}
