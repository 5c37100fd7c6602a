//! Tests with a collector that is down, silent or failing: requests succeed, and the pipeline
//! statistics are correct.

use std::{collections::HashSet, fs, future::Future, time::Duration};

use futures::future::join_all;
use testbed::{
    System, eventually,
    process::{Signal, Spec},
    sink::Sink,
    system::http,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::helpers::{self, SOON};

const REQUESTS: usize = 2_000;
/// The maximum shutdown time of the services.
pub(crate) const STOP: Duration = Duration::from_secs(5);
/// The maximum memory growth in bytes, for full queues of 8192 spans and 2048 log records.
const MAX_GROWTH: u64 = 24 << 20;

// proves: N12
#[tokio::test]
async fn a_closed_port_costs_nothing_but_telemetry() {
    assert_all_lost("http://127.0.0.1:1", "http/protobuf").await;
}

#[tokio::test]
async fn a_closed_port_over_grpc_costs_nothing_but_telemetry() {
    assert_all_lost("http://127.0.0.1:1", "grpc").await;
}

#[tokio::test]
async fn a_black_hole_costs_nothing_but_telemetry() {
    let (endpoint, _hole) = black_hole().await;
    for protocol in ["http/protobuf", "grpc"] {
        assert_all_lost(&endpoint, protocol).await;
    }
}

#[tokio::test]
async fn a_server_that_responds_503_costs_nothing_but_telemetry() {
    let (endpoint, _server) = listen(|mut stream| async move {
        let mut request = vec![0; 1 << 20];
        while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
            let response = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
            if stream.write_all(response).await.is_err() {
                return;
            }
        }
    })
    .await;
    assert_all_lost(&endpoint, "http/protobuf").await;
}

#[tokio::test]
async fn every_created_span_is_received_or_reported_as_lost() {
    let mut system = helpers::start().await;
    get_all(&system, REQUESTS / 2).await;
    system.sink.stop();
    get_all(&system, REQUESTS / 2).await;
    let (created, lost) = stop(&system).await;
    let arrived = arrived(&system.sink);
    assert!(lost > 0 && arrived > 0, "{lost} lost, {arrived} arrived");
    assert_eq!(created, lost + arrived);
}

#[tokio::test]
async fn what_a_receiver_rejects_counts_as_lost() {
    for protocol in ["http/protobuf", "grpc"] {
        let adjust = |spec: Spec| spec.env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
        let system = helpers::start_with(adjust).await;
        system.sink.reject();
        get_all(&system, REQUESTS / 10).await;
        for name in [
            "otel.sdk.exporter.span.exported",
            "otel.sdk.exporter.log.exported",
            "otel.sdk.exporter.metric_data_point.exported",
        ] {
            let rejected = || async {
                let points = system.sink.points();
                let mut points = points.iter().filter(|point| point.name == name);
                points
                    .any(|point| {
                        point.attributes.get("error.type") == Some(&"rejected".into())
                            && point.service() == "bookapp"
                            && point.value > 0.0
                    })
                    .then_some(())
            };
            eventually(SOON, name, rejected).await.unwrap();
        }
        let (created, lost) = stop(&system).await;
        assert_eq!(lost, created, "{protocol}: all spans are rejected");
        helpers::assert_declared(&system);
        let lines = system.bookapp.process.lines();
        let reported = |line: &String| line.ends_with(" metric data points were rejected");
        assert!(lines.iter().any(reported), "{protocol}: {lines:?}");
    }
}

/// Sends requests while the collector at `endpoint` accepts nothing. Checks memory and statistics.
async fn assert_all_lost(endpoint: &str, protocol: &str) {
    let system = helpers::start_with(|spec| {
        spec.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            .env("OTEL_EXPORTER_OTLP_TIMEOUT", "1000")
            .env("TOKIO_WORKER_THREADS", "1")
    })
    .await;
    get_all(&system, REQUESTS / 2).await;
    let before = memory(&system);
    get_all(&system, REQUESTS / 2).await;
    let grown = memory(&system).saturating_sub(before);
    assert!(grown < MAX_GROWTH, "memory grew by {grown} bytes");
    let (created, lost) = stop(&system).await;
    assert!(created >= 2 * REQUESTS as u64, "{created} spans");
    assert_eq!(lost, created, "all spans are lost");
}

/// Reads a book this number of times with eight connections. Every request succeeds.
async fn get_all(system: &System, requests: usize) {
    let url = format!("{}/books/1", system.bookapp.url);
    let client = http().unwrap();
    let get = || async {
        for _ in 0..requests / 8 {
            let response = client.get(&url).send().await.unwrap();
            assert_eq!(response.status(), 200);
        }
    };
    join_all((0..8).map(|_| get())).await;
}

/// Stops bookapp within [`STOP`]. Returns the numbers of created and of lost spans that it reports.
async fn stop(system: &System) -> (u64, u64) {
    let process = &system.bookapp.process;
    process.signal(Signal::SIGTERM);
    assert!(process.wait(STOP).await.unwrap().success());
    let lines = process.lines().into_iter();
    let lines: Vec<_> = lines
        .filter(|line| line.starts_with("telemetry: "))
        .collect();
    let spans = lines
        .iter()
        .find(|line| line.contains(" spans were not delivered"));
    let words: Vec<_> = spans
        .unwrap_or_else(|| panic!("bookapp reports no lost spans: {lines:?}"))
        .split(' ')
        .collect();
    (words[3].parse().unwrap(), words[1].parse().unwrap())
}

fn arrived(sink: &Sink) -> u64 {
    let spans = sink.spans();
    let spans = spans.iter().filter(|span| span.service() == "bookapp");
    spans
        .map(|span| &span.span_id)
        .collect::<HashSet<_>>()
        .len() as u64
}

/// Returns the resident memory of bookapp in bytes.
fn memory(system: &System) -> u64 {
    let statm = format!("/proc/{}/statm", system.bookapp.process.id());
    let statm = fs::read_to_string(statm).unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Starts a server that accepts connections and never responds.
pub(crate) async fn black_hole() -> (String, JoinSet<()>) {
    listen(|stream| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await
}

/// Starts a server that handles each connection with `handle`. It stops on drop.
async fn listen<F: Future<Output = ()> + Send + 'static>(
    handle: impl Fn(TcpStream) -> F + Send + 'static,
) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(handle(stream));
        }
    });
    (endpoint, server)
}
