//! What the converter's schema section says about the fields of a row.

use serde::Deserialize;

use super::value::{Semantic, Unit};
use crate::model::SureType;

#[derive(Deserialize)]
struct SchemaNode {
    field: Option<String>,
    #[serde(rename = "type")]
    json_type: Option<String>,
    name: Option<String>,
    parameters: Option<SchemaParameters>,
    #[serde(default)]
    fields: Vec<SchemaNode>,
}

#[derive(Deserialize)]
struct SchemaParameters {
    scale: Option<String>,
}

/// What a section says about a field.
#[derive(Debug)]
pub(in crate::decode) struct DescribedField {
    pub(in crate::decode) field: String,
    pub(in crate::decode) semantic: Semantic,
    /// The type of its values, where there is one that holds them all.
    pub(in crate::decode) sure: Option<SureType>,
}

/// Each field of the row, from `after` or else `before`; of a flattened row its
/// own.
///
/// # Errors
/// If it is no schema of Kafka Connect.
///
/// Source: Kafka Connect's `JsonConverter`; Debezium's "Temporal types" and "Decimal types".
pub(in crate::decode) fn semantics(
    section: &str,
) -> Result<Vec<DescribedField>, serde_json::Error> {
    let mut envelope: SchemaNode = serde_json::from_str(section)?;
    let is_image = |node: &SchemaNode, name: &str| {
        node.field.as_deref() == Some(name) && node.json_type.as_deref() == Some("struct")
    };
    let image = |name: &str| envelope.fields.iter().position(|node| is_image(node, name));
    let row = match image("after").or_else(|| image("before")) {
        Some(index) => envelope.fields.swap_remove(index),
        None => envelope,
    };
    let named = row.fields.into_iter().filter_map(|node| {
        let semantic = semantic(&node);
        let sure = sure(&node, semantic);
        node.field.map(|field| DescribedField { field, semantic, sure })
    });
    Ok(named.collect())
}

fn sure(node: &SchemaNode, semantic: Semantic) -> Option<SureType> {
    match (semantic, node.json_type.as_deref()) {
        (Semantic::Instant(Unit::Days), _) => Some(SureType::Date),
        (Semantic::Instant(_), _) => Some(SureType::Timestamp),
        (Semantic::Decimal { scale }, _) => SureType::decimal(scale),
        (Semantic::Text, _) => Some(SureType::Varchar),
        (Semantic::Unknown, Some("boolean")) => Some(SureType::Boolean),
        (Semantic::Unknown, Some("int8" | "int16" | "int32" | "int64")) if node.name.is_none() => {
            Some(SureType::Bigint)
        }
        (Semantic::Unknown, Some("float" | "double")) if node.name.is_none() => {
            Some(SureType::Double)
        }
        _ => None,
    }
}

fn semantic(node: &SchemaNode) -> Semantic {
    match (node.name.as_deref(), node.json_type.as_deref()) {
        (Some("io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp"), _) => {
            Semantic::Instant(Unit::Millis)
        }
        (Some("io.debezium.time.MicroTimestamp"), _) => Semantic::Instant(Unit::Micros),
        (Some("io.debezium.time.NanoTimestamp"), _) => Semantic::Instant(Unit::Nanos),
        (Some("io.debezium.time.Date" | "org.apache.kafka.connect.data.Date"), _) => {
            Semantic::Instant(Unit::Days)
        }
        (Some("org.apache.kafka.connect.data.Decimal"), _) => {
            let scale = node.parameters.as_ref().and_then(|p| p.scale.as_ref()?.parse().ok());
            scale.map_or(Semantic::Unknown, |scale| Semantic::Decimal { scale })
        }
        (Some("io.debezium.data.VariableScaleDecimal"), _) => Semantic::VariableScale,
        (_, Some("string")) => Semantic::Text,
        (None, Some("bytes")) => Semantic::Base64,
        _ => Semantic::Unknown,
    }
}
