//! `tidemark apply`: the DDL that a start would run, without a start.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use crate::config;
use crate::model::ResultTable;
use crate::pipeline::load_sql_with;
use crate::resilience::chain;
use crate::sink::postgres::SchemaAdmin;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The configuration file of the processor; its role is the one that the files run as.
    #[arg(long, default_value = "tidemark.toml", env = "TIDEMARK_CONFIG")]
    config: PathBuf,
    /// Only says which files are still to be applied.
    #[arg(long)]
    dry_run: bool,
}

/// Applies the files of `sql/ods` that were not applied yet, and creates the tables that are missing.
pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = config::load(&arguments.config)?;
    let loaded = load_sql_with(&config.sql, &config.xml, config.decode.unknown_tables).await;
    let sql = loaded.map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{} problem(s) in the SQL files:\n  {}", lines.len(), lines.join("\n  "))
    })?;
    let mut admin = SchemaAdmin::new(config.sink.postgres.clone(), config.pipeline.as_str())?;
    let mut out = std::io::stdout();
    if arguments.dry_run {
        let pending = admin.pending_ods(&sql.ods).await?;
        for file in &pending {
            writeln!(out, "would apply {file}")?;
        }
        writeln!(out, "{} file(s) are to be applied", pending.len())?;
        return Ok(());
    }
    let applied = admin.apply_ods(&sql.ods).await?;
    for file in &applied {
        writeln!(out, "applied {file}")?;
    }
    admin.create_landing(&sql.tables).await?;
    let registry = admin.schema_changes().await?;
    match sql.plan(&registry).await {
        Ok(transforms) => {
            let results: Vec<Arc<ResultTable>> = transforms.results().cloned().collect();
            admin.create_missing(&results).await?;
            admin.check_targets(&sql.tables, &results).await?;
        }
        Err(errors) => {
            let lines: Vec<String> = errors.iter().map(|error| chain(error)).collect();
            anyhow::bail!("the files are applied; the transforms are wrong: {}", lines.join("; "));
        }
    }
    writeln!(out, "{} file(s) applied; all tables fit", applied.len())?;
    Ok(())
}
