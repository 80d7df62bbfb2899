//! `FROM orders o, XMLTABLE('.//item' PASSING o.shipping_info COLUMNS ...) x`: written as a join with the rows
//! that [`super::xml_rows`] finds.
//!
//! The standard's table function sees the row to its left, which no plan of DataFusion does for a function. But
//! the rows of one document are those of one row of a table, and that has a key: so the table is read a second time
//! for its key and the rows of its document, and both are joined by the key.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Join, JoinConstraint, JoinOperator, Query, Select, SetExpr, Statement,
    TableFactor, TableWithJoins, UnaryOperator, Value, VisitMut, VisitorMut, XmlTableColumn,
    XmlTableColumnOption,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::model::{SystemColumn, Table};
use crate::transform::files::changes_name;
use crate::transform::files::location::span_start;
use crate::transform::functions::xml_rows::{DEFAULT, ORDINALITY, XML_ROWS};

/// What is wrong with an XMLTABLE.
pub(crate) struct XmlTableError {
    /// Line and column, where they are known.
    pub(crate) at: Option<(u64, u64)>,
    pub(crate) message: String,
}

impl XmlTableError {
    fn new(message: impl Into<String>) -> Self {
        Self { at: None, message: message.into() }
    }
}

/// Rewrites every XMLTABLE of a statement.
///
/// # Errors
/// The first that can't be.
pub(crate) fn rewrite(
    statement: &mut Statement,
    tables: &[Arc<Table>],
) -> Result<(), XmlTableError> {
    let mut rewriter = XmlTableRewriter { tables };
    match statement.visit(&mut rewriter) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(problem) => Err(problem),
    }
}

struct XmlTableRewriter<'a> {
    tables: &'a [Arc<Table>],
}

impl VisitorMut for XmlTableRewriter<'_> {
    type Break = XmlTableError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<XmlTableError> {
        match self.rewrite_body(&mut query.body) {
            Ok(()) => ControlFlow::Continue(()),
            Err(problem) => ControlFlow::Break(problem),
        }
    }
}

/// A table of a FROM that XMLTABLE may take its document from.
struct DocumentSource {
    /// Where it is among the items of the FROM.
    item: usize,
    name: String,
    /// What the query calls it.
    alias: Ident,
    columns: Vec<String>,
    /// Columns that no two rows share.
    key: Vec<String>,
}

impl XmlTableRewriter<'_> {
    /// The arms of a UNION are no queries of their own.
    fn rewrite_body(&self, body: &mut SetExpr) -> Result<(), XmlTableError> {
        match body {
            SetExpr::Select(select) => self.rewrite_select(select),
            SetExpr::SetOperation { left, right, .. } => {
                self.rewrite_body(left)?;
                self.rewrite_body(right)
            }
            _ => Ok(()),
        }
    }

    fn rewrite_select(&self, select: &mut Select) -> Result<(), XmlTableError> {
        let mut sources = Vec::new();
        let mut items: Vec<TableWithJoins> = Vec::new();
        for mut item in std::mem::take(&mut select.from) {
            let at = items.len();
            if is_xml_table(&item.relation) && item.joins.is_empty() {
                let DerivedTable { relation, joined_by, item } =
                    derived_table(&item.relation, &sources)?;
                let join_operator = JoinOperator::Inner(JoinConstraint::On(joined_by));
                items[item].joins.push(Join { relation, global: false, join_operator });
                continue;
            }
            sources.extend(self.source(&item.relation, at));
            for join in &mut item.joins {
                if is_xml_table(&join.relation) {
                    let derived = derived_table(&join.relation, &sources)?;
                    join.relation = derived.relation;
                    join.join_operator = joined(&join.join_operator, derived.joined_by)?;
                } else {
                    sources.extend(self.source(&join.relation, at))
                }
            }
            items.push(item);
        }
        select.from = items;
        Ok(())
    }

    fn source(&self, factor: &TableFactor, item: usize) -> Option<DocumentSource> {
        let TableFactor::Table { name, alias, .. } = factor else { return None };
        let [part] = name.0.as_slice() else { return None };
        let ident = part.as_ident()?;
        let name = folded(ident);
        let alias = alias.as_ref().map_or_else(|| ident.clone(), |alias| alias.name.clone());
        let table = self.tables.iter().find(|t| t.name == name || changes_name(&t.name) == name)?;
        let key = if table.name == name {
            table.key.iter().map(|at| table.columns[*at].name.clone()).collect()
        } else {
            vec![table.free_name(SystemColumn::EventId.name())]
        };
        let columns = table.columns.iter().map(|column| column.name.clone()).collect();
        Some(DocumentSource { item, name, alias, columns, key })
    }
}

