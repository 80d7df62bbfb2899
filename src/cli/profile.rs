//! `tidemark profile`: how each column of a table is decoded, and from which evidence.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::decode::{Decoded, Decoder, DecoderSetup};
use crate::model::{Generations, Message, Offset, Receipt};
use crate::transform::{parse_tables, read_folder};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The table, as its file under sql/tables names it.
    table: String,
    /// The folder with tables/, transforms/ and ods/.
    #[arg(long, default_value = "sql")]
    sql: PathBuf,
    /// Payloads of events, one a line: their schema sections are evidence, and they are decoded.
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
}

/// So many reasons of dead letters are shown.
const SHOWN: usize = 5;

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let text = profile(arguments)?;
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

fn profile(arguments: &Arguments) -> anyhow::Result<String> {
    let problems = |errors: Vec<crate::transform::SqlError>| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{}", lines.join("\n"))
    };
    let files =
        read_folder(&arguments.sql.join("tables")).map_err(|error| problems(vec![error]))?;
    let tables = parse_tables(&files).map_err(problems)?;
    let mut decoder = Decoder::new(DecoderSetup { tables, ..DecoderSetup::default() });
    let decoded = arguments.events.as_deref().map(|path| decode(&mut decoder, path)).transpose()?;
    let Some(columns) = decoder.profile(&arguments.table) else {
        bail!("table {} is not declared under {}", arguments.table, arguments.sql.display());
    };
    let width = columns.iter().map(|column| column.column.len()).max().unwrap_or(0);
    let mut text = String::new();
    for column in columns {
        text += &format!(
            "{:width$}  {:14}  {:18}  {}\n",
            column.column,
            column.data_type.to_string(),
            column.evidence.as_str(),
            column.reading,
        );
    }
    if let Some(decoded) = decoded {
        text += &outcome(&arguments.table, &decoded);
    }
    Ok(text)
}

fn decode(decoder: &mut Decoder, path: &Path) -> anyhow::Result<Decoded> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{} can't be read", path.display()))?;
    let message = |(at, line): (usize, &str)| Message {
        offset: Offset::new(1, at as u64 + 1),
        receipt: Receipt { flow: 1, id: at as u64 + 1 },
        topic: String::new(),
        payload: line.as_bytes().to_vec().into(),
        redelivered: false,
        properties: Vec::new(),
    };
    let messages: Vec<Message> = text.lines().enumerate().map(message).collect();
    Ok(decoder.decode(&messages, &Generations::of_spool(1))?)
}

fn outcome(table: &str, decoded: &Decoded) -> String {
    let of_table = decoded.changes.iter().filter(|changes| changes.table.name == table);
    let rows: usize = of_table.map(|changes| changes.len()).sum();
    let letters = &decoded.dead_letters;
    let mut text = format!("\n{rows} rows of {table} decoded, {} dead letters\n", letters.len());
    for letter in letters.iter().take(SHOWN) {
        let (line, kind) = (letter.offset.id, letter.error_type.as_str());
        text += &format!("  line {line}: {kind}: {}\n", letter.message);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(table: &str, events: Option<&str>) -> anyhow::Result<String> {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("tables"))?;
        let file = "CREATE TABLE t (id BIGINT PRIMARY KEY, amount DECIMAL(9,2), at TIMESTAMP, photo BYTEA) \
                    WITH (source = 'S.T', encodings = 'photo hex')";
        std::fs::write(folder.path().join("tables/t.sql"), file)?;
        let path = folder.path().join("events.ndjson");
        std::fs::write(&path, events.unwrap_or_default())?;
        let sql = folder.path().to_owned();
        profile(&Arguments { table: table.to_owned(), sql, events: events.map(|_| path) })
    }

    fn line<'a>(text: &'a str, column: &str) -> &'a str {
        text.lines().find(|line| line.starts_with(column)).unwrap()
    }

    #[test]
    fn evidence_is_the_declaration_until_an_event_brings_its_schema() {
        let before = shown("t", None).unwrap();
        assert!(line(&before, "photo").contains("option encodings"), "{before}");
        assert!(line(&before, "photo").ends_with("hexadecimal"), "{before}");
        assert!(line(&before, "amount").contains("form of each value"), "{before}");
        let field = |name: &str, rest: &str| format!(r#"{{"field":"{name}","type":{rest}}}"#);
        let fields = [
            field("ID", r#""int64""#),
            field(
                "AMOUNT",
                r#""bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"2"}"#,
            ),
            field("AT", r#""int64","name":"io.debezium.time.MicroTimestamp""#),
        ];
        let fields = fields.join(",");
        let event = format!(
            r#"{{"schema":{{"type":"struct","fields":[{{"field":"after","type":"struct","fields":[{fields}]}}]}},"payload":{{"op":"c","after":{{"ID":1,"AMOUNT":"BQ==","AT":5}},"source":{{"schema":"S","table":"T"}}}}}}"#
        );
        let events = format!("{event}\n{{}}");
        let after = shown("t", Some(&events)).unwrap();
        assert!(line(&after, "amount").contains("schema section"), "{after}");
        assert!(
            line(&after, "amount").contains("base64 of the unscaled number, 2 places"),
            "{after}"
        );
        assert!(line(&after, "at").contains("count of microseconds since 1970"), "{after}");
        assert!(line(&after, "photo").contains("option encodings"), "{after}");
        assert!(after.contains("1 rows of t decoded, 1 dead letters"), "{after}");
        assert!(after.contains("line 2: UNKNOWN_ENVELOPE"), "{after}");
    }

    #[test]
    fn a_table_that_is_not_declared_has_no_profile() {
        assert!(shown("other", None).unwrap_err().to_string().contains("other is not declared"));
    }
}
