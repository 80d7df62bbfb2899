//! What the user may do: everything that is missing at once, whichever right it is.

use tokio_postgres::{Client, Error};

use super::requirements::Requirements;
use crate::diagnosis::Finding;
use crate::sink::postgres::client::quote;
use crate::sink::postgres::schema::landing_columns;
use crate::sink::postgres::schema::system_tables::{AFTER_FILES, MIGRATIONS};
use crate::sink::postgres::target::result::with_table;

const ALL: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE"];
/// Of tables that rows are only added to.
const APPEND: &[&str] = &["SELECT", "INSERT"];

/// Of tables that old rows leave.
const PRUNE: &[&str] = &["SELECT", "INSERT", "DELETE"];

/// The user and the schema.
pub(super) struct SchemaRights {
    user: String,
    database: String,
    schema: String,
    pub(super) exists: bool,
    may_create_schema: bool,
    pub(super) may_use: bool,
    may_create: bool,
}

/// A table that is needed, and what is missing of it.
pub(super) struct TableRights {
    /// Quoted, with its schema.
    table: String,
    exists: bool,
    missing: Vec<String>,
}

/// What a start makes if it is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Creates {
    /// Landing tables, tables of results, and the sink's own.
    AllTables,
    /// The sink's own ones alone.
    OwnTables,
}

impl SchemaRights {
    pub(super) async fn read(client: &Client, schema: &str) -> Result<Self, Error> {
        let sql = "SELECT current_user::text, current_database()::text, n.oid IS NOT NULL, \
                   has_database_privilege(current_database(), 'CREATE'), \
                   COALESCE(has_schema_privilege(n.oid, 'USAGE'), false), \
                   COALESCE(has_schema_privilege(n.oid, 'CREATE'), false) \
                   FROM (SELECT) AS one LEFT JOIN pg_namespace n ON n.nspname = $1";
        let row = client.query_one(sql, &[&schema]).await?;
        Ok(Self {
            user: row.try_get(0)?,
            database: row.try_get(1)?,
            schema: schema.to_owned(),
            exists: row.try_get(2)?,
            may_create_schema: row.try_get(3)?,
            may_use: row.try_get(4)?,
            may_create: row.try_get(5)?,
        })
    }

    /// Of a schema that is not there; nothing else can be told then.
    pub(super) fn missing_schema(&self) -> Finding {
        let Self { schema, database, .. } = self;
        if self.may_create_schema {
            return Finding::ok(format!("the next start creates schema {schema}"));
        }
        Finding::problem(
            format!("there is no schema {schema}, and the user may not create it"),
            format!(
                "CREATE SCHEMA {} AUTHORIZATION {}; as a user who may, in database {database}",
                quote::ident(schema),
                quote::ident(&self.user)
            ),
        )
    }

    /// Of the schema, the tables that are there, and those that are still to be made.
    pub(super) fn findings(
        &self,
        tables: &[TableRights],
        pending: &[String],
        creates: Creates,
    ) -> Vec<Finding> {
        let (name, user) = (quote::ident(&self.schema), quote::ident(&self.user));
        let mut findings = Vec::new();
        if !self.may_use {
            findings.push(Finding::problem(
                format!("the user may not use schema {}", self.schema),
                format!("GRANT USAGE ON SCHEMA {name} TO {user};"),
            ));
        }
        let own: Vec<String> = own_tables(&self.schema).collect();
        let is_made = |table: &&TableRights| {
            !table.exists && (creates == Creates::AllTables || own.contains(&table.table))
        };
        let is_made_at_start = !pending.is_empty() || tables.iter().any(|table| is_made(&table));
        if is_made_at_start && !self.may_create {
            findings.push(Finding::problem(
                format!(
                    "the user may not create tables in schema {}, and some are missing",
                    self.schema
                ),
                format!("GRANT CREATE ON SCHEMA {name} TO {user};"),
            ));
        }
        for TableRights { table, missing, .. } in tables.iter().filter(|t| !t.missing.is_empty()) {
            let missing = missing.join(", ");
            findings.push(Finding::problem(
                format!("the user may not {missing} on {table}"),
                format!("GRANT {missing} ON {table} TO {user};"),
            ));
        }
        if findings.is_empty() {
            let there = tables.iter().filter(|table| table.exists).count();
            findings.push(Finding::ok(format!(
                "the user may use schema {} and the {there} needed tables that are there",
                self.schema
            )));
        }
        findings
    }
}

