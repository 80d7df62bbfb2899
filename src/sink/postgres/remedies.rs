//! For each problem of a target the statement that heals it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{ResultTable, SystemColumn, Table};
use crate::sink::postgres::client::quote;
use crate::sink::postgres::dead_letters::letter_table;
use crate::sink::postgres::schema::column_types::type_name;
use crate::sink::postgres::schema::create;
use crate::sink::postgres::schema::landing_columns::target_name;
use crate::sink::postgres::schema::system_tables::DEAD_LETTERS;
use crate::sink::postgres::target::landing::LandingColumn;
use crate::sink::postgres::target::problem::{RelationFault, TargetProblem};
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
    pub(crate) fn is_made_at_start(&self, problem: &TargetProblem) -> bool {
        match problem {
            TargetProblem::NoTable { table, .. } => {
                self.of_result(table).is_some() || self.of_table(table).is_some()
            }
            _ => false,
        }
    }

    /// Whether the problem is a table of the sink itself, which every start makes.
    pub(crate) fn is_own(&self, problem: &TargetProblem) -> bool {
        matches!(problem, TargetProblem::NoTable { table, .. } if table == DEAD_LETTERS)
    }

    /// The problems as sentences, with the whole statement for a table that is not there.
    pub(crate) fn told(&self, problems: &[TargetProblem]) -> Vec<String> {
        let told = |problem: &TargetProblem| match problem {
            TargetProblem::NoTable { .. } => {
                format!("{problem}; create it:\n{}\n", self.fix(problem))
            }
            _ => problem.to_string(),
        };
        problems.iter().map(told).collect()
    }

    /// What to run, or else what to do.
    pub(crate) fn fix(&self, problem: &TargetProblem) -> String {
        match problem {
            TargetProblem::NoTable { table, .. } => self.create(table),
            TargetProblem::NoUniqueKey { table, key } => {
                let list = quote::idents(key.iter().map(String::as_str));
                format!("ALTER TABLE {} ADD PRIMARY KEY ({list});", self.table(table))
            }
            TargetProblem::NullableKey { table, key } => {
                let alter = |column: &String| format!("ALTER {} SET NOT NULL", quote::ident(column));
                let alters: Vec<String> = key.iter().map(alter).collect();
                format!("ALTER TABLE {} {};", self.table(table), alters.join(", "))
            }
            TargetProblem::UnfilledColumn { table, column } => {
                let (table, column) = (self.table(table), quote::ident(column));
                format!("ALTER TABLE {table} ALTER {column} DROP NOT NULL;")
            }
            TargetProblem::GeneratedColumn { table, column } => {
                let (table, column) = (self.table(table), quote::ident(column));
                format!("ALTER TABLE {table} ALTER {column} DROP EXPRESSION;")
            }
            TargetProblem::ChangingType { table, column, actual, .. } => {
                self.keeping_texts(table, column, actual)
            }
            TargetProblem::EqualKeys { table, column, .. } => {
                let (table, column) = (self.table(table), quote::ident(column));
                format!(
                    "ALTER TABLE {table} ALTER {column} TYPE text COLLATE \"C\" USING {column}::text;"
                )
            }
            TargetProblem::LooseIndex { table, key, .. } => {
                let list = quote::idents(key.iter().map(String::as_str));
                format!(
                    "drop that index, then: ALTER TABLE {} ADD PRIMARY KEY ({list});",
                    self.table(table)
                )
            }
            TargetProblem::Unsuitable { table, fault } => of_relation(&self.table(table), fault),
            TargetProblem::MissingLetterColumn { file, .. } => bring_up_to_date(file),
            TargetProblem::MissingColumn { table, column, .. } => {
                self.with_type(table, column, |table, column, sql_type| {
                    format!("ALTER TABLE {table} ADD COLUMN {column} {sql_type};")
                })
            }
            TargetProblem::WrongType { table, column, .. }
            | TargetProblem::RoundingType { table, column, .. } => {
                self.with_type(table, column, |table, column, sql_type| {
                    format!(
                        "ALTER TABLE {table} ALTER {column} TYPE {sql_type} USING {column}::{sql_type};"
                    )
                })
            }
        }
    }

    /// A statement with the quoted names of table and column, and the type that the column should have.
    fn with_type(
        &self,
        table: &str,
        column: &str,
        statement: impl Fn(&str, &str, &str) -> String,
    ) -> String {
        match self.type_of(table, column) {
            Some(sql_type) => statement(&self.table(table), &quote::ident(column), &sql_type),
            None if table == DEAD_LETTERS => bring_up_to_date(letter_table::FILE),
            None => REPAIR.to_owned(),
        }
    }

    /// A type that gives texts back as they were.
    fn keeping_texts(&self, table: &str, column: &str, actual: &str) -> String {
        let (table, column) = (self.table(table), quote::ident(column));
        let kept = if actual == "jsonb" { "json" } else { "text" };
        let statement =
            format!("ALTER TABLE {table} ALTER {column} TYPE {kept} USING {column}::{kept};");
        let length = actual.strip_prefix("character(").and_then(|rest| rest.strip_suffix(')'));
        match length {
            // The cast takes the blanks away, and whether the source had them is not known any more.
            Some(length) => format!(
                "{statement} (USING rpad({column}::text, {length}) where the source's column is CHAR({length}))"
            ),
            None => statement,
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
        create::landing_definition(self.schema, table).unwrap_or_else(|| REPAIR.to_owned())
    }

    fn type_of(&self, table: &str, column: &str) -> Option<String> {
        if let Some(result) = self.of_result(table) {
            let field = result.schema.field_with_name(column).ok()?;
            return type_name(field.data_type());
        }
        let table = self.of_table(table)?;
        let columns = LandingColumn::list(table, |_| false);
        let column = columns.into_iter().find(|known| known.name(table) == column)?;
        Self::landing_type(table, column)
    }

    fn landing_type(table: &Table, column: LandingColumn<'_>) -> Option<String> {
        match column {
            LandingColumn::OfBatch(SystemColumn::ExtraFields) => Some("jsonb".to_owned()),
            other => type_name(&other.data_type(table)),
        }
    }
}

