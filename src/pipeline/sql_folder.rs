//! The SQL folder: read, checked and planned.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use metrics::counter;

use crate::config::SqlConfig;
use crate::decode::UnknownTables;
use crate::model::{SchemaChange, Table};
use crate::pipeline::error::PipelineError;
use crate::telemetry::names;
use crate::transform::{
    PlanRequest, SqlError, SqlFile, Transforms, UndeclaredNames, parse_tables, parse_type,
    read_folder,
};
use crate::xml::{Extraction, XmlConfig, resolve};

/// What problems of `[[xml]]` sections are told to be in.
const CONFIG: &str = "tidemark.toml";

/// Where the files are.
#[derive(Debug, Clone)]
pub struct SqlFolders {
    /// With `tables/` and `ods/`.
    root: PathBuf,
    transforms: Vec<PathBuf>,
}

impl From<&Path> for SqlFolders {
    fn from(root: &Path) -> Self {
        Self { root: root.to_owned(), transforms: vec![root.join("transforms")] }
    }
}

impl From<&PathBuf> for SqlFolders {
    fn from(root: &PathBuf) -> Self {
        root.as_path().into()
    }
}

impl From<&SqlConfig> for SqlFolders {
    fn from(config: &SqlConfig) -> Self {
        Self { root: config.folder.clone(), transforms: config.transforms() }
    }
}

impl SqlFolders {
    /// # Errors
    /// If a file can't be read, or two have one name.
    pub(crate) fn read_transforms(&self) -> Result<Vec<SqlFile>, SqlError> {
        let mut all: Vec<SqlFile> = Vec::new();
        for folder in &self.transforms {
            for file in read_folder(folder)? {
                if let Some(other) = all.iter().find(|other| other.name == file.name) {
                    let message =
                        format!("{} makes a result of this name too", other.path.display());
                    return Err(SqlError { path: file.path, at: None, message });
                }
                all.push(file);
            }
        }
        Ok(all)
    }

    /// # Errors
    /// If a file can't be read.
    pub(crate) fn read(&self, part: &str) -> Result<Vec<SqlFile>, SqlError> {
        read_folder(&self.root.join(part))
    }
}

/// The files of a SQL folder, as they are written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SqlFiles {
    tables: Vec<SqlFile>,
    transforms: Vec<SqlFile>,
    ods: Vec<SqlFile>,
}

impl SqlFiles {
    fn read(folders: &SqlFolders) -> Result<Self, Vec<SqlError>> {
        let read = |name: &str| folders.read(name).map_err(|error| vec![error]);
        let transforms = folders.read_transforms().map_err(|error| vec![error])?;
        Ok(Self { tables: read("tables")?, transforms, ods: read("ods")? })
    }

    /// Name and content of each, as in `tables/orders`.
    pub(super) fn texts(&self) -> Vec<(String, String)> {
        let parts =
            [("tables", &self.tables), ("transforms", &self.transforms), ("ods", &self.ods)];
        let texts = parts.into_iter().flat_map(|(part, files)| {
            files.iter().map(move |file| (format!("{part}/{}", file.name), file.text.clone()))
        });
        let mut texts: Vec<(String, String)> = texts.collect();
        texts.sort();
        texts
    }

    /// Files of [`Self::texts`], as if they were in a folder.
    pub(super) fn of_texts(folder: &Path, texts: &[(String, String)]) -> Self {
        let mut files = Self::default();
        for (place, text) in texts {
            let Some((part, name)) = place.split_once('/') else { continue };
            let path = folder.join(part).join(format!("{name}.sql"));
            let file = SqlFile { path, name: name.to_owned(), text: text.clone() };
            match part {
                "tables" => files.tables.push(file),
                "transforms" => files.transforms.push(file),
                _ => files.ods.push(file),
            }
        }
        files
    }
}

/// The SQL folder, read and checked.
#[derive(Debug, Clone)]
pub struct Sql {
    pub files: SqlFiles,
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
    folders: impl Into<SqlFolders>,
    xml: &[XmlConfig],
    unknown_tables: UnknownTables,
) -> Result<Sql, Vec<SqlError>> {
    Ok(PlannedSql::load(&folders.into(), xml, unknown_tables).await?.sql)
}

