//! Tables of results one by one: what is wrong with one is not the others' affair.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::remedies;
use crate::model::ResultTable;
use crate::resilience::{Recovery, chain};
use crate::sink::SinkError;
use crate::sink::postgres::PostgresSink;
use crate::sink::postgres::client::error::classify;
use crate::sink::postgres::client::quote;
use crate::sink::postgres::schema::catalog;
use crate::sink::postgres::target::result::{ResultTarget, with_table};

/// Why the table of a result does not take its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// With what to do about it.
    pub reason: String,
    /// There is no table.
    pub is_missing: bool,
}

impl PostgresSink {
    /// As [`Self::create_missing`], but those that can't be created are no error; with the reason of each.
    ///
    /// # Errors
    /// If the target is away.
    pub async fn create_each(
        &mut self,
        results: &[Arc<ResultTable>],
    ) -> Result<BTreeMap<String, String>, SinkError> {
        let mut refused = BTreeMap::new();
        for result in results {
            match self.create_missing(std::slice::from_ref(result)).await {
                Ok(()) => {}
                Err(error) if error.recovery() == Recovery::Retry => return Err(error),
                Err(error) => {
                    refused.insert(result.name.clone(), chain(&error));
                }
            }
        }
        Ok(refused)
    }

    /// Those of the results whose tables don't take their rows.
    ///
    /// # Errors
    /// If the catalog can't be read.
    pub async fn unfit(
        &mut self,
        results: &[Arc<ResultTable>],
    ) -> Result<BTreeMap<String, Unfit>, SinkError> {
        let watch = self.watch();
        watch
            .over("reading the catalog", async {
                let connection = self.connect().await?;
                let (schema, mut found) = (self.config.schema.as_str(), BTreeMap::new());
                for result in with_table(results) {
                    let read = catalog::read(&connection.client, schema, &result.target).await;
                    let catalog = read.map_err(|error| classify("reading the catalog", error))?;
                    let unfit = unfit(schema, result, catalog.as_ref());
                    found.extend(unfit.map(|unfit| (result.name.clone(), unfit)));
                }
                self.connection = Some(connection);
                Ok(found)
            })
            .await
    }
}

fn unfit(
    schema: &str,
    result: &Arc<ResultTable>,
    catalog: Option<&catalog::CatalogTable>,
) -> Option<Unfit> {
    let mut problems = Vec::new();
    match catalog {
        Some(catalog) => {
            ResultTarget::check(result, schema, catalog, &mut problems);
        }
        None => {
            let (schema, table) = quote::split(schema, &result.target);
            problems.push(format!("{table}: there is no such table in schema {schema}"));
        }
    }
    if problems.is_empty() {
        return None;
    }
    let expected = remedies::ExpectedTargets::new(schema, &[], std::slice::from_ref(result));
    let fixes: Vec<String> = problems.iter().map(|problem| expected.fix(problem)).collect();
    let (problems, fixes) = (problems.join("; "), fixes.join(" "));
    let reason = format!(
        "its target does not take its rows, and it waits: {problems}; give the column in the SELECT a type that stays \
         (CAST), or run: {fixes}"
    );
    Some(Unfit { reason, is_missing: catalog.is_none() })
}