/// `table` is quoted.
fn of_relation(table: &str, fault: &RelationFault) -> String {
    match fault {
        RelationFault::InsteadRule(rule) => format!("DROP RULE {} ON {table};", quote::ident(rule)),
        RelationFault::Inherited(child) => {
            format!(
                "ALTER TABLE {child} NO INHERIT {table}; (for parts of a table use PARTITION BY)"
            )
        }
        RelationFault::RowSecurity => format!(
            "ALTER TABLE {table} DISABLE ROW LEVEL SECURITY; or give the user BYPASSRLS, or let it own the table without \
             FORCE ROW LEVEL SECURITY"
        ),
    }
}

fn bring_up_to_date(file: &str) -> String {
    format!("apply {file} of this version to the database")
}

const REPAIR: &str = "repair the table as the message says, in a new file of sql/ods";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::conformance::{orders, totals};

    #[test]
    fn each_problem_has_its_statement() {
        let (tables, results) = ([orders()], [totals()]);
        let expected = ExpectedTargets::new("ods", &tables, &results);
        let (table, column) = ("order_totals".to_owned(), "status".to_owned());
        let key = vec!["order_id".to_owned()];
        let (actual, wanted) = ("bytea".to_owned(), "text".to_owned());
        let cases = [
            (
                TargetProblem::MissingColumn {
                    table: table.clone(),
                    column: column.clone(),
                    wanted: wanted.clone(),
                },
                "ALTER TABLE \"ods\".\"order_totals\" ADD COLUMN \"status\" text;",
            ),
            (
                TargetProblem::WrongType {
                    table: table.clone(),
                    column: column.clone(),
                    actual,
                    wanted,
                },
                "ALTER TABLE \"ods\".\"order_totals\" ALTER \"status\" TYPE text USING \"status\"::text;",
            ),
            (
                TargetProblem::UnfilledColumn { table: table.clone(), column },
                "ALTER TABLE \"ods\".\"order_totals\" ALTER \"status\" DROP NOT NULL;",
            ),
            (
                TargetProblem::NoUniqueKey { table: table.clone(), key: key.clone() },
                "ALTER TABLE \"ods\".\"order_totals\" ADD PRIMARY KEY (\"order_id\");",
            ),
            (
                TargetProblem::NullableKey { table, key },
                "ALTER TABLE \"ods\".\"order_totals\" ALTER \"order_id\" SET NOT NULL;",
            ),
        ];
        for (problem, fix) in cases {
            assert_eq!(expected.fix(&problem), fix, "{problem}");
        }
        let missing = TargetProblem::no_table("ods", "order_totals");
        assert!(expected.is_made_at_start(&missing));
        assert!(expected.fix(&missing).starts_with("CREATE TABLE"), "{missing}");
        let landing = TargetProblem::no_table("ods", "orders_history");
        assert!(expected.is_made_at_start(&landing));
        let whole = create::landing_definition("ods", &tables[0]).unwrap();
        assert_eq!(expected.fix(&landing), whole);
        assert!(expected.told(&[landing])[0].contains(&whole));
        assert!(!expected.is_made_at_start(&TargetProblem::no_table("ods", "cdc_dlq")));
    }
}