fn parse_sql(
    files: SqlFiles,
    folder: &Path,
    xml: &[XmlConfig],
    unknown_tables: UnknownTables,
) -> Result<Sql, Vec<SqlError>> {
    let mut tables = parse_tables(&files.tables)?;
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
    let transforms = files.transforms.clone();
    let ods = files.ods.iter().map(|file| (file.name.clone(), file.text.clone())).collect();
    Ok(Sql { files, tables, transforms, ods, extractions, unknown_tables })
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

/// A folder, and its plan until a session takes it.
#[derive(Debug)]
pub(super) struct PlannedSql {
    pub(super) sql: Sql,
    /// `None` if it has to be planned again, with what is known by then.
    pub(super) plan: Option<SqlPlan>,
}

impl PlannedSql {
    /// As [`load_sql_with`], with the plan.
    ///
    /// # Errors
    /// All problems of all files.
    pub(super) async fn load(
        folders: &SqlFolders,
        xml: &[XmlConfig],
        unknown_tables: UnknownTables,
    ) -> Result<Self, Vec<SqlError>> {
        Self::of_files(SqlFiles::read(folders)?, &folders.root, xml, unknown_tables).await
    }

    /// The same of files that are at hand.
    ///
    /// # Errors
    /// All problems of all files.
    pub(super) async fn of_files(
        files: SqlFiles,
        folder: &Path,
        xml: &[XmlConfig],
        unknown_tables: UnknownTables,
    ) -> Result<Self, Vec<SqlError>> {
        let sql = parse_sql(files, folder, xml, unknown_tables)?;
        let plan = Some(SqlPlan::new(&sql, &sql.tables, &[]).await?);
        Ok(Self { sql, plan })
    }
}

/// The transforms of a folder, and what they were planned with.
pub(super) struct SqlPlan {
    tables: Vec<Arc<Table>>,
    registry: Vec<SchemaChange>,
    pub(super) transforms: Transforms,
}

impl SqlPlan {
    async fn new(
        sql: &Sql,
        tables: &[Arc<Table>],
        registry: &[SchemaChange],
    ) -> Result<Self, Vec<SqlError>> {
        counter!(names::SQL_PLANS).increment(1);
        let transforms = Transforms::plan(sql.plan_request(tables, registry)).await?;
        Ok(Self { tables: tables.to_vec(), registry: registry.to_vec(), transforms })
    }

    /// The plan at hand, if planning again would give the same. A new one else.
    ///
    /// # Errors
    /// All problems of all files.
    pub(super) async fn renewed(
        at_hand: Option<Self>,
        sql: &Sql,
        tables: &[Arc<Table>],
        registry: &[SchemaChange],
    ) -> Result<Self, PipelineError> {
        match at_hand {
            Some(plan) if plan.is_of(tables, registry) => Ok(plan),
            _ => Self::new(sql, tables, registry).await.map_err(PipelineError::Sql),
        }
    }

    /// What files wait for whose texts of `before` would not wait.
    pub(super) async fn pending_that_ran(&self, sql: &Sql, before: &SqlFiles) -> Vec<SqlError> {
        let mut with_old = sql.clone();
        let mut edited = BTreeSet::new();
        for file in &mut with_old.transforms {
            let is_pending = self.transforms.pending().iter().any(|it| it.result == file.name);
            let old = before.transforms.iter().find(|old| old.name == file.name);
            if let Some(old) = old.filter(|old| is_pending && old.text != file.text) {
                file.text.clone_from(&old.text);
                edited.insert(file.name.clone());
            }
        }
        if edited.is_empty() {
            return Vec::new();
        }
        // If the old texts don't fit the other files, these have changed with them.
        let Ok(old) = Self::new(&with_old, &self.tables, &self.registry).await else {
            return Vec::new();
        };
        let runs = |result: &String| old.transforms.results().any(|it| it.name == *result);
        let stopped = self.transforms.pending().iter();
        let stopped = stopped.filter(|it| edited.contains(&it.result) && runs(&it.result));
        stopped.map(|it| it.reason.clone()).collect()
    }

    fn is_of(&self, tables: &[Arc<Table>], registry: &[SchemaChange]) -> bool {
        // Without anything that waits, no file has asked for what events have shown.
        let needs_no_registry = self.registry.is_empty() && self.transforms.pending().is_empty();
        self.tables == tables && (self.registry == registry || needs_no_registry)
    }
}

impl fmt::Debug for SqlPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlPlan").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Offset, SchemaChangeKind, SeenType};

    #[tokio::test]
    async fn further_folders_have_transforms_with_names_of_their_own() {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/sql"));
        let also = |also: &[&str]| {
            let also = also.iter().map(|folder| (*folder).to_owned()).collect();
            SqlConfig { folder: folder.clone(), also, ..SqlConfig::default() }
        };
        let read = async |config: SqlConfig| {
            let sql = load_sql_with(&config, &[], UnknownTables::default()).await?;
            Ok::<Vec<String>, Vec<SqlError>>(sql.transforms.into_iter().map(|f| f.name).collect())
        };
        let plain = read(also(&[""])).await.unwrap();
        assert!(!plain.contains(&"high_value_orders".to_owned()), "{plain:?}");
        let more = read(also(&["alerts", ""])).await.unwrap();
        assert!(more.starts_with(&plain) && more.contains(&"high_value_orders".to_owned()));
        let twice = read(also(&["transforms"])).await.unwrap_err();
        assert!(twice[0].to_string().contains("makes a result of this name too"), "{twice:?}");
    }

    #[tokio::test]
    async fn a_plan_is_handed_on_while_planning_again_would_give_the_same() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/sql"));
        let loaded = PlannedSql::load(&folder.into(), &[], UnknownTables::default()).await.unwrap();
        let (sql, plan) = (loaded.sql, loaded.plan.unwrap());
        let shown = SchemaChange {
            source: sql.tables[0].source.clone(),
            column: "SHOWN".to_owned(),
            kind: SchemaChangeKind::Added,
            seen: SeenType::Text,
            offset: Offset::new(1, 1),
        };
        assert!(plan.is_of(&sql.tables, &[]));
        assert!(plan.is_of(&sql.tables, std::slice::from_ref(&shown)), "no file reads the column");
        assert!(!plan.is_of(&sql.tables[1..], &[]), "it is of other tables");
        let plan = SqlPlan::new(&sql, &sql.tables, &[shown]).await.unwrap();
        assert!(!plan.is_of(&sql.tables, &[]), "it may have gone by what events had shown");
    }
}
