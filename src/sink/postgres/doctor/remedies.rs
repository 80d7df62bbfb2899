//! For each problem of a target the statement that heals it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};

use crate::model::{ResultTable, Table};
use crate::sink::postgres::client::quote;
use crate::sink::postgres::dead_letters::letter_table;
use crate::sink::postgres::schema::column_types::type_name;
use crate::sink::postgres::schema::create;
use crate::sink::postgres::schema::landing_columns::{
    CHANGE_SEQ, EVENT_ID, EXTRA_FIELDS, OPERATION, SOURCE_TS, target_name,
};
use crate::sink::postgres::schema::system_tables::DEAD_LETTERS;
use crate::sink::postgres::target::result::with_table;

/// What targets look like that fit, by their names.
pub(crate) struct ExpectedTargets<'a> {
    schema: &'a str,
    tables: HashMap<&'a str, &'a Arc<Table>>,
    results: HashMap<&'a str, &'a Arc<ResultTable>>,
}

impl<'a> ExpectedTargets<'a> {
    pub(crate) fn new(
        schema: &'a str,
        tables: &'a [Arc<Table>],
        results: &'a [Arc<ResultTable>],
    ) -> Self {
        let landed = |table: &'a Arc<Table>| target_name(table).map(|name| (name, table));
        let results = with_table(results).map(|result| (result.target.as_str(), result));
        let tables = tables.iter().filter_map(landed).collect();
        Self { schema, tables, results: results.collect() }
    }

    /// Whether the problem is a table that a start makes by itself.
    pub(crate) fn is_made_at_start(&self, problem: &str) -> bool {
        let name =
            |(table, rest): (&str, &str)| rest.contains("no such table").then(|| table.to_owned());
        let missing = problem.split_once(": ").and_then(name);
        missing.is_some_and(|name| self.of_result(&name).is_some())
    }

    /// A problem begins with `TABLE: ` or `TABLE.COLUMN: `.
    pub(crate) fn fix(&self, problem: &str) -> String {
        let Some((place, what)) = problem.split_once(": ") else { return REPAIR.to_owned() };
        if what.contains("no such table") {
            return self.create(place);
        }
        if what.contains("primary key or unique index") {
            let columns = what.rsplit_once('(').map_or("", |(_, list)| list.trim_end_matches(')'));
            let list = quote::idents(columns.split(", "));
            return format!("ALTER TABLE {} ADD PRIMARY KEY ({list});", self.table(place));
        }
        if what.contains("must be NOT NULL") {
            let columns = what.trim_start_matches('(').split(')').next().unwrap_or_default();
            let alter = |column: &str| format!("ALTER {} SET NOT NULL", quote::ident(column));
            let alters: Vec<String> = columns.split(", ").map(alter).collect();
            return format!("ALTER TABLE {} {};", self.table(place), alters.join(", "));
        }
        let Some((table, column)) = place.rsplit_once('.') else { return REPAIR.to_owned() };
        let (sql_table, name) = (self.table(table), quote::ident(column));
        if what.contains("nothing fills it") {
            return format!("ALTER TABLE {sql_table} ALTER {name} DROP NOT NULL;");
        }
        if what.contains("is generated") {
            return format!("ALTER TABLE {sql_table} ALTER {name} DROP EXPRESSION;");
        }
        let is_missing = what.contains("is missing");
        match self.type_of(table, column) {
            Some(sql) if is_missing => format!("ALTER TABLE {sql_table} ADD COLUMN {name} {sql};"),
            Some(sql) => {
                format!("ALTER TABLE {sql_table} ALTER {name} TYPE {sql} USING {name}::{sql};")
            }
            None if table == DEAD_LETTERS => {
                format!("apply {} of this version to the database", letter_table::FILE)
            }
            None => REPAIR.to_owned(),
        }
    }

    fn table(&self, name: &str) -> String {
        quote::table(self.schema, name)
    }

    /// Problems of missing tables name them without their schema.
    fn of_result(&self, name: &str) -> Option<&&'a Arc<ResultTable>> {
        let is_it = |target: &&str| quote::split(self.schema, target).1 == name || *target == name;
        self.results.iter().find(|(target, _)| is_it(target)).map(|(_, result)| result)
    }

    fn of_table(&self, name: &str) -> Option<&&'a Arc<Table>> {
        let is_it = |target: &&str| quote::split(self.schema, target).1 == name || *target == name;
        self.tables.iter().find(|(target, _)| is_it(target)).map(|(_, table)| table)
    }

    fn create(&self, name: &str) -> String {
        if let Some(result) = self.of_result(name) {
            return create::definition(self.schema, result)
                .map_or_else(|error| error, |sql| sql + ";");
        }
        let Some(table) = self.of_table(name) else {
            return "start `tidemark run` once with a user that may create tables".to_owned();
        };
        let target = target_name(table).unwrap_or(name);
        let own = landing_columns(table);
        let declared = table.columns.iter().map(|c| (c.name.clone(), c.data_type.clone()));
        let columns: Vec<String> = declared
            .chain(own)
            .map(|(name, kind)| {
                let sql = self.sql_type(table, &name, &kind);
                format!("{} {}", quote::ident(&name), sql.unwrap_or_else(|| "text".to_owned()))
            })
            .collect();
        let stamp = "\"processed_at\" timestamptz NOT NULL DEFAULT now()";
        format!("CREATE TABLE {} ({}, {stamp});", self.table(target), columns.join(", "))
    }

    fn type_of(&self, table: &str, column: &str) -> Option<String> {
        if let Some(result) = self.of_result(table) {
            let field = result.schema.field_with_name(column).ok()?;
            return type_name(field.data_type());
        }
        let table = self.of_table(table)?;
        let declared = table.columns.iter().find(|declared| declared.name == column);
        let declared = declared.map(|declared| declared.data_type.clone());
        let own = || landing_columns(table).into_iter().find(|(name, _)| name == column);
        let kind = declared.or_else(|| own().map(|(_, kind)| kind))?;
        self.sql_type(table, column, &kind)
    }

    fn sql_type(&self, table: &Table, column: &str, kind: &DataType) -> Option<String> {
        match column == table.free_name(EXTRA_FIELDS) {
            true => Some("jsonb".to_owned()),
            false => type_name(kind),
        }
    }
}

const REPAIR: &str = "repair the table as the message says, in a new file of sql/ods";

/// What a landing table has besides the declared columns.
fn landing_columns(table: &Table) -> Vec<(String, DataType)> {
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
    [
        (OPERATION, DataType::Utf8),
        (SOURCE_TS, timestamp),
        (EXTRA_FIELDS, DataType::Utf8),
        (EVENT_ID, DataType::Utf8),
        (CHANGE_SEQ, DataType::Int64),
    ]
    .map(|(name, kind)| (table.free_name(name), kind))
    .to_vec()
}