fn is_xml_table(factor: &TableFactor) -> bool {
    matches!(factor, TableFactor::XmlTable { .. })
}

fn folded(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

/// CROSS JOIN and LEFT JOIN ... ON true are what the standard has for it.
fn joined(operator: &JoinOperator, by: Expr) -> Result<JoinOperator, XmlTableError> {
    let on = JoinConstraint::On(by);
    match operator {
        JoinOperator::CrossJoin(_) => Ok(JoinOperator::Inner(on)),
        JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) if is_true(constraint) => {
            Ok(JoinOperator::Inner(on))
        }
        JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint)
            if is_true(constraint) =>
        {
            Ok(JoinOperator::Left(on))
        }
        _ => {
            let message = "XMLTABLE is joined by a comma, CROSS JOIN, or LEFT JOIN ... ON true; \
                           what else its rows must have goes to WHERE";
            Err(XmlTableError::new(message))
        }
    }
}

fn is_true(constraint: &JoinConstraint) -> bool {
    let JoinConstraint::On(Expr::Value(value)) = constraint else { return false };
    matches!(value.value, Value::Boolean(true))
}

/// The rows of an XMLTABLE as a table of their own.
struct DerivedTable {
    relation: TableFactor,
    /// What it is joined by.
    joined_by: Expr,
    /// The item of the FROM whose rows have the documents.
    item: usize,
}

fn derived_table(
    factor: &TableFactor,
    sources: &[DocumentSource],
) -> Result<DerivedTable, XmlTableError> {
    let TableFactor::XmlTable { row_expression, passing, columns, alias, .. } = factor else {
        return Err(XmlTableError::new("no XMLTABLE"));
    };
    let ([document], Some(alias)) = (passing.arguments.as_slice(), alias) else {
        let message = "XMLTABLE takes one document, as in PASSING o.shipping_info, and an alias";
        return Err(XmlTableError::new(message));
    };
    let (source, column) = source_of(&document.expr, sources)?;
    let mut arguments = vec![quoted(&column), literal(&text_of(row_expression)?)];
    for column in columns {
        arguments.push(literal(&column_spec(column)?));
    }
    let key = |at: usize| quoted(&format!("#{at}"));
    let keys = source.key.iter().enumerate();
    let inner: Vec<String> =
        keys.clone().map(|(at, name)| format!("{} AS {}", quoted(name), key(at))).collect();
    let fields = columns.iter().map(|column| {
        let name = folded(&column.name);
        format!("get_field(\"#row\", {}) AS {}", literal(&name), quoted(&name))
    });
    let outer: Vec<String> = keys.clone().map(|(at, _)| key(at)).chain(fields).collect();
    let relation = format!(
        "(SELECT {} FROM (SELECT {}, unnest({XML_ROWS}({})) AS \"#row\" FROM {}) AS \"#rows\") AS {}",
        outer.join(", "),
        inner.join(", "),
        arguments.join(", "),
        quoted(&source.name),
        alias.name,
    );
    let by: Vec<String> = keys
        .map(|(at, name)| format!("{}.{} = {}.{}", source.alias, quoted(name), alias.name, key(at)))
        .collect();
    let parser = |text: &str| Parser::new(&PostgreSqlDialect {}).try_with_sql(text);
    let relation = parser(&relation).and_then(|mut parser| parser.parse_table_factor());
    let by = parser(&by.join(" AND ")).and_then(|mut parser| parser.parse_expr());
    match (relation, by) {
        (Ok(relation), Ok(joined_by)) => {
            Ok(DerivedTable { relation, joined_by, item: source.item })
        }
        (Err(error), _) | (_, Err(error)) => {
            let (at, message) = (span_start(alias.name.span), error.to_string());
            Err(XmlTableError { at, message })
        }
    }
}

