//! What becomes of the files of `sql/ods`.

use std::collections::HashMap;

use tokio_postgres::{Client, Error};

use crate::diagnosis::Finding;
use crate::sink::postgres::client::quote;
use crate::sink::postgres::schema::migrations::has_statement;
use crate::sink::postgres::schema::system_tables::MIGRATIONS;

/// The files, as far as they are not applied, and what is to be said of all of them.
#[derive(Default)]
pub(super) struct OdsFiles {
    pub(super) pending: Vec<String>,
    /// Of the pending ones.
    pub(super) text: String,
    pub(super) findings: Vec<Finding>,
}

impl OdsFiles {
    pub(super) async fn read(
        client: &Client,
        schema: &str,
        ods: &[(String, String)],
    ) -> Result<Self, Error> {
        let table = quote::table(schema, MIGRATIONS);
        let exists = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table]).await?;
        let mut applied: HashMap<String, String> = HashMap::new();
        if exists.try_get(0)? {
            let sql = format!("SELECT file, checksum FROM {table}");
            for row in client.query(&sql, &[]).await? {
                applied.insert(row.try_get(0)?, row.try_get(1)?);
            }
        }
        let mut files = Self::default();
        let mut is_applied = 0;
        for (file, text) in ods {
            if !has_statement(text) {
                let empty = format!("sql/ods/{file}.sql has no statement: it is not applied");
                files.findings.push(Finding::ok(empty));
                continue;
            }
            let checksum = "SELECT encode(sha256(convert_to($1, 'UTF8')), 'hex')";
            let checksum: String = client.query_one(checksum, &[text]).await?.try_get(0)?;
            match applied.get(file) {
                None => {
                    files.pending.push(file.clone());
                    files.text.push_str(text);
                    files.text.push('\n');
                }
                Some(known) if *known == checksum => is_applied += 1,
                Some(_) => files.findings.push(changed(file)),
            }
        }
        files.findings.push(match files.pending.as_slice() {
            [] => Finding::ok(format!("{is_applied} files of sql/ods are applied")),
            pending => Finding::ok(format!(
                "the next start, or `tidemark apply`, applies {} file(s) of sql/ods: {}",
                pending.len(),
                pending.join(", ")
            )),
        });
        Ok(files)
    }

    /// Where the list of applied files may not be read.
    pub(super) fn unknown() -> Self {
        let what = "files of sql/ods: the user may not see which of them are applied";
        Self { findings: vec![Finding::unknown(what)], ..Self::default() }
    }
}

fn changed(file: &str) -> Finding {
    Finding::problem(
        format!("sql/ods/{file}.sql was applied and has changed since"),
        format!("restore the text of sql/ods/{file}.sql, and put the change into a new file"),
    )
}
