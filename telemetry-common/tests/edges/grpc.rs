//! Tests of the gRPC layers: the status in the trailers, failures, unknown methods, cancellation.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Bytes;
use axum::http::{HeaderMap, Request, Response, Uri};
use futures::FutureExt;
use http_body::{Body, Frame};
use opentelemetry::{
    KeyValue, Value,
    trace::{SpanKind, Status},
};
use opentelemetry_sdk::trace::SpanData;
use telemetry_common::{
    grpc,
    http::{ObservedBody, server::RequestBody},
    semconv,
    testing::{self, Spans, attribute},
};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::helpers::series;

/// The body of a call: its frames, and what comes after them.
struct Messages(VecDeque<Frame<Bytes>>, After);

#[derive(Clone, Copy)]
enum After {
    End,
    Nothing,
    Error,
    Panic,
}

impl Messages {
    fn ending_with(status: u8) -> Self {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", status.to_string().parse().unwrap());
        let message = Frame::data(Bytes::from_static(b"message"));
        Self([message, Frame::trailers(trailers)].into(), After::End)
    }
}

impl Body for Messages {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match (self.0.pop_front(), self.1) {
            (Some(frame), _) => Poll::Ready(Some(Ok(frame))),
            (None, After::End) => Poll::Ready(None),
            (None, After::Nothing) => Poll::Pending,
            (None, After::Error) => Poll::Ready(Some(Err(io::Error::other("disk gone")))),
            (None, After::Panic) => panic!("the shelf fell over"),
        }
    }
}

/// Calls a method through both layers. The server responds with `body`, and with `status` in its
/// head if there is one; `HTTP 503` is a response of a proxy. The client reads `frames` frames.
async fn call(method: &str, body: Messages, status: Option<&str>, frames: usize) -> Spans {
    testing::install();
    let (mut body, status) = (Some(body), status.map(str::to_owned));
    let server = service_fn(move |request: Request<RequestBody<String>>| {
        assert!(request.headers().contains_key("traceparent"));
        assert_eq!(request.headers()["x-request-id"], "call-7");
        let mut response = Response::builder();
        match status.as_deref() {
            Some("HTTP 503") => response = response.status(503),
            Some(status) => response = response.header("grpc-status", status),
            None => {}
        }
        let response = response.body(body.take().unwrap()).unwrap();
        async { Ok::<_, Infallible>(response) }
    });
    let server = grpc::server_layer().layer(server);
    let endpoint = Uri::from_static("http://stock:50051");
    let mut client = grpc::client_layer(&endpoint).trusted().layer(server);
    let request = Request::post(format!("/{method}"))
        .body(String::new())
        .unwrap();
    let id = telemetry_common::RequestId::parse("call-7").unwrap();
    let work = async {
        let response = client.ready().await.unwrap().call(request).await.unwrap();
        let mut body: ObservedBody<ObservedBody<Messages>> = response.into_body();
        for _ in 0..frames {
            std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        }
    };
    testing::spans_of(async { id.scope(work).await }).await.1
}

fn of_kind<'s>(spans: &'s Spans, kind: &SpanKind) -> &'s SpanData {
    let mut found = spans.iter().filter(|span| span.span_kind == *kind);
    found.next().expect("a span of this kind")
}

/// Asserts status code and `error.type` of a span, and that the duration metric has them too.
#[track_caller]
fn assert_ended(span: &SpanData, metric: &str, method: &str, status: &str, is_failure: bool) {
    let code = attribute(span, semconv::RPC_RESPONSE_STATUS_CODE);
    assert_eq!(code, Some(&Value::from(status.to_owned())));
    assert_eq!(
        matches!(span.status, Status::Error { .. }),
        is_failure,
        "{span:?}"
    );
    let method = KeyValue::new(semconv::RPC_METHOD, method.to_owned());
    let series = series(metric, &method);
    let status = KeyValue::new(semconv::RPC_RESPONSE_STATUS_CODE, status.to_owned());
    let of_status: Vec<_> = series.iter().filter(|it| it.contains(&status)).collect();
    let [of_status] = of_status[..] else {
        panic!("{series:?}")
    };
    let error_type = |pair: &&KeyValue| pair.key.as_str() == semconv::ERROR_TYPE;
    assert_eq!(of_status.iter().any(|pair| error_type(&pair)), is_failure);
}

const SERVER: &str = semconv::RPC_SERVER_CALL_DURATION;
const CLIENT: &str = semconv::RPC_CLIENT_CALL_DURATION;

