//! Types as SQL names them, for messages.

use arrow::datatypes::DataType;

/// As in `DECIMAL(10,2)`.
pub fn sql_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "SMALLINT".to_owned(),
        DataType::Int32 | DataType::UInt16 => "INTEGER".to_owned(),
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => "BIGINT".to_owned(),
        DataType::Float32 | DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BYTEA".to_owned(),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Timestamp(_, None) => "TIMESTAMP".to_owned(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMPTZ".to_owned(),
        DataType::Interval(_) => "INTERVAL".to_owned(),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            format!("DECIMAL({precision},{scale})")
        }
        other => other.to_string(),
    }
}

/// How a message of DataFusion names a type, and how SQL does.
const NAMES: [(&str, &str); 17] = [
    ("Utf8View", "VARCHAR"),
    ("LargeUtf8", "VARCHAR"),
    ("Utf8", "VARCHAR"),
    ("BinaryView", "BYTEA"),
    ("LargeBinary", "BYTEA"),
    ("Binary", "BYTEA"),
    ("Boolean", "BOOLEAN"),
    ("UInt64", "BIGINT"),
    ("UInt32", "BIGINT"),
    ("Int64", "BIGINT"),
    ("Int32", "INTEGER"),
    ("Int16", "SMALLINT"),
    ("Int8", "SMALLINT"),
    ("Float64", "DOUBLE"),
    ("Float32", "DOUBLE"),
    ("Date32", "DATE"),
    ("Decimal128", "DECIMAL"),
];

/// A message with the types in it as SQL names them.
pub fn with_sql_types(message: &str) -> String {
    let mut text = with_timestamps(message);
    for (arrow, sql) in NAMES {
        text = replace_word(&text, arrow, sql);
    }
    text
}

/// `Timestamp(µs)`, `Timestamp(Nanosecond, Some("UTC"))`.
fn with_timestamps(message: &str) -> String {
    const START: &str = "Timestamp(";
    let mut text = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(at) = rest.find(START) {
        let (before, behind) = rest.split_at(at);
        text.push_str(before);
        let inner = &behind[START.len()..];
        let Some(end) = closing(inner) else {
            text.push_str(behind);
            return text;
        };
        let has_zone = inner[..end].contains('"');
        text.push_str(if has_zone { "TIMESTAMPTZ" } else { "TIMESTAMP" });
        rest = &inner[end + 1..];
    }
    text.push_str(rest);
    text
}

/// Where the parenthesis is closed that was opened before the text.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' if depth == 0 => return Some(at),
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn replace_word(text: &str, word: &str, by: &str) -> String {
    let is_part = |letter: Option<char>| letter.is_some_and(|it| it.is_alphanumeric() || it == '_');
    let (mut replaced, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(word) {
        let (before, behind) = (&rest[..at], &rest[at + word.len()..]);
        let is_whole = !is_part(before.chars().next_back()) && !is_part(behind.chars().next());
        replaced.push_str(before);
        replaced.push_str(if is_whole { by } else { word });
        rest = behind;
    }
    replaced.push_str(rest);
    replaced
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn types_are_named_as_they_are_declared() {
        let zone = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        assert_eq!(sql_type(&zone), "TIMESTAMPTZ");
        assert_eq!(sql_type(&DataType::Decimal128(10, 2)), "DECIMAL(10,2)");
    }

    #[test]
    fn messages_have_no_type_of_arrow_and_names_stay() {
        let message = "trunc(Timestamp(µs, \"UTC\"), Utf8) of Timestamp(Nanosecond, None), Timestamp(µs, Some(\"UTC\")) \
                       and Int64Column Int64; Decimal128(10, 2)";
        assert_eq!(
            with_sql_types(message),
            "trunc(TIMESTAMPTZ, VARCHAR) of TIMESTAMP, TIMESTAMPTZ and Int64Column BIGINT; DECIMAL(10, 2)"
        );
        assert_eq!(with_sql_types("Timestamp(µs"), "Timestamp(µs");
    }
}
