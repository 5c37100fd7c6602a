//! The headers that a client adds to its requests.

use http::{HeaderMap, HeaderValue};
use opentelemetry::{Context, baggage::BaggageExt, global};
use opentelemetry_http::HeaderInjector;

use super::X_REQUEST_ID;
use crate::RequestId;

/// Adds the current trace context. A trusted host also receives the baggage and the request id,
/// which may be about users.
pub(crate) fn add_headers(headers: &mut HeaderMap, is_trusted: bool) {
    let mut context = Context::current();
    if !is_trusted && !context.baggage().is_empty() {
        context = context.with_cleared_baggage();
    }
    global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&context, &mut HeaderInjector(headers));
    });
    if is_trusted && let Some(id) = RequestId::current() {
        headers.insert(X_REQUEST_ID, HeaderValue::from(&id));
    }
}
