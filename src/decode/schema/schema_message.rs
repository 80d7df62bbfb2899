//! Schema-change messages: what the source itself says about the columns of its tables.
//!
//! A rename is one only if a message says so: a field that appears while another is missing may be anything.
//!
//! Source: "Schema change topic" of the Debezium connector for Oracle.

use std::borrow::Cow;

use serde::Deserialize;

use crate::model::{SeenType, SourceTable, SureType};

/// A column of a table.
#[derive(Debug, PartialEq)]
pub(in crate::decode) struct AnnouncedColumn {
    pub(in crate::decode) source: SourceTable,
    pub(in crate::decode) column: String,
    pub(in crate::decode) seen: SeenType,
}

#[derive(Debug, PartialEq)]
pub(in crate::decode) struct RenamedColumn {
    pub(in crate::decode) source: SourceTable,
    pub(in crate::decode) from: String,
    pub(in crate::decode) to: String,
}

#[derive(Deserialize)]
struct TableChange {
    id: Option<String>,
    table: Option<TableStructure>,
}

#[derive(Deserialize)]
struct TableStructure {
    #[serde(default)]
    columns: Vec<ColumnDescription>,
    #[serde(default, rename = "primaryKeyColumnNames")]
    key: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ColumnDescription {
    name: String,
    type_name: Option<String>,
    length: Option<i64>,
    scale: Option<i64>,
}

/// All columns of the tables that a message is about; none if it is in no form that is known.
pub(in crate::decode) fn columns(table_changes: &str) -> Vec<AnnouncedColumn> {
    let changes: Vec<TableChange> = serde_json::from_str(table_changes).unwrap_or_default();
    let columns = changes.into_iter().filter_map(|change| {
        let source = source_table(&tokens(&change.id?), "")?;
        let announced = move |column: ColumnDescription| AnnouncedColumn {
            source: source.clone(),
            seen: seen(&column),
            column: column.name,
        };
        Some(change.table?.columns.into_iter().map(announced))
    });
    columns.flatten().collect()
}

/// The keys of these tables; empty of one that has none.
pub(in crate::decode) fn keys(table_changes: &str) -> Vec<(SourceTable, Vec<String>)> {
    let changes: Vec<TableChange> = serde_json::from_str(table_changes).unwrap_or_default();
    let keys = changes.into_iter().filter_map(|change| {
        let source = source_table(&tokens(&change.id?), "")?;
        Some((source, change.table?.key?))
    });
    keys.collect()
}

/// The type whose values look alike in all modes of the connector; of others the first event tells.
fn seen(column: &ColumnDescription) -> SeenType {
    let name = column.type_name.as_deref().unwrap_or_default().to_uppercase();
    match (name.as_str(), column.length, column.scale) {
        ("NUMBER", Some(1..=18), Some(0)) => SeenType::Sure(SureType::Bigint),
        ("CHAR" | "NCHAR" | "VARCHAR2" | "NVARCHAR2" | "CLOB" | "NCLOB", _, _) => {
            SeenType::Sure(SureType::Varchar)
        }
        _ => SeenType::Null,
    }
}

/// What `ALTER TABLE ... RENAME COLUMN a TO b` renames; `schema` is that of a table that is written without.
pub(in crate::decode) fn renamed(ddl: &str, schema: &str) -> Option<RenamedColumn> {
    let tokens = tokens(ddl);
    let is = |at: usize, word: &str| tokens.get(at).is_some_and(|token| token.is(word));
    if !(is(0, "ALTER") && is(1, "TABLE")) {
        return None;
    }
    let at = (2..tokens.len()).find(|at| is(*at, "RENAME") && is(at + 1, "COLUMN"))?;
    let source = source_table(&tokens[2..at], schema)?;
    let name = |at: usize| tokens.get(at).and_then(DdlToken::name);
    if !is(at + 3, "TO") {
        return None;
    }
    Some(RenamedColumn { source, from: name(at + 2)?, to: name(at + 4)? })
}

/// The last two names, as in `"DB"."SCHEMA"."TABLE"`.
fn source_table(tokens: &[DdlToken<'_>], schema: &str) -> Option<SourceTable> {
    let names: Vec<String> = tokens.iter().filter_map(DdlToken::name).collect();
    match names.as_slice() {
        [table] if !schema.is_empty() => {
            Some(SourceTable { schema: schema.to_owned(), table: table.clone() })
        }
        [.., schema, table] => Some(SourceTable { schema: schema.clone(), table: table.clone() }),
        _ => None,
    }
}

/// A piece of DDL.
#[derive(Debug, Clone, PartialEq)]
enum DdlToken<'a> {
    Word(&'a str),
    Quoted(Cow<'a, str>),
    Sign,
}

impl DdlToken<'_> {
    fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(token) if token.eq_ignore_ascii_case(word))
    }

