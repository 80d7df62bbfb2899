//! What the codes of Postgres mean for the pipeline: the one table of it, and the same in
//! `docs/FAILURES.md`, which a test compares.
//!
//! Source: PostgreSQL documentation, appendix A "PostgreSQL Error Codes".

use crate::sink::ATTEMPTS_AWAY;

/// What is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorClass {
    /// The server is away, coming up, or a standby.
    Away,
    /// The server works, and this transaction did not.
    Interrupted,
    /// Somebody has to repair the database, the rights or the disk.
    Environment,
    /// A row: its values, or a rule of its table.
    Row,
}

/// Codes that mean the same.
pub(crate) struct Meaning {
    /// Whole codes, or the two letters of a class. The longest match counts.
    codes: &'static [&'static str],
    pub(crate) fault: ErrorClass,
    /// Failures in a row after which the target is left alone for a while; `None`: as configured.
    pub(crate) attempts: Option<u32>,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for readers; a test compares it with the page")
    )]
    what: &'static str,
    /// What an operator can do; empty where there is nothing to do.
    pub(crate) advice: &'static str,
}

const ATTEMPTS_TIMED_OUT: u32 = 3;

const TABLE: &[Meaning] = &[
    Meaning {
        codes: &["08", "57P01", "57P02", "57P03", "57P05", "25P03", "25006", "53300"],
        fault: ErrorClass::Away,
        attempts: Some(ATTEMPTS_AWAY),
        what: "connection lost, shutdown, start, failover to a standby, too many connections",
        advice: "",
    },
    Meaning {
        codes: &["57014", "55P03"],
        fault: ErrorClass::Interrupted,
        attempts: Some(ATTEMPTS_TIMED_OUT),
        what: "statement time-out, lock time-out",
        advice: "see in pg_stat_activity and pg_locks who holds the lock, or raise the time-out",
    },
    Meaning {
        codes: &["40"],
        fault: ErrorClass::Interrupted,
        attempts: None,
        what: "serialization failure, deadlock",
        advice: "",
    },
    Meaning {
        codes: &["53", "58"],
        fault: ErrorClass::Interrupted,
        attempts: None,
        what: "out of memory or other resources, system error",
        advice: "look at the server's log and its machine",
    },
    Meaning {
        codes: &["53100", "58030"],
        fault: ErrorClass::Environment,
        attempts: Some(1),
        what: "disk full, I/O error",
        advice: "give the server's disk space; writing goes on by itself",
    },
    Meaning {
        codes: &["21000", "22", "23", "44", "54000", "P0"],
        fault: ErrorClass::Row,
        attempts: None,
        what: "two rows of one key for the target; value out of range, too long, invalid text, NUL; NOT NULL, CHECK, unique, foreign key, no \
               partition; too large for an index; an exception of a trigger",
        advice: "correct the column, the rule or the event, then replay it (tidemark dlq replay)",
    },
    Meaning {
        codes: &["28"],
        fault: ErrorClass::Environment,
        attempts: Some(1),
        what: "login refused",
        advice: "check user and password of the sink and the server's pg_hba.conf",
    },
    Meaning {
        codes: &["3D", "57P04"],
        fault: ErrorClass::Environment,
        attempts: Some(1),
        what: "no such database",
        advice: "check the database's name, or create it",
    },
    Meaning {
        codes: &["3F"],
        fault: ErrorClass::Environment,
        attempts: Some(1),
        what: "no such schema",
        advice: "create the schema, or correct the name",
    },
    Meaning {
        codes: &["42501"],
        fault: ErrorClass::Environment,
        attempts: Some(1),
        what: "permission denied",
        advice: "grant the role its rights",
    },
    Meaning {
        codes: &["42"],
        fault: ErrorClass::Environment,
        attempts: Some(1),
        what: "a table, column or type is missing or another",
        advice: "restore it, or create what is missing in a file of sql/ods",
    },
    Meaning {
        codes: &["26", "42P05"],
        fault: ErrorClass::Environment,
        attempts: Some(1),
        what: "a prepared statement that is not there, or there twice",
        advice: "a connection pooler in transaction mode is in between: say pooler = \"transaction\", or connect to the \
                 server itself",
    },
];

