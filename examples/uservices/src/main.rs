//! A small service on the raw OpenTelemetry API, without `tracing`.
//!
//! Run as two pairs behind an ingress, it shows the same slow request with and without
//! instrumentation: docs/with-and-without.md. The first service of a pair asks a mock of Redis and
//! then calls the second one, which asks a mock of a database.

mod telemetry;

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use axum::{
    Router,
    extract::{Request, State},
    http::{
        HeaderMap, StatusCode,
        header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION},
    },
    routing::get,
};
use clap::Parser;
use opentelemetry::{
    Context, KeyValue,
    context::FutureExt,
    global,
    trace::{SpanKind, Status, TraceContextExt, Tracer},
};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_semantic_conventions::attribute::{
    ERROR_TYPE, HTTP_REQUEST_METHOD, HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE, SERVER_ADDRESS,
    URL_FULL, URL_PATH, URL_SCHEME,
};
use reqwest::{Client, Url};
use tokio::{net::TcpListener, signal::ctrl_c, time::sleep};

use telemetry::Processor;

/// A service of a pair.
#[derive(Clone, Debug, Parser)]
struct Config {
    /// The name of the service.
    name: String,
    /// The address to listen on.
    listen: SocketAddr,
    /// The URL of the second service. Without it, this is the second one.
    #[arg(long)]
    downstream: Option<Url>,
    /// Create spans and propagate their context.
    #[arg(long)]
    instrumented: bool,
    /// Print the headers of each request, without those that may have secrets.
    #[arg(long)]
    print_headers: bool,
    /// How spans are exported.
    #[arg(long, value_enum, default_value = "batch")]
    processor: Processor,
    /// The share of new traces that is sampled.
    #[arg(long, default_value_t = 1.0)]
    ratio: f64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let config = Config::parse();
    let install = || telemetry::install(&config.name, config.processor, config.ratio);
    let provider = config.instrumented.then(install).transpose()?;
    let client = Client::builder().timeout(Duration::from_secs(10)).build()?;
    let listener = TcpListener::bind(config.listen).await?;
    print(&format!("listening on {}", listener.local_addr()?));
    let service = Router::new()
        .route("/", get(serve))
        .with_state((config, client));
    let stop = async { ctrl_c().await.unwrap_or_default() };
    axum::serve(listener, service)
        .with_graceful_shutdown(stop)
        .await?;
    if let Some(provider) = provider {
        provider.shutdown()?; // exports what is still queued
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the output of the program")]
fn print(text: &str) {
    println!("{text}");
}

/// Starts a span, and returns a context that contains it. Without a provider, it does nothing.
fn start(parent: &Context, name: &'static str, kind: SpanKind, of: Vec<KeyValue>) -> Context {
    let tracer = global::tracer("uservices");
    let builder = tracer
        .span_builder(name)
        .with_kind(kind)
        .with_attributes(of);
    parent.with_span(builder.start_with_context(&tracer, parent))
}

/// Handles a request inside a SERVER span, whose parent is in the headers.
async fn serve(
    State((config, client)): State<(Config, Client)>,
    request: Request,
) -> (StatusCode, String) {
    if config.print_headers {
        print(&format!(
            "{}: {}",
            config.name,
            printable(request.headers())
        ));
    }
    let parent = global::get_text_map_propagator(|propagator| {
        propagator.extract(&HeaderExtractor(request.headers()))
    });
    let attributes = vec![
        KeyValue::new(HTTP_REQUEST_METHOD, "GET"),
        KeyValue::new(HTTP_ROUTE, "/"),
        KeyValue::new(URL_PATH, "/"),
        KeyValue::new(URL_SCHEME, "http"),
    ];
    // A context is a value. `with_context` makes it current whenever the future is polled, so it
    // survives every `.await`.
    let context = start(&parent, "GET /", SpanKind::Server, attributes);
    let result = respond(&config, &client)
        .with_context(context.clone())
        .await;
    let status = match &result {
        Ok(_) => StatusCode::OK,
        Err(_) => StatusCode::BAD_GATEWAY,
    };
    let code = i64::from(status.as_u16());
    context
        .span()
        .set_attribute(KeyValue::new(HTTP_RESPONSE_STATUS_CODE, code));
    if let Err(error) = &result {
        fail(&context, "downstream", error);
    }
    context.span().end();
    (status, result.unwrap_or_else(|error| error.to_string()))
}

/// Returns the headers, without those that may have secrets.
fn printable(headers: &HeaderMap) -> String {
    let mut headers = headers.clone();
    for secret in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION] {
        headers.remove(secret);
    }
    format!("{headers:?}")
}

async fn respond(config: &Config, client: &Client) -> Result<String> {
    let Some(downstream) = &config.downstream else {
        mock("database_call", SpanKind::Client, "postgresql", 1000..2000).await;
        return Ok("hello from the database\n".to_owned());
    };
    mock("redis_call", SpanKind::Internal, "redis", 100..200).await;
    call(client, downstream.clone()).await
}

/// Waits for a random time in milliseconds, as a call of another system would, inside a span.
async fn mock(
    name: &'static str,
    kind: SpanKind,
    system: &'static str,
    milliseconds: std::ops::Range<u64>,
) {
    let attributes = vec![KeyValue::new(SERVER_ADDRESS, system)];
    let context = start(&Context::current(), name, kind, attributes);
    let milliseconds = fastrand::u64(milliseconds);
    sleep(Duration::from_millis(milliseconds))
        .with_context(context.clone())
        .await;
    context
        .span()
        .add_event("rows received", vec![KeyValue::new("rows", 1)]);
    context.span().end();
}

/// Calls the second service inside a CLIENT span, whose context is sent in the headers.
async fn call(client: &Client, url: Url) -> Result<String> {
    let attributes = vec![
        KeyValue::new(HTTP_REQUEST_METHOD, "GET"),
        KeyValue::new(URL_FULL, url.to_string()),
    ];
    let context = start(&Context::current(), "GET", SpanKind::Client, attributes);
    let mut headers = HeaderMap::new();
    global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&context, &mut HeaderInjector(&mut headers));
    });
    let sent = client.get(url).headers(headers);
    let received = async { sent.send().await?.error_for_status()?.text().await };
    let result = received.with_context(context.clone()).await;
    let result = result.inspect_err(|error| fail(&context, "request", error));
    context.span().end();
    Ok(result?)
}

/// Sets the status of the span to Error, with a description.
fn fail(context: &Context, error_type: &'static str, error: &dyn std::fmt::Display) {
    let span = context.span();
    span.set_attribute(KeyValue::new(ERROR_TYPE, error_type));
    span.set_status(Status::error(error.to_string()));
}