/// Which table a document is of, and its column.
fn source_of<'a>(
    document: &Expr,
    sources: &'a [DocumentSource],
) -> Result<(&'a DocumentSource, String), XmlTableError> {
    let (qualifier, column) = match document {
        Expr::Identifier(column) => (None, column),
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [qualifier, column] => (Some(folded(qualifier)), column),
            _ => return Err(not_a_column(document)),
        },
        _ => return Err(not_a_column(document)),
    };
    let name = folded(column);
    let is_it = |source: &&DocumentSource| match &qualifier {
        Some(qualifier) => folded(&source.alias) == *qualifier,
        None => source.columns.contains(&name),
    };
    match sources.iter().filter(is_it).collect::<Vec<_>>().as_slice() {
        [source] => Ok((source, name)),
        _ => {
            let message = format!(
                "XMLTABLE: {document} is not a column of one declared table before it in the FROM"
            );
            Err(XmlTableError { at: span_start(column.span), message })
        }
    }
}

fn not_a_column(document: &Expr) -> XmlTableError {
    let message = format!("XMLTABLE takes a column as its document, and {document} is none");
    XmlTableError::new(message)
}

/// As [`XML_ROWS`] takes it.
fn column_spec(column: &XmlTableColumn) -> Result<String, XmlTableError> {
    let name = folded(&column.name);
    let at = span_start(column.name.span);
    if name.contains(char::is_whitespace) {
        let message = format!("XMLTABLE: the name of column '{name}' has a space in it");
        return Err(XmlTableError { at, message });
    }
    match &column.option {
        XmlTableColumnOption::ForOrdinality => Ok(format!("{name} {ORDINALITY}")),
        XmlTableColumnOption::NamedInfo { r#type, path, default, nullable: true } => {
            let path = path.as_ref().map_or_else(|| Ok(name.clone()), text_of)?;
            let spec = format!("{name} {} {path}", r#type);
            match default {
                None => Ok(spec),
                Some(default) => Ok(format!("{spec} {DEFAULT} {}", constant(&name, default)?)),
            }
        }
        XmlTableColumnOption::NamedInfo { .. } => {
            let message =
                format!("XMLTABLE: column {name} is NOT NULL: write a condition in the WHERE");
            Err(XmlTableError { at, message })
        }
    }
}

/// The text of a constant.
fn constant(column: &str, expression: &Expr) -> Result<String, XmlTableError> {
    let text = match expression {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text.clone()),
            Value::Number(_, _) | Value::Boolean(_) => Some(value.value.to_string()),
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } if matches!(**expr, Expr::Value(_)) => {
            Some(expression.to_string())
        }
        _ => None,
    };
    text.ok_or_else(|| {
        let message = format!(
            "XMLTABLE: the DEFAULT of column {column} is {expression}, which is no constant: write COALESCE \
             in the SELECT"
        );
        XmlTableError::new(message)
    })
}

fn text_of(expression: &Expr) -> Result<String, XmlTableError> {
    match expression {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Ok(text.clone()),
            _ => Err(not_a_path(expression)),
        },
        _ => Err(not_a_path(expression)),
    }
}

fn not_a_path(expression: &Expr) -> XmlTableError {
    XmlTableError::new(format!("XMLTABLE: {expression} is not a path in quotes"))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
