//! Triggers and rules of target tables that may take rows away, or pass some by.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};

use super::requirements::Requirements;
use crate::diagnosis::Finding;
use crate::sink::postgres::client::quote;
use crate::sink::postgres::schema::{landing_columns, relation};
use crate::sink::postgres::target::result::with_table;

/// What only a run shows: most of them are harmless.
pub(super) async fn side_effects(
    client: &Client,
    schema: &str,
    wanted: &Requirements<'_>,
) -> Result<Vec<Finding>, Error> {
    let landed = wanted.tables.iter().filter_map(|table| landing_columns::target_name(table));
    let results = with_table(wanted.results).map(|result| result.target.as_str());
    let mut findings = Vec::new();
    for name in landed.chain(results) {
        let (schema, table) = quote::split(schema, name);
        let place: [(&(dyn ToSql + Sync), Type); 2] = [(&schema, Type::TEXT), (&table, Type::TEXT)];
        let traits = relation::read(client, &place).await?;
        findings.extend(traits.before_triggers.iter().map(|trigger| {
            Finding::unknown(format!(
                "{name}: the trigger {trigger} sees each row before it is written; a row that it does not return becomes \
                 a dead letter"
            ))
        }));
        findings.extend(traits.also_rules.iter().map(|rule| {
            Finding::unknown(format!(
                "{name}: the rule {rule} runs for rows that are written by INSERT, and not for those of a COPY, which \
                 brings more than 512 new rows"
            ))
        }));
    }
    Ok(findings)
}
