//! The router and the layers around it, outermost first.

use axum::{Router, middleware::from_fn};
use service_common::{health, problem, problem::Problem};
use telemetry_common::{db::Database, http::server};
use tower::ServiceBuilder;

use crate::{consumer::Liveness, details, health::Ready};

pub(crate) fn router(db: Database, consumer: Liveness) -> Router {
    let layers = ServiceBuilder::new()
        .layer(from_fn(server::identify)) // the request's id, known to all below
        .layer(server::span()) // the server span: everything below is inside it
        .layer(from_fn(server::observe)) // what the span lacks, the metrics, the access log
        .layer(problem::catch_panic()); // a panic becomes a 500 on that span
    Router::new()
        .merge(details::routes(db.clone()))
        .fallback(|| async { Problem::unknown_path() })
        .method_not_allowed_fallback(|| async { Problem::unknown_method() })
        .layer(layers)
        .merge(health::routes(Ready { db, consumer })) // outside: probes leave no trace
}
