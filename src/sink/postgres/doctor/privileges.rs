//! What the user may do.

use tokio_postgres::{Client, Error};

use super::requirements::Requirements;
use crate::diagnosis::Finding;
use crate::sink::postgres::client::quote;
use crate::sink::postgres::schema::landing_columns;
use crate::sink::postgres::schema::system_tables::AFTER_FILES;
use crate::sink::postgres::target::result::with_table;

/// Whether the schema is there and may be looked into; if not, nothing else can be told.
pub(super) async fn usage(client: &Client, schema: &str) -> Result<Option<Finding>, Error> {
    let sql = "SELECT current_user::text, current_database()::text, \
               EXISTS (SELECT FROM pg_namespace WHERE nspname = $1), \
               has_database_privilege(current_database(), 'CREATE')";
    let row = client.query_one(sql, &[&schema]).await?;
    let (user, database): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let (user, name) = (quote::ident(&user), quote::ident(schema));
    if !row.try_get::<_, bool>(2)? {
        return Ok(Some(if row.try_get::<_, bool>(3)? {
            Finding::ok(format!("the next start creates schema {schema}"))
        } else {
            Finding::problem(
                format!("there is no schema {schema}, and the user may not create it"),
                format!(
                    "CREATE SCHEMA {name} AUTHORIZATION {user}; as a user who may, in database {database}"
                ),
            )
        }));
    }
    let sql = "SELECT has_schema_privilege($1, 'USAGE')";
    let may_use: bool = client.query_one(sql, &[&schema]).await?.try_get(0)?;
    let problem = || {
        Finding::problem(
            format!("the user may not use schema {schema}"),
            format!("GRANT USAGE ON SCHEMA {name} TO {user};"),
        )
    };
    Ok((!may_use).then(problem))
}

/// Whether the list of applied files may be read.
pub(super) async fn migrations(client: &Client, table: &str) -> Result<Option<Finding>, Error> {
    let sql = "SELECT current_user::text WHERE to_regclass($1) IS NOT NULL \
               AND NOT (has_table_privilege(to_regclass($1), 'SELECT') \
               AND has_table_privilege(to_regclass($1), 'INSERT'))";
    let row = client.query_opt(sql, &[&table]).await?;
    let user: Option<String> = row.map(|row| row.try_get(0)).transpose()?;
    Ok(user.map(|user| {
        Finding::problem(
            format!("the user may not SELECT, INSERT on {table}"),
            format!("GRANT SELECT, INSERT ON {table} TO {};", quote::ident(&user)),
        )
    }))
}

/// Whether everything that a start makes could be made.
pub(super) async fn schema(
    client: &Client,
    schema: &str,
    has_files: bool,
) -> Result<Finding, Error> {
    let sql = "SELECT current_user::text, has_schema_privilege($1, 'CREATE')";
    let row = client.query_one(sql, &[&schema]).await?;
    let (user, may_create): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
    let mut missing = 0;
    for (table, _) in AFTER_FILES {
        let there = "SELECT to_regclass($1) IS NOT NULL";
        let there = client.query_one(there, &[&quote::table(schema, table)]).await?;
        missing += i32::from(!there.try_get::<_, bool>(0)?);
    }
    if !may_create && (has_files || missing > 0) {
        let (name, user) = (quote::ident(schema), quote::ident(&user));
        return Ok(Finding::problem(
            format!("the user may not create tables in schema {schema}, and some are missing"),
            format!("GRANT CREATE ON SCHEMA {name} TO {user};"),
        ));
    }
    Ok(Finding::ok(format!("the user may use schema {schema}")))
}

/// What each table needs.
pub(super) async fn tables(
    client: &Client,
    schema: &str,
    wanted: &Requirements<'_>,
) -> Result<Vec<Finding>, Error> {
    let mut needs: Vec<(String, &[&str])> = Vec::new();
    let landed = wanted.tables.iter().filter_map(|table| landing_columns::target_name(table));
    needs.extend(landed.map(|name| (quote::table(schema, name), &["SELECT", "INSERT"][..])));
    let all = &["SELECT", "INSERT", "UPDATE", "DELETE"][..];
    let results = with_table(wanted.results).map(|result| quote::table(schema, &result.target));
    needs.extend(results.map(|name| (name, all)));
    needs.extend(AFTER_FILES.iter().map(|(name, _)| (quote::table(schema, name), all)));
    let sql = "SELECT current_user::text, ARRAY(SELECT p FROM unnest($2::text[]) AS p \
               WHERE NOT has_table_privilege(to_regclass($1), p)) WHERE to_regclass($1) IS NOT NULL";
    let mut findings = Vec::new();
    for (table, rights) in &needs {
        let Some(row) = client.query_opt(sql, &[table, rights]).await? else { continue };
        let (user, missing): (String, Vec<String>) = (row.try_get(0)?, row.try_get(1)?);
        if !missing.is_empty() {
            let missing = missing.join(", ");
            findings.push(Finding::problem(
                format!("the user may not {missing} on {table}"),
                format!("GRANT {missing} ON {table} TO {};", quote::ident(&user)),
            ));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(format!("the user may use all {} tables", needs.len())));
    }
    Ok(findings)
}
