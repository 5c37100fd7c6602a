//! Tests of the options of the server layer, and of the layer without axum.

use std::{
    convert::Infallible,
    future::ready,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    body::{Body, to_bytes},
    http::{Request, Response},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use opentelemetry::{
    KeyValue, Value,
    baggage::BaggageExt,
    trace::{SpanId, TraceId},
};
use opentelemetry_sdk::trace::SpanData;
use telemetry_common::{
    RequestId,
    http::server::{self, AccessLog, ClientAddress, ParentTrace, ServerLayer},
    opentelemetry::Context,
    semconv,
    testing::{self, Spans, attribute},
};
use tokio::{net::TcpListener, task::JoinSet};
use tower::{Layer, ServiceExt, service_fn};
use tracing::{Subscriber, span};
use tracing_subscriber::{
    layer::{self, SubscriberExt},
    registry,
};

use crate::helpers::{series, server_logs, statuses};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// Sends one request with a caller's trace and baggage through the layer. Returns the baggage inside
/// the layer, and the server span.
async fn send(layer: ServerLayer, traceparent: &str) -> (usize, SpanData) {
    testing::install();
    let service = service_fn(async |_: Request<server::RequestBody<Body>>| {
        let baggage = Context::current().baggage().len();
        let response = Response::builder().header("x-baggage", baggage);
        let id = RequestId::current().unwrap().to_string();
        let response = response.header("x-seen-request-id", id);
        Ok::<_, Infallible>(response.body(Body::from("hello")).unwrap())
    });
    let request = Request::get("https://api.example:8443/options")
        .header("traceparent", traceparent)
        .header("baggage", "tenant=7")
        .header("x-request-id", "mine")
        .header("forwarded", "for=192.0.2.60;proto=http")
        .extension("10.0.0.7:4711".parse::<SocketAddr>().unwrap());
    let layer = layer.peer(|request| request.extensions.get().copied());
    let request = request.body(Body::empty()).unwrap();
    let response = layer.layer(service).oneshot(request).await.unwrap();
    assert_eq!(response.headers()["x-seen-request-id"], "mine");
    assert_eq!(response.headers()["x-request-id"], "mine");
    let baggage = response.headers()["x-baggage"].to_str().unwrap();
    let baggage = baggage.parse().unwrap();
    let own = response.headers()["traceparent"]
        .to_str()
        .unwrap()
        .to_owned();
    to_bytes(Body::new(response.into_body()), 100)
        .await
        .unwrap();
    let spans = Spans::of(TraceId::from_hex(&own[3..35]).unwrap());
    let id = SpanId::from_hex(&own[36..52]).unwrap();
    let mut spans = spans
        .iter()
        .filter(|span| span.span_context.span_id() == id);
    let span = spans.next().expect("the span has ended").clone();
    (baggage, span)
}

/// The header of a sampled trace, which no other test uses.
fn traceparent(name: &str) -> String {
    let unique = u128::from_be_bytes(std::array::from_fn(|index| {
        name.as_bytes().get(index).copied().unwrap_or(1)
    }));
    format!("00-{unique:032x}-{CALLER}-01")
}

#[tokio::test]
async fn the_caller_s_trace_is_continued_linked_or_ignored() {
    let continued = send(server::layer(), &traceparent("continue")).await;
    let linked = send(
        server::layer().parent(ParentTrace::Link),
        &traceparent("link"),
    )
    .await;
    let ignored = send(
        server::layer().parent(ParentTrace::Ignore),
        &traceparent("ignore"),
    )
    .await;
    let caller = SpanId::from_hex(CALLER).unwrap();

    assert_eq!(continued.1.parent_span_id, caller);
    assert!(continued.1.parent_span_is_remote);
    for (_, span) in [&linked, &ignored] {
        assert_eq!(span.parent_span_id, SpanId::INVALID);
    }
    let link = linked.1.links.iter().next().expect("a link to the caller");
    assert_eq!(link.span_context.span_id(), caller);
    assert_ne!(
        linked.1.span_context.trace_id(),
        link.span_context.trace_id()
    );
    assert!(ignored.1.links.is_empty());
    for (baggage, _) in [continued, linked, ignored] {
        assert_eq!(baggage, 1);
    }
}

#[tokio::test]
async fn the_caller_s_baggage_counts_only_where_it_is_trusted() {
    let layer = server::layer().trust_baggage(false);
    let (baggage, span) = send(layer, &traceparent("baggage")).await;
    assert_eq!(baggage, 0);
    assert!(span.parent_span_is_remote, "the trace is continued");
}

#[tokio::test]
async fn the_caller_s_sampling_decision_counts_only_where_it_is_trusted() {
    // The sampler of the tests is parent-based: a span exists only if the decision is made anew.
    let unsampled = format!("00-{TRACE}-{CALLER}-00");
    let layer = server::layer().trust_sampling(false);
    let (_, span) = send(layer, &unsampled).await;
    assert_eq!(span.span_context.trace_id().to_string(), TRACE);
    assert!(span.span_context.is_sampled());
    // A link decides about other traces, but not that to a caller.
    let layer = server::layer().parent(ParentTrace::Link);
    let (_, span) = send(layer, &unsampled).await;
    assert_eq!(span.links.len(), 1);
    assert!(span.span_context.trace_state().header().is_empty());
}

#[tokio::test]
async fn address_and_scheme_come_from_the_connection_or_from_trusted_proxies() {
    let peer = send(server::layer(), &traceparent("peer")).await.1;
    let source = ClientAddress::Forwarded { trusted_hops: 1 };
    let layer = server::layer().client_address(source);
    let forwarded = send(layer, &traceparent("forwarded")).await.1;
    for (span, client, scheme) in [
        (&peer, "10.0.0.7", "https"),
        (&forwarded, "192.0.2.60", "http"),
    ] {
        let text = |key| attribute(span, key).map(Value::as_str);
        assert_eq!(text(semconv::CLIENT_ADDRESS).as_deref(), Some(client));
        assert_eq!(text(semconv::URL_SCHEME).as_deref(), Some(scheme));
        assert_eq!(
            text(semconv::NETWORK_PEER_ADDRESS).as_deref(),
            Some("10.0.0.7")
        );
        assert_eq!(
            text(semconv::SERVER_ADDRESS).as_deref(),
            Some("api.example")
        );
        assert_eq!(
            attribute(span, semconv::SERVER_PORT),
            Some(&Value::I64(8443))
        );
    }
}

#[tokio::test]
async fn a_skipped_request_has_no_telemetry() {
    testing::install();
    let (ids, spans) = testing::spans_of(async {
        let service = service_fn(async |_: Request<server::RequestBody<Body>>| {
            let id = RequestId::current().map(|id| id.to_string());
            Ok::<_, Infallible>(Response::new(Body::from(id.unwrap_or_default())))
        });
        let layer = server::layer().skip(|request| request.uri.path() == "/health");
        let request = Request::get("/health").body(Body::empty()).unwrap();
        let response = layer.layer(service).oneshot(request).await.unwrap();
        assert!(!response.headers().contains_key("x-request-id"));
        to_bytes(Body::new(response.into_body()), 100)
            .await
            .unwrap()
    })
    .await;
    assert!(ids.is_empty());
    assert_eq!(spans.names(), ["test"]);
    assert!(server_logs(spans.trace_id()).is_empty());
}

#[tokio::test]
async fn access_log_and_body_sizes_can_be_turned_off() {
    let route = |_: &server::RequestHead<'_>| Some(Arc::from("/quiet"));
    let layer = server::layer().access_log(AccessLog::Off).body_sizes(false);
    let (_, span) = send(layer.route(route), &traceparent("quiet")).await;
    assert_eq!(span.name, "GET /quiet");
    assert!(server_logs(span.span_context.trace_id()).is_empty());
    let route = KeyValue::new(semconv::HTTP_ROUTE, "/quiet");
    assert_eq!(
        series(semconv::HTTP_SERVER_REQUEST_DURATION, &route).len(),
        1
    );
    let sizes = testing::sum(semconv::HTTP_SERVER_RESPONSE_BODY_SIZE, &route);
    assert!(sizes.abs() < f64::EPSILON);
}

#[tokio::test]
async fn a_plain_hyper_server_is_observed_too() {
    testing::install();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let hello = service_fn(async |_: Request<_>| {
            Ok::<_, Infallible>(Response::new(Body::from("hello")))
        });
        let service = TowerToHyperService::new(server::layer().tls().layer(hello));
        let server = auto::Builder::new(TokioExecutor::new());
        let connection = server.serve_connection(TokioIo::new(stream), service);
        connection.await.unwrap();
    });
    let (text, spans) = testing::spans_of(async {
        let request = crate::helpers::client().get(format!("http://{address}/plain"));
        request.send().await.unwrap().text().await.unwrap()
    })
    .await;
    assert_eq!(text, "hello");
    let spans = spans
        .all_named("GET")
        .into_iter()
        .cloned()
        .collect::<Vec<_>>();
    let [server, client] = &spans[..] else {
        panic!("{spans:?}")
    };
    assert_eq!(server.parent_span_id, client.span_context.span_id());
    assert_eq!(attribute(server, "url.path"), Some(&"/plain".into()));
    let scheme = attribute(server, semconv::URL_SCHEME);
    assert_eq!(scheme, Some(&"https".into()), "the server terminates TLS");
}

