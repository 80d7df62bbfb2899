//! What `tidemark doctor` finds out about the database. Nothing is written.

pub(super) mod compatibility;

mod files;
mod privileges;
mod requirements;
mod side_effects;

pub use self::requirements::Requirements;

use std::sync::Arc;

use tokio_postgres::{Client, Error};

use self::files::OdsFiles;
use self::privileges::{Creates, SchemaRights};
use crate::diagnosis::Finding;
use crate::model::Table;
use crate::resilience::chain;
use crate::sink::SinkError;
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::client::error::classify;
use crate::sink::postgres::client::quote;
use crate::sink::postgres::client::response_deadline::ResponseDeadline;
use crate::sink::postgres::config::PostgresConfig;
use crate::sink::postgres::remedies;
use crate::sink::postgres::schema::{catalog, landing_columns, made_at_start};
use crate::sink::postgres::target::problem::TargetProblem;
use crate::sink::postgres::targets::{TargetSpec, Targets};

/// Connections of one processor: commits, look-ups, the outbox, dead letters twice, old changes, and a check of an edit.
const CONNECTIONS: i64 = 7;
/// Below so much free space, or below a twentieth of the disk, the disk is about full.
const LOW_SPACE: u64 = 1 << 30;

/// Looks at server, rights, tables and keys.
///
/// # Errors
/// If the connection is lost meanwhile; that it can't be made is a finding.
pub async fn examine(
    config: &PostgresConfig,
    wanted: &Requirements<'_>,
) -> Result<Vec<Finding>, SinkError> {
    let mut connection = match Connection::open(config, &ResponseDeadline::new(config)).await {
        Ok(connection) => connection,
        Err(error) => return Ok(vec![Finding::problem(chain(&error), no_connection(&error))]),
    };
    let failed = |error| classify("examining the database", error);
    connection.begin("READ ONLY", "").await.map_err(failed)?;
    let client = &connection.client;
    let mut findings = server(client).await.map_err(failed)?;
    findings.extend(config.warning().map(Finding::unknown));
    let schema = config.schema.as_str();
    let rights = SchemaRights::read(client, schema).await.map_err(failed)?;
    if !rights.exists {
        findings.push(rights.missing_schema());
        return Ok(findings);
    }
    let tables = privileges::tables(client, schema, wanted).await.map_err(failed)?;
    let may_read = rights.may_use && privileges::may_read_files(schema, &tables);
    let files = if may_read {
        OdsFiles::read(client, schema, wanted.ods).await.map_err(failed)?
    } else {
        OdsFiles::unknown()
    };
    let creates = if config.create_tables { Creates::AllTables } else { Creates::OwnTables };
    findings.extend(files.findings.iter().cloned());
    findings.extend(rights.findings(&tables, &files.pending, creates));
    if !rights.may_use {
        findings.push(Finding::unknown("tables, types and keys: the user may not use the schema"));
        return Ok(findings);
    }
    findings.extend(targets(&connection, config, wanted, &files).await?);
    findings.extend(side_effects::side_effects(client, schema, wanted).await.map_err(failed)?);
    findings.extend(indexes(client, schema, wanted.tables).await.map_err(failed)?);
    Ok(findings)
}

fn no_connection(error: &SinkError) -> String {
    match error {
        SinkError::Refused { advice, .. } => (*advice).to_owned(),
        _ => "start PostgreSQL, or correct host and port in [sink.postgres] (inside a container, 127.0.0.1 is \
              the container itself)"
            .to_owned(),
    }
}

/// Version, standby, connections and space.
async fn server(client: &Client) -> Result<Vec<Finding>, Error> {
    let sql = "SELECT current_setting('server_version_num')::int, current_setting('server_version'), \
               pg_is_in_recovery(), current_setting('max_connections')::bigint - \
               current_setting('superuser_reserved_connections')::bigint \
               - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), \
               (SELECT CASE WHEN rolconnlimit >= 0 THEN rolconnlimit - (SELECT count(*) FROM pg_stat_activity \
                WHERE usename = current_user) END FROM pg_roles WHERE rolname = current_user), \
               current_user::text, current_setting('max_connections')::bigint, \
               pg_size_pretty(pg_database_size(current_database()))";
    let row = client.query_one(sql, &[]).await?;
    let (number, version): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
    let mut findings = vec![if number >= 140_000 {
        Finding::ok(format!("connected to PostgreSQL {version}"))
    } else {
        Finding::problem(
            format!("the server is PostgreSQL {version}"),
            "upgrade the server to PostgreSQL 14 or newer",
        )
    }];
    if row.try_get::<_, bool>(2)? {
        findings.push(Finding::problem(
            "the server is a standby, which takes no writes",
            "let host in [sink.postgres] name the primary",
        ));
    }
    let (free, of_role): (i64, Option<i64>) = (row.try_get(3)?, row.try_get(4)?);
    let (user, most): (String, i64) = (row.try_get(5)?, row.try_get(6)?);
    findings.push(connections(free, of_role, &user, most));
    findings.push(space(client, &row.try_get::<_, String>(7)?).await?);
    Ok(findings)
}

