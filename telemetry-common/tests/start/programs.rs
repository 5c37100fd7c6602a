//! The programs that the tests start.

pub(crate) mod lines;

use std::{
    error::Error,
    io,
    process::exit,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    routing::get,
};
use opentelemetry::{
    Context, InstrumentationScope, KeyValue, SpanId, TraceId, global,
    logs::{AnyValue, LogRecord as _},
    trace::{Link, Span as _, SpanKind},
};
use opentelemetry_resource_detectors::K8sResourceDetector;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    logs::{LogProcessor, SdkLogRecord},
    metrics::Stream,
    trace::{
        IdGenerator, SamplingDecision, SamplingResult, ShouldSample, Span, SpanData, SpanProcessor,
    },
};
use telemetry_common::{
    InitError, TelemetryConfig, builder,
    http::server::{self, AccessLog},
    layers, semconv, service, trace_id,
};
use tokio::task::JoinSet;
use tower::ServiceExt;
use tracing::{Event, Instrument, Subscriber, error, info, info_span, instrument};
use tracing_subscriber::{Layer, layer};

type Outcome = Result<(), Box<dyn Error>>;

fn work() {
    info_span!("work").in_scope(|| info!("working"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a program that other tests start"]
async fn multi_thread() -> Outcome {
    let _telemetry = builder(service!()).install()?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async { work() });
    tasks.join_all().await;
    Ok(())
}

#[tokio::test(flavor = "current_thread")]
#[ignore = "a program that other tests start"]
async fn current_thread() -> Outcome {
    let telemetry = builder(service!()).install()?;
    // Otherwise each measurement would be aggregated twice.
    let metrics = std::env::var_os("OTEL_METRICS_EXPORTER").unwrap_or_default();
    assert_eq!(telemetry.scrape().is_some(), metrics == "prometheus");
    work();
    telemetry.shutdown(Duration::from_secs(5));
    Ok(())
}

#[test]
#[ignore = "a program that other tests start"]
fn without_runtime() -> Outcome {
    let _telemetry = builder(service!()).install()?;
    work();
    Ok(())
}

#[tokio::test]
#[ignore = "a program that other tests start"]
async fn an_early_error() -> Outcome {
    let _telemetry = builder(service!()).install()?;
    work();
    Err(io::Error::other("the database is away"))?
}

#[tokio::test]
#[ignore = "a program that other tests start"]
async fn twice() -> Outcome {
    let _telemetry = builder(service!()).install()?;
    let again = builder(service!()).install();
    assert!(matches!(again, Err(InitError::AlreadyInstalled)));
    let late = global::meter("late").u64_counter("late").build();
    late.add(1, &[]);
    work();
    Ok(())
}

#[tokio::test]
#[ignore = "a program that other tests start"]
async fn failed_and_corrected() -> Outcome {
    let mut config = TelemetryConfig::from_env()?;
    config.console_filter = "a=b=c".to_owned();
    let failed = builder(service!()).config(config.clone()).install();
    assert!(matches!(failed, Err(InitError::Filter(_))), "{failed:?}");
    let fields = global::get_text_map_propagator(|propagator| propagator.fields().count());
    assert_eq!(fields, 0, "no propagator is installed");
    config.console_filter = "info".to_owned();
    let _telemetry = builder(service!()).config(config).install()?;
    work();
    Ok(())
}

#[test]
#[ignore = "a program that other tests start"]
fn configured() -> Outcome {
    let _telemetry = builder(service!()).install()?;
    info_span!("work", text = "abcdefgh").in_scope(|| info!("working"));
    Ok(())
}

/// Sends one request through the server layer.
#[tokio::test]
#[ignore = "a program that other tests start"]
async fn request() -> Outcome {
    let _telemetry = builder(service!()).install()?;
    let router = Router::new().route("/hello", get(async || "hello"));
    let router = router.layer(server::layer());
    let response = router.oneshot(Request::get("/hello").body(Body::empty())?);
    to_bytes(response.await?.into_body(), 100).await?;
    Ok(())
}

#[instrument(
    name = "record.save",
    skip_all,
    fields(metric_name = "db_event", metric_label_table = "books"),
    err(Display)
)]
fn save(fails: bool) -> io::Result<()> {
    if fails {
        return Err(io::Error::other("disk gone"));
    }
    Ok(())
}

/// Prints the metrics that spans became.
#[test]
#[ignore = "a program that other tests start"]
#[expect(clippy::print_stdout, reason = "the test reads it")]
fn measured() -> Outcome {
    let telemetry = builder(service!())
        .with_layer(layers::metrics())
        .install()?;
    save(false)?;
    save(true).unwrap_err();
    println!("{}", telemetry.scrape().ok_or("no reader")?.text()?);
    Ok(())
}

