//! A collector that is away, silent or refusing: nobody notices, and the account is right.

use std::{collections::HashSet, fs, future::Future, time::Duration};

use futures::future::join_all;
use testbed::{System, process::Signal, sink::Sink, system::http};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::helpers;

const REQUESTS: usize = 2_000;
/// The services' own time to stop.
pub(crate) const STOP: Duration = Duration::from_secs(5);
/// How much the allocator may keep of a queue that is full: 8192 spans and 2048 log records.
const FLAT: u64 = 24 << 20;

// proves: N12
#[tokio::test]
async fn a_closed_port_costs_nothing_but_telemetry() {
    nothing_arrives("http://127.0.0.1:1", "http/protobuf").await;
}

#[tokio::test]
async fn a_closed_port_over_grpc_costs_nothing_but_telemetry() {
    nothing_arrives("http://127.0.0.1:1", "grpc").await;
}

#[tokio::test]
async fn a_black_hole_costs_nothing_but_telemetry() {
    let (endpoint, _hole) = black_hole().await;
    for protocol in ["http/protobuf", "grpc"] {
        nothing_arrives(&endpoint, protocol).await;
    }
}

#[tokio::test]
async fn a_server_that_answers_503_costs_nothing_but_telemetry() {
    let (endpoint, _server) = listen(|mut stream| async move {
        let mut request = vec![0; 1 << 20];
        while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
            let answer = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    })
    .await;
    nothing_arrives(&endpoint, "http/protobuf").await;
}

#[tokio::test]
async fn what_was_made_is_what_arrived_and_what_is_said_to_be_lost() {
    let mut system = helpers::start().await;
    get_all(&system, REQUESTS / 2).await;
    system.sink.take_away();
    get_all(&system, REQUESTS / 2).await;
    let (created, lost) = stop(&system).await;
    let arrived = arrived(&system.sink);
    assert!(lost > 0 && arrived > 0, "{lost} lost, {arrived} arrived");
    assert_eq!(created, lost + arrived);
}

/// Runs the requests with a collector at `endpoint` that takes nothing.
async fn nothing_arrives(endpoint: &str, protocol: &str) {
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
    assert!(grown < FLAT, "{grown} bytes more");
    let (created, lost) = stop(&system).await;
    assert!(created >= 2 * REQUESTS as u64, "{created} spans");
    assert_eq!(lost, created, "nothing arrived");
}

/// Reads a book so often, eight at a time; every request is answered.
async fn get_all(system: &System, requests: usize) {
    let url = format!("{}/books/1", system.bookapp.url);
    let client = http().unwrap();
    let get = || async {
        for _ in 0..requests / 8 {
            let answer = client.get(&url).send().await.unwrap();
            assert_eq!(answer.status(), 200);
        }
    };
    join_all((0..8).map(|_| get())).await;
}

/// Stops bookapp in time; how many spans it made, and how many it says it lost.
async fn stop(system: &System) -> (u64, u64) {
    let process = &system.bookapp.process;
    process.signal(Signal::SIGTERM);
    assert!(process.exited(STOP).await.unwrap().success());
    let said = process.lines().into_iter();
    let said: Vec<_> = said
        .filter(|line| line.starts_with("telemetry: "))
        .collect();
    let spans = said
        .iter()
        .find(|line| line.contains(" spans were not delivered"));
    let words: Vec<_> = spans
        .unwrap_or_else(|| panic!("nothing said of spans: {said:?}"))
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

/// Bytes of physical memory bookapp uses.
fn memory(system: &System) -> u64 {
    let statm = format!("/proc/{}/statm", system.bookapp.process.id());
    let statm = fs::read_to_string(statm).unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// A server that takes connections and never answers.
pub(crate) async fn black_hole() -> (String, JoinSet<()>) {
    listen(|stream| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await
}

/// A server that treats each connection this way; gone on drop.
async fn listen<F: Future<Output = ()> + Send + 'static>(
    treat: impl Fn(TcpStream) -> F + Send + 'static,
) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(treat(stream));
        }
    });
    (endpoint, server)
}
