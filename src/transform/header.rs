//! The comment lines at the top of a transform that say where its rows go.

use super::sql_file::{SqlError, SqlFile};

/// What a transform's header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// The Postgres table.
    pub(super) target: String,
    /// Names of the key columns; empty for appended rows.
    pub(super) key: Vec<String>,
    /// Tables that are looked up when a row changes.
    pub(super) lookup: Lookups,
}

/// The tables of a `-- lookup:` line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lookups {
    pub(super) tables: Vec<String>,
    /// Where the line is.
    pub(super) at: Option<(u64, u64)>,
}

/// Reads `-- writes: postgres TABLE`, `-- key: COLUMN, COLUMN` and `-- lookup: TABLE, TABLE`.
///
/// # Errors
/// If `writes` is missing, or a line is not understood.
pub(super) fn parse_header(file: &SqlFile) -> Result<Header, SqlError> {
    let mut target = None;
    let (mut key, mut lookup) = (Vec::new(), Lookups::default());
    let comments = file.text.lines().enumerate().take_while(|(_, line)| line.starts_with("--"));
    for (at, line) in comments {
        let at = Some((at as u64 + 1, 1));
        let Some((label, value)) = line.trim_start_matches(['-', ' ']).split_once(':') else {
            continue;
        };
        match label.trim() {
            "writes" => match value.split_whitespace().collect::<Vec<_>>().as_slice() {
                ["postgres", table] => target = Some((*table).to_owned()),
                _ => {
                    let message = format!(
                        "'{}' is not a target; write `-- writes: postgres TABLE`",
                        value.trim()
                    );
                    return Err(file.error(at, message));
                }
            },
            "key" => key = names(value),
            "lookup" => lookup = Lookups { tables: names(value), at },
            // Any other comment is prose.
            _ => {}
        }
    }
    let target = target.ok_or_else(|| {
        file.error(Some((1, 1)), "has no `-- writes: postgres TABLE` line: where do its rows go?")
    })?;
    Ok(Header { target, key, lookup })
}

fn names(list: &str) -> Vec<String> {
    list.split(',').map(|name| name.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> SqlFile {
        SqlFile { path: "t.sql".into(), name: "t".into(), text: text.into() }
    }

    #[test]
    fn target_and_key_are_read_among_prose() {
        let header =
            parse_header(&file("-- Note: prose.\n-- writes: postgres a\n-- key: x, y\nSELECT 1"));
        let key = vec!["x".into(), "y".into()];
        let expected = Header { target: "a".into(), key, lookup: Lookups::default() };
        assert_eq!(header, Ok(expected));
    }

    #[test]
    fn lookup_tables_are_read_with_their_line() {
        let header = parse_header(&file("-- writes: postgres a\n-- lookup: x, y\nSELECT 1"));
        let expected = Lookups { tables: vec!["x".into(), "y".into()], at: Some((2, 1)) };
        assert_eq!(header.map(|header| header.lookup), Ok(expected));
    }

    #[test]
    fn an_unknown_target_is_refused_with_its_line() {
        let error = parse_header(&file("--\n-- writes: kafka a\nSELECT 1")).unwrap_err();
        assert_eq!(error.at, Some((2, 1)));
        assert!(error.to_string().contains("kafka a"), "{error}");
    }

    #[test]
    fn a_missing_target_is_refused() {
        assert!(parse_header(&file("SELECT 1")).is_err());
    }
}
