//! Columns that a query reads and no table declares.
//!
//! What events have shown of them is in the schema registry. A column that is there is a field of
//! `extra_fields`, and the query reads it as one: it sees the column, other queries and `SELECT *` don't. A
//! column that no event has shown lets its file wait, and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use datafusion::common::utils::datafusion_strsim::levenshtein;
use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;

use super::parsed::ParsedTransform;
use super::request::{PlanRequest, UndeclaredNames};
use crate::model::{SchemaChangeKind, SeenType, SourceTable, SystemColumn, Table};
use crate::transform::files::location::planning_error;
use crate::transform::files::{SqlError, changes_name};
use crate::transform::pending::PendingTransform;

/// A column that a query reads and that its tables don't declare.
#[derive(Debug, Clone)]
pub(crate) struct MissingColumn {
    column: String,
    /// Whose column it may be.
    tables: Vec<Arc<Table>>,
    error: SqlError,
}

/// A field of a table's events that the table does not declare.
struct ShownField {
    table: String,
    name: String,
    seen: SeenType,
}

/// The undeclared columns that one file sees: positions of tables, and the names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct VisibleColumns(BTreeMap<String, BTreeSet<String>>);

impl VisibleColumns {
    /// The positions of the columns of a table that are seen.
    pub(crate) fn columns(&self, table: &Table) -> Vec<usize> {
        let extra = self.0.get(&table.name);
        let declared = table.declared().len();
        let is_seen = |at: &usize| {
            *at < declared || extra.is_some_and(|extra| extra.contains(&table.columns[*at].name))
        };
        (0..table.columns.len()).filter(is_seen).collect()
    }

    /// What decides on the values of a table's undeclared columns; `None` if none are seen.
    pub(crate) fn description(&self, table: &Table) -> Option<String> {
        let declared = table.declared().len();
        let described = |at: usize| {
            let (column, field) = (&table.columns[at], &table.learned.fields[at - declared]);
            format!("{} {} of {field}", column.name, column.data_type)
        };
        let seen = self.columns(table).into_iter().filter(|at| *at >= declared);
        let extra: Vec<String> = seen.map(described).collect();
        (!extra.is_empty()).then(|| format!("-- {} with {}", table.name, extra.join(", ")))
    }
}

/// Finds the undeclared columns that files read among those that events have shown, and keeps who reads them.
pub(crate) struct ColumnResolver {
    /// With the columns that any file reads.
    tables: Vec<Arc<Table>>,
    shown: HashMap<SourceTable, HashMap<String, SeenType>>,
    by_file: HashMap<String, VisibleColumns>,
    nothing: VisibleColumns,
    /// The names of all results, if any other name may be that of a table to come.
    results: Option<HashSet<String>>,
}

impl ColumnResolver {
    pub(crate) fn new(request: &PlanRequest<'_>) -> Self {
        let mut shown: HashMap<SourceTable, HashMap<String, SeenType>> = HashMap::new();
        for change in request.registry {
            match change.kind {
                SchemaChangeKind::Added | SchemaChangeKind::Widened => {
                    let fields = shown.entry(change.source.clone()).or_default();
                    fields.insert(change.column.clone(), change.seen);
                }
                SchemaChangeKind::Missing
                | SchemaChangeKind::Renamed
                | SchemaChangeKind::Registered
                | SchemaChangeKind::Key
                | SchemaChangeKind::Typed
                | SchemaChangeKind::Altered => {}
            }
        }
        let may_come = request.undeclared == UndeclaredNames::ColumnsAndTablesWait;
        Self {
            tables: request.tables.to_vec(),
            shown,
            by_file: HashMap::new(),
            nothing: VisibleColumns::default(),
            results: may_come.then(|| request.files.iter().map(|f| f.name.clone()).collect()),
        }
    }

    pub(crate) fn tables(&self) -> &[Arc<Table>] {
        &self.tables
    }

    /// What a file sees that reads only declared columns.
    pub(crate) fn none(&self) -> &VisibleColumns {
        &self.nothing
    }

    pub(crate) fn of(&self, file: &str) -> Option<&VisibleColumns> {
        self.by_file.get(file)
    }

    /// Whether events have a say in what a query gives: they have shown a column or a table that it reads, or
    /// that one of these `learned` results reads.
    pub(crate) fn has_taught(
        &self,
        pending: &ParsedTransform<'_>,
        learned: &HashSet<String>,
    ) -> bool {
        let is_read = |name: &str| pending.references.contains(name);
        let is_new = |table: &Arc<Table>| {
            table.is_discovered() && (is_read(&table.name) || is_read(&changes_name(&table.name)))
        };
        self.of(&pending.file.name).is_some()
            || self.tables.iter().any(is_new)
            || !pending.references.is_disjoint(learned)
    }

    /// The field that a column is, if events have shown one.
    fn field(&self, table: &Table, column: &str) -> Option<ShownField> {
        let fields = self.shown.get(&table.source)?;
        let names = [column.to_owned(), column.to_uppercase()];
        names.into_iter().find_map(|name| {
            let seen = *fields.get(&name)?;
            Some(ShownField { table: table.name.clone(), name, seen })
        })
    }

    /// Makes columns visible that are known; `false` if there are none.
    pub(crate) fn resolve(&mut self, needs: &[(String, MissingColumn)]) -> bool {
        let mut has_found = false;
        for (file, missing) in needs {
            let found = self.candidates(missing);
            let [field] = found.as_slice() else { continue };
            let visible = self.by_file.entry(file.clone()).or_default();
            let columns = visible.0.entry(field.table.clone()).or_default();
            if columns.insert(missing.column.clone()) {
                has_found = true;
                self.widen(&missing.column, field);
            }
        }
        has_found
    }

