//! Plans the folder, as often as it takes until each file sees the undeclared columns that it reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::pass::{PlanningPass, pass};
use super::undeclared::UndeclaredColumns;
use crate::model::{SchemaChange, Table};
use crate::transform::files::{SqlError, SqlFile};
use crate::transform::pending::PendingTransform;
use crate::transform::transforms::Transforms;

/// Whether tables may come that no file declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewTables {
    MayCome,
    Never,
}

impl Transforms {
    /// Plans the files of `sql/transforms` against the declared tables.
    ///
    /// # Errors
    /// Everything that is wrong in any file, with file, line and column.
    pub async fn plan(tables: &[Arc<Table>], files: &[SqlFile]) -> Result<Self, Vec<SqlError>> {
        let planned = Self::plan_known(tables, &[], files).await?;
        match planned.waiting.is_empty() {
            true => Ok(planned),
            false => Err(planned.waiting.into_iter().map(|waiting| waiting.reason).collect()),
        }
    }

    /// Plans the files against the tables with the columns that their events have shown. A file that reads
    /// a column which is not among them waits, and so do those that read its result.
    ///
    /// # Errors
    /// Everything else that is wrong in any file, with file, line and column.
    pub async fn plan_known(
        tables: &[Arc<Table>],
        registry: &[SchemaChange],
        files: &[SqlFile],
    ) -> Result<Self, Vec<SqlError>> {
        Self::plan_with(tables, registry, files, NewTables::Never).await
    }

    /// As [`Self::plan_known`]; where tables may come that no file declares, a file that reads one waits too.
    ///
    /// # Errors
    /// As there.
    pub async fn plan_with(
        tables: &[Arc<Table>],
        registry: &[SchemaChange],
        files: &[SqlFile],
        new_tables: NewTables,
    ) -> Result<Self, Vec<SqlError>> {
        Self::plan_without(tables, registry, files, (new_tables, &BTreeMap::new())).await
    }

    /// As [`Self::plan_with`]; the results that are `unfit` wait for the reasons that are given, and so do those
    /// that read them.
    ///
    /// # Errors
    /// As there.
    pub async fn plan_without(
        tables: &[Arc<Table>],
        registry: &[SchemaChange],
        files: &[SqlFile],
        (new_tables, unfit): (NewTables, &BTreeMap<String, String>),
    ) -> Result<Self, Vec<SqlError>> {
        plan(tables, registry, files, (new_tables, unfit)).await
    }
}

/// Plans all files, with the columns that events have shown.
async fn plan(
    tables: &[Arc<Table>],
    registry: &[SchemaChange],
    files: &[SqlFile],
    (new_tables, unfit): (NewTables, &BTreeMap<String, String>),
) -> Result<Transforms, Vec<SqlError>> {
    let mut extras = UndeclaredColumns::new(tables, registry);
    if new_tables == NewTables::MayCome {
        extras.results = Some(files.iter().map(|file| file.name.clone()).collect());
    }
    loop {
        let pass = pass(&extras, files).await;
        // Each turn finds one more column of a file, if there are any.
        if extras.resolve(&pass.needs) {
            continue;
        }
        if unfit.is_empty() {
            return finish(pass, &extras);
        }
        // Only now, so that what they read is still watched.
        extras.unfit.clone_from(unfit);
        return finish(self::pass(&extras, files).await, &extras);
    }
}

/// What is wrong in a file that goes by what events have shown is its own affair: the source may have changed.
fn finish(pass: PlanningPass, extras: &UndeclaredColumns) -> Result<Transforms, Vec<SqlError>> {
    let PlanningPass { mut transforms, wrong, needs, absent, unfit, held } = pass;
    let (its_own, wrong): (Vec<_>, Vec<_>) =
        wrong.into_iter().partition(|(file, _)| transforms.may_wait(file));
    if !wrong.is_empty() {
        return Err(wrong.into_iter().map(|(_, error)| error).collect());
    }
    let waiting = &mut transforms.waiting;
    waiting.extend(needs.into_iter().map(|(result, missing)| extras.pending(result, missing)));
    // Whatever registers a table starts everything over.
    let own = its_own.into_iter().chain(absent).chain(unfit);
    waiting.extend(own.map(|(result, reason)| PendingTransform { result, reason, needs: None }));
    for (result, read) in held {
        let Some(first) = waiting.iter().find(|waiting| waiting.result == read) else { continue };
        let path = first.reason.path.with_file_name(format!("{result}.sql"));
        let message = format!("needs the result {read}, which waits");
        let reason = SqlError { path, at: None, message };
        waiting.push(PendingTransform { result, reason, needs: None });
    }
    Ok(transforms)
}
