//! A small service on a free port, and a client that propagates its trace context.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::Path,
    http::StatusCode,
    routing::{any, get},
};
use opentelemetry::KeyValue;
use opentelemetry_sdk::metrics::data::{
    AggregatedMetrics, MetricData, ResourceMetrics, ScopeMetrics,
};
use telemetry_common::{
    http::{
        client::{self, TrustedHosts},
        server,
    },
    testing,
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