    /// The fields that the column may be, by what events have shown of its tables.
    fn candidates(&self, missing: &MissingColumn) -> Vec<ShownField> {
        missing.tables.iter().filter_map(|table| self.field(table, &missing.column)).collect()
    }

    /// Gives the column to the table of its field.
    fn widen(&mut self, column: &str, field: &ShownField) {
        for table in self.tables.iter_mut().filter(|table| table.name == field.table) {
            if table.column_index(column).is_none() {
                *table = Arc::new(table.with_extra(column, &field.name, field.seen.data_type()));
            }
        }
    }

    /// A result that waits for a column.
    pub(crate) fn pending(&self, result: String, missing: MissingColumn) -> PendingTransform {
        let tables = missing.tables.iter().map(|table| table.source.clone()).collect();
        let reason = self.reason(&missing);
        let is_unknown = self.candidates(&missing).is_empty();
        let meant = nearest(&missing.column, &missing.tables).filter(|_| is_unknown);
        let meant = meant.map(str::to_owned);
        PendingTransform { result, reason, needs: Some((missing.column, tables)), meant }
    }

    /// What to say of a column that is not there.
    fn reason(&self, missing: &MissingColumn) -> SqlError {
        let MissingColumn { column, tables, error } = missing;
        let found = self.candidates(missing);
        let names = |names: Vec<&str>| names.join(" or ");
        let message = match found.len() {
            0 => {
                let names = names(tables.iter().map(|table| table.name.as_str()).collect());
                let guess = nearest(column, tables)
                    .map(|near| format!("; did you mean {near}?"))
                    .unwrap_or_else(|| ".".to_owned());
                format!(
                    "unknown column {column} in {names}{guess} If events will add it, the transform waits \
                     until then; `-- learned: TABLE.{column} TYPE` tells a check without events that they have."
                )
            }
            _ => {
                let names = names(found.iter().map(|field| field.table.as_str()).collect());
                format!("needs column {column}, which may be of {names}: write whose it is")
            }
        };
        SqlError { message, ..error.clone() }
    }

    /// What to say of a table that a query could not be planned for, if it may come.
    pub(crate) fn absent(
        &self,
        pending: &ParsedTransform<'_>,
        error: &DataFusionError,
    ) -> Option<SqlError> {
        let results = self.results.as_ref()?;
        let is_table = |name: &str| {
            self.tables.iter().any(|t| t.name == name || changes_name(&t.name) == name)
        };
        let unknown = pending.references.iter().filter(|name| !results.contains(*name));
        let name = unknown.filter(|name| !is_table(name)).min()?;
        let table = name.strip_suffix(&changes_name("")).unwrap_or(name);
        let error = planning_error(pending.file, error);
        let message = format!(
            "needs table {table}, which no event has shown and no file declares: it waits for that ({})",
            error.message
        );
        Some(SqlError { message, ..error })
    }

    /// The column that a query could not be planned for, if a source table may get it.
    pub(crate) fn missing(
        &self,
        pending: &ParsedTransform<'_>,
        error: &DataFusionError,
    ) -> Option<MissingColumn> {
        let DataFusionError::SchemaError(wrong, _) = error.find_root() else { return None };
        let SchemaError::FieldNotFound { field, valid_fields } = wrong.as_ref() else {
            return None;
        };
        let visible = self.of(&pending.file.name).unwrap_or(&self.nothing);
        let is_candidate = |table: &&Arc<Table>| {
            let columns = visible.columns(table);
            let name = |at: &usize| table.columns[*at].name.clone();
            let current: Vec<String> = columns.iter().map(name).collect();
            let system = SystemColumn::ALL.map(|column| table.free_name(column.name()));
            let changes: Vec<String> = current.iter().cloned().chain(system).collect();
            let is_read = |name: &str| pending.references.contains(name);
            (is_read(&table.name) && is_in_reach(field, valid_fields, &current))
                || (is_read(&changes_name(&table.name))
                    && is_in_reach(field, valid_fields, &changes))
        };
        let tables: Vec<_> = self.tables.iter().filter(is_candidate).cloned().collect();
        let error = planning_error(pending.file, error);
        (!tables.is_empty()).then(|| MissingColumn { column: field.name.clone(), tables, error })
    }
}

/// The column of one of the tables whose name is so near that a slip of the hand makes one of the other.
fn nearest<'a>(column: &str, tables: &'a [Arc<Table>]) -> Option<&'a str> {
    let most = column.len() / 3;
    let names = tables.iter().flat_map(|table| table.columns.iter().map(|c| c.name.as_str()));
    let distances = names.map(|name| (levenshtein(column, name), name));
    distances.filter(|(distance, _)| *distance <= most).min().map(|(_, name)| name)
}

/// Whether the field may be of a relation that has exactly these columns: however the query calls it, that
/// is how a table shows itself.
fn is_in_reach(field: &Column, valid: &[Column], columns: &[String]) -> bool {
    let mut of_relation: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for column in valid {
        let relation = column.relation.as_ref().map(ToString::to_string);
        of_relation.entry(relation.unwrap_or_default()).or_default().push(&column.name);
    }
    let wanted = field.relation.as_ref().map(ToString::to_string);
    of_relation.iter().any(|(relation, names)| {
        wanted.as_ref().is_none_or(|wanted| wanted == relation)
            && names.len() == columns.len()
            && names.iter().zip(columns).all(|(one, other)| one == other)
    })
}
