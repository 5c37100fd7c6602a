//! Tests of the filters of the layers.

use opentelemetry::{Context, trace::Status};
use telemetry_common::testing;
use tracing::{error, info, info_span};

#[tokio::test]
async fn an_error_event_does_not_change_the_status_of_its_span() {
    let ((), spans) = testing::spans_of(async {
        info_span!("handled").in_scope(|| error!("it failed and was handled"));
    })
    .await;
    let span = spans.named("handled");
    assert_eq!(span.status, Status::Unset);
    assert!(span.events.is_empty());
}

#[tokio::test]
async fn exporting_creates_no_telemetry_but_the_libraries_of_exporters_do_elsewhere() {
    let ((), spans) = testing::spans_of(async {
        info_span!(target: "hyper_util::client", "connect").in_scope(|| {});
        info!(target: "tower_sessions", "kept");
        let _exporting = Context::enter_telemetry_suppressed_scope();
        info_span!(target: "hyper_util::client", "export").in_scope(|| {});
        info!(target: "h2::codec", "frame");
    })
    .await;
    assert_eq!(spans.names(), ["connect", "test"]);
    let logs = testing::logs_of(spans.trace_id());
    assert_eq!(logs.len(), 1, "{logs:?}");
}
