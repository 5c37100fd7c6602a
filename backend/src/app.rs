//! The router and the layers around it, outermost first.

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use service_common::{
    faults::Faults,
    health,
    problem::{self, Problem},
    server::{self, Limits},
};
use telemetry_common::{db::Database, http::server as http};
use tower::ServiceBuilder;

use crate::{consumer::Liveness, details, error::ApiError, health::Ready};

/// No call has a body.
const MAX_BODY: usize = 0;

pub(crate) fn router(db: Database, consumer: Liveness, limits: Limits, faults: Faults) -> Router {
    let layers = ServiceBuilder::new()
        .layer(from_fn(http::identify)) // the request's id, known to all below
        .layer(http::span()) // the server span: everything below is inside it
        .layer(from_fn(http::observe)) // what the span lacks, the metrics, the access log
        .layer(from_fn_with_state(limits, server::limit)) // not too many, not too long
        .layer(problem::catch_panic()) // a panic becomes a 500 on that span
        .layer(DefaultBodyLimit::max(MAX_BODY)) // what an extractor may read
        .layer(from_fn_with_state(faults, strike)); // failures on purpose
    Router::new()
        .merge(details::routes(db.clone()))
        .fallback(|| async { Problem::unknown_path() })
        .method_not_allowed_fallback(|| async { Problem::unknown_method() })
        .layer(layers)
        .merge(health::routes(Ready { db, consumer })) // outside: probes leave no trace
}

/// Fails what the rules say shall fail; innermost, so that it looks like ours.
async fn strike(State(faults): State<Faults>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("", MatchedPath::as_str);
    match faults.strike(request.method().as_str(), route).await {
        Ok(()) => next.run(request).await,
        Err(injected) => ApiError::Injected(injected).into_response(),
    }
}
