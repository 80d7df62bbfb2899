use std::io::Write;
use std::path::Path;

use anyhow::anyhow;

use crate::pipeline;
use crate::transform::Transforms;

/// `tidemark check`.
pub(super) async fn run(folder: &Path) -> anyhow::Result<()> {
    let refused = |errors: Vec<crate::transform::SqlError>| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow!("{} problem(s):\n  {}", lines.len(), lines.join("\n  "))
    };
    let sql = pipeline::load_sql(folder).await.map_err(refused)?;
    let transforms = Transforms::plan(&sql.tables, &sql.transforms).await.map_err(refused)?;
    let mut out = std::io::stdout().lock();
    for table in &sql.tables {
        writeln!(out, "table      {} <- {}", table.name, table.source)?;
    }
    for (result, maintenance) in transforms.explain() {
        writeln!(out, "transform  {} -> postgres {}: {maintenance}", result.name, result.target)?;
    }
    writeln!(out, "{} tables, {} transforms: fine", sql.tables.len(), sql.transforms.len())?;
    Ok(())
}
