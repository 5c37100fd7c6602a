//! A small service on a free port, and a client that propagates its trace context.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::Path,
    http::StatusCode,
    routing::{any, get},
};
use opentelemetry::{KeyValue, TraceId, Value};
use opentelemetry_sdk::{
    logs::in_memory_exporter::LogDataWithResource,
    metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics, ScopeMetrics},
    trace::SpanData,
};
use telemetry_common::{
    http::{
        client::{self, TrustedHosts},
        server,
    },
    semconv, testing,
};
use tokio::{net::TcpListener, task::JoinSet};
use tower_http::catch_panic::CatchPanicLayer;

pub(crate) struct Shop {
    pub(crate) url: String,
    _server: JoinSet<()>,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        testing::install();
        let shelf = Router::new()
            .route(
                "/{id}",
                any(|Path(id): Path<u32>| async move { format!("book {id}") }),
            )
            .route(
                "/broken",
                get(|| async { StatusCode::INTERNAL_SERVER_ERROR }),
            )
            .route("/panic", get(panic))
            .route("/never", get(std::future::pending::<()>));
        let router = Router::new().nest("/shelf", shelf);
        let router = router.layer(CatchPanicLayer::new()).layer(server::layer());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let mut server = JoinSet::new();
        server.spawn(async { axum::serve(listener, service).await.unwrap() });
        Self {
            url,
            _server: server,
        }
    }
}

async fn panic() {
    panic!("the shelf fell over");
}

pub(crate) fn client() -> client::TracedClient {
    client_with(Duration::from_mins(1))
}

pub(crate) fn client_with(timeout: Duration) -> client::TracedClient {
    let client = reqwest::Client::builder().timeout(timeout).build();
    client::with_tracing(client.unwrap(), TrustedHosts::all())
}

/// Returns the log records of a trace, without those of outgoing requests: the client of these tests
/// logs as well.
pub(crate) fn server_logs(trace: TraceId) -> Vec<LogDataWithResource> {
    let mut logs = testing::logs_of(trace);
    logs.retain(|log| {
        let name = log.record.event_name().unwrap_or_default();
        !name.starts_with("telemetry_common.http.client.")
    });
    logs
}

/// Returns the attributes of each current series of a histogram that has `attribute`.
pub(crate) fn series(metric: &str, attribute: &KeyValue) -> Vec<Vec<KeyValue>> {
    let exports = testing::metrics();
    let metrics = exports
        .last()
        .into_iter()
        .flat_map(ResourceMetrics::scope_metrics);
    let metrics = metrics.flat_map(ScopeMetrics::metrics);
    let mut series = Vec::new();
    for found in metrics.filter(|found| found.name() == metric) {
        let AggregatedMetrics::F64(MetricData::Histogram(histogram)) = found.data() else {
            panic!("{metric} is not a histogram");
        };
        let points = histogram.data_points();
        series.extend(points.map(|point| point.attributes().cloned().collect::<Vec<_>>()));
    }
    series.retain(|attributes| attributes.contains(attribute));
    series
}

/// Returns the status code and the error type of each current series of a histogram that has `attribute`.
pub(crate) fn statuses(metric: &str, attribute: &KeyValue) -> Vec<String> {
    let value = |attributes: &[KeyValue], key| {
        let mut found = attributes.iter().filter(|found| found.key.as_str() == key);
        found.next().map(|found| found.value.to_string())
    };
    let of_series = |attributes: &Vec<KeyValue>| {
        let status = value(attributes, semconv::HTTP_RESPONSE_STATUS_CODE);
        let error = value(attributes, semconv::ERROR_TYPE);
        [status.unwrap_or_default(), error.unwrap_or_default()].join(" ")
    };
    let mut statuses: Vec<_> = series(metric, attribute).iter().map(of_series).collect();
    statuses.sort();
    statuses
}

/// How long the slow responses of these tests take.
pub(crate) const SLOW: Duration = Duration::from_secs(1);

/// Serves `router` with the server layer. Returns its address.
pub(crate) async fn serve(router: Router, tasks: &mut JoinSet<()>) -> SocketAddr {
    testing::install();
    let router = router.layer(server::layer());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async { axum::serve(listener, router).await.unwrap() });
    address
}

/// Returns the duration of a span.
pub(crate) fn duration(span: &SpanData) -> Duration {
    span.end_time.duration_since(span.start_time).unwrap()
}

/// Returns the attribute of a route.
pub(crate) fn pair(route: Value) -> KeyValue {
    KeyValue::new(semconv::HTTP_ROUTE, route)
}

/// Whether the duration metric has one series of this route, with this `error.type`.
#[track_caller]
pub(crate) fn has_series(route: &str, error_type: Option<&str>) -> bool {
    let series = series(
        semconv::HTTP_SERVER_REQUEST_DURATION,
        &pair(route.to_owned().into()),
    );
    let [series] = &series[..] else {
        panic!("expected one series: {series:?}")
    };
    let found = series
        .iter()
        .find(|pair| pair.key.as_str() == semconv::ERROR_TYPE);
    found
        .map(|pair| pair.value.as_str().into_owned())
        .as_deref()
        == error_type
}
