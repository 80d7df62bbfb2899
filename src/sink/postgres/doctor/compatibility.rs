//! Tables of results one by one: what is wrong with one is not the others' affair.

use std::sync::Arc;

use crate::model::ResultTable;
use crate::sink::postgres::remedies;
use crate::sink::postgres::schema::catalog;
use crate::sink::postgres::target::problem::TargetProblem;
use crate::sink::postgres::target::result::ResultTarget;

/// Why the table of a result does not take its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// With what to do about it.
    pub reason: String,
    /// There is no table.
    pub is_missing: bool,
}

/// What is wrong with the table of a result, with what to do about it.
pub(crate) fn unfit(
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
            problems.push(TargetProblem::no_table(schema, &result.target));
        }
    }
    if problems.is_empty() {
        return None;
    }
    let expected = remedies::ExpectedTargets::new(schema, &[], std::slice::from_ref(result));
    let fixes: Vec<String> = problems.iter().map(|problem| expected.fix(problem)).collect();
    let problems: Vec<String> = problems.iter().map(TargetProblem::to_string).collect();
    let (problems, fixes) = (problems.join("; "), fixes.join(" "));
    let reason = format!(
        "its target does not take its rows, and it waits: {problems}; give the column in the SELECT a type that stays \
         (CAST), or run: {fixes}"
    );
    Some(Unfit { reason, is_missing: catalog.is_none() })
}
