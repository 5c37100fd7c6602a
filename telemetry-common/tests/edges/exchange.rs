//! Tests of the ends of an exchange: the last frame, an error, a panic, a closed connection.

use std::{convert::Infallible, io, panic::AssertUnwindSafe};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::Request,
    response::Response,
    routing::{get, options},
};
use futures::{StreamExt, stream};
use opentelemetry::{
    KeyValue, Value,
    trace::{SpanKind, Status},
};
use telemetry_common::{
    http::server,
    semconv,
    testing::{self, Spans, attribute},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tower::ServiceExt;
use tracing::{Instrument, info, info_span};

use crate::helpers::{SLOW, client, duration, has_series, pair, serve, server_logs};

/// A body whose first frame arrives at once, and the rest as `rest` does.
fn body<S>(rest: S) -> Body
where
    S: stream::Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    let first = stream::iter([Ok(Bytes::from_static(b"first "))]);
    Body::from_stream(first.chain(rest))
}

#[tokio::test]
async fn a_streamed_response_is_one_span_until_its_last_frame() {
    let mut tasks = JoinSet::new();
    let slow = async || {
        body(stream::once(async {
            sleep(SLOW).await;
            info_span!("look up").in_scope(|| info!("found while streaming"));
            Ok(Bytes::from_static(b"last"))
        }))
    };
    let address = serve(
        Router::new().route("/stream/finished", get(slow)),
        &mut tasks,
    )
    .await;
    let (text, spans) = testing::spans_of(async {
        let request = client().get(format!("http://{address}/stream/finished"));
        request.send().await.unwrap().text().await.unwrap()
    })
    .await;
    assert_eq!(text, "first last");
    let span = spans.named("GET /stream/finished");
    assert!(duration(span) >= SLOW, "{:?}", duration(span));
    assert_eq!(span.status, Status::Unset);
    let Some(Value::F64(first_byte)) = attribute(span, semconv::TIME_TO_FIRST_BYTE) else {
        panic!("no time to first byte: {span:?}");
    };
    assert!(*first_byte < duration(span).as_secs_f64() - 0.9);
    let inner = spans.named("look up");
    assert_eq!(inner.parent_span_id, span.span_context.span_id());
    let call = spans.iter().find(|span| span.span_kind == SpanKind::Client);
    assert!(duration(call.unwrap()) >= SLOW, "the client's span, too");

    let logs = server_logs(spans.trace_id());
    let [found, access] = &logs[..] else {
        panic!("expected two log records: {logs:?}")
    };
    assert!(format!("{:?}", found.record).contains("found while streaming"));
    let name = access.record.event_name();
    assert_eq!(name, Some("telemetry_common.http.server.responded"));
    let route = Value::from("/stream/finished");
    let seconds = testing::sum(semconv::HTTP_SERVER_REQUEST_DURATION, &pair(route.clone()));
    assert!(seconds >= SLOW.as_secs_f64(), "{seconds}");
    let bytes = testing::sum(semconv::HTTP_SERVER_RESPONSE_BODY_SIZE, &pair(route));
    assert!((bytes - 10.0).abs() < f64::EPSILON, "{bytes}");
}

#[tokio::test]
async fn a_streamed_response_that_its_client_cuts_ends_when_it_is_cut() {
    let mut tasks = JoinSet::new();
    let endless = async || body(stream::pending());
    let address = serve(Router::new().route("/stream/cut", get(endless)), &mut tasks).await;
    let started = Instant::now();
    let ((), spans) = testing::spans_of(async {
        let request = client().get(format!("http://{address}/stream/cut"));
        let mut response = request.send().await.unwrap();
        assert_eq!(response.chunk().await.unwrap().unwrap(), "first ");
        sleep(SLOW).await;
    })
    .await;
    let spans = spans.wait_for("GET /stream/cut").await;
    let span = spans.named("GET /stream/cut");
    assert!(duration(span) >= SLOW && duration(span) <= started.elapsed());
    assert_failed(&spans, "GET /stream/cut", "cancelled", "cancelled");
    let status = attribute(span, semconv::HTTP_RESPONSE_STATUS_CODE);
    assert_eq!(status, Some(&Value::I64(200)), "the head was sent");
    let call = spans.iter().find(|span| span.span_kind == SpanKind::Client);
    let cancelled = attribute(call.unwrap(), semconv::CANCELLED);
    assert_eq!(cancelled, Some(&true.into()));
}

