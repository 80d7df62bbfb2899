//! Tables that a start has made because no file of `sql/ods` had: they are marked, and make room for a file that comes
//! later, as long as they are empty.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};

use crate::sink::postgres::client::quote;

/// The comment of such a table.
const MARK: &str = "made by Tidemark at a start: no file of sql/ods had made it";
/// What the name of a landing table's view of the current rows adds to the table's.
pub(crate) const CURRENT: &str = "_current";

/// The statement that marks a table, by its quoted name.
pub(crate) fn mark(table: &str) -> String {
    format!("COMMENT ON TABLE {table} IS '{MARK}'")
}

/// Drops those of the marked tables that a file names and that hold no row, with their views of current rows. Belongs
/// into the transaction that runs the file.
///
/// # Errors
/// If another view reads one, or it is in use.
pub(crate) async fn make_room(client: &Client, schema: &str, text: &str) -> Result<(), Error> {
    let marked = "SELECT c.relname::text, (SELECT v.relname::text FROM pg_class v WHERE v.relkind = 'v' \
                  AND v.relnamespace = c.relnamespace AND v.relname = c.relname || $3) \
                  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                  WHERE n.nspname = $1 AND c.relkind = 'r' AND obj_description(c.oid, 'pg_class') = $2";
    let params: [(&(dyn ToSql + Sync), Type); 3] =
        [(&schema, Type::TEXT), (&MARK, Type::TEXT), (&CURRENT, Type::TEXT)];
    for row in client.query_typed(marked, &params).await? {
        let (name, view): (String, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
        if !names(text, &name) {
            continue;
        }
        let table = quote::table(schema, &name);
        client.batch_execute(&format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")).await?;
        let is_empty = format!("SELECT NOT EXISTS (SELECT FROM {table})");
        if !client.query_typed_one(&is_empty, &[]).await?.try_get::<_, bool>(0)? {
            continue;
        }
        if let Some(view) = view {
            client.batch_execute(&format!("DROP VIEW {}", quote::table(schema, &view))).await?;
        }
        client.batch_execute(&format!("DROP TABLE {table}")).await?;
        tracing::info!(
            table = name,
            "dropped an empty table that a start had made: a file makes it"
        );
    }
    Ok(())
}

/// Whether a name is a word of the text.
pub(crate) fn names(text: &str, name: &str) -> bool {
    let is_of_word = |c: char| c.is_alphanumeric() || c == '_';
    let text = text.to_lowercase();
    let name = name.to_lowercase();
    text.match_indices(&name).any(|(at, _)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let after = text.get(at + name.len()..).and_then(|after| after.chars().next());
        !before.is_some_and(is_of_word) && !after.is_some_and(is_of_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_whole_word() {
        let text = "CREATE TABLE \"ods\".CDC_Orders (x int); CREATE TABLE cdc_orders_old (x int)";
        assert!(names(text, "cdc_orders"));
        assert!(!names("CREATE TABLE cdc_orders_old (x int)", "cdc_orders"));
        assert!(!names("CREATE TABLE old_cdc_orders (x int)", "cdc_orders"));
    }
}
