//! `tidemark check`: what the SQL folder says, without any connection.
//!
//! `folder` reads and plans the files, `graph` is who reads whom, `report` the text, `dot` and `svg` the drawings, and `excerpt` shows the line
//! that an error is about.

mod dot;
mod excerpt;
mod folder;
mod graph;
mod report;
mod svg;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use folder::load;
use graph::Graph;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The folder with tables/, transforms/ and ods/.
    #[arg(long, default_value = "sql")]
    sql: PathBuf,
    /// A tidemark.toml, whose [[xml]] sections declare tables too; nothing else of it is read.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Takes warnings, such as a full recompute, for errors.
    #[arg(long)]
    strict: bool,
    /// Writes who reads whom as Graphviz DOT; without FILE to standard output, instead of the text.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    dot: Option<PathBuf>,
    /// Draws who reads whom into an SVG file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// `tidemark check`.
pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let checked = load(&arguments.sql, arguments.config.as_deref()).await?;
    let graph = Graph::new(&checked.sql.tables, &checked.transforms);
    let is_piped = arguments.dot.as_deref() == Some(Path::new("-"));
    let mut out = std::io::stdout().lock();
    match &arguments.dot {
        Some(_) if is_piped => out.write_all(dot::draw(&graph).as_bytes())?,
        Some(path) => save(path, &dot::draw(&graph))?,
        None => {}
    }
    if let Some(path) = &arguments.svg {
        save(path, &svg::draw(&graph))?;
    }
    let warnings = report::warnings(&checked);
    if !is_piped {
        out.write_all(report::text(&checked, &graph, &warnings).as_bytes())?;
    }
    if arguments.strict && !warnings.is_empty() {
        bail!(
            "{} warning(s), which --strict takes for errors:\n{}",
            warnings.len(),
            warnings.join("\n")
        );
    }
    Ok(())
}

fn save(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("{} can't be written", path.display()))
}

#[cfg(test)]
mod tests;
