//! `tidemark doctor`: looks at everything that a processor needs, and says for each problem what to do.

mod broker;
mod semp;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use clap::Args;

use crate::checkpoint::Checkpoints;
use crate::config::{self, Config};
use crate::diagnosis::{Finding, Verdict};
use crate::model::{Channel, ResultTable, SchemaChange};
use crate::pipeline::{Sql, load_sql_with};
use crate::resilience::chain;
use crate::sink::postgres::{Requirements, SchemaAdmin, examine};
use crate::sink::rest;
use crate::source::SourceConfig;
use crate::source::solace::semp::SempAccess;
use crate::source::solace::{SempConfig, SolaceConfig};

#[derive(Debug, Args)]
pub struct Arguments {
    /// The configuration file of the processor.
    #[arg(long, default_value = "tidemark.toml", env = "TIDEMARK_CONFIG")]
    config: PathBuf,
    /// The broker's management address, as in http://broker:8080: it tells the queue's limits. Default: that of
    /// [source.semp].
    #[arg(long, value_name = "URL", env = "SEMP_URL", hide_env_values = true)]
    semp: Option<url::Url>,
    #[arg(long, default_value = "admin", env = "SEMP_USERNAME")]
    semp_username: String,
    /// Better given as the environment variable, which other users can't see.
    #[arg(long, default_value = "", env = "SEMP_PASSWORD", hide_env_values = true)]
    semp_password: String,
    /// Also publishes one message to the topic of dead letters, to see whether that is allowed.
    #[arg(long)]
    publish: bool,
    /// One JSON object a line instead of text.
    #[arg(long)]
    json: bool,
}

/// A part of the surroundings, and what was found there.
type Chapter = (&'static str, Vec<Finding>);

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let found = examine_all(arguments).await?;
    std::io::stdout().lock().write_all(shown(&found, arguments.json).as_bytes())?;
    let all = found.iter().flat_map(|(_, findings)| findings);
    let problems = all.filter(|finding| finding.verdict == Verdict::Problem).count();
    match problems {
        0 => Ok(()),
        count => bail!("{count} problem(s)"),
    }
}

async fn examine_all(arguments: &Arguments) -> anyhow::Result<Vec<Chapter>> {
    let config = match config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            let fix = format!("correct {}", arguments.config.display());
            return Ok(vec![("config", vec![Finding::problem(chain(&error), fix)])]);
        }
    };
    let mut found = vec![("config", vec![Finding::ok("the configuration is valid")])];
    let (sql, results, of_sql) = read_sql(&config).await;
    found.push(("sql", of_sql));
    if let SourceConfig::Solace(source) = &config.source {
        let limits = config.batch.max_messages.get();
        let mut findings = broker::examine(source).await;
        let (letters, may_publish) = (&config.dead_letters, arguments.publish);
        findings.push(broker::examine_letters(source, letters, may_publish).await);
        findings.extend(semp::examine(access(arguments, source), source, limits).await);
        found.push(("broker", findings));
    }
    if let Some(sql) = &sql {
        let wanted = Requirements { tables: &sql.tables, results: &results, ods: &sql.ods };
        found.push(("postgres", examine(&config.sink.postgres, &wanted).await?));
    }
    found.push(("rest", endpoints(&config, &results).await));
    found.push(("checkpoints", vec![checkpoints(&config).await]));
    Ok(found)
}

/// Where to ask about the queue: as the command line says, else as the configuration.
fn access<'a>(arguments: &'a Arguments, source: &'a SolaceConfig) -> Option<SempAccess<'a>> {
    let told = arguments.semp.as_ref().map(|url| SempAccess {
        url,
        username: &arguments.semp_username,
        password: &arguments.semp_password,
    });
    told.or_else(|| source.semp.as_ref().map(SempConfig::access))
}