fn own_tables(schema: &str) -> impl Iterator<Item = String> + '_ {
    AFTER_FILES.iter().map(|(name, _)| quote::table(schema, name))
}

/// What each table needs. It is found in the catalog itself: a look-up by name needs a right to the schema.
pub(super) async fn tables(
    client: &Client,
    schema: &str,
    wanted: &Requirements<'_>,
) -> Result<Vec<TableRights>, Error> {
    let landed = wanted.tables.iter().filter_map(|table| {
        let needed = match (landing_columns::is_current(table), table.options.history) {
            (true, _) => ALL,
            (false, Some(_)) => PRUNE,
            (false, None) => APPEND,
        };
        landing_columns::target_name(table).map(|name| (name, needed))
    });
    let results = with_table(wanted.results).map(|result| (result.target.as_str(), ALL));
    let own = AFTER_FILES.iter().map(|(name, _)| (*name, ALL));
    let needs = landed.chain(results).chain(own);
    let sql = "SELECT ARRAY(SELECT p FROM unnest($3::text[]) AS p WHERE NOT has_table_privilege(c.oid, p)) \
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relname = $2";
    let mut rights = Vec::new();
    for (name, needed) in needs.chain([(MIGRATIONS, APPEND)]) {
        let (in_schema, bare) = quote::split(schema, name);
        let row = client.query_opt(sql, &[&in_schema, &bare, &needed]).await?;
        let missing = row.as_ref().map(|row| row.try_get(0)).transpose()?.unwrap_or_default();
        let table = quote::table(schema, name);
        rights.push(TableRights { table, exists: row.is_some(), missing });
    }
    Ok(rights)
}

/// Whether the list of applied files may be read, if there is one.
pub(super) fn may_read_files(schema: &str, tables: &[TableRights]) -> bool {
    let migrations = quote::table(schema, MIGRATIONS);
    let list = tables.iter().find(|table| table.table == migrations);
    list.is_none_or(|list| !list.missing.iter().any(|right| right == "SELECT"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights() -> SchemaRights {
        SchemaRights {
            user: "u".to_owned(),
            database: "d".to_owned(),
            schema: "ods".to_owned(),
            exists: true,
            may_create_schema: false,
            may_use: false,
            may_create: false,
        }
    }

    fn table(name: &str, missing: &[&str]) -> TableRights {
        let missing: Vec<String> = missing.iter().map(|right| (*right).to_owned()).collect();
        TableRights { table: quote::table("ods", name), exists: !name.starts_with("no_"), missing }
    }

    #[test]
    fn all_missing_rights_come_at_once_and_only_tables_that_exist_count() {
        let tables = [table("a", &["INSERT"]), table("no_b", &[])];
        let fixes: Vec<String> = rights()
            .findings(&tables, &[], Creates::AllTables)
            .into_iter()
            .filter_map(|finding| finding.fix)
            .collect();
        assert_eq!(
            fixes,
            [
                "GRANT USAGE ON SCHEMA \"ods\" TO \"u\";",
                "GRANT CREATE ON SCHEMA \"ods\" TO \"u\";",
                "GRANT INSERT ON \"ods\".\"a\" TO \"u\";",
            ]
        );
        let using = SchemaRights { may_use: true, ..rights() };
        let tables = [table("a", &[]), table("no_b", &[])];
        let fine = using.findings(&tables, &[], Creates::OwnTables);
        assert_eq!(
            fine,
            [Finding::ok("the user may use schema ods and the 1 needed tables that are there")]
        );
        let pending = using.findings(&tables, &["1".to_owned()], Creates::OwnTables);
        assert!(pending[0].fix.as_ref().unwrap().starts_with("GRANT CREATE"), "{pending:?}");
    }
}