#[tokio::test]
async fn a_panic_while_streaming_is_a_panic() {
    let mut tasks = JoinSet::new();
    let panics = async || {
        body(stream::once(async {
            panic!("the shelf fell over");
        }))
    };
    let address = serve(
        Router::new().route("/stream/panic", get(panics)),
        &mut tasks,
    )
    .await;
    let spans = broken(&format!("http://{address}/stream/panic")).await;
    assert_failed(&spans, "GET /stream/panic", "panic", "panicked");
}

#[tokio::test]
async fn an_error_while_streaming_is_the_response_body_s() {
    let mut tasks = JoinSet::new();
    let fails = async || body(stream::once(async { Err(io::Error::other("disk gone")) }));
    let address = serve(Router::new().route("/stream/error", get(fails)), &mut tasks).await;
    let spans = broken(&format!("http://{address}/stream/error")).await;
    assert_failed(&spans, "GET /stream/error", "response_body", "failed");
    let span = spans.named("GET /stream/error");
    let Status::Error { description } = &span.status else {
        panic!("{:?}", span.status)
    };
    assert!(description.contains("disk gone"), "{description}");
}

#[tokio::test]
async fn an_uncaught_panic_is_a_panic_on_span_metric_and_log() {
    testing::install();
    let panics = async || -> String { panic!("the shelf fell over") };
    let app = Router::new()
        .route("/uncaught", get(panics))
        .layer(server::layer());
    let (outcome, spans) = testing::spans_of(async {
        let request = Request::get("/uncaught");
        let response = app.oneshot(request.body(Body::empty()).unwrap());
        let mut task = JoinSet::new();
        task.spawn(response.in_current_span());
        task.join_next().await.unwrap()
    })
    .await;
    assert!(outcome.unwrap_err().is_panic());
    assert_failed(&spans, "GET /uncaught", "panic", "panicked");
}

/// Panics when it is dropped.
struct Fragile;

impl Drop for Fragile {
    fn drop(&mut self) {
        info!("dropped inside the request");
        panic!("the shelf fell over");
    }
}

#[tokio::test]
async fn a_handler_is_dropped_inside_its_request() {
    testing::install();
    let waits = async || {
        let _fragile = Fragile;
        std::future::pending::<()>().await;
    };
    let app = Router::new()
        .route("/fragile", get(waits))
        .layer(server::layer());
    let (panicked, spans) = testing::spans_of(async {
        let request = Request::get("/fragile").body(Body::empty()).unwrap();
        let mut response = Box::pin(app.oneshot(request));
        assert!(futures::poll!(&mut response).is_pending());
        std::panic::catch_unwind(AssertUnwindSafe(|| drop(response))).is_err()
    })
    .await;
    assert!(panicked);
    let span = spans.named("GET /fragile");
    assert_eq!(attribute(span, semconv::ERROR_TYPE), Some(&"panic".into()));
    let logs = server_logs(spans.trace_id());
    let dropped = logs
        .iter()
        .find(|log| format!("{:?}", log.record).contains("dropped inside"));
    let context = dropped
        .expect("a log record")
        .record
        .trace_context()
        .unwrap();
    assert_eq!(context.span_id, span.span_context.span_id());
}

#[tokio::test]
async fn a_streamed_response_of_the_announced_length_is_complete() {
    let mut tasks = JoinSet::new();
    let announced = async || {
        let rest = stream::iter([Ok(Bytes::from_static(b"last"))]);
        (
            [("content-length", "10")],
            body(rest.chain(stream::pending())),
        )
    };
    let address = serve(
        Router::new().route("/announced", get(announced)),
        &mut tasks,
    )
    .await;
    let (text, spans) = testing::spans_of(async {
        let request = client().get(format!("http://{address}/announced"));
        request.send().await.unwrap().text().await.unwrap()
    })
    .await;
    assert_eq!(text, "first last");
    let spans = spans.wait_for("GET /announced").await;
    assert_eq!(spans.named("GET /announced").status, Status::Unset);
}

