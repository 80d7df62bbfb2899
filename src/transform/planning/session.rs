//! What a query sees while it is planned: tables, functions, and how SQL is read.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::config::Dialect;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::undeclared::VisibleColumns;
use crate::model::{SystemColumn, Table};
use crate::transform::files::changes_name;
use crate::transform::functions::xml_rows;
use crate::transform::live_table::{LiveTable, NarrowTable};
use crate::transform::transforms::Transforms;

/// A session over the tables and over the results that are planned. Of the columns that tables don't
/// declare it has those of `visible`: one that appears must not change what other queries mean.
pub(crate) fn session(transforms: &Transforms, visible: &VisibleColumns) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(1);
    let parser = &mut config.options_mut().sql_parser;
    // Without spans an error can't name its line.
    parser.collect_spans = true;
    // As the target reads it: `a ->> 'b' IS NULL` is `(a ->> 'b') IS NULL`.
    parser.dialect = Dialect::PostgreSQL;
    let mut context = SessionContext::new_with_config(config);
    context.register_udf(transforms.watermark_cell.function());
    context.register_udf(xml_rows::function());
    datafusion_functions_json::register_all(&mut context)
        .expect("a fresh session takes the JSON functions");
    for (name, live) in transforms.live.iter() {
        context
            .register_table(name.as_str(), provider(live, name, transforms, visible))
            .expect("table names are unique");
    }
    context
}

fn provider(
    live: &Arc<LiveTable>,
    name: &str,
    transforms: &Transforms,
    visible: &VisibleColumns,
) -> Arc<dyn TableProvider> {
    let is_of = |table: &&Arc<Table>| table.name == name || changes_name(&table.name) == name;
    let table = transforms.tables.iter().find(is_of);
    let Some(table) = table.filter(|table| !table.learned.fields.is_empty()) else {
        return Arc::<LiveTable>::clone(live);
    };
    let mut columns = visible.columns(table);
    if table.name != name {
        columns.extend(SystemColumn::ALL.map(|column| table.system_column(column)));
    }
    Arc::new(NarrowTable::new(Arc::clone(live), columns))
}