const OTHER: Meaning = Meaning {
    codes: &["any other"],
    fault: ErrorClass::Environment,
    attempts: Some(1),
    what: "internal errors, damaged data, unsupported features",
    advice: "nothing was written; look at the server's log",
};

/// What a code means.
pub(crate) fn meaning(code: &str) -> &'static Meaning {
    let length = |meaning: &Meaning| {
        let matching = meaning.codes.iter().filter(|known| code.starts_with(**known));
        matching.map(|known| known.len()).max()
    };
    let known = TABLE.iter().filter_map(|meaning| Some((length(meaning)?, meaning)));
    known.max_by_key(|(length, _)| *length).map_or(&OTHER, |(_, meaning)| meaning)
}

/// A regular expression of Postgres for the codes that are about a row.
pub(crate) fn row_pattern() -> String {
    let row = TABLE.iter().filter(|meaning| meaning.fault == ErrorClass::Row);
    let codes: Vec<&str> = row.flat_map(|meaning| meaning.codes).copied().collect();
    format!("^({})", codes.join("|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_pattern_of_row_faults_matches_is_one() {
        assert_eq!(row_pattern(), "^(21000|22|23|44|54000|P0)");
        for meaning in TABLE.iter().filter(|meaning| meaning.fault != ErrorClass::Row) {
            let is_row = |code: &&str| {
                ["21000", "22", "23", "44", "54000", "P0"].iter().any(|row| code.starts_with(row))
            };
            assert!(
                !meaning.codes.iter().any(is_row),
                "{:?} needs more than a prefix",
                meaning.codes
            );
        }
    }

    #[test]
    fn the_longest_match_counts() {
        let cases = [
            ("57P01", ErrorClass::Away),
            ("57P04", ErrorClass::Environment),
            ("57014", ErrorClass::Interrupted),
            ("40001", ErrorClass::Interrupted),
            ("40P01", ErrorClass::Interrupted),
            ("53200", ErrorClass::Interrupted),
            ("53100", ErrorClass::Environment),
            ("53300", ErrorClass::Away),
            ("21000", ErrorClass::Row),
            ("22001", ErrorClass::Row),
            ("22003", ErrorClass::Row),
            ("23505", ErrorClass::Row),
            ("P0001", ErrorClass::Row),
            ("54000", ErrorClass::Row),
            ("54001", ErrorClass::Environment),
            ("42501", ErrorClass::Environment),
            ("42P01", ErrorClass::Environment),
            ("28P01", ErrorClass::Environment),
            ("XX001", ErrorClass::Environment),
        ];
        for (code, fault) in cases {
            assert_eq!(meaning(code).fault, fault, "{code}");
        }
        assert_eq!(meaning("55P03").attempts, Some(3));
        assert_eq!(meaning("40001").attempts, None);
        assert!(meaning("42P05").advice.contains("pooler"));
    }

    /// A line of the table in `docs/FAILURES.md`.
    fn documented(meaning: &Meaning) -> String {
        let attempts = meaning.attempts.map_or("breaker_failures".to_owned(), |n| n.to_string());
        let does = match meaning.fault {
            ErrorClass::Away | ErrorClass::Interrupted => {
                format!("tried again; the breaker opens after {attempts} in a row")
            }
            ErrorClass::Environment => "the flow stops; the breaker opens at once".to_owned(),
            ErrorClass::Row => "the row is found and becomes a dead letter".to_owned(),
        };
        format!("| {} | {} | {does} | {} |", meaning.codes.join(", "), meaning.what, meaning.advice)
    }

    #[test]
    fn the_documentation_has_the_same_table() {
        let page = include_str!("../../../../docs/FAILURES.md");
        for meaning in TABLE.iter().chain([&OTHER]) {
            let line = documented(meaning);
            assert!(page.lines().any(|text| text == line), "docs/FAILURES.md lacks:\n{line}");
        }
    }
}