#[tokio::test]
async fn a_call_ends_with_the_status_in_its_trailers() {
    let spans = call("shop.Stock/Reserve", Messages::ending_with(0), None, 2).await;
    let (server, client) = (
        of_kind(&spans, &SpanKind::Server),
        of_kind(&spans, &SpanKind::Client),
    );
    assert_eq!(server.parent_span_id, client.span_context.span_id());
    for span in [server, client] {
        assert_eq!(span.name, "shop.Stock/Reserve");
        assert_eq!(
            attribute(span, semconv::RPC_SYSTEM_NAME),
            Some(&"grpc".into())
        );
        assert_eq!(
            attribute(span, semconv::RPC_METHOD),
            Some(&"shop.Stock/Reserve".into())
        );
    }
    assert_ended(server, SERVER, "shop.Stock/Reserve", "OK", false);
    assert_ended(client, CLIENT, "shop.Stock/Reserve", "OK", false);
    assert_eq!(
        attribute(client, semconv::SERVER_ADDRESS),
        Some(&"stock".into())
    );
    assert_eq!(
        attribute(client, semconv::SERVER_PORT),
        Some(&Value::I64(50051))
    );
    assert_eq!(access_log(&spans), "telemetry_common.rpc.server.responded");
}

#[tokio::test]
async fn a_client_s_mistake_is_a_failure_of_the_client_alone() {
    let spans = call("shop.Stock/Missing", Messages::ending_with(5), None, 2).await;
    let (server, client) = (
        of_kind(&spans, &SpanKind::Server),
        of_kind(&spans, &SpanKind::Client),
    );
    assert_ended(server, SERVER, "shop.Stock/Missing", "NOT_FOUND", false);
    assert_ended(client, CLIENT, "shop.Stock/Missing", "NOT_FOUND", true);
    let spans = call("shop.Stock/Broken", Messages::ending_with(13), None, 2).await;
    let server = of_kind(&spans, &SpanKind::Server);
    assert_ended(server, SERVER, "shop.Stock/Broken", "INTERNAL", true);
}

#[tokio::test]
async fn an_unknown_method_cannot_grow_names_or_labels() {
    let body = Messages([].into(), After::End);
    let spans = call("shop.Stock/Guessed", body, Some("12"), 1).await;
    let server = of_kind(&spans, &SpanKind::Server);
    assert_eq!(server.name, "grpc");
    let original = attribute(server, semconv::RPC_METHOD_ORIGINAL);
    assert_eq!(original, Some(&"shop.Stock/Guessed".into()));
    assert_ended(server, SERVER, "_OTHER", "UNIMPLEMENTED", true);
    let guessed = KeyValue::new(semconv::RPC_METHOD, "shop.Stock/Guessed");
    assert!(series(SERVER, &guessed).is_empty());
}

#[tokio::test]
async fn a_stream_that_its_caller_cancels_is_cancelled_and_no_failure() {
    let endless = stream(After::Nothing);
    let spans = call("shop.Stock/Watch", endless, None, 1).await;
    let (server, client) = (
        of_kind(&spans, &SpanKind::Server),
        of_kind(&spans, &SpanKind::Client),
    );
    assert_ended(server, SERVER, "shop.Stock/Watch", "CANCELLED", false);
    assert_ended(client, CLIENT, "shop.Stock/Watch", "CANCELLED", false);
    for span in [server, client] {
        assert_eq!(attribute(span, semconv::CANCELLED), Some(&true.into()));
    }
    assert_eq!(access_log(&spans), "telemetry_common.rpc.server.cancelled");
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_distinguished_from_a_status() {
    for (method, after, error_type, event) in [
        ("shop.Stock/Fails", After::Error, "response_body", "failed"),
        ("shop.Stock/Panics", After::Panic, "panic", "panicked"),
    ] {
        let call = AssertUnwindSafe(call(method, stream(after), None, 2));
        // The spans of a call that panics are found by its method.
        let _ = call.catch_unwind().await;
        let spans = testing::events(&format!("telemetry_common.rpc.server.{event}"));
        let trace = spans.iter().rev().find_map(|log| {
            let is_own = format!("{:?}", log.record).contains(method);
            is_own.then(|| log.record.trace_context().unwrap().trace_id)
        });
        let spans = Spans::of(trace.expect("an access log record"));
        let server = of_kind(&spans, &SpanKind::Server);
        let found = attribute(server, semconv::ERROR_TYPE);
        assert_eq!(found, Some(&Value::from(error_type)), "{method}");
        assert_ended(server, SERVER, method, "UNKNOWN", true);
    }
}

#[tokio::test]
async fn a_response_of_http_has_the_status_that_stands_for_it() {
    let body = Messages([].into(), After::End);
    let spans = call("shop.Stock/Proxied", body, Some("HTTP 503"), 1).await;
    let client = of_kind(&spans, &SpanKind::Client);
    assert_ended(client, CLIENT, "shop.Stock/Proxied", "UNAVAILABLE", true);
    let server = of_kind(&spans, &SpanKind::Server);
    assert_ended(server, SERVER, "_OTHER", "UNAVAILABLE", true);
}

/// A stream of one message.
fn stream(after: After) -> Messages {
    Messages([Frame::data(Bytes::from_static(b"message"))].into(), after)
}

/// Returns the event name of the only log record.
fn access_log(spans: &Spans) -> String {
    let logs = testing::logs_of(spans.trace_id());
    let [log] = &logs[..] else {
        panic!("expected one log record: {logs:?}")
    };
    log.record.event_name().unwrap().to_owned()
}
