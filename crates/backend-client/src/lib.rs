//! Typed client of the API of backend. progenitor generates it from `backend/openapi.json`.
//!
//! A hook creates a client span for every request. The span is named after the template of the
//! path, and its context is sent in the headers of the request.

use std::{collections::HashMap, sync::LazyLock};

use progenitor::progenitor_client::{ClientHooks, ClientInfo, OperationInfo};
use reqwest::Url;
use serde_json::Value;
use telemetry_common::http::client::{self, TracedClient, TrustedHosts};

pub use generated::{Client, Error, types};

mod generated {
    #![allow(
        missing_docs,
        rust_2018_idioms,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "generated"
    )]
    use telemetry_common::http::client::TracedClient;

    progenitor::generate_api!(
        spec = "../../backend/openapi.json",
        hooks = Expected,
        inner_type = TracedClient,
        convert = { { type = "string", format = "date-time" } = jiff::Timestamp },
    );
}

/// Creates a client of the backend at `base_url`, whose host receives baggage and the request id.
/// It uses `http` with its timeouts.
pub fn new(base_url: &str, http: reqwest::Client) -> Client {
    let host = Url::parse(base_url)
        .ok()
        .and_then(|url| Some(url.host_str()?.to_owned()));
    let traced = client::with_tracing(http.clone(), TrustedHosts::only(host));
    Client::new_with_client(base_url, http, traced)
}

impl ClientHooks<TracedClient> for Client {
    async fn exec(
        &self,
        request: reqwest::Request,
        info: &OperationInfo,
    ) -> reqwest::Result<reqwest::Response> {
        client::execute(self.inner(), request, template_of(info.operation_id)).await
    }
}

/// Returns the path of an operation, with placeholders, from the OpenAPI document.
fn template_of(operation_id: &str) -> Option<&'static str> {
    static TEMPLATES: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
        let document: Value = serde_json::from_str(include_str!("../../../backend/openapi.json"))
            .expect("the client was generated from this document");
        let paths = document["paths"].as_object().into_iter().flatten();
        let operations = paths.flat_map(|(path, methods)| {
            let methods = methods.as_object().into_iter().flatten();
            methods.filter_map(|(_, operation)| {
                Some((operation["operationId"].as_str()?.to_owned(), path.clone()))
            })
        });
        operations.collect()
    });
    TEMPLATES.get(operation_id).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_has_its_path_as_template() {
        assert_eq!(template_of("get_details"), Some("/details/{book_id}"));
        assert_eq!(template_of("unknown"), None);
    }
}
