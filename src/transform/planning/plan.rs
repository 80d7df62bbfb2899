//! Plans the folder, as often as it takes until each file sees the undeclared columns that it reads.

use super::pass::{PlanningPass, pass};
use super::request::{PlanRequest, UndeclaredNames};
use super::undeclared::ColumnResolver;
use crate::transform::files::SqlError;
use crate::transform::pending::PendingTransform;
use crate::transform::transforms::Transforms;

impl Transforms {
    /// Plans the transforms of a folder. The result depends on the request alone: a check can hand it on
    /// to the session that runs it.
    ///
    /// # Errors
    /// Everything that is wrong in any file, with file, line and column.
    pub async fn plan(request: PlanRequest<'_>) -> Result<Self, Vec<SqlError>> {
        let mut resolver = ColumnResolver::new(&request);
        loop {
            let pass = pass(&resolver, request.files).await;
            // Each turn finds one more column of a file, if there are any.
            if resolver.resolve(&pass.needs) {
                continue;
            }
            let planned = finish(pass, &resolver)?;
            let must_be_complete = request.undeclared == UndeclaredNames::Refused;
            return if must_be_complete && !planned.pending.is_empty() {
                Err(planned.pending.into_iter().map(|pending| pending.reason).collect())
            } else {
                Ok(planned)
            };
        }
    }
}

/// What is wrong in a file that goes by what events have shown lets that file wait: the source may have changed.
fn finish(pass: PlanningPass, resolver: &ColumnResolver) -> Result<Transforms, Vec<SqlError>> {
    let PlanningPass { mut transforms, wrong, needs, absent, blocked } = pass;
    let (may_wait, wrong): (Vec<_>, Vec<_>) =
        wrong.into_iter().partition(|(file, _)| transforms.may_wait(file));
    if !wrong.is_empty() {
        return Err(wrong.into_iter().map(|(_, error)| error).collect());
    }
    let pending = &mut transforms.pending;
    pending.extend(needs.into_iter().map(|(result, missing)| resolver.pending(result, missing)));
    // Whatever registers a table starts everything over.
    let others = may_wait.into_iter().chain(absent);
    let waiting = |(result, reason)| PendingTransform { result, reason, needs: None, meant: None };
    pending.extend(others.map(waiting));
    for (result, read) in blocked {
        if let Some(cause) = pending.iter().find(|pending| pending.result == read) {
            pending.push(cause.reader(result));
        }
    }
    Ok(transforms)
}