/// A layer that keeps the fields of the spans that it receives.
#[derive(Clone, Default)]
struct FieldsLayer(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> tracing_subscriber::Layer<S> for FieldsLayer {
    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        _: &span::Id,
        _: layer::Context<'_, S>,
    ) {
        let fields = format!("{:?}", attributes.values());
        self.0.lock().unwrap().push(fields);
    }
}

#[tokio::test]
async fn a_layer_of_the_application_receives_the_fields_of_the_request() {
    let fields = FieldsLayer::default();
    let subscriber = registry().with(fields.clone());
    let _guard = tracing::subscriber::set_default(subscriber);
    let layer = server::layer().route(|_| Some(Arc::from("/fields")));
    let (_, span) = send(layer, &traceparent("fields")).await;
    assert_eq!(span.name, "GET /fields", "the span is exported, too");
    let fields = fields.0.lock().unwrap();
    let [request] = &fields[..] else {
        panic!("expected one span: {fields:?}")
    };
    for field in [
        "http.request.method: \"GET\"",
        "http.route: \"/fields\"",
        "mine",
    ] {
        assert!(request.contains(field), "{request}");
    }
}

/// Sends a request of an unsampled or sampled trace, whose response has this status. Returns its trace.
async fn respond(layer: &ServerLayer, flags: &str, status: u16) -> TraceId {
    testing::install();
    let service = service_fn(move |_: Request<server::RequestBody<Body>>| {
        let response = Response::builder().status(status).body(Body::empty());
        ready(Ok::<_, Infallible>(response.unwrap()))
    });
    let trace = TraceId::from(fastrand::u128(1..));
    let traceparent = format!("00-{trace}-{CALLER}-{flags}");
    let request = Request::get("/options").header("traceparent", traceparent);
    let request = request.body(Body::empty()).unwrap();
    let response = layer.layer(service).oneshot(request).await.unwrap();
    let traceparent = response.headers()["traceparent"].to_str().unwrap();
    assert!(traceparent.contains(&trace.to_string()));
    trace
}

