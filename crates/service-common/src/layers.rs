//! The layers around the routes of a service, from the outermost to the innermost.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderValue, header::CACHE_CONTROL},
    middleware::from_fn_with_state,
};
use telemetry_common::http::server::{self as http, RequestBody};
use tower::ServiceBuilder;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::{
    drain::Drain,
    fault_injection::FaultInjector,
    guard::{self, Guard},
    problem::Problem,
    server::ServerConfig,
};

/// Adds the layers of every route of a service, and the responses to unknown paths and methods.
///
/// Without `faults`, no fault is injected. `max_body` is the maximum size of a request body that an
/// extractor reads, in bytes. Merge routes without telemetry, such as health checks, into the returned
/// router.
pub fn with_layers<S: Clone + Send + Sync + 'static>(
    routes: Router<S>,
    config: ServerConfig,
    faults: Option<FaultInjector>,
    max_body: usize,
) -> Router<S> {
    let guard = Arc::new(Guard::new(config, max_body, faults));
    let drain = Drain::new();
    let observed = http::layer()
        .client_address(config.client_address())
        .trust_sampling(config.trusted_callers)
        .trust_baggage(config.trusted_callers);
    let observed = match config.access_log_sampled_below {
        Some(slow) => observed.sample_access_log_below(slow),
        None => observed,
    };
    let layers = ServiceBuilder::new()
        .map_request(move |request| drain.watch(request)) // the client can send all of a rejected body
        .layer(observed) // the request id, the server span, the metrics, the access log
        .map_request(|request: Request<RequestBody<Body>>| request.map(Body::new))
        .layer(no_store()) // no response is valid later
        .layer(from_fn_with_state(guard, guard::guard)) // limits, panics and injected faults
        .layer(DefaultBodyLimit::max(max_body)); // maximum size of a body
    routes
        .fallback(|| async { Problem::unknown_path() })
        .method_not_allowed_fallback(|| async { Problem::unknown_method() })
        .layer(layers)
}

/// Returns the layer that forbids caches to store a response, unless the response has a rule of its own.
pub(crate) fn no_store() -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(CACHE_CONTROL, HeaderValue::from_static("no-store"))
}
