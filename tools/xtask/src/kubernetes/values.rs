//! Reading of untyped manifests. What is missing is empty.

use serde_json::Value;

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Returns the objects in an answer of the API server.
pub(super) fn items(answer: &Value) -> impl Iterator<Item = &Value> {
    list(&answer["items"])
}