/// Returns the number of access log records of a request.
async fn logged(slow: Duration, flags: &str, status: u16) -> usize {
    let layer = server::layer().sample_access_log_below(slow);
    server_logs(respond(&layer, flags, status).await).len()
}

#[tokio::test]
async fn a_thinned_access_log_has_sampled_slow_and_failed_requests() {
    let hour = Duration::from_hours(1);
    assert_eq!(logged(hour, "01", 200).await, 1, "sampled");
    assert_eq!(
        logged(hour, "00", 200).await,
        0,
        "neither sampled, slow nor failed"
    );
    assert_eq!(logged(Duration::ZERO, "00", 200).await, 1, "slow");
    assert_eq!(logged(hour, "00", 404).await, 1, "failed");
    assert_eq!(logged(hour, "00", 503).await, 1, "failed");
}

#[tokio::test]
async fn each_status_of_a_route_has_its_own_series() {
    let layer = server::layer().route(|_| Some("/each-status".into()));
    for status in [200, 404, 503, 200] {
        respond(&layer, "01", status).await;
    }
    let route = KeyValue::new(semconv::HTTP_ROUTE, "/each-status");
    let found = statuses(semconv::HTTP_SERVER_REQUEST_DURATION, &route);
    assert_eq!(found, ["200 ", "404 ", "503 503"]);
}
