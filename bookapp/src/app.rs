//! The router: the routes with their layers, and the health checks outside of the layers.

use axum::Router;
use service_common::{health, layers::with_layers};

use crate::{books, config::Config, fault_injection, health::Ready, start_page, state::AppState};

/// The maximum size of a request body, in bytes.
const MAX_BODY: usize = 1 << 20;

pub(crate) fn router(state: AppState, config: &Config) -> Router {
    let ready = Ready {
        db: state.db.clone(),
    };
    let token = config.service.admin_token.clone();
    let routes = Router::new()
        .merge(start_page::routes(
            config.service.telemetry.grafana_url.as_ref(),
            config.alertmanager_url.as_ref(),
        ))
        .nest("/books", books::routes())
        .nest("/error-injection", fault_injection::routes(token));
    with_layers(
        routes,
        config.service.server,
        state.faults.clone(),
        MAX_BODY,
    )
    .with_state(state)
    .merge(health::routes(ready))
}
