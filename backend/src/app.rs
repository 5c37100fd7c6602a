//! The router: the routes, the layers around them, and health outside of both.

use axum::Router;
use service_common::{fault_injection::FaultInjector, health, layers::with_layers, server::Limits};
use telemetry_common::db::Database;

use crate::{consumer::Liveness, details, health::Ready};

/// No call has a body.
const MAX_BODY: usize = 0;

pub(crate) fn router(
    db: Database,
    consumer: Liveness,
    limits: Limits,
    faults: FaultInjector,
) -> Router {
    with_layers(details::routes(db.clone()), limits, faults, MAX_BODY)
        .merge(health::routes(Ready { db, consumer }))
}
