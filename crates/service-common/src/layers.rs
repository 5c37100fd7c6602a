//! The layers around the routes of a service, from the outermost to the innermost.

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{HeaderValue, header::CACHE_CONTROL},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use telemetry_common::http::server::{self as http, RequestBody};
use tower::ServiceBuilder;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::{
    fault_injection::{FaultInjector, FaultKind},
    problem::{self, Problem, respond},
    server::{self, Limits, ServerConfig},
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
    let limits = Limits::new(config, max_body);
    let observed = http::layer()
        .client_address(config.client_address())
        .trust_sampling(config.trusted_callers)
        .trust_baggage(config.trusted_callers);
    let layers = ServiceBuilder::new()
        .layer(observed) // the request id, the server span, the metrics, the access log
        .map_request(|request: Request<RequestBody<Body>>| request.map(Body::new))
        .layer(no_store()) // no response is valid later
        .layer(from_fn_with_state(limits, server::limit)) // limits of concurrency, memory and duration
        .layer(problem::catch_panic()) // a panic becomes a response 500 inside the span
        .layer(DefaultBodyLimit::max(max_body)) // maximum size of a body
        .option_layer(faults.map(|faults| from_fn_with_state(faults, inject_fault))); // innermost, so that a fault looks like a real one
    routes
        .fallback(|| async { Problem::unknown_path() })
        .method_not_allowed_fallback(|| async { Problem::unknown_method() })
        .layer(layers)
}

/// Returns the layer that forbids caches to store a response, unless the response has a rule of its own.
pub(crate) fn no_store() -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(CACHE_CONTROL, HeaderValue::from_static("no-store"))
}

/// Fails the request when a fault rule matches its method and route.
async fn inject_fault(
    State(faults): State<FaultInjector>,
    request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("", MatchedPath::as_str);
    // The calls that remove the rules must not fail.
    if route.starts_with("/error-injection") {
        return next.run(request).await;
    }
    match faults.inject(request.method().as_str(), route).await {
        Ok(()) => next.run(request).await,
        Err(injected) => respond(&injected, injected.status(), Some(FaultKind::Error)),
    }
}
