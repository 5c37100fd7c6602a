//! The OpenAPI document of the API. It is derived from the handlers and committed as
//! `backend/openapi.json`, from which `backend-client` is generated.
//!
//! utoipa writes OpenAPI 3.1, but progenitor reads 3.0. For this API the two versions differ in a
//! few keywords. `downgrade` converts these, and rejects the other new keywords.

use serde_json::{Value, json};
use service_common::openapi;
use utoipa::OpenApi;

use crate::details::handlers;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "backend",
        description = "Serves the details that the worker derived from books."
    ),
    paths(handlers::search, handlers::get)
)]
struct Api;

/// Returns the document in OpenAPI 3.0.
pub fn document() -> String {
    let document = serde_json::to_value(Api::openapi()).expect("a document is JSON");
    openapi::text(&downgrade(document))
}

/// Converts a document from OpenAPI 3.1 to 3.0.
///
/// # Panics
///
/// If the document contains a construct of 3.1 without a conversion. So a test fails, and not the
/// client.
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
            for keyword in ["const", "examples", "$defs", "prefixItems", "webhooks"] {
                assert!(
                    !object.contains_key(keyword),
                    "`{keyword}` has no conversion to OpenAPI 3.0"
                );
            }
            assert!(
                !object.get("type").is_some_and(Value::is_array),
                "a list of types has no conversion to OpenAPI 3.0",
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
    fn the_committed_document_matches_the_handlers() {
        let committed = include_str!("../openapi.json");
        assert_eq!(committed, document(), "run `cargo xtask openapi`");
    }

    #[test]
    #[should_panic(expected = "no conversion")]
    fn a_construct_without_conversion_is_rejected() {
        downgrade(json!({"schema": {"type": ["string", "null"]}}));
    }
}
