//! The router: the routes with their layers.

use axum::Router;
use service_common::{fault_injection::FaultInjector, layers::with_layers};

use crate::{books, config::Config, fault_injection, start_page, state::AppState};

/// The maximum size of a request body, in bytes.
const MAX_BODY: usize = 1 << 20;

/// Returns the routes of the API. Without `faults`, the API of the fault rules does not exist.
pub(crate) fn router(state: AppState, config: &Config, faults: Option<FaultInjector>) -> Router {
    let mut routes = Router::new()
        .merge(start_page::routes(config))
        .merge(books::routes());
    if faults.is_some() {
        let token = config.service.admin_token.clone();
        routes = routes.nest("/error-injection", fault_injection::routes(token));
    }
    with_layers(routes, config.service.server, faults, MAX_BODY).with_state(state)
}
