//! Results whose targets no longer take what their SELECT gives, because events have shown columns that no file
//! declares, or another type of these: such a file waits, with those that read it, and the others run.
//!
//! What does not fit without any event having a say in it is a mistake, and an error of the start or of the edit.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Channel, ResultTable};
use crate::resilience::chain;
use crate::sink::SinkError;
use crate::sink::postgres::SchemaAdmin;
use crate::sink::rest::RestConfig;
use crate::transform::Transforms;

/// What runs, and what waits for its target.
pub(crate) struct Fitted {
    pub(crate) transforms: Transforms,
    pub(crate) waiting: Vec<WaitsForTarget>,
}

/// A result that waits for its target.
#[derive(Debug, Clone)]
pub(crate) struct WaitsForTarget {
    pub(crate) result: Arc<ResultTable>,
    pub(crate) has_table: bool,
}

/// Sets those results aside that may wait and whose targets don't take their rows. Tables of the results that may
/// wait are created if they are not there.
///
/// # Errors
/// A target that is away.
pub(crate) async fn set_unfit_aside(
    mut transforms: Transforms,
    admin: &mut SchemaAdmin,
    rest: Option<&RestConfig>,
) -> Result<Fitted, SinkError> {
    let mut reasons = BTreeMap::new();
    let learned = learned(&transforms);
    for result in &learned {
        if let Err(error) = check_results(rest, std::slice::from_ref(result)) {
            reasons.insert(result.name.clone(), chain(&error));
        }
    }
    let refused = admin.create_each(&learned).await?;
    let unfit = admin.unfit(&learned).await?;
    let has_table = |result: &ResultTable| unfit.get(&result.name).is_none_or(|it| !it.is_missing);
    let waits = |result: Arc<ResultTable>| WaitsForTarget { has_table: has_table(&result), result };
    reasons.extend(unfit.iter().map(|(result, unfit)| (result.clone(), unfit.reason.clone())));
    reasons.extend(refused);
    transforms.set_aside(&reasons);
    let waiting = learned.into_iter().filter(|result| reasons.contains_key(&result.name));
    Ok(Fitted { transforms, waiting: waiting.map(waits).collect() })
}

/// The results on whose columns events have a say.
pub(crate) fn learned(transforms: &Transforms) -> Vec<Arc<ResultTable>> {
    let results = transforms.results().filter(|result| transforms.may_wait(&result.name));
    results.cloned().collect()
}

/// Results go to an API only if there is one.
pub(crate) fn check_results(
    rest: Option<&RestConfig>,
    results: &[Arc<ResultTable>],
) -> Result<(), SinkError> {
    if rest.is_some() {
        return Ok(());
    }
    let is_rest = |result: &&Arc<ResultTable>| result.channel != Channel::Table;
    let problem = |result: &Arc<ResultTable>| {
        format!(
            "{}: writes to rest {}, and there is no API: set sink.rest.base_url",
            result.name, result.target
        )
    };
    let problems: Vec<String> = results.iter().filter(is_rest).map(problem).collect();
    if problems.is_empty() { Ok(()) } else { Err(SinkError::Config { problems }) }
}
