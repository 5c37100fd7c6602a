//! Tests of the client span: propagation, attribute types, failures, cancellation and redaction.

use std::time::Duration;

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::HeaderMap,
    response::Redirect,
    routing::get,
};
use reqwest_middleware::RequestBuilder;
use telemetry_common::{
    RequestId,
    http::{
        client::{self, TrustedHosts, UrlTemplate},
        server,
    },
    opentelemetry::{
        Context, KeyValue, Value,
        baggage::BaggageExt,
        context::FutureExt,
        trace::{SpanKind, Status, TraceId},
    },
    semconv,
    testing::{self, Spans, attribute},
};
use tokio::{net::TcpListener, task::JoinSet};
use tower::ServiceExt;

use crate::helpers::{Shop, client, client_with, serve, statuses};

// proves: B7 R7
#[tokio::test]
async fn the_span_s_context_arrives_and_its_numbers_are_numbers() {
    testing::install();
    // Responds with the `traceparent` header of the request.
    let echo = Router::new().route(
        "/echo",
        get(
            |headers: HeaderMap| async move { headers["traceparent"].to_str().unwrap().to_owned() },
        ),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut server = JoinSet::new();
    server.spawn(async { axum::serve(listener, echo).await.unwrap() });

    let (received, spans) = testing::spans_of(async {
        let url = format!("http://ada:lovelace@127.0.0.1:{port}/echo");
        with_template(client().get(url))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    })
    .await;
    let span = spans.named("GET /echo");
    assert_eq!(span.span_kind, SpanKind::Client);
    assert_eq!(span.status, Status::Unset);
    let context = &span.span_context;
    assert_eq!(
        received,
        format!("00-{}-{}-01", context.trace_id(), context.span_id())
    );
    assert_eq!(
        attribute(span, semconv::HTTP_RESPONSE_STATUS_CODE),
        Some(&Value::I64(200))
    );
    assert_eq!(
        attribute(span, semconv::SERVER_PORT),
        Some(&Value::I64(port.into()))
    );
    assert_eq!(
        attribute(span, semconv::URL_TEMPLATE),
        Some(&"/echo".into())
    );
    let url = format!("http://127.0.0.1:{port}/echo");
    assert_eq!(
        attribute(span, semconv::URL_FULL),
        Some(&url.into()),
        "the URL has no credentials"
    );
}

#[tokio::test]
async fn only_a_trusted_host_receives_baggage_and_request_id() {
    testing::install();
    let echo = async |headers: HeaderMap| {
        let names = ["traceparent", "baggage", "x-request-id"];
        names
            .map(|name| headers.contains_key(name).to_string())
            .join(" ")
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    let router = Router::new().route("/", get(echo));
    server.spawn(async { axum::serve(listener, router).await.unwrap() });
    for (trusted, received) in [
        (TrustedHosts::none(), "true false false"),
        (TrustedHosts::only(["elsewhere"]), "true false false"),
        (TrustedHosts::only(["127.0.0.1"]), "true true true"),
        (TrustedHosts::all(), "true true true"),
    ] {
        let http = reqwest::Client::builder().build().unwrap();
        let client = client::with_tracing(http, trusted.clone());
        let (text, _) = testing::spans_of(async {
            let baggage = Context::current().with_baggage([KeyValue::new("tenant", "7")]);
            let request = RequestId::generate().scope(client.get(&url).send());
            let response = request.with_context(baggage).await.unwrap();
            response.text().await.unwrap()
        })
        .await;
        assert_eq!(text, received, "{trusted:?}");
    }
}

#[tokio::test]
async fn a_redirect_leads_no_baggage_from_a_trusted_host_to_another() {
    testing::install();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let away = format!("http://localhost:{port}/away");
    let router = Router::new()
        .route("/", get(async move || Redirect::temporary(&away)))
        .route("/inside", get(async || Redirect::temporary("/end")))
        .route("/end", get(async || "the end"))
        .route("/away", get(async || "elsewhere"));
    let mut server = JoinSet::new();
    server.spawn(async { axum::serve(listener, router).await.unwrap() });
    let trusted = TrustedHosts::only(["127.0.0.1"]);
    let http = reqwest::Client::builder().redirect(trusted.redirect_policy());
    let client = client::with_tracing(http.build().unwrap(), trusted);
    for (path, status) in [("", 307), ("inside", 200)] {
        let url = format!("http://127.0.0.1:{port}/{path}");
        assert_eq!(
            client.get(url).send().await.unwrap().status(),
            status,
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_failed_request_has_its_error_type() {
    let shop = Shop::open().await;
    let impatient = client_with(Duration::from_millis(300));
    for (client, url, error_type) in [
        (client(), format!("{}/nowhere", shop.url), "404"),
        (client(), format!("{}/shelf/broken", shop.url), "500"),
        (impatient, format!("{}/shelf/never", shop.url), "timeout"),
        (client(), "http://127.0.0.1:1/".to_owned(), "connect"),
    ] {
        let (_, spans) = testing::spans_of(with_template(client.get(&url)).send()).await;
        let span = spans.named("GET /echo");
        assert_eq!(
            attribute(span, semconv::ERROR_TYPE),
            Some(&error_type.into()),
            "{url}"
        );
        assert!(matches!(span.status, Status::Error { .. }), "{url}");
    }
}

#[tokio::test]
async fn a_cancelled_request_is_marked_and_is_not_an_error() {
    let shop = Shop::open().await;
    let port = shop.url.rsplit(':').next().unwrap().parse::<i64>().unwrap();
    let url = format!("{}/shelf/never", shop.url);
    let ((), spans) = testing::spans_of(async {
        let response = with_template(client().get(url)).send();
        let outcome = tokio::time::timeout(Duration::from_millis(200), response).await;
        assert!(outcome.is_err(), "the server never responds");
    })
    .await;
    let span = spans.named("GET /echo");
    assert_eq!(attribute(span, semconv::CANCELLED), Some(&true.into()));
    assert_eq!(span.status, Status::Unset);
    let port = KeyValue::new(semconv::SERVER_PORT, port);
    assert!(
        testing::sum(semconv::HTTP_CLIENT_REQUEST_DURATION, &port) > 0.1,
        "the duration is recorded"
    );
}

/// Adds the URL template, as a generated client does.
#[tokio::test]
async fn each_status_of_a_template_has_its_own_series() {
    let mut tasks = JoinSet::new();
    let router = Router::new().route("/found", get(|| async {}));
    let address = serve(router, &mut tasks).await;
    for path in ["found", "missing", "found"] {
        let request = client().get(format!("http://{address}/{path}"));
        let request = request.with_extension(UrlTemplate("/each-status-of-a-template"));
        request.send().await.unwrap();
    }
    let template = KeyValue::new(semconv::URL_TEMPLATE, "/each-status-of-a-template");
    let found = statuses(semconv::HTTP_CLIENT_REQUEST_DURATION, &template);
    assert_eq!(found, ["200 ", "404 404"]);
}

fn with_template(request: RequestBuilder) -> RequestBuilder {
    request.with_extension(UrlTemplate("/echo"))
}

/// Inside a request that is not sampled, no span is created: a call carries the ids of the request.
#[tokio::test]
async fn a_call_inside_a_request_that_is_not_sampled_carries_its_ids() {
    let echo = async |headers: HeaderMap| headers["traceparent"].to_str().unwrap().to_owned();
    let mut tasks = JoinSet::new();
    let address = serve(Router::new().route("/echo", get(echo)), &mut tasks).await;
    let call = async move || {
        let carried = client().get(format!("http://{address}/echo")).send().await;
        carried.unwrap().text().await.unwrap()
    };
    let router = Router::new().route("/", get(call)).layer(server::layer());
    let trace = TraceId::from(fastrand::u128(1..));
    let caller = format!("00-{trace}-b7ad6b7169203331-00");
    let request = Request::get("/").header("traceparent", caller);
    let response = router.oneshot(request.body(Body::empty()).unwrap()).await;
    let (head, body) = response.unwrap().into_parts();
    let carried = to_bytes(Body::new(body), 100).await.unwrap();
    assert_eq!(head.headers["traceparent"].as_bytes(), carried);
    assert!(carried.starts_with(format!("00-{trace}-").as_bytes()));
    assert!(carried.ends_with(b"-00"), "{carried:?}");
    assert!(Spans::of(trace).iter().next().is_none());
}
