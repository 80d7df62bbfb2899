//! Names and texts as SQL writes them.

/// Quotes an identifier, whatever is in it. The only place where names enter SQL text.
pub(crate) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a text, whatever is in it.
pub(crate) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') {
        format!(" E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// A table's full name, quoted. `table` may name its schema with a dot, else it is in `schema`.
pub(crate) fn table(schema: &str, table: &str) -> String {
    let (schema, table) = split(schema, table);
    format!("{}.{}", ident(schema), ident(table))
}

/// The schema and the bare name of a table; `schema` is the default.
pub(crate) fn split<'a>(schema: &'a str, table: &'a str) -> (&'a str, &'a str) {
    table.split_once('.').unwrap_or((schema, table))
}

/// Names as a quoted, comma separated list.
pub(crate) fn idents<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(ident).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_in_a_name_cannot_end_the_name() {
        assert_eq!(ident(r#"a"; DROP TABLE x; --"#), r#""a""; DROP TABLE x; --""#);
        assert_eq!(ident("Mixed Case"), "\"Mixed Case\"");
    }

    #[test]
    fn a_quote_in_a_text_cannot_end_the_text() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"back\slash"), r" E'back\\slash'");
    }

    #[test]
    fn a_table_may_name_its_own_schema() {
        assert_eq!(table("public", "orders"), "\"public\".\"orders\"");
        assert_eq!(table("public", "ods.orders"), "\"ods\".\"orders\"");
    }
}
