//! The router: the routes with their layers, and the health checks outside of the layers.

use axum::Router;
use service_common::{
    fault_injection::FaultInjector, health, layers::with_layers, server::ServerConfig,
};
use telemetry_common::db::Database;

use crate::{consumer::Liveness, details, health::Ready};

/// The maximum size of a request body, in bytes. No request has a body.
const MAX_BODY: usize = 0;

pub(crate) fn router(
    db: Database,
    consumer: Liveness,
    config: ServerConfig,
    faults: FaultInjector,
) -> Router {
    with_layers(details::routes(db.clone()), config, faults, MAX_BODY)
        .merge(health::routes(Ready { db, consumer }))
}