/// Of the server and of the role; ours counts among those in use.
fn connections(free: i64, of_role: Option<i64>, user: &str, most: i64) -> Finding {
    let missing = |free: i64| CONNECTIONS - free;
    match of_role {
        Some(left) if left < CONNECTIONS => Finding::problem(
            format!(
                "user {user} may open {left} more connections, and a processor needs {CONNECTIONS}"
            ),
            format!(
                "ALTER ROLE {} CONNECTION LIMIT with at least {} more than now",
                quote::ident(user),
                missing(left)
            ),
        ),
        _ if free < CONNECTIONS => Finding::problem(
            format!("{free} connections are free, and a processor needs {CONNECTIONS}"),
            format!(
                "ALTER SYSTEM SET max_connections = {}; then restart the server",
                most + missing(free)
            ),
        ),
        _ => Finding::ok(format!("{free} connections are free")),
    }
}

/// Only the server's own machine knows its disk.
async fn space(client: &Client, size: &str) -> Result<Finding, Error> {
    let sql = "SELECT CASE WHEN pg_has_role(current_user, 'pg_read_all_settings', 'USAGE') \
               THEN current_setting('data_directory') END";
    let folder: Option<String> = client.query_one(sql, &[]).await?.try_get(0)?;
    let known = folder.filter(|folder| std::path::Path::new(folder).is_dir());
    let known = match known {
        Some(folder) => disk(&folder).await.map(|(free, of)| (folder, free, of)),
        None => None,
    };
    Ok(match known {
        Some((folder, free, of)) => judge_space(&folder, free, of),
        None => Finding::unknown(format!(
            "free space: the database has {size}; look at the server's disk with `df -h` in its data_directory"
        )),
    })
}

/// Free and all bytes of the file system of a folder on this machine.
async fn disk(folder: &str) -> Option<(u64, u64)> {
    let mut df = tokio::process::Command::new("df");
    let output = df.args(["--output=avail,size", "-B1", folder]).output().await.ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut numbers = text.lines().nth(1)?.split_whitespace().map(str::parse::<u64>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn judge_space(folder: &str, free: u64, of: u64) -> Finding {
    let shown = bytesize::ByteSize::b(free);
    if free < LOW_SPACE || free < of / 20 {
        return Finding::problem(
            format!("{shown} are free on the disk of {folder}"),
            format!(
                "free space there, for instance of old landed rows, or enlarge the disk of {folder}"
            ),
        );
    }
    Finding::ok(format!("{shown} are free on the disk of {folder}"))
}

/// As a start checks them, with what to do about each problem.
async fn targets(
    connection: &Connection,
    config: &PostgresConfig,
    wanted: &Requirements<'_>,
    files: &OdsFiles,
) -> Result<Vec<Finding>, SinkError> {
    let spec = TargetSpec { tables: wanted.tables.to_vec(), results: wanted.results.to_vec() };
    let (_, problems) = Targets::check(connection, &config.schema, spec).await?;
    if problems.is_empty() {
        return Ok(vec![Finding::ok("tables, types and keys of all targets fit")]);
    }
    let expected = remedies::ExpectedTargets::new(&config.schema, wanted.tables, wanted.results);
    let finding = |problem: &TargetProblem| {
        if made_at_start::names(&files.text, problem.table()) {
            let what = format!("{problem}: a file of sql/ods that is still to be applied names it");
            return Finding::unknown(what);
        }
        if expected.is_own(problem) || (config.create_tables && expected.is_made_at_start(problem))
        {
            return Finding::ok(format!("{problem}: the next start creates it"));
        }
        Finding::problem(problem.to_string(), expected.fix(problem))
    };
    Ok(problems.iter().map(finding).collect())
}

/// Look-ups go by key, by the column of a reference, and by time if old rows leave; without an index each reads the whole table.
async fn indexes(
    client: &Client,
    schema: &str,
    tables: &[Arc<Table>],
) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for table in tables {
        let Some(name) = landing_columns::target_name(table) else { continue };
        let landed = quote::table(schema, name);
        let exists = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&landed]).await?;
        if !exists.try_get::<_, bool>(0)? {
            continue;
        }
        for (columns, list) in landing_columns::indexed(table) {
            if !catalog::has_index(client, &landed, &columns).await? {
                findings.push(Finding::problem(
                    format!("{name} has no index on ({})", columns.join(", ")),
                    format!("CREATE INDEX ON {landed} ({list});"),
                ));
            }
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::Verdict;

    #[test]
    fn a_disk_is_low_by_bytes_or_by_share() {
        let verdict = |free, of| judge_space("/data", free, of).verdict;
        assert_eq!(verdict(10 << 30, 100 << 30), Verdict::Ok);
        assert_eq!(verdict(4 << 30, 100 << 30), Verdict::Problem);
        assert_eq!(verdict(1 << 29, 1 << 30), Verdict::Problem);
        let fix = judge_space("/data", 0, 1).fix.unwrap();
        assert!(fix.contains("enlarge the disk of /data"), "{fix}");
    }

    #[test]
    fn connections_are_counted_for_server_and_role() {
        assert_eq!(connections(50, None, "u", 100).verdict, Verdict::Ok);
        let of_role = connections(50, Some(2), "u", 100);
        assert!(of_role.fix.unwrap().starts_with("ALTER ROLE \"u\" CONNECTION LIMIT"));
        let of_server = connections(1, Some(90), "u", 100).fix.unwrap();
        assert_eq!(of_server, "ALTER SYSTEM SET max_connections = 106; then restart the server");
    }

    #[test]
    fn without_a_connection_the_fix_depends_on_who_refuses() {
        let away = SinkError::Unavailable { doing: String::new(), source: "x".into() };
        assert!(no_connection(&away).contains("start PostgreSQL"));
    }
}
