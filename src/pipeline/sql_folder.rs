//! The SQL folder, read and checked.

use std::path::Path;
use std::sync::Arc;

use crate::decode::UnknownTables;
use crate::model::{SchemaChange, Table};
use crate::transform::{
    PlanRequest, SqlError, SqlFile, Transforms, UndeclaredNames, parse_tables, parse_type,
    read_folder,
};
use crate::xml::{Extraction, XmlConfig, resolve};

/// What problems of `[[xml]]` sections are told to be in.
const CONFIG: &str = "tidemark.toml";

/// The SQL folder, read and checked.
#[derive(Debug, Clone)]
pub struct Sql {
    pub tables: Vec<Arc<Table>>,
    pub transforms: Vec<SqlFile>,
    /// Name and text of each file of `ods/`.
    pub ods: Vec<(String, String)>,
    /// Whose tables are among `tables`.
    pub extractions: Vec<Arc<Extraction>>,
    /// Files may wait for tables that no file declares, if these are registered.
    pub unknown_tables: UnknownTables,
}

/// Reads the SQL folder and plans everything in it; needs no connection. Files may wait for columns that
/// only events can show.
///
/// # Errors
/// All problems of all files.
pub async fn load_sql(folder: &Path) -> Result<Sql, Vec<SqlError>> {
    load_sql_with(folder, &[], UnknownTables::default()).await
}

/// As [`load_sql`], with tables that are extracted from columns with XML, and with what becomes of tables that
/// are not declared.
///
/// # Errors
/// As there.
pub async fn load_sql_with(
    folder: &Path,
    xml: &[XmlConfig],
    unknown_tables: UnknownTables,
) -> Result<Sql, Vec<SqlError>> {
    let read = |name: &str| read_folder(&folder.join(name)).map_err(|error| vec![error]);
    let mut tables = parse_tables(&read("tables")?)?;
    if tables.is_empty() {
        let path = folder.join("tables");
        let message =
            "declares no table: one CREATE TABLE file per source table goes here".to_owned();
        return Err(vec![SqlError { path, at: None, message }]);
    }
    let extractions = resolve(xml, &tables, parse_type).map_err(|problems| {
        let error = |message| SqlError { path: CONFIG.into(), at: None, message };
        problems.into_iter().map(error).collect::<Vec<_>>()
    })?;
    tables.extend(extractions.iter().map(|extraction| Arc::clone(&extraction.table)));
    let transforms = read("transforms")?;
    let ods = read("ods")?.into_iter().map(|file| (file.name, file.text)).collect();
    let sql = Sql { tables, transforms, ods, extractions, unknown_tables };
    Transforms::plan(sql.plan_request(&sql.tables, &[])).await?;
    Ok(sql)
}

impl Sql {
    /// The transforms over these tables, with what events have shown of them.
    pub fn plan_request<'a>(
        &'a self,
        tables: &'a [Arc<Table>],
        registry: &'a [SchemaChange],
    ) -> PlanRequest<'a> {
        let undeclared = match self.unknown_tables {
            UnknownTables::Register => UndeclaredNames::ColumnsAndTablesWait,
            UnknownTables::Dlq | UnknownTables::Ignore => UndeclaredNames::ColumnsWait,
        };
        PlanRequest { tables, files: &self.transforms, registry, undeclared }
    }
}