/// Fails on a thread that existed before telemetry started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a program that other tests start"]
async fn reports() -> Outcome {
    let mut tasks = JoinSet::new();
    tasks.spawn(async {}); // starts a worker thread
    tasks.join_next().await.ok_or("no task")??;
    let _telemetry = builder(service!()).install()?;
    tasks.spawn(async { info_span!("work").in_scope(|| error!("it failed")) });
    tasks.join_all().await;
    Ok(())
}

#[test]
#[ignore = "a program that other tests start"]
fn detected() -> Outcome {
    let _telemetry = builder(service!())
        .with_detector(K8sResourceDetector)
        .install()?;
    work();
    Ok(())
}

/// Prints the metrics of the process.
#[tokio::test]
#[ignore = "a program that other tests start"]
#[expect(clippy::print_stdout, reason = "the test reads it")]
async fn scraped() -> Outcome {
    let telemetry = builder(service!()).install()?;
    work();
    println!("{}", telemetry.scrape().ok_or("no reader")?.text()?);
    Ok(())
}

/// Ends right after it has logged many lines.
#[test]
#[ignore = "a program that other tests start"]
fn burst() -> Outcome {
    let telemetry = builder(service!()).install()?;
    for number in 0..BURST {
        info!("burst {number}");
    }
    drop(telemetry);
    exit(0)
}

/// The number of lines of [`burst`]. They fit in the queue of the console, but not in a pipe.
pub(crate) const BURST: i32 = 30_000;

/// Logs more than the queue of the console holds.
#[tokio::test]
#[ignore = "a program that other tests start"]
async fn noisy() -> Outcome {
    let _telemetry = builder(service!()).install()?;
    let line = "x".repeat(1000);
    for _ in 0..20_000 {
        info!("{line}");
    }
    Ok(())
}

#[tokio::test]
#[ignore = "a program that other tests start"]
async fn extended() -> Outcome {
    let events = Arc::new(AtomicU64::new(0));
    let _telemetry = builder(service!())
        .resource([KeyValue::new("team", "books")])
        .with_layer(CountEvents(Arc::clone(&events)))
        .with_console_layer(PrintTargets)
        .with_span_processor(Label)
        .with_log_processor(Label)
        .with_sampler(OnlyWork)
        .with_id_generator(SevenFirst(AtomicU64::new(7)))
        .with_view(|instrument| {
            let renamed = Stream::builder().with_name("renamed.panics").build().ok();
            renamed.filter(|_| instrument.name() == "telemetry_common.panics")
        })
        .install()?;
    work();
    // The sampler is asked about a request although the span around it is dropped.
    let router = Router::new().route("/work", get(async || "done"));
    let router = router.layer(server::layer().access_log(AccessLog::Off));
    let request = Request::get("/work").body(Body::empty())?;
    let response = router
        .oneshot(request)
        .instrument(info_span!("other"))
        .await?;
    to_bytes(response.into_body(), 100).await?;
    assert_eq!(events.load(Ordering::Relaxed), 1);
    Ok(())
}

struct CountEvents(Arc<AtomicU64>);

impl<S: Subscriber> Layer<S> for CountEvents {
    fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
        // The layer that creates the spans of OpenTelemetry runs before this one.
        let is_own = event.metadata().target().starts_with("start::") && trace_id().is_some();
        self.0.fetch_add(u64::from(is_own), Ordering::Relaxed);
    }
}

struct PrintTargets;

impl<S: Subscriber> Layer<S> for PrintTargets {
    #[expect(clippy::print_stdout, reason = "the test reads it")]
    fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
        println!("console: an event of {}", event.metadata().target());
    }
}

/// Adds an attribute to spans and log records.
#[derive(Debug)]
struct Label;

impl SpanProcessor for Label {
    fn on_start(&self, span: &mut Span, _: &Context) {
        span.set_attribute(KeyValue::new("by.processor", "yes"));
    }

    fn on_end(&self, _: SpanData) {}

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl LogProcessor for Label {
    fn emit(&self, record: &mut SdkLogRecord, _: &InstrumentationScope) {
        record.add_attribute("by.processor", AnyValue::from("yes"));
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }
}

#[derive(Clone, Debug)]
struct OnlyWork;

impl ShouldSample for OnlyWork {
    fn should_sample(
        &self,
        _: Option<&Context>,
        _: TraceId,
        name: &str,
        _: &SpanKind,
        attributes: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        let path = KeyValue::new(semconv::URL_PATH, "/work");
        SamplingResult {
            decision: if name == "work" || attributes.contains(&path) {
                SamplingDecision::RecordAndSample
            } else {
                SamplingDecision::Drop
            },
            attributes: Vec::new(),
            trace_state: opentelemetry::trace::TraceState::default(),
        }
    }
}

/// Generates ids that count from a number.
#[derive(Debug)]
struct SevenFirst(AtomicU64);

impl IdGenerator for SevenFirst {
    fn new_trace_id(&self) -> TraceId {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed)).into()
    }

    fn new_span_id(&self) -> SpanId {
        SpanId::from(self.0.fetch_add(1, Ordering::Relaxed))
    }
}