#[tokio::test]
async fn a_response_without_a_body_ends_with_its_head() {
    let mut tasks = JoinSet::new();
    let router = Router::new().route("/head", get(async || body(stream::pending())));
    let address = serve(router, &mut tasks).await;
    let (response, spans) = testing::spans_of(async {
        let url = format!("http://{address}/head");
        client().head(url).send().await.unwrap()
    })
    .await;
    assert_eq!(response.status(), 200);
    let span = spans.wait_for("HEAD /head").await;
    let span = span.named("HEAD /head").clone();
    assert_eq!(span.status, Status::Unset, "{span:?}");
}

#[tokio::test]
async fn a_request_is_active_until_its_end() {
    // No other test sends this method.
    fn active() -> f64 {
        let method = KeyValue::new(semconv::HTTP_REQUEST_METHOD, "OPTIONS");
        testing::sum(semconv::HTTP_SERVER_ACTIVE_REQUESTS, &method)
    }
    testing::install();
    let router = Router::new().route("/", options(async || active().to_string()));
    let request = Request::options("/").body(Body::empty()).unwrap();
    let response = router
        .layer(server::layer())
        .oneshot(request)
        .await
        .unwrap();
    let inside = to_bytes(response.into_body(), 100).await.unwrap();
    assert_eq!((&*inside, active()), (&b"1"[..], 0.0));
}

#[tokio::test]
async fn a_span_that_outlives_the_request_does_not_prolong_it() {
    testing::install();
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let released = std::sync::Mutex::new(Some(released));
    let accept = move || {
        let released = released.lock().unwrap().take().unwrap();
        let work = async { released.await.unwrap() };
        telemetry_common::task::spawn(work.instrument(info_span!("later")));
        async { "accepted" }
    };
    let app = tower::service_fn(move |_: Request<_>| {
        let response = accept();
        async { Ok::<_, Infallible>(Response::new(Body::from(response.await))) }
    });
    let app = tower::ServiceBuilder::new()
        .layer(server::layer())
        .service(app);
    let (response, spans) = testing::spans_of(async {
        let request = Request::get("/");
        app.oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap()
    })
    .await;
    to_bytes(Body::new(response.into_body()), 100)
        .await
        .unwrap();
    let ended = spans.refreshed();
    let request = ended.named("GET").clone();
    release.send(()).unwrap();
    let spans = spans.wait_for("later").await;
    let later = spans.named("later");
    assert_eq!(later.parent_span_id, request.span_context.span_id());
    assert_eq!(spans.named("GET").end_time, request.end_time);
}

/// Requests a response that breaks off. Returns the spans of the trace.
async fn broken(url: &str) -> Spans {
    let ((), spans) = testing::spans_of(async {
        // The failure may occur before the head is sent.
        if let Ok(response) = client().get(url).send().await {
            response.text().await.unwrap_err();
        }
    })
    .await;
    let path = &url[url.find("/stream").unwrap()..];
    spans.wait_for(&format!("GET {path}")).await
}

/// Asserts that span, metric and access log record have this failure.
#[track_caller]
fn assert_failed(spans: &Spans, name: &str, error_type: &str, event: &str) {
    let span = spans.named(name);
    assert!(matches!(span.status, Status::Error { .. }), "{span:?}");
    let found = attribute(span, semconv::ERROR_TYPE);
    assert_eq!(found, Some(&Value::from(error_type.to_owned())));
    let route = name.split(' ').nth(1).unwrap();
    assert!(has_series(route, Some(error_type)));
    let event = format!("telemetry_common.http.server.{event}");
    let logs = server_logs(spans.trace_id());
    let access: Vec<_> = logs
        .iter()
        .filter(|log| {
            log.record
                .event_name()
                .is_some_and(|name| name.starts_with("telemetry_common.http."))
        })
        .collect();
    let [access] = access[..] else {
        panic!("expected one access log record: {access:?}")
    };
    assert_eq!(access.record.event_name(), Some(&*event));
    let own = access.record.trace_context().unwrap().span_id;
    assert_eq!(own, span.span_context.span_id());
}
