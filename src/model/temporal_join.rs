//! The temporal join: rows of one table beside the rows of another one as they were at the time.

use std::fmt;
use std::sync::Arc;

use super::{Landing, LearnedColumns, Table, TableOptions, TableOrigin};

/// A table whose rows get the row of another one as it was when they changed last: the `-- lookup:` of
/// a transform.
///
/// A row of `enriched` gets the version of the row of `looked_up` that was current at the position of
/// its own last change; if there was none, the first one after that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemporalJoin {
    /// What the query reads: the key of `enriched`, each column's name with `@` before it, then the
    /// columns of `looked_up`. A row of `enriched` without a partner is not in it.
    pub view: Arc<Table>,
    pub enriched: Arc<Table>,
    /// Columns of `enriched` that hold the key of `looked_up`, in the order of that key.
    pub columns: Vec<usize>,
    pub looked_up: Arc<Table>,
}

impl TemporalJoin {
    pub fn new(enriched: &Arc<Table>, columns: Vec<usize>, looked_up: &Arc<Table>) -> Self {
        let names: Vec<&str> =
            columns.iter().map(|at| enriched.columns[*at].name.as_str()).collect();
        let own = enriched.key.iter().map(|at| {
            let mut column = enriched.columns[*at].clone();
            column.name = key_name(&column.name);
            column
        });
        let view = Table {
            name: format!("{}({})@{}", enriched.name, names.join(", "), looked_up.name),
            source: looked_up.source.clone(),
            columns: own.chain(looked_up.columns.iter().cloned()).collect(),
            key: (0..enriched.key.len()).collect(),
            options: TableOptions { landing: Landing::None, ttl: None, ..TableOptions::default() },
            origin: TableOrigin::Declared,
            learned: LearnedColumns::default(),
        };
        let (view, enriched) = (Arc::new(view), Arc::clone(enriched));
        Self { view, enriched, columns, looked_up: Arc::clone(looked_up) }
    }
}

/// As in `customers as of each change of orders (customer_id)`.
impl fmt::Display for TemporalJoin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.columns.iter().map(|at| self.enriched.columns[*at].name.as_str());
        let names: Vec<&str> = names.collect();
        let (looked_up, enriched) = (&self.looked_up.name, &self.enriched.name);
        write!(f, "{looked_up} as of each change of {enriched} ({})", names.join(", "))
    }
}

/// How the view calls a key column of the enriched table.
pub fn key_name(column: &str) -> String {
    format!("@{column}")
}
