//! The SQL folder, read and planned.

use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::excerpt;
use crate::config::sql_sections;
use crate::pipeline::{self, Sql};
use crate::transform::{SqlError, Transforms, learned_columns, read_folder};

/// A folder without errors.
pub(super) struct Checked {
    pub(super) sql: Sql,
    /// The file of each table, in their order; of an extracted one the configuration.
    pub(super) table_files: Vec<PathBuf>,
    pub(super) transforms: Transforms,
}

/// # Errors
/// If a file cannot be read or planned; the error quotes each line.
pub(super) async fn load(folder: &Path, config: Option<&Path>) -> anyhow::Result<Checked> {
    let sections = config.map(sql_sections).transpose()?.unwrap_or_default();
    let policy = sections.decode.unknown_tables;
    let sql = pipeline::load_sql_with(folder, &sections.xml, policy).await;
    let sql = sql.map_err(|errors| refused(&errors))?;
    let learned = learned_columns(&sql.transforms, &sql.tables);
    let learned = learned.map_err(|errors| refused(&errors))?;
    let transforms = sql.plan(&learned).await.map_err(|errors| refused(&errors))?;
    let slips = transforms.pending().iter().filter(|pending| pending.is_slip());
    let slips: Vec<SqlError> = slips.map(|pending| pending.reason.clone()).collect();
    if !slips.is_empty() {
        return Err(refused(&slips));
    }
    let files = read_folder(&folder.join("tables")).map_err(|error| refused(&[error]))?;
    let extracted = sql.extractions.iter().filter_map(|_| config.map(Path::to_owned));
    let table_files = files.into_iter().map(|file| file.path).chain(extracted).collect();
    Ok(Checked { sql, table_files, transforms })
}

fn refused(errors: &[SqlError]) -> anyhow::Error {
    let lines: Vec<String> = errors.iter().map(excerpt::shown).collect();
    anyhow!("{} problem(s):\n{}", errors.len(), lines.join("\n"))
}
