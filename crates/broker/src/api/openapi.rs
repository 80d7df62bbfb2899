//! The OpenAPI document of the API.

use serde_json::{Map, Value, json};

/// Describes the API, which takes rows at any path: `posted` are those that have rows.
pub(super) fn document<'a>(posted: impl Iterator<Item = &'a str>) -> Value {
    let mut paths: Map<String, Value> = posted.map(|path| (path.to_owned(), rows_path())).collect();
    paths.insert("/{path}".to_owned(), rows_path());
    paths.insert("/stats".to_owned(), json!({"get": get("How much was posted", "Stats")}));
    paths.insert(
        "/faults".to_owned(),
        json!({
            "get": get("What goes wrong", "Faults"),
            "put": {
                "summary": "Switches what goes wrong",
                "requestBody": {"required": true, "content": json_content("Faults")},
                "responses": {"200": {"description": "Taken", "content": json_content("Faults")},
                              "400": {"description": "Not possible"}},
            },
        }),
    );
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Tidemark's API for development", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {"schemas": schemas()},
    })
}

fn rows_path() -> Value {
    let header = |name: &str, required: bool| json!({"name": name, "in": "header", "required": required, "schema": {"type": "string"}});
    let query =
        |name: &str, kind: &str| json!({"name": name, "in": "query", "schema": {"type": kind}});
    json!({
        "post": {
            "summary": "Takes a row, once per Idempotency-Key",
            "parameters": [header("Idempotency-Key", true), header("Tidemark-Operation", false)],
            "requestBody": {"required": true, "content": {"application/json": {"schema": {}}}},
            "responses": {
                "201": {"description": "Taken"},
                "200": {"description": "Known already; nothing changes"},
                "400": {"description": "No JSON, or no Idempotency-Key"},
                "429": {"description": "A fault mode", "headers": {"Retry-After": {"schema": {"type": "string"}}}},
                "503": {"description": "A fault mode"},
            },
        },
        "get": {
            "summary": "Lists what was posted here, in the order in which it first came",
            "parameters": [query("idempotency_key", "string"), query("type", "string"),
                           query("after", "integer"), query("limit", "integer")],
            "responses": {"200": {"description": "Rows", "content": {"application/json": {
                "schema": {"type": "array", "items": {"$ref": "#/components/schemas/Received"}}}}}},
        },
    })
}

fn get(summary: &str, schema: &str) -> Value {
    json!({
        "summary": summary,
        "responses": {"200": {"description": "As it is now", "content": json_content(schema)}},
    })
}

fn json_content(schema: &str) -> Value {
    json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{schema}")}}})
}

fn schemas() -> Value {
    let percent = json!({"type": "integer", "minimum": 0, "maximum": 100, "default": 0});
    json!({
        "Received": {"type": "object", "properties": {
            "number": {"type": "integer"}, "path": {"type": "string"},
            "idempotency_key": {"type": "string"}, "operation": {"type": "string"},
            "deliveries": {"type": "integer"}, "body": {},
        }},
        "Stats": {"type": "object", "properties": {
            "requests": {"type": "object", "additionalProperties": {"type": "integer"}},
            "rows": {"type": "integer"}, "duplicates": {"type": "integer"},
        }},
        "Faults": {"type": "object", "additionalProperties": false, "properties": {
            "unavailable_percent": percent, "too_many_percent": percent, "refuse_percent": percent,
            "drop_percent": percent, "retry_after": {"type": "string", "default": "1"},
            "slow_ms": {"type": "integer", "default": 0},
        }},
    })
}
