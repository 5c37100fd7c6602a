//! The router: the routes with their layers.

use axum::Router;
use service_common::{fault_injection::FaultInjector, layers::with_layers, server::ServerConfig};
use telemetry_common::db::Database;

use crate::details;

/// The maximum size of a request body, in bytes: 1000 ids.
const MAX_BODY: usize = 16 << 10;

pub(crate) fn router(db: Database, config: ServerConfig, faults: Option<FaultInjector>) -> Router {
    with_layers(details::routes(db), config, faults, MAX_BODY)
}
