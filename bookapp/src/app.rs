//! What the handlers share, the router, and the layers around it, outermost first.

use anyhow::{Context, Result};
use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware::{from_fn, from_fn_with_state},
};
use service_common::{
    faults::Faults,
    health,
    problem::{self, Problem},
    server::{self, Limits},
};
use telemetry_common::{db::Database, http::server as http};
use tower::ServiceBuilder;

use crate::{
    books, config::Config, fault_injection, health::Ready, metrics::Metrics, outbox::Outbox,
    start_page,
};

/// The largest body that is read, in bytes.
const MAX_BODY: usize = 1 << 20;

/// What the handlers share.
#[derive(Clone)]
pub struct AppState {
    pub(crate) db: Database,
    pub(crate) outbox: Outbox,
    pub(crate) backend: backend_client::Client,
    pub(crate) metrics: Metrics,
    pub(crate) faults: Faults,
}

impl AppState {
    pub(crate) fn new(config: &Config, db: Database) -> Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(config.backend_timeout)
            .build()
            .context("could not build the HTTP client")?;
        let base_url = config.backend_url.as_str().trim_end_matches('/');
        Ok(Self {
            db,
            outbox: Outbox::default(),
            backend: backend_client::new(base_url, http),
            metrics: Metrics::new(),
            faults: Faults::of("bookapp"),
        })
    }
}

pub(crate) fn router(state: AppState, config: &Config) -> Router {
    let limits: Limits = config.server.into();
    let layers = ServiceBuilder::new()
        .layer(from_fn(http::identify)) // the request's id, known to all below
        .layer(http::span()) // the server span: everything below is inside it
        .layer(from_fn(http::observe)) // what the span lacks, the metrics, the access log
        .layer(from_fn_with_state(limits, server::limit)) // not too many, not too long
        .layer(problem::catch_panic()) // a panic becomes a 500 on that span
        .layer(DefaultBodyLimit::max(MAX_BODY)) // what an extractor may read
        .layer(from_fn_with_state(
            state.faults.clone(),
            fault_injection::strike,
        )); // failures on purpose
    let ready = Ready {
        db: state.db.clone(),
    };
    Router::new()
        .merge(start_page::routes(&config.telemetry.sentry.grafana_url))
        .nest("/books", books::routes())
        .nest(
            "/error-injection",
            fault_injection::routes(config.admin.clone()),
        )
        .fallback(|| async { Problem::unknown_path() })
        .method_not_allowed_fallback(|| async { Problem::unknown_method() })
        .layer(layers)
        .with_state(state)
        .merge(health::routes(ready)) // outside: probes leave no trace
}
