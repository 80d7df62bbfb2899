//! The comment lines at the top of a transform that say where its rows go.

use super::sql_file::{SqlError, SqlFile};
use crate::model::{Payload, Sends};

const TARGETS: &str = "write `-- writes: postgres TABLE` or `-- writes: rest /PATH`";
const PAYLOADS: &str = "write `-- payload: row`, `-- payload: event ENTITY` or `-- payload: notification TYPE PRIORITY`";

/// What a transform's header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// The Postgres table, or the path.
    pub(crate) target: String,
    pub(crate) way: Way,
    /// Names of the key columns; empty for appended rows.
    pub(crate) key: Vec<String>,
    /// Tables that are looked up when a row changes.
    pub(crate) lookup: Lookups,
}

/// The tables of a `-- lookup:` line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lookups {
    pub(crate) tables: Vec<String>,
    /// Where the line is.
    pub(crate) at: Option<(u64, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    Postgres,
    Rest { sends: Sends, payload: Payload },
}

/// Reads `-- writes:`, `-- key: COLUMN, COLUMN`, `-- lookup: TABLE, TABLE`, and for a path `-- sends:` and `-- payload:`.
///
/// # Errors
/// If `writes` is missing, or a line is not understood.
pub(crate) fn parse_header(file: &SqlFile) -> Result<Header, SqlError> {
    let (mut target, mut key, mut lookup) = (None, Vec::new(), Lookups::default());
    let (mut sends, mut payload) = (None, None);
    let comments = file.text.lines().enumerate().take_while(|(_, line)| line.starts_with("--"));
    for (at, line) in comments {
        let at = (at as u64 + 1, 1);
        let Some((label, value)) = line.trim_start_matches(['-', ' ']).split_once(':') else {
            continue;
        };
        let refuse = |what: &str, advice: &str| {
            file.error(Some(at), format!("'{}' is not a {what}; {advice}", value.trim()))
        };
        let words: Vec<&str> = value.split_whitespace().collect();
        match label.trim() {
            "writes" => match words.as_slice() {
                ["postgres", table] => target = Some((*table, false)),
                ["rest", path] if is_path(path) => target = Some((*path, true)),
                _ => return Err(refuse("target", TARGETS)),
            },
            "key" => key = names(value),
            "lookup" => lookup = Lookups { tables: names(value), at: Some(at) },
            "sends" => match parse_sends(&words) {
                Some(parsed) => sends = Some((at, parsed)),
                None => return Err(refuse("rule", "write `changes`, `new` or `once`")),
            },
            "payload" => match parse_payload(&words) {
                Some(parsed) => payload = Some((at, parsed)),
                None => return Err(refuse("payload", PAYLOADS)),
            },
            // Any other comment is prose.
            _ => {}
        }
    }
    let Some((target, is_rest)) = target else {
        let message = format!("has no `-- writes:` line: where do its rows go? {TARGETS}");
        return Err(file.error(Some((1, 1)), message));
    };
    let stray = [sends.as_ref().map(|s| s.0), payload.as_ref().map(|p| p.0)];
    if let (false, Some(at)) = (is_rest, stray.into_iter().flatten().next()) {
        return Err(file.error(Some(at), "is for `-- writes: rest /PATH` alone"));
    }
    let sends = sends.map_or(Sends::Changes, |(_, sends)| sends);
    let payload = payload.map_or(Payload::Row, |(_, payload)| payload);
    let way = if is_rest { Way::Rest { sends, payload } } else { Way::Postgres };
    Ok(Header { target: target.to_owned(), way, key, lookup })
}

fn names(list: &str) -> Vec<String> {
    list.split(',').map(|name| name.trim().to_owned()).collect()
}

/// An absolute path of a URL that needs no escapes.
fn is_path(path: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
    path.starts_with('/')
        && !path.contains("//")
        && !path.contains("..")
        && path.chars().all(is_plain)
}

fn parse_sends(words: &[&str]) -> Option<Sends> {
    match words {
        ["changes"] => Some(Sends::Changes),
        ["new"] => Some(Sends::New),
        ["once"] => Some(Sends::Once),
        _ => None,
    }
}

fn parse_payload(words: &[&str]) -> Option<Payload> {
    match words {
        ["row"] => Some(Payload::Row),
        ["event", entity] => Some(Payload::Event { entity: (*entity).to_owned() }),
        ["notification", kind, priority] => Some(Payload::Notification {
            kind: (*kind).to_owned(),
            priority: (*priority).to_owned(),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Header, SqlError> {
        parse_header(&SqlFile { path: "t.sql".into(), name: "t".into(), text: text.into() })
    }

    #[test]
    fn target_and_key_are_read_among_prose() {
        let header = parse("-- Note: prose.\n-- writes: postgres a\n-- key: x, y\nSELECT 1");
        let key = vec!["x".into(), "y".into()];
        let lookup = Lookups::default();
        assert_eq!(header, Ok(Header { target: "a".into(), way: Way::Postgres, key, lookup }));
    }

    #[test]
    fn lookup_tables_are_read_with_their_line() {
        let header = parse("-- writes: postgres a\n-- lookup: x, y\nSELECT 1");
        let expected = Lookups { tables: vec!["x".into(), "y".into()], at: Some((2, 1)) };
        assert_eq!(header.map(|header| header.lookup), Ok(expected));
    }

    #[test]
    fn a_path_says_what_is_sent_and_how() {
        let defaults = Way::Rest { sends: Sends::Changes, payload: Payload::Row };
        let header = parse("-- writes: rest /api/v1/x\nSELECT 1").unwrap();
        assert_eq!((header.target.as_str(), header.way), ("/api/v1/x", defaults));
        let header = parse(
            "-- writes: rest /n\n-- key: id\n-- sends: once\n-- payload: notification BIG HIGH\nSELECT 1",
        );
        let payload = Payload::Notification { kind: "BIG".into(), priority: "HIGH".into() };
        assert_eq!(header.unwrap().way, Way::Rest { sends: Sends::Once, payload });
        let header = parse("-- payload: event ORDER\n-- sends: new\n-- writes: rest /e\nSELECT 1");
        let payload = Payload::Event { entity: "ORDER".into() };
        assert_eq!(header.unwrap().way, Way::Rest { sends: Sends::New, payload });
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_line() {
        for (text, line, part) in [
            ("--\n-- writes: kafka a\nSELECT 1", 2, "kafka a"),
            ("-- writes: rest api\nSELECT 1", 1, "rest api"),
            ("-- writes: rest /a/../b\nSELECT 1", 1, "/a/../b"),
            ("-- writes: rest /a\n-- sends: twice\nSELECT 1", 2, "twice"),
            ("-- writes: rest /a\n-- payload: event\nSELECT 1", 2, "event ENTITY"),
            ("-- writes: postgres a\n-- sends: new\nSELECT 1", 2, "rest /PATH"),
            ("SELECT 1", 1, "-- writes:"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.at, Some((line, 1)), "{text}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
