//! The API's description: derived from the handlers, committed as `backend/openapi.json`, read by
//! `backend-client`.
//!
//! utoipa writes OpenAPI 3.1, progenitor reads 3.0. The two differ in few words for an API like
//! this one; `downgrade` translates those and refuses what it does not know.

use serde_json::{Value, json};
use service_common::openapi;
use utoipa::OpenApi;

use crate::details::handlers;

#[derive(OpenApi)]
#[openapi(
    info(title = "backend", description = "What the worker derived from books."),
    paths(handlers::list, handlers::get)
)]
struct Api;

/// The document, OpenAPI 3.0.
pub fn document() -> String {
    let document = serde_json::to_value(Api::openapi()).expect("a document is JSON");
    openapi::text(&downgrade(document))
}

/// OpenAPI 3.1 to 3.0.
///
/// # Panics
///
/// At a construct of 3.1 that it does not know: better at the test than in the client.
fn downgrade(mut document: Value) -> Value {
    document["openapi"] = json!("3.0.3");
    if let Some(license) = document["info"]["license"].as_object_mut() {
        license.remove("identifier");
    }
    visit(&mut document);
    document
}

fn visit(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(visit),
        Value::Object(object) => {
            for unknown in ["const", "examples", "$defs", "prefixItems", "webhooks"] {
                assert!(
                    !object.contains_key(unknown),
                    "`{unknown}` has no translation yet"
                );
            }
            assert!(
                !object.get("type").is_some_and(Value::is_array),
                "a list of types has no translation yet",
            );
            object.values_mut().for_each(visit);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_document_is_the_code_s() {
        let committed = include_str!("../openapi.json");
        assert_eq!(committed, document(), "run `cargo xtask openapi`");
    }

    #[test]
    #[should_panic(expected = "no translation")]
    fn what_cannot_be_translated_is_refused() {
        downgrade(json!({"schema": {"type": ["string", "null"]}}));
    }
}