    /// Oracle's own spelling: in upper case unless it was quoted.
    fn name(&self) -> Option<String> {
        match self {
            Self::Word(word) => Some(word.to_uppercase()),
            Self::Quoted(name) => Some(name.clone().into_owned()),
            Self::Sign => None,
        }
    }
}

fn tokens(text: &str) -> Vec<DdlToken<'_>> {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '#');
    let (mut tokens, mut rest) = (Vec::new(), text.trim_start());
    while let Some(first) = rest.chars().next() {
        let quoted = rest.strip_prefix('"').and_then(|inner| Some((inner, inner.find('"')?)));
        let length = match quoted {
            Some((inner, end)) => {
                tokens.push(DdlToken::Quoted(Cow::Borrowed(&inner[..end])));
                end + 2
            }
            None if is_word(first) => {
                let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                tokens.push(DdlToken::Word(&rest[..end]));
                end
            }
            None => {
                tokens.push(DdlToken::Sign);
                first.len_utf8()
            }
        };
        rest = rest[length..].trim_start();
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(schema: &str, table: &str) -> SourceTable {
        SourceTable { schema: schema.to_owned(), table: table.to_owned() }
    }

    #[test]
    fn a_rename_is_what_the_ddl_says_and_nothing_else() {
        let of = |ddl: &str| renamed(ddl, "SALES").map(|r| (r.source, r.from, r.to));
        let found = |schema, name, from: &str, to: &str| {
            Some((table(schema, name), from.to_owned(), to.to_owned()))
        };
        for (ddl, expected) in [
            (
                "ALTER TABLE SALES.CUSTOMERS RENAME COLUMN TIER TO LEVEL",
                found("SALES", "CUSTOMERS", "TIER", "LEVEL"),
            ),
            (
                "alter table customers rename column tier to \"Level\";",
                found("SALES", "CUSTOMERS", "TIER", "Level"),
            ),
            (
                " ALTER  TABLE \"ORCL\".\"my shop\".\"Rename\" RENAME COLUMN \"a b\" TO C$1#",
                found("my shop", "Rename", "a b", "C$1#"),
            ),
            ("ALTER TABLE SALES.CUSTOMERS RENAME TO CLIENTS", None),
            ("ALTER TABLE SALES.CUSTOMERS ADD (TIER VARCHAR2(9))", None),
            ("COMMENT ON TABLE T IS 'ALTER TABLE T RENAME COLUMN A TO B'", None),
            ("ALTER TABLE T RENAME COLUMN A TO", None),
            ("ALTER TABLE RENAME COLUMN A TO B", None),
            ("ALTER TABLE \"T", None),
            ("", None),
        ] {
            assert_eq!(of(ddl), expected, "{ddl}");
        }
        assert_eq!(renamed("ALTER TABLE T RENAME COLUMN A TO B", ""), None);
    }

    #[test]
    fn a_key_is_known_of_a_table_that_names_its_columns() {
        let changes = r#"[
            {"id":"\"O\".\"S\".\"A\"","table":{"columns":[],"primaryKeyColumnNames":["X","Y"]}},
            {"id":"\"O\".\"S\".\"B\"","table":{"columns":[],"primaryKeyColumnNames":[]}},
            {"id":"\"O\".\"S\".\"C\"","table":{"columns":[]}},
            {"id":"\"O\".\"S\".\"D\"","table":null}]"#;
        let key = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(
            keys(changes),
            [(table("S", "A"), key(&["X", "Y"])), (table("S", "B"), key(&[]))]
        );
        assert_eq!(keys("null"), []);
    }

    #[test]
    fn columns_have_a_type_where_all_modes_write_it_alike() {
        let changes = r#"[{"type":"ALTER","id":"\"ORCL\".\"SALES\".\"T\"","table":{"columns":[
            {"name":"A","typeName":"NUMBER","length":10,"scale":0},
            {"name":"B","typeName":"NUMBER","length":10,"scale":2},
            {"name":"C","typeName":"NUMBER","length":38,"scale":0},
            {"name":"D","typeName":"NUMBER","length":0,"scale":null},
            {"name":"E","typeName":"VARCHAR2","length":20},
            {"name":"f","typeName":"TIMESTAMP(6)","length":6}
        ]}},{"type":"DROP","id":"\"ORCL\".\"SALES\".\"U\"","table":null}]"#;
        let found = columns(changes);
        let seen: Vec<(&str, String)> =
            found.iter().map(|it| (it.column.as_str(), it.seen.to_string())).collect();
        let expected = [
            ("A", "int8"),
            ("B", "null"),
            ("C", "null"),
            ("D", "null"),
            ("E", "varchar"),
            ("f", "null"),
        ];
        assert_eq!(seen, expected.map(|(name, seen)| (name, seen.to_owned())));
        assert!(found.iter().all(|it| it.source == table("SALES", "T")));
        for other in ["null", "{}", "[{\"id\":\"T\",\"table\":{}}]", "[1]"] {
            assert_eq!(columns(other), [], "{other}");
        }
    }
}
