//! How the decoder reads each column, and from which evidence.

use arrow::datatypes::DataType;

use super::debezium::{ColumnKind, Semantic};
use super::decoder::Decoder;
use super::rows::Evidence;

/// How one column is decoded, as far as the events of its table have told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnProfile {
    pub column: String,
    pub data_type: DataType,
    /// What its values are taken for.
    pub reading: String,
    pub evidence: Evidence,
}

impl Decoder {
    /// How the columns of a table are decoded now; `None` if it is not declared.
    pub fn profile(&self, table: &str) -> Option<Vec<ColumnProfile>> {
        let route = &self.table(table)?.route;
        let columns = route.table.columns.iter().zip(route.readings());
        let profile =
            |(column, (kind, semantic, evidence)): (&crate::model::Column, _)| ColumnProfile {
                column: column.name.clone(),
                data_type: column.data_type.clone(),
                reading: reading(kind, semantic),
                evidence,
            };
        Some(columns.map(profile).collect())
    }
}

fn reading(kind: ColumnKind, semantic: Semantic) -> String {
    let known = match (kind, semantic) {
        (_, Semantic::Decimal { scale }) => {
            return format!("base64 of the unscaled number, {scale} places");
        }
        (ColumnKind::Timestamp | ColumnKind::Date, Semantic::Instant(unit)) => {
            return format!("count of {} since 1970", unit.name());
        }
        (_, Semantic::VariableScale) => "number with its scale beside it",
        (ColumnKind::Binary, Semantic::Base64) => "base64",
        (ColumnKind::Binary, Semantic::Base64Url) => "base64 for URLs",
        (ColumnKind::Binary, Semantic::Hex) => "hexadecimal",
        (ColumnKind::Boolean, _) => "true or false, 1 or 0",
        (ColumnKind::Float64, _) => "number",
        (ColumnKind::Text, _) => "text",
        (ColumnKind::Binary, _) => "base64 or hexadecimal; refused if it may be both",
        (ColumnKind::Timestamp | ColumnKind::Date, Semantic::Text) => "ISO text",
        (ColumnKind::Timestamp, _) => {
            "ISO text, struct, or a count whose size tells its unit (ms 1973 to 2262, µs and ns 1978 to 2262); else refused"
        }
        (ColumnKind::Date, _) => {
            "ISO text, struct, or days since 1970; else the unit in which the count is a midnight"
        }
        (_, Semantic::Text) => "decimal digits",
        (ColumnKind::Decimal { .. }, _) => {
            "number, decimal digits, else base64 at the declared scale; or with its scale beside it"
        }
        (ColumnKind::Int16 | ColumnKind::Int32 | ColumnKind::Int64, _) => {
            "number, decimal digits, or with its scale beside it"
        }
    };
    known.to_owned()
}
