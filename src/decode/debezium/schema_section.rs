//! What the converter's schema section says about the fields of a row.

use serde::Deserialize;

use super::value::{Semantic, Unit};

#[derive(Deserialize)]
struct Node {
    field: Option<String>,
    #[serde(rename = "type")]
    json_type: Option<String>,
    name: Option<String>,
    parameters: Option<Parameters>,
    #[serde(default)]
    fields: Vec<Node>,
}

#[derive(Deserialize)]
struct Parameters {
    scale: Option<String>,
}

/// The name and semantic of each field of the row, from `after` or else `before`; of a flattened row its
/// own.
///
/// # Errors
/// If it is no schema of Kafka Connect.
///
/// Source: Kafka Connect's `JsonConverter`; Debezium's "Temporal types" and "Decimal types".
pub(in crate::decode) fn semantics(
    section: &str,
) -> Result<Vec<(String, Semantic)>, serde_json::Error> {
    let mut envelope: Node = serde_json::from_str(section)?;
    let is_image = |node: &Node, name: &str| {
        node.field.as_deref() == Some(name) && node.json_type.as_deref() == Some("struct")
    };
    let image = |name: &str| envelope.fields.iter().position(|node| is_image(node, name));
    let row = match image("after").or_else(|| image("before")) {
        Some(index) => envelope.fields.swap_remove(index),
        None => envelope,
    };
    let named = row.fields.into_iter().filter_map(|node| {
        let semantic = semantic(&node);
        node.field.map(|field| (field, semantic))
    });
    Ok(named.collect())
}

fn semantic(node: &Node) -> Semantic {
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