async fn read_sql(config: &Config) -> (Option<Sql>, Vec<Arc<ResultTable>>, Vec<Finding>) {
    let wrong = |errors: Vec<crate::transform::SqlError>| {
        let fix = "correct the file; `tidemark check` shows the line";
        errors.iter().map(|error| Finding::problem(error.to_string(), fix)).collect()
    };
    let sql = match load_sql_with(&config.sql, &config.xml, config.decode.unknown_tables).await {
        Ok(sql) => sql,
        Err(errors) => return (None, Vec::new(), wrong(errors)),
    };
    match sql.plan(&registry(config).await).await {
        Ok(transforms) => {
            let results: Vec<_> = transforms.results().cloned().collect();
            let fine = format!("{} tables and {} transforms", sql.tables.len(), results.len());
            let waiting = transforms.pending().iter();
            let waiting = waiting.map(|waiting| Finding::unknown(waiting.reason.to_string()));
            (Some(sql), results, std::iter::once(Finding::ok(fine)).chain(waiting).collect())
        }
        Err(errors) => (None, Vec::new(), wrong(errors)),
    }
}

/// What events have shown so far. Without a database, files that read what no file declares wait here; why there
/// is none is found later.
async fn registry(config: &Config) -> Vec<SchemaChange> {
    let (sink, pipeline) = (config.sink.postgres.clone(), config.pipeline.as_str());
    match SchemaAdmin::new(sink, pipeline) {
        Ok(mut admin) => admin.schema_changes().await.unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}

async fn endpoints(config: &Config, results: &[Arc<ResultTable>]) -> Vec<Finding> {
    let posted = results.iter().filter(|result| result.channel != Channel::Table);
    let mut paths: Vec<&str> = posted.map(|result| result.target.as_str()).collect();
    paths.sort_unstable();
    paths.dedup();
    match &config.sink.rest {
        Some(api) => rest::examine(api, &paths).await,
        None if paths.is_empty() => vec![Finding::ok("nothing is posted")],
        None => vec![Finding::problem(
            format!("transforms write to rest {}, and there is no API", paths.join(", ")),
            "set base_url in [sink.rest]",
        )],
    }
}

async fn checkpoints(config: &Config) -> Finding {
    let url = &config.checkpoint.url;
    let tried = match Checkpoints::new(&config.checkpoint, &config.pipeline) {
        Ok(checkpoints) => checkpoints.try_out().await,
        Err(error) => Err(error),
    };
    match tried {
        Ok(()) => Finding::ok(format!("checkpoints can be written to {url}")),
        Err(error) => Finding::problem(
            chain(&error),
            format!(
                "let checkpoint.url name a folder or bucket that the processor may write to and that has space; it \
                 is {url}"
            ),
        ),
    }
}

fn shown(found: &[Chapter], json: bool) -> String {
    let mut text = String::new();
    for (part, findings) in found {
        for Finding { verdict, what, fix } in findings {
            if json {
                let line =
                    serde_json::json!({"part": part, "verdict": verdict, "what": what, "fix": fix});
                text += &format!("{line}\n");
                continue;
            }
            let mark = match verdict {
                Verdict::Ok => "ok",
                Verdict::Problem => "PROBLEM",
                Verdict::Unknown => "unknown",
            };
            text += &format!("{part:11}  {mark:7}  {what}\n");
            if let Some(fix) = fix {
                text += &format!("{:11}  {:7}  fix: {fix}\n", "", "");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_shown_with_its_fix() {
        let found = [
            ("broker", vec![Finding::ok("fine"), Finding::unknown("who knows")]),
            ("postgres", vec![Finding::problem("no table", "make it")]),
        ];
        let text = shown(&found, false);
        assert!(text.contains("postgres     PROBLEM  no table\n"), "{text}");
        assert!(text.contains("                      fix: make it\n"), "{text}");
        let lines = shown(&found, true);
        let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        assert_eq!((&last["verdict"], &last["fix"]), (&"problem".into(), &"make it".into()));
    }
}
